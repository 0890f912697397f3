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

func setOf(ids []volume.ID) map[volume.ID]bool {
	m := make(map[volume.ID]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// discards makes what the owner's intents have discarded equal. more: that
// has queued keys. The keys of entries are healed before it, so what a discard at
// the target kept that has come back has its name again.
func (h *healer) discards(ctx context.Context) (more bool, err error) {
	missing, err := h.missingDiscards(ctx)
	if err != nil || len(missing) == 0 {
		return false, err
	}
	// The names are used on the way: a crash in that must leave their keys.
	var keys []Key
	for _, d := range missing {
		keys = append(keys, Key{Kind: EntryKey, ID: d.Dir, Name: d.Name})
	}
	if err := h.keys.Add(keys); err != nil {
		return false, err
	}
	err = h.parallel(ctx, len(missing), func(ctx context.Context, i int) error { return h.discard(ctx, missing[i]) })
	return true, err
}

// lack is a discard that the target lacks, or one whose object it does not hold
// beside (held) as the source does, because it is open there.
type lack struct {
	volume.Discarded
	held bool
}

// missingDiscards purges the discards that only the target has, and returns those that it lacks.
func (h *healer) missingDiscards(ctx context.Context) (missing []lack, err error) {
	want, err := allDiscards(ctx, h.from)
	if err != nil {
		return nil, err
	}
	have, err := allDiscards(ctx, h.to)
	if err != nil || len(want) == 0 && len(have) == 0 {
		return nil, err
	}
	if h.partial {
		other := func(d volume.Discarded) bool { return !h.concerns(d) }
		want, have = slices.DeleteFunc(want, other), slices.DeleteFunc(have, other)
	}
	here, err := allNameless(ctx, h.from)
	if err != nil {
		return nil, err
	}
	there, err := allNameless(ctx, h.to)
	if err != nil {
		return nil, err
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
			if err := h.to.purge(ctx, have[0].Key); err != nil {
				return nil, err
			}
			have = have[1:]
		}
	}
	return missing, nil
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
				err = h.ownedDiscard(ctx, d, there)
			}
			free()
			return err
		}
		free()
		if again, _, err := h.ensure(ctx, d.Dir); err != nil || !again {
			return err // its directory is gone, at the source too: nothing can come back to it
		}
	}
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
