package dht

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// ensure makes the copy of a directory that is missing here, ancestors first.
// Errors: ESTALE, the directory does not exist (any more).
//
// It holds the directory's lock in dirs from before it asks the home until the
// copy is made; rmdir marks the directory dying at home first and then takes
// that lock to remove copies, so none is left behind. While it waits for a
// dying directory's fate it holds nothing of that directory.
func (o *Owner) ensure(ctx context.Context, v *view, dir volume.ID) error {
	ctx, cancel := bounded(quiet(ctx))
	defer cancel()
	return o.ensureDepth(ctx, v, dir, 0)
}

const (
	depthMax = 2048                  // directories above each other, as PATH_MAX allows
	dyingGap = 10 * time.Millisecond // between two questions about a dying directory
)

func (o *Owner) ensureDepth(ctx context.Context, v *view, dir volume.ID, depth int) error {
	home := v.home(dir)
	if home == o.self || dir == volume.Root || depth > depthMax {
		return fail("copy", dir.String(), syscall.ESTALE)
	}
	for {
		err := o.ensureOnce(ctx, v, dir, home, depth)
		if !isErrno(err, syscall.EAGAIN) {
			return err
		}
		select {
		case <-time.After(dyingGap):
		case <-ctx.Done():
			return &volume.Error{Op: "copy", Where: dir.String(), Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
	}
}

func (o *Owner) ensureOnce(ctx context.Context, v *view, dir volume.ID, home volume.SetID, depth int) error {
	k := nameKey{dir: dir}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return err
	}
	defer o.dirs.unlock(k)
	return o.ensureLocked(ctx, v, dir, home, depth, false)
}

func (o *Owner) ensureLocked(ctx context.Context, v *view, dir volume.ID, home volume.SetID, depth int, sure bool) error {
	if _, _, err := o.store.Path(ctx, dir); !isStale(err) {
		return err // somebody else made it
	}
	a, err := o.tell(ctx, v, home, &step{op: opFetch, dir: dir})
	if err != nil {
		return err
	}
	if a.copy == nil || a.copy.ID != dir {
		return malformed("fetch", errors.New("no copy in the answer"))
	}
	if err := o.makeCopy(ctx, v, a.dir, a.name, *a.copy, depth, sure); err != nil {
		return err
	}
	return o.outlived(ctx, v, dir, home, a.epoch)
}

// makeCopy makes a copy, whatever stands in its way as far as it has no right to.
func (o *Owner) makeCopy(ctx context.Context, v *view, parent volume.ID, name string, c volume.Copy, depth int, sure bool) error {
	if v.home(c.ID) != o.self {
		c.BirthTime = untouched // it may be made when the directory has got an earlier time than its birth
	}
	for try := 0; ; try++ {
		err := o.store.MakeCopy(ctx, parent, name, c)
		switch {
		case err == nil:
			o.marks.inherit(c.ID, parent)
			if c.Home != o.self {
				o.marks.add(c.ID, c.Home, c.ID)
			}
			return nil
		case try >= mendMax:
			return err
		case isStale(err):
			if err := o.ensureDepth(ctx, v, parent, depth+1); err != nil {
				return err
			}
		case isErrno(err, syscall.EEXIST):
			if _, _, perr := o.store.Path(ctx, c.ID); perr == nil {
				return nil // it is here already; where, is the business of those who move it
			}
			if !o.clearWay(ctx, v, parent, name, c.ID, sure) {
				return err
			}
		default:
			return err
		}
	}
}

// clearWay takes a directory out of a place that another one should have here,
// if it is dead or belongs elsewhere, and reports whether it did. Of a name that
// this set owns, this set knows before any home, unless the caller is sure.
func (o *Owner) clearWay(ctx context.Context, v *view, dir volume.ID, name string, want volume.ID, sure bool) bool {
	a, err := o.store.Lookup(ctx, dir, name)
	if isErrno(err, syscall.ENOENT) || err == nil && a.ID == want {
		return true
	}
	if err != nil || !a.IsDir() || v.home(a.ID) == o.self {
		return false
	}
	k := nameKey{dir: a.ID} // out of order, so without waiting
	if o.dirs.lock(ctx, k, false, false) != nil {
		return false
	}
	defer o.dirs.unlock(k)
	if b, err := o.store.Lookup(ctx, dir, name); err != nil || b.ID != a.ID {
		return false
	}
	f, err := o.tell(ctx, v, v.home(a.ID), &step{op: opFetch, dir: a.ID})
	if isStale(err) {
		return o.removeDead(ctx, v, dir, name)
	}
	if err != nil || f.dir == dir && f.name == name || !sure && v.owner(dir, name) == o.self {
		return false // it is in its place
	}
	if _, _, perr := o.store.Path(ctx, f.dir); isStale(perr) && o.ensure(ctx, v, f.dir) != nil {
		return false
	}
	err = o.moveDir(ctx, nameKey{dir, name}, nameKey{f.dir, f.name}, volume.RenameNoReplace)
	if isErrno(err, syscall.EEXIST) && !want.IsZero() {
		// It may be the very directory that the way is cleared for which is in its place.
		if b, lerr := o.store.Lookup(ctx, f.dir, f.name); lerr == nil && b.ID == want && b.IsDir() {
			err = o.moveDir(ctx, nameKey{dir, name}, nameKey{f.dir, f.name}, volume.RenameExchange)
		}
	}
	return err == nil
}

// clearDead removes the copy of a directory that dir calls name, if its home
// says that it does not exist, and reports whether it did.
func (o *Owner) clearDead(ctx context.Context, v *view, dir volume.ID, name string) bool {
	a, err := o.store.Lookup(ctx, dir, name)
	if err != nil || !a.IsDir() || v.home(a.ID) == o.self {
		return false
	}
	_, err = o.tell(ctx, v, v.home(a.ID), &step{op: opFetch, dir: a.ID})
	return isStale(err) && o.removeDead(ctx, v, dir, name)
}

func (o *Owner) removeDead(ctx context.Context, v *view, dir volume.ID, name string) bool {
	err := o.store.Rmdir(ctx, dir, name)
	if isErrno(err, syscall.ENOTEMPTY) {
		if a, lerr := o.store.Lookup(ctx, dir, name); lerr == nil && o.sweep(ctx, v, a.ID) {
			err = o.store.Rmdir(ctx, dir, name)
		}
	}
	if err != nil {
		o.log.Warn("copy of a removed directory stays", "dir", dir, "name", name, "err", err)
		return false
	}
	return true
}

// sweep removes copies of dead and moves copies of misplaced directories out of
// a directory, and reports whether that emptied it. It stops at the first name
// that has a right to be there.
func (o *Owner) sweep(ctx context.Context, v *view, dir volume.ID) bool {
	for after := volume.CookieStart; ; {
		list, end, err := o.store.List(ctx, dir, after, 128, false, func(string) bool { return true })
		if err != nil {
			return false
		}
		for _, e := range list {
			if e.Mode&syscall.S_IFMT != syscall.S_IFDIR || !o.clearWay(ctx, v, dir, e.Name, volume.ID{}, false) {
				return false
			}
			after = e.Cookie
		}
		if end {
			return true
		}
	}
}

// expects reports whether an intent of this set is about to put something into
// a directory that may be empty until then.
func (o *Owner) expects(dir volume.ID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.expected[dir] > 0
}

// needsDir reports whether the intent will put something under its own name.
func (it *intent) needsDir() bool {
	swaps := slices.ContainsFunc(it.actions, func(a action) bool { return a.kind == actSwap })
	return it.commit.kind != actGone && (it.commit.kind != actDiscard || swaps)
}

// expect notes that an intent can't do without the directory of its name any more.
func (o *Owner) expect(it *intent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !it.expects && it.needsDir() {
		it.expects = true
		o.mu.expected[it.commit.dir]++
	}
}

// protect makes sure that the directory of an intent's name is here, and stays
// even while it is empty, from before the decision until that is carried out. It
// takes the lock under which a removal looks whether the directory is expected.
func (o *Owner) protect(ctx context.Context, v *view, it *intent) error {
	if it.expects || !it.needsDir() {
		return nil
	}
	dir := it.commit.dir
	for try := 0; ; try++ {
		err := o.protectOnce(ctx, it)
		if err == nil || !o.mend(ctx, v, dir, 0, err, try) {
			return err
		}
	}
}

func (o *Owner) protectOnce(ctx context.Context, it *intent) error {
	k := nameKey{dir: it.commit.dir}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return err
	}
	defer o.dirs.unlock(k)
	if k.dir != volume.Root {
		if _, _, err := o.store.Path(ctx, k.dir); err != nil {
			return err
		}
	}
	o.expect(it)
	return nil
}

// unexpectLocked ends that. Owner.mu is locked.
func (o *Owner) unexpectLocked(it *intent) {
	if !it.expects {
		return
	}
	it.expects = false
	if o.mu.expected[it.commit.dir]--; o.mu.expected[it.commit.dir] == 0 {
		delete(o.mu.expected, it.commit.dir)
	}
}

// empty reports whether nothing with a right to it is in a directory here.
func (o *Owner) empty(ctx context.Context, v *view, dir volume.ID) error {
	if o.expects(dir) {
		return fail("rmdir", dir.String(), syscall.ENOTEMPTY)
	}
	ok, err := o.store.Empty(ctx, dir, nil)
	if isStale(err) {
		return nil // no copy, no names
	}
	if err == nil && !ok && !o.sweep(ctx, v, dir) {
		return fail("rmdir", dir.String(), syscall.ENOTEMPTY)
	}
	return err
}

// gone removes the copy of a directory, wherever it lies here.
func (o *Owner) gone(ctx context.Context, v *view, dir volume.ID) error {
	k := nameKey{dir: dir}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return err
	}
	defer o.dirs.unlock(k)
	if o.expects(dir) {
		return fail("rmdir", dir.String(), syscall.ENOTEMPTY)
	}
	for try := 0; ; try++ {
		parent, name, err := o.store.Path(ctx, dir)
		if isStale(err) {
			return nil
		}
		if err != nil {
			return err
		}
		err = o.store.Rmdir(ctx, parent, name)
		if try >= 1 || !isErrno(err, syscall.ENOTEMPTY) || !o.sweep(ctx, v, dir) {
			return err
		}
	}
}

// refreshHere fetches a directory's attributes from its home, and returns their version.
func (o *Owner) refreshHere(ctx context.Context, v *view, dir volume.ID) (uint64, error) {
	a, err := o.tell(ctx, v, v.home(dir), &step{op: opFetch, dir: dir})
	if err != nil {
		return 0, err
	}
	if a.copy == nil || a.copy.ID != dir {
		return 0, malformed("fetch", errors.New("no copy in the answer"))
	}
	return a.copy.Version, o.store.RefreshCopy(ctx, *a.copy)
}

// refreshOthers hands a directory's attributes, and times that were set, on to
// the sets that can be asked. The others refresh themselves when a create meets
// the difference.
func (o *Owner) refreshOthers(ctx context.Context, v *view, dir volume.ID, times volume.Change) {
	c, err := o.store.Copy(ctx, dir)
	if err != nil {
		return
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	c.Home = o.self
	each(o.others(v), func(set volume.SetID) error {
		if !v.up(set) {
			return nil
		}
		_, err := o.tell(ctx, v, set, &step{op: opRefresh, copy: &c, change: &times})
		if err != nil {
			o.log.Debug("copy of a directory not refreshed now", "dir", dir, "set", set, "err", err)
		}
		return err
	})
}

// timesOf returns the times that c set, as a says what became of them.
func timesOf(c volume.Change, a volume.Attr) volume.Change {
	var t volume.Change
	if c.Mask&(volume.SetAtime|volume.SetAtimeNow) != 0 {
		t.Mask |= volume.SetAtime
		t.Atime = a.Atime
	}
	if c.Mask&(volume.SetMtime|volume.SetMtimeNow) != 0 {
		t.Mask |= volume.SetMtime
		t.Mtime = a.Mtime
	}
	return t
}

// aclChanged refreshes the copies of a directory whose ACLs were changed.
func (o *Owner) aclChanged(ctx context.Context, v *view, id volume.ID, name string) {
	if v.single || name != volume.ACLAccess && name != volume.ACLDefault {
		return
	}
	if a, err := o.store.Getattr(ctx, id); err == nil && a.IsDir() {
		o.refreshOthers(ctx, v, id, volume.Change{})
	}
}
