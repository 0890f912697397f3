package set

import (
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// allDiscards lists the discards of a side.
func allDiscards(ctx context.Context, s side) (all []volume.Discarded, err error) {
	for {
		var after volume.Key
		if len(all) > 0 {
			after = all[len(all)-1].Key
		}
		some, err := s.discards(ctx, after)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < discardsMax {
			return all, nil
		}
	}
}

// allNameless lists what is nameless at a side.
func allNameless(ctx context.Context, s side) (all []volume.ID, err error) {
	for {
		var after volume.ID
		if len(all) > 0 {
			after = all[len(all)-1]
		}
		ids, err := s.nameless(ctx, after)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
		if len(ids) < namelessMax {
			return all, nil
		}
	}
}

func setOf[T comparable](list []T) map[T]bool {
	m := make(map[T]bool, len(list))
	for _, x := range list {
		m[x] = true
	}
	return m
}

// discards makes what the owner's intents have discarded equal. more: that
// has queued keys. The keys of entries are healed before it, so what a discard at
// the target kept that has come back has its name again.
func (h *healer) discards(ctx context.Context) (more bool, err error) {
	missing, needless, err := h.compareDiscards(ctx)
	if err != nil {
		return false, err
	}
	// The names are used on the way: a crash in that must leave their keys. What only a
	// discard kept at the target goes with that, though it may be open at the source.
	var keys []Key
	for _, d := range needless {
		if id := local(d.Pointer); !id.IsZero() {
			if _, err := h.from.describe(ctx, id); err == nil {
				keys = append(keys, Key{Kind: ObjectKey, ID: id})
			} else if !isStale(err) {
				return false, err
			}
		}
	}
	for _, d := range missing {
		keys = append(keys, Key{Kind: EntryKey, ID: d.Dir, Name: d.Name})
	}
	if len(keys) > 0 {
		if err := h.keys.Add(keys); err != nil {
			return false, err
		}
	}
	for _, d := range needless {
		if err := h.to.purge(ctx, d.Key, local(d.Pointer)); err != nil {
			return false, err
		}
	}
	// Directories come last: others may have been discarded from them before.
	first := slices.DeleteFunc(slices.Clone(missing), func(d lack) bool { return d.Pointer.Mode == syscall.S_IFDIR })
	err = h.parallel(ctx, len(first), func(ctx context.Context, i int) error { return h.discard(ctx, first[i]) })
	for _, d := range missing {
		if err == nil && d.Pointer.Mode == syscall.S_IFDIR {
			err = h.discard(ctx, d)
		}
	}
	return len(keys) > 0, err
}

// lack is a discard that the target lacks, or one whose object it does not hold
// beside (held) as the source does, because it is open there.
type lack struct {
	volume.Discarded
	held bool
}

// compareDiscards returns the discards that the target lacks, and those that only it has.
func (h *healer) compareDiscards(ctx context.Context) (missing []lack, needless []volume.Discarded, err error) {
	want, err := allDiscards(ctx, h.from)
	if err != nil {
		return nil, nil, err
	}
	have, err := allDiscards(ctx, h.to)
	if err != nil || len(want) == 0 && len(have) == 0 {
		return nil, nil, err
	}
	if h.partial {
		other := func(d volume.Discarded) bool { return !h.concerns(d) }
		want, have = slices.DeleteFunc(want, other), slices.DeleteFunc(have, other)
	}
	here, err := allNameless(ctx, h.from)
	if err != nil {
		return nil, nil, err
	}
	there, err := allNameless(ctx, h.to)
	if err != nil {
		return nil, nil, err
	}
	held, holds := setOf(here), setOf(there)
	same := func(a, b volume.Discarded) bool {
		a.Pointer.Mode, b.Pointer.Mode = 0, 0 // not told by all
		return a == b
	}
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(want) > 0 && len(have) > 0 && same(want[0], have[0]):
			if id := local(want[0].Pointer); held[id] && !holds[id] {
				missing = append(missing, lack{want[0], true})
			}
			want, have = want[1:], have[1:]
		case len(have) == 0 || len(want) > 0 && compareKeys(want[0].Key, have[0].Key) < 0:
			missing = append(missing, lack{want[0], held[local(want[0].Pointer)]})
			want = want[1:]
		default:
			needless = append(needless, have[0])
			have = have[1:]
		}
	}
	return missing, needless, nil
}

// concerns reports whether a discard is one of which the keys of a partial heal tell.
func (h *healer) concerns(d volume.Discarded) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, entry := h.mu.entries[Key{Kind: EntryKey, ID: d.Dir, Name: d.Name}]
	_, object := h.mu.scope[d.Pointer.ID]
	return entry || object
}

// discard makes a discard at the target: what was discarded gets its name once
// more and is discarded from there.
func (h *healer) discard(ctx context.Context, d lack) error {
	for {
		id := local(d.Pointer)
		free, err := h.own(ctx, entryKeys(d.Dir, d.Name, id)...)
		if err != nil {
			return err
		}
		there, err := h.to.look(ctx, d.Dir, d.Name, id)
		if err != nil || there.dir {
			if err == nil {
				err = dropStale(h.ownedDiscard(ctx, d, there)) // purged meanwhile: it is compared again
			}
			free()
			return err
		}
		free()
		again, _, err := h.ensure(ctx, d.Dir)
		if err == nil && !again {
			err = h.lend(ctx, d.Dir)
		}
		if err != nil {
			return err
		}
	}
}

// lend makes a directory at the target, without a name, that at the source is a
// discard itself, or gone: something was discarded from it before. clear releases it again.
func (h *healer) lend(ctx context.Context, dir volume.ID) error {
	free, err := h.ownObject(ctx, dir)
	if err != nil {
		return err
	}
	defer free()
	if _, err := h.to.describe(ctx, dir); !isStale(err) {
		return err
	}
	o, err := h.from.m.Describe(ctx, dir)
	if isStale(err) {
		o, err = h.from.describe(ctx, volume.Root) // any directory will do
		o.Attr.ID = dir
	}
	if err != nil {
		return err
	}
	return h.to.install(ctx, o)
}

func (h *healer) ownedDiscard(ctx context.Context, d lack, there sight) error {
	p := d.Pointer
	if p.Held == 0 {
		o, err := h.from.m.Describe(ctx, p.ID) // of directories too
		if isStale(err) {
			return nil // purged meanwhile
		}
		switch {
		case err != nil:
			return err
		case o.Attr.IsDir() && !there.known:
			err = h.to.install(ctx, o)
		case !there.known || there.nameless && !h.isWhole(p.ID):
			_, err = h.fill(ctx, p.ID, there.known)
		}
		if err != nil {
			return err
		}
		if p.Mode = o.Attr.Type(); p.Mode == syscall.S_IFDIR {
			if err := h.empty(ctx, p.ID); err != nil {
				return err
			}
		}
	}
	h.touch(d.Dir)
	if err := h.to.place(ctx, d.Dir, d.Name, p); err != nil {
		return err
	}
	err := h.to.discard(ctx, d.Dir, d.Name, p.ID, d.Key, d.held)
	if volume.ErrnoOf(err) == syscall.EEXIST { // it is held by what loses its name now
		err = nil
	}
	if err != nil {
		return err
	}
	if there.entry.ID == p.ID {
		there.entry = volume.Pointer{} // its key sees to the rest
	}
	return h.to.place(ctx, d.Dir, d.Name, there.entry)
}

// empty takes all names out of a directory at the target that is empty at the source.
func (h *healer) empty(ctx context.Context, dir volume.ID) error {
	for {
		entries, end, err := h.to.list(ctx, dir, volume.CookieStart, listMax)
		if err != nil {
			return err
		}
		for _, e := range entries {
			h.placed(dir, volume.Pointer{}, sight{entry: volume.Pointer{ID: e.ID, Mode: e.Mode, Held: e.Held}})
			if err := h.to.place(ctx, dir, e.Name, volume.Pointer{}); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}
