package set

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// listing reads a directory at one side, in order of cookies and names.
type listing struct {
	side side
	dir  volume.ID
	page []volume.Entry
	last volume.Cookie
	end  bool
}

// peek returns the next entry without taking it; nil at the end.
func (l *listing) peek(ctx context.Context) (*volume.Entry, error) {
	for len(l.page) == 0 && !l.end {
		var err error
		if l.page, l.end, err = l.side.list(ctx, l.dir, l.last, listMax); err != nil {
			return nil, err
		}
		slices.SortFunc(l.page, compareEntries)
		if n := len(l.page); n > 0 {
			l.last = l.page[n-1].Cookie
		}
	}
	if len(l.page) == 0 {
		return nil, nil
	}
	return &l.page[0], nil
}

func compareEntries(a, b volume.Entry) int {
	switch {
	case a.Cookie < b.Cookie:
		return -1
	case a.Cookie > b.Cookie:
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// pair is a name with what each side has under it, nil for nothing.
type pair struct{ here, there *volume.Entry }

func (p pair) name() string {
	if p.here != nil {
		return p.here.Name
	}
	return p.there.Name
}

// same reports whether both sides lead to the same.
func (p pair) same() bool {
	return p.here != nil && p.there != nil && p.here.ID == p.there.ID && p.here.Held == p.there.Held
}

// nextPair takes the next name off either listing, or off both.
func nextPair(ctx context.Context, a, b *listing) (p pair, end bool, err error) {
	x, err := a.peek(ctx)
	if err != nil {
		return p, false, err
	}
	y, err := b.peek(ctx)
	if err != nil {
		return p, false, err
	}
	if x == nil && y == nil {
		return p, true, nil
	}
	if x != nil && (y == nil || compareEntries(*x, *y) <= 0) {
		p.here = x
	}
	if y != nil && (x == nil || compareEntries(*y, *x) <= 0) {
		p.there = y
	}
	if p.here != nil {
		a.page = a.page[1:]
	}
	if p.there != nil {
		b.page = b.page[1:]
	}
	return p, false, nil
}

// compareDir compares a directory, its entries and what they lead to, and
// hands the directories among them to the walk.
func (h *healer) compareDir(ctx context.Context, dir volume.ID) error {
	if err := h.compareObjects(ctx, dir, []volume.ID{dir}, []string{""}); err != nil {
		return err
	}
	here, there := &listing{side: h.from, dir: dir}, &listing{side: h.to, dir: dir}
	var ids []volume.ID
	var names []string
	check := func(least int) error {
		if len(ids) < least || len(ids) == 0 {
			return nil
		}
		err := h.compareObjects(ctx, dir, ids, names)
		ids, names = ids[:0], names[:0]
		return err
	}
	for {
		p, end, err := nextPair(ctx, here, there)
		if isStale(err) || volume.ErrnoOf(err) == syscall.ENOTDIR {
			h.walkLater(dir) // it was removed, or is a discard now: that has its key, and if it comes back, so has that
			return nil
		}
		if err != nil {
			return err
		}
		if end {
			break
		}
		if !p.same() {
			if err := h.differing(ctx, dir, p); err != nil {
				return err
			}
		}
		if p.here == nil || p.here.Held != 0 {
			continue
		}
		if p.here.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			deep, err := h.deep(ctx, p.here.ID)
			if err != nil {
				return err
			}
			if deep {
				h.walkMore(p.here.ID)
				continue
			}
		}
		ids, names = append(ids, p.here.ID), append(names, p.here.Name)
		if err := check(digestsMax); err != nil {
			return err
		}
	}
	h.touch(dir)
	return check(1)
}

// deep reports whether what is in a directory that a walk has come to is to be compared too.
func (h *healer) deep(ctx context.Context, dir volume.ID) (bool, error) {
	h.mu.Lock()
	all := h.mu.walk.full
	h.mu.Unlock()
	if all || h.since == (volume.Time{}) {
		return all, nil
	}
	for _, s := range []side{h.from, h.to} {
		o, err := s.describe(ctx, dir)
		if isStale(err) {
			return true, nil
		}
		if err != nil || !o.Attr.Btime.Before(h.since) {
			return err == nil, err
		}
	}
	return false, nil
}

// walkLater has the walk forget a directory that can't be compared now.
func (h *healer) walkLater(dir volume.ID) {
	h.mu.Lock()
	w := h.mu.walk
	h.mu.Unlock()
	w.forget(dir)
}

// compareObjects compares objects by their digests, and in full those that
// seem to differ or are too large for a digest. names are those that dir calls them, "" its own.
func (h *healer) compareObjects(ctx context.Context, dir volume.ID, ids []volume.ID, names []string) error {
	for len(ids) > 0 {
		if err := h.rate.wait(ctx); err != nil {
			return err
		}
		there, err := h.to.digests(ctx, ids)
		if err != nil {
			return err
		}
		here, err := h.from.digests(ctx, ids[:len(there)])
		if err != nil {
			return err
		}
		n := min(len(here), len(there))
		for i := range n {
			a, b := here[i], there[i]
			if h.arbiter {
				a.data, b.data, a.large = 0, 0, false
			}
			b.large = a.large
			if a.known && (a.large || a != b) {
				if err := h.compareObject(ctx, ids[i], dir, names[i]); err != nil {
					return err
				}
			}
		}
		h.done.objects.Add(int64(n))
		ids, names = ids[n:], names[n:]
	}
	return nil
}

// compareObject makes an object equal, block by block, and notes what was wrong
// with what dir calls name ("": dir itself).
func (h *healer) compareObject(ctx context.Context, id, dir volume.ID, name string) error {
	free, err := h.ownObject(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	o, err := h.to.describe(ctx, id)
	if isStale(err) {
		was, err := h.fill(ctx, id, false)
		if err == nil && was != gone {
			h.note(ctx, dir, name, was)
		}
		return err
	}
	if err != nil {
		return err
	}
	var wrong []string
	if h.mutual && o.Attr.IsRegular() && !h.arbiter {
		was, err := h.mendChanged(ctx, o)
		if err != nil {
			return err
		}
		h.note(ctx, dir, name, was)
	}
	differed, err := h.attributes(ctx, id)
	if err == nil && differed && !h.isTouched(id) {
		wrong = append(wrong, "its attributes differed")
	}
	if err == nil && o.Attr.IsRegular() {
		var sent int64
		if sent, err = h.extents(ctx, id, 0, endless, false); err == nil && sent > 0 {
			wrong = append(wrong, "its contents differed")
			_, err = h.attributes(ctx, id)
		}
	}
	if h.partial && damagedRead(err) {
		was, e := h.mendUnreadable(ctx, id)
		if e != nil {
			return errors.Join(err, e)
		}
		wrong, err = append(wrong, was), nil
	}
	if err != nil {
		return err
	}
	if o.Attr.IsRegular() {
		h.setWhole(id)
	}
	if len(wrong) > 0 {
		h.note(ctx, dir, name, strings.Join(wrong, ", "))
	}
	return nil
}

// isTouched reports whether heal has changed a directory's times itself.
func (h *healer) isTouched(id volume.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.mu.touched[id]
	return ok
}

// note remembers what was wrong ("": nothing) with what a directory calls name
// ("": the directory itself), and has been mended.
func (h *healer) note(ctx context.Context, in volume.ID, name, was string) {
	if was == "" {
		return
	}
	h.done.repairs.Add(1)
	h.mu.Lock()
	full := len(h.mu.repairs) >= healRepairs
	h.mu.Unlock()
	if full {
		return
	}
	text := h.pathOf(ctx, in, name) + ": " + was
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.repairs = append(h.mu.repairs, text)
}

// pathOf names what in, a directory, calls name; with "" the directory itself.
func (h *healer) pathOf(ctx context.Context, in volume.ID, name string) string {
	path := name
	for in != volume.Root {
		parent, n, err := h.from.path(ctx, in)
		if err != nil {
			return "<" + in.String() + ">/" + path
		}
		if path = n + "/" + path; len(path) > 1<<12 {
			return "…/" + path
		}
		in = parent
	}
	return "/" + strings.TrimSuffix(path, "/")
}
