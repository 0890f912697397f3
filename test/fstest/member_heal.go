package fstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// healBlock is what heal compares at a time, in bytes.
const healBlock = 4096

// heal makes what lies on to equal to what lies on from, in the plainest way:
// it looks at everything.
func heal(ctx context.Context, from, to volume.Member) error {
	h := &healer{ctx: ctx, from: from, to: to}
	for _, step := range []func() error{h.readAll, h.dropDiscards, h.installAll, h.discard, h.placeAll, h.releaseRest, h.dateAll} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type healer struct {
	ctx      context.Context
	from, to volume.Member
	tops     []volume.ID // the root and what has no name
	all      []volume.ID // every object once, what lies above first
	discards []volume.Discarded
}

// entries returns what is in a directory.
func entries(ctx context.Context, m volume.Member, dir volume.ID) (map[string]volume.Pointer, error) {
	all := map[string]volume.Pointer{}
	for after, end := volume.CookieStart, false; !end; {
		var es []volume.Entry
		var err error
		if es, end, err = m.ReadDir(ctx, dir, after, 100, false); err != nil {
			return nil, err
		}
		for _, e := range es {
			all[e.Name] = volume.Pointer{ID: e.ID, Mode: e.Mode & syscall.S_IFMT, Held: e.Held}
			after = e.Cookie
		}
	}
	return all, nil
}

// reach returns every object that can be reached from the root and from what has no
// name, once, what lies above first; and those it began with.
func reach(ctx context.Context, m volume.Member) (all, tops []volume.ID, err error) {
	if tops, err = m.Nameless(ctx); err != nil {
		return nil, nil, err
	}
	tops = append([]volume.ID{volume.Root}, tops...)
	seen := map[volume.ID]bool{}
	for todo := slices.Clone(tops); len(todo) > 0; todo = todo[1:] {
		id := todo[0]
		if seen[id] {
			continue
		}
		seen[id] = true
		all = append(all, id)
		o, err := m.Describe(ctx, id)
		if err != nil {
			return nil, nil, fmt.Errorf("%v: %w", id, err)
		}
		if !o.Attr.IsDir() {
			continue
		}
		es, err := entries(ctx, m, id)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range es {
			if p.Held == 0 {
				todo = append(todo, p.ID)
			}
		}
	}
	return all, tops, nil
}

func (h *healer) readAll() (err error) {
	if h.all, h.tops, err = reach(h.ctx, h.from); err != nil {
		return err
	}
	h.discards, err = h.from.Discards(h.ctx)
	return err
}

// dropDiscards removes all discards: they are made anew.
func (h *healer) dropDiscards() error {
	ds, err := h.to.Discards(h.ctx)
	for _, d := range ds {
		err = cmp.Or(err, h.to.Purge(h.ctx, d.Key))
	}
	return err
}

// installAll makes all objects there, with their contents.
func (h *healer) installAll() error {
	for _, id := range h.all {
		if err := h.install(id); err != nil {
			return err
		}
	}
	return nil
}

func (h *healer) install(id volume.ID) error {
	o, err := h.from.Describe(h.ctx, id)
	if err != nil {
		return fmt.Errorf("describe %v: %w", id, err)
	}
	if err := h.to.Install(h.ctx, o); err != nil {
		return fmt.Errorf("install %v: %w", id, err)
	}
	if !o.Attr.IsRegular() {
		return nil
	}
	// What is a discard only can be read as what is open elsewhere can.
	ctx := volume.WithFixed(h.ctx, volume.Fixed{Now: o.Attr.Mtime, Keep: true})
	src, err := h.from.Open(ctx, id, volume.Read|volume.NoAtime)
	if err != nil {
		return fmt.Errorf("open %v: %w", id, err)
	}
	defer src.Close()
	dst, err := h.to.Open(ctx, id, volume.Read|volume.Write)
	if err != nil {
		return fmt.Errorf("open %v there: %w", id, err)
	}
	defer dst.Close()
	const many = 1 << 10
	for first := int64(0); first*healBlock < o.Attr.Size; first += many {
		if err := h.copyBlocks(id, src, dst, first, many); err != nil {
			return fmt.Errorf("contents of %v: %w", id, err)
		}
	}
	return nil
}

// copyBlocks copies the blocks that differ.
func (h *healer) copyBlocks(id volume.ID, src, dst volume.File, first int64, n int) error {
	want, err := h.from.Sums(h.ctx, id, first, n, healBlock)
	if err != nil {
		return err
	}
	have, err := h.to.Sums(h.ctx, id, first, n, healBlock)
	if err != nil {
		return err
	}
	if len(want) != len(have) {
		return fmt.Errorf("%d sums and %d", len(want), len(have))
	}
	buf := make([]byte, healBlock)
	for i := range want {
		off := (first + int64(i)) * healBlock
		switch {
		case want[i] == have[i]:
		case want[i] == 0:
			if err := dst.Allocate(h.ctx, volume.AllocPunchHole|volume.AllocKeepSize, off, healBlock); err != nil {
				return err
			}
		default:
			k, err := src.ReadAt(h.ctx, buf, off)
			if err == nil {
				_, err = dst.WriteAt(h.ctx, buf[:k], off, 0)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// discard makes the discards. A directory that one comes from may be gone: then
// it is made for the purpose, and no part of anything.
func (h *healer) discard() error {
	for _, d := range h.discards {
		if d.Pointer.Held == 0 {
			if err := h.install(d.Pointer.ID); err != nil {
				return err
			}
		}
		if d.Pointer.Held == 0 && d.Pointer.Mode == syscall.S_IFDIR {
			err := h.empty(d.Pointer.ID)
			if err == nil {
				err = h.install(d.Pointer.ID) // again: its mtime has changed
			}
			if err != nil {
				return err
			}
		}
		if _, err := h.to.Getattr(h.ctx, d.Dir); volume.ErrnoOf(err) == syscall.ESTALE {
			o := volume.Object{
				Attr:   volume.Attr{ID: d.Dir, Mode: syscall.S_IFDIR | 0o700},
				Xattrs: []volume.Xattr{{Name: "trusted.mortar.dir", Value: []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}}},
			}
			if err := h.to.Install(h.ctx, o); err != nil {
				return err
			}
		}
		if err := h.to.Place(h.ctx, d.Dir, d.Name, d.Pointer); err != nil {
			return fmt.Errorf("place the discard %+v: %w", d, err)
		}
		ctx := volume.WithFixed(h.ctx, volume.Fixed{Keep: slices.Contains(h.tops, d.Pointer.ID)})
		if err := h.to.Discard(ctx, d.Dir, d.Name, d.Pointer.ID, d.Key); err != nil {
			return fmt.Errorf("discard %+v: %w", d, err)
		}
	}
	return nil
}

// empty clears all names of a directory, which is to be a discard.
func (h *healer) empty(dir volume.ID) error {
	all, err := entries(h.ctx, h.to, dir)
	for name := range all {
		err = cmp.Or(err, h.to.Place(h.ctx, dir, name, volume.Pointer{}))
	}
	return err
}

// placeAll gives all names, from the top down: what lies above a directory
// is in its place before, so that none comes to lie in itself.
func (h *healer) placeAll() error {
	for _, id := range h.tops {
		if parent, name, err := h.to.Path(h.ctx, id); err == nil {
			if err := h.to.Place(h.ctx, parent, name, volume.Pointer{}); err != nil {
				return err
			}
		}
	}
	for _, id := range h.all {
		if o, err := h.from.Describe(h.ctx, id); err != nil || !o.Attr.IsDir() {
			continue
		}
		want, err := entries(h.ctx, h.from, id)
		if err != nil {
			return err
		}
		have, err := entries(h.ctx, h.to, id)
		if err != nil {
			return err
		}
		for name := range have {
			if _, stays := want[name]; !stays {
				want[name] = volume.Pointer{}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if err := h.to.Place(h.ctx, id, name, want[name]); err != nil {
				return fmt.Errorf("place %v %q: %w", id, name, err)
			}
		}
	}
	return nil
}

// releaseRest removes what is there and should not be.
func (h *healer) releaseRest() error {
	ids, err := h.to.Nameless(h.ctx)
	for _, id := range ids {
		if !slices.Contains(h.tops, id) {
			err = cmp.Or(err, h.to.Release(h.ctx, id))
		}
	}
	return err
}

// dateAll sets the times, which all the rest has changed, but not those of
// directories that are discards.
func (h *healer) dateAll() error {
	all := h.all
	for _, d := range h.discards {
		if d.Pointer.Held == 0 && d.Pointer.Mode != syscall.S_IFDIR {
			all = append(all, d.Pointer.ID)
		}
	}
	for _, id := range all {
		o, err := h.from.Describe(h.ctx, id)
		if err == nil {
			err = h.to.Install(h.ctx, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// equal says in what two members differ.
func equal(ctx context.Context, a, b volume.Member) error {
	all, tops, err := reach(ctx, a)
	if err != nil {
		return err
	}
	others, otherTops, err := reach(ctx, b)
	if err != nil {
		return err
	}
	if x, y := missing(all, others), missing(others, all); len(x)+len(y) > 0 {
		return fmt.Errorf("only the one has %v, only the other %v", x, y)
	}
	if x, y := missing(tops, otherTops), missing(otherTops, tops); len(x)+len(y) > 0 {
		return fmt.Errorf("nameless are only on the one %v, only on the other %v", x, y)
	}
	ds, err1 := a.Discards(ctx)
	es, err2 := b.Discards(ctx)
	if !slices.Equal(ds, es) || err1 != nil || err2 != nil {
		return fmt.Errorf("discards are\n%+v %v\nand\n%+v %v", ds, err1, es, err2)
	}
	for _, d := range ds {
		if d.Pointer.Held == 0 {
			all = append(all, d.Pointer.ID)
		}
	}
	for _, id := range all {
		if err := equalObject(ctx, a, b, id); err != nil {
			return fmt.Errorf("object %v: %w", id, err)
		}
	}
	return nil
}

// missing returns what is in a and not in b.
func missing(a, b []volume.ID) []volume.ID {
	have := map[volume.ID]bool{}
	for _, id := range b {
		have[id] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(id volume.ID) bool { return have[id] })
}

func equalObject(ctx context.Context, a, b volume.Member, id volume.ID) error {
	o, err1 := a.Describe(ctx, id)
	p, err2 := b.Describe(ctx, id)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	o.Attr.Atime, p.Attr.Atime = volume.Time{}, volume.Time{}
	if !sameObject(o, p) || !o.Attr.IsDir() && o.Attr.Nlink != p.Attr.Nlink || o.Attr.Version != p.Attr.Version {
		return fmt.Errorf("%+v\nand\n%+v", o, p)
	}
	x, err1 := a.Getattr(ctx, id)
	y, err2 := b.Getattr(ctx, id)
	if volume.ErrnoOf(err1) != volume.ErrnoOf(err2) || x.Nlink != y.Nlink {
		return fmt.Errorf("getattr: %+v %v and %+v %v", x, err1, y, err2)
	}
	if o.Attr.IsDir() && err1 == nil {
		xs, err1 := entries(ctx, a, id)
		ys, err2 := entries(ctx, b, id)
		if err := cmp.Or(err1, err2); err != nil || !maps.Equal(xs, ys) {
			return fmt.Errorf("names\n%v\nand\n%v: %v", xs, ys, err)
		}
	}
	if o.Attr.IsRegular() {
		const many, size = 1 << 10, 1000
		for first := int64(0); first*size <= o.Attr.Size; first += many {
			xs, err1 := a.Sums(ctx, id, first, many, size)
			ys, err2 := b.Sums(ctx, id, first, many, size)
			if err := cmp.Or(err1, err2); err != nil || !slices.Equal(xs, ys) {
				return fmt.Errorf("sums from %d on\n%v\nand\n%v: %v", first, xs, ys, err)
			}
		}
	}
	return nil
}
