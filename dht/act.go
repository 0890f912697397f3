package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// rest hands an intent over to Run.
func (o *Owner) rest(it *intent) {
	o.mu.Lock()
	it.live = false
	_, open := o.mu.active[it.number]
	open = open || len(it.waiting) > 0
	o.mu.Unlock()
	if open {
		o.wake()
	}
}

// act carries one action out here.
func (o *Owner) act(ctx context.Context, v *view, k partKey, a action) error {
	key := volume.Key{Set: k.set, Intent: k.number, Part: a.part}
	for try := 0; ; try++ {
		var err error
		switch a.kind {
		case actPut:
			err = o.store.Put(ctx, a.dir, a.name, volume.Pointer{ID: a.id, Mode: a.mode, Held: a.held}, a.old, key)
			if err == nil && k.set != o.self {
				o.marks.add(a.id, k.set)
			}
			if err == nil {
				o.marks.inherit(a.id, a.dir)
			}
		case actDiscard:
			return ignoreAbsent(o.store.Discard(ctx, a.dir, a.name, a.id, key))
		case actPlace:
			return o.place(ctx, v, a.id, a.dir, a.name)
		case actSwap:
			return o.swap(ctx, v, a)
		case actGone:
			return o.gone(ctx, v, a.id)
		}
		if err == nil || !o.mend(ctx, v, a.dir, 0, err, try) {
			return err
		}
	}
}

// undoLink takes a link back that an undecided intent made here.
func (o *Owner) undoLink(ctx context.Context, k partKey, a action) error {
	made := volume.Key{Set: k.set, Intent: k.number, Part: a.part}
	taken := volume.Key{Set: k.set, Intent: k.number, Part: a.part | undoPart}
	if a.old.IsZero() {
		if err := ignoreAbsent(o.store.Discard(ctx, a.dir, a.name, a.id, taken)); err != nil {
			return err
		}
		return o.store.Purge(ctx, taken)
	}
	back := volume.Pointer{ID: a.old, Mode: a.oldMode}
	if err := ignoreAbsent(o.store.Put(ctx, a.dir, a.name, back, a.id, taken)); err != nil {
		return err
	}
	if err := o.store.Purge(ctx, made); err != nil {
		return err
	}
	return o.store.Purge(ctx, taken)
}

// ignoreAbsent drops the errors that say that something is not there, or can't
// ever have been: what was to be undone or discarded is gone already.
func ignoreAbsent(err error) error {
	switch volume.ErrnoOf(err) {
	case syscall.ENOENT, syscall.ESTALE, syscall.EINVAL, syscall.EPERM, syscall.ENOTDIR:
		return nil
	}
	return err
}

// note makes sure that the set is in m.
func note(m map[volume.SetID]bool, set volume.SetID) {
	if _, known := m[set]; !known {
		m[set] = false
	}
}
