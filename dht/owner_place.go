package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// place moves the copy of a directory to where it belongs. It holds the
// directory's lock in dirs, as ensure does, and the home is told first: so a
// copy that is being made by what the home said before is moved as well. A zero
// dir stands for where the home says.
func (o *Owner) place(ctx context.Context, v *view, id, dir volume.ID, name string) error {
	k := nameKey{dir: id}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return err
	}
	defer o.dirs.unlock(k)
	if dir.IsZero() {
		a, err := o.tell(ctx, v, v.home(id), &step{op: opFetch, dir: id})
		if isStale(err) {
			return nil // removed since
		}
		if err != nil {
			return err
		}
		dir, name = a.dir, a.name
	}
	return o.placeLocked(ctx, v, id, dir, name, false)
}

func (o *Owner) placeLocked(ctx context.Context, v *view, id, dir volume.ID, name string, both bool) error {
	for try := 0; ; try++ {
		parent, old, err := o.store.Path(ctx, id)
		if isStale(err) && v.owner(dir, name) == o.self && v.home(id) != o.self {
			// The name leads nowhere without it. The home knows the new place.
			if err = o.ensureLocked(ctx, v, id, v.home(id), 0, true); err == nil && try < mendMax {
				continue
			}
			return err
		}
		if isStale(err) || err == nil && parent == dir && old == name {
			return nil // its copy will be made in the right place
		}
		if err == nil {
			err = o.moveDir(ctx, nameKey{parent, old}, nameKey{dir, name}, volume.RenameNoReplace)
		}
		switch {
		case err == nil || try >= mendMax:
			return err
		case o.mend(ctx, v, dir, 0, err, try):
		case isErrno(err, syscall.EEXIST) && o.clearWay(ctx, v, dir, name, id, true):
		case isErrno(err, syscall.EEXIST) && o.trade(ctx, v, nameKey{parent, old}, nameKey{dir, name}, both):
			return nil
		default:
			return err
		}
	}
}

// trade exchanges the copy of a directory with the copy of another that is in
// its place. That other has been moved elsewhere too, and this set has yet to be
// told, or its own place is taken in turn; so a ring of moves comes undone step by
// step. It is not done where it would show: at the owner of the place that is left,
// unless that is to be filled as well, by a swap (both).
func (o *Owner) trade(ctx context.Context, v *view, from, to nameKey, both bool) bool {
	a, err := o.store.Lookup(ctx, to.dir, to.name)
	if err != nil || !a.IsDir() || !both && v.owner(from.dir, from.name) == o.self {
		return false
	}
	k := nameKey{dir: a.ID}
	if o.dirs.lock(ctx, k, false, false) != nil {
		return false
	}
	defer o.dirs.unlock(k)
	if b, err := o.store.Lookup(ctx, to.dir, to.name); err != nil || b.ID != a.ID {
		return false
	}
	return o.moveDir(ctx, from, to, volume.RenameExchange) == nil
}

// swap moves the copy of a directory to where it belongs (dir/name), which was
// the place of another directory or a file, and that to its own old place.
func (o *Owner) swap(ctx context.Context, v *view, a action) error {
	k, l := nameKey{dir: a.id}, nameKey{dir: a.old}
	if err := o.dirs.lockTwo(ctx, k, l, false); err != nil {
		return err
	}
	defer o.dirs.unlock(k)
	defer o.dirs.unlock(l)
	for try := 0; ; try++ {
		err := o.swapOnce(ctx, v, a)
		if isErrno(err, syscall.EEXIST) && try < mendMax && a.oldMode != syscall.S_IFDIR && o.clearWay(ctx, v, a.dir2, a.name2, a.id, true) {
			continue
		}
		if err == nil || !o.mend(ctx, v, a.dir, 0, err, try) && !o.mend(ctx, v, a.dir2, 0, err, try) {
			return err
		}
	}
}

func (o *Owner) swapOnce(ctx context.Context, v *view, a action) error {
	parent, name, err := o.store.Path(ctx, a.id)
	if err != nil && !isStale(err) {
		return err
	}
	here := err == nil
	if here && parent == a.dir && name == a.name {
		return o.placeOther(ctx, v, a) // done before, wholly or but for the other
	}
	at, err := o.store.Lookup(ctx, a.dir, a.name)
	if err != nil && !isErrno(err, syscall.ENOENT) {
		return err
	}
	there := err == nil && at.ID == a.old && at.Held == 0
	switch {
	case here && there && parent == a.dir2 && name == a.name2:
		return o.moveDir(ctx, nameKey{parent, name}, nameKey{a.dir, a.name}, volume.RenameExchange)
	case there && a.oldMode == syscall.S_IFDIR: // a third one may be in its new place
		if err := o.placeOther(ctx, v, a); err != nil || !here {
			return err
		}
	case there:
		if err := o.moveDir(ctx, nameKey{a.dir, a.name}, nameKey{a.dir2, a.name2}, volume.RenameNoReplace); err != nil || !here {
			return err
		}
	}
	if here { // it may be in the other's place, or where the other's copy is to be made
		_, _, err := o.store.Path(ctx, a.old)
		if isStale(err) || parent == a.dir2 && name == a.name2 {
			if err := o.placeLocked(ctx, v, a.id, a.dir, a.name, a.oldMode == syscall.S_IFDIR); err != nil {
				return err
			}
			return o.placeOther(ctx, v, a)
		}
	}
	if err := o.placeOther(ctx, v, a); err != nil {
		return err
	}
	return o.placeLocked(ctx, v, a.id, a.dir, a.name, a.oldMode == syscall.S_IFDIR)
}

// placeOther is place for the other party of a swap, if that is a directory.
func (o *Owner) placeOther(ctx context.Context, v *view, a action) error {
	if a.oldMode != syscall.S_IFDIR {
		return nil
	}
	return o.placeLocked(ctx, v, a.old, a.dir2, a.name2, true)
}
