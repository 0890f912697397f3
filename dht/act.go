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
			if err == nil {
				o.marks.add(a.id, k.set, a.dir)
				o.marks.inherit(a.id, a.dir)
			}
		case actDiscard:
			err = ignoreAbsent(o.store.Discard(ctx, a.dir, a.name, a.id, key))
			if isErrno(err, syscall.EEXIST) {
				err = nil // it was discarded before, and the name has been given to it again since
			}
			return err
		case actPlace:
			return o.place(ctx, v, a.id, a.dir, a.name)
		case actSwap:
			return o.swap(ctx, v, a)
		case actGone:
			return o.gone(ctx, v, a.id)
		}
		if isErrno(err, syscall.EEXIST) && try < mendMax && a.old.IsZero() && o.clearWay(ctx, v, a.dir, a.name, a.id, true) {
			continue // a directory was there that has moved elsewhere
		}
		if err == nil || !o.mend(ctx, v, a.dir, 0, err, try) {
			return err
		}
	}
}

// actDecided is act for a decided intent, whose names are held: nothing may keep
// it from its end. After a loss of power what it expects may not be what is here:
// then the name is given to it whatever it leads to, which is kept as a discard,
// and what can't be done any more, for the object or the directory was never
// durable, is left out.
func (o *Owner) actDecided(ctx context.Context, v *view, k partKey, a action) error {
	err := o.actAsked(ctx, v, k, a)
	if a.kind == actPut && (isStale(err) || isErrno(err, syscall.EEXIST)) {
		at, lerr := o.store.Lookup(ctx, a.dir, a.name)
		if lerr == nil && !at.IsDir() || isErrno(lerr, syscall.ENOENT) {
			a.old = at.ID
			err = o.act(ctx, v, k, a)
		}
		if isErrno(err, syscall.EEXIST) && !a.old.IsZero() {
			err = nil // likewise: it was replaced before
		}
	}
	if isErrno(err, syscall.EEXIST) && o.inDoubt() && o.aside(ctx, nameKey{a.dir, a.name}, a.id) {
		err = o.act(ctx, v, k, a)
	}
	err = o.livesOn(a, err)
	if isStale(err) {
		o.log.Warn("part of a decided operation can't be carried out, something was lost",
			"intent", k.number, "dir", a.dir, "name", a.name, "id", a.id, "err", err)
		return nil
	}
	return err
}

// actAsked is act that gives ESTALE only if a directory in which something is to be
// done, or what is to be named there, does not exist any more: the home of one that
// has no copy here said so. If it can't be asked, its error is the answer.
func (o *Owner) actAsked(ctx context.Context, v *view, k partKey, a action) error {
	for try := 0; ; try++ {
		err := o.act(ctx, v, k, a)
		if !isStale(err) || try >= mendMax {
			return err
		}
		made, aerr := o.haveDirs(ctx, v, a.dir, a.dir2)
		if aerr != nil {
			return aerr
		}
		if !made {
			return err
		}
	}
}

// haveDirs makes copies of directories that have none here, and reports whether it did.
func (o *Owner) haveDirs(ctx context.Context, v *view, dirs ...volume.ID) (made bool, err error) {
	for _, dir := range dirs {
		if dir.IsZero() || dir == volume.Root {
			continue
		}
		_, _, err := o.store.Path(ctx, dir)
		if isStale(err) {
			made = true
			err = o.ensure(ctx, v, dir)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// livesOn lets a directory that was removed keep what came back with a loss of
// power: it may have no other name. The walk finds it, and its home adopts it. And
// a directory that would come to lie in itself, for another move came undone, stays.
func (o *Owner) livesOn(a action, err error) error {
	switch {
	case err == nil || !o.inDoubt():
		return err
	case a.kind == actGone && isErrno(err, syscall.ENOTEMPTY):
		return nil
	case (a.kind == actPlace || a.kind == actSwap) && isErrno(err, syscall.EINVAL):
		return nil
	}
	return err
}

// undoLink takes a link back that an undecided intent made here.
func (o *Owner) undoLink(ctx context.Context, k partKey, a action) error {
	made := volume.Key{Set: k.set, Intent: k.number, Part: a.part}
	taken := volume.Key{Set: k.set, Intent: k.number, Part: a.part | undoPart}
	if a.old.IsZero() {
		err := ignoreAbsent(o.store.Discard(ctx, a.dir, a.name, a.id, taken))
		if isErrno(err, syscall.ENOSPC) {
			return o.dropLink(ctx, a)
		}
		if err != nil {
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

// dropLink takes back a link, whose name is held, where the disk has no room for
// a discard's record: a full disk is what most intents are given up for, and
// their names must come free. Nobody will want the link back, so the record is no loss.
func (o *Owner) dropLink(ctx context.Context, a action) error {
	there, err := o.store.Lookup(ctx, a.dir, a.name)
	if err != nil || there.ID != a.id {
		return ignoreAbsent(err)
	}
	return ignoreAbsent(o.store.Unlink(ctx, a.dir, a.name))
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
