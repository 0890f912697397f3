package dht

import (
	"context"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// restoredSuffix, and the object's ID, are added to a name that is in use.
const restoredSuffix = ".restored-"

func restoredName(name string, id volume.ID) string {
	suffix := restoredSuffix + id.String()
	return name[:min(len(name), volume.NameMax-len(suffix))] + suffix
}

// verifyEntry verifies one entry, if it counts on another set.
func (o *Owner) verifyEntry(ctx context.Context, v *view, k nameKey, e volume.Entry) error {
	mine := v.owner(k.dir, k.name) == o.self
	switch {
	case e.Mode&syscall.S_IFMT == syscall.S_IFDIR:
		return o.verifyDir(ctx, v, k, e.ID)
	case e.Held != 0 && mine:
		return o.verifyPointer(ctx, v, k, e.ID)
	case e.Held != 0: // brought back under a name that is not for us to own
		o.log.Info("a pointer out of place is removed", "dir", k.dir, "name", k.name)
		return o.store.Unlink(ctx, k.dir, k.name)
	case mine:
		return nil
	}
	s := &step{op: opClaim, dir: k.dir, name: k.name, id: e.ID}
	_, err := o.tell(ctx, v, v.owner(k.dir, k.name), s)
	if !isErrno(err, syscall.EEXIST) {
		return err
	}
	// Another object has the name, and this one has no other.
	to := nameKey{k.dir, restoredName(k.name, e.ID)}
	o.log.Info("an object without a name is restored", "dir", to.dir, "name", to.name)
	if err := o.store.Rename(ctx, k.dir, k.name, to.dir, to.name, volume.RenameNoReplace); err != nil {
		return err
	}
	o.moved.Store(true)
	if v.owner(to.dir, to.name) == o.self {
		return nil
	}
	_, err = o.tell(ctx, v, v.owner(to.dir, to.name), &step{op: opClaim, dir: to.dir, name: to.name, id: e.ID})
	return err
}

// aside renames what has a name, unless that is want, to one that is free, and
// reports whether it did.
func (o *Owner) aside(ctx context.Context, k nameKey, want volume.ID) bool {
	a, err := o.store.Lookup(ctx, k.dir, k.name)
	if err != nil || a.ID == want {
		return false
	}
	to := nameKey{k.dir, restoredName(k.name, a.ID)}
	if err := o.moveDir(ctx, k, to, volume.RenameNoReplace); err != nil {
		return false
	}
	o.moved.Store(true)
	o.log.Info("what came back with a loss of power is moved aside", "dir", k.dir, "from", k.name, "to", to.name, "id", a.ID)
	return true
}

// verifyPointer removes a pointer of this set if the set that it leads to does
// not hold the name.
func (o *Owner) verifyPointer(ctx context.Context, v *view, k nameKey, id volume.ID) error {
	if err := o.names.lock(ctx, k, false, false); err != nil {
		return err
	}
	defer o.names.unlock(k)
	a, err := o.store.Lookup(ctx, k.dir, k.name)
	if err != nil || a.ID != id || a.Held == 0 {
		return err // it has changed, and so is of today
	}
	_, err = o.tell(ctx, v, a.Held, &step{op: opHeld, dir: k.dir, name: k.name, id: id})
	if !isErrno(err, syscall.ENOENT) {
		return err
	}
	o.log.Info("a pointer that leads nowhere is removed", "dir", k.dir, "name", k.name, "id", id)
	return o.store.Unlink(ctx, k.dir, k.name)
}

// heldHere answers opHeld: ENOENT if this set does not hold the name.
func (o *Owner) heldHere(ctx context.Context, s *step) error {
	a, err := o.store.Lookup(ctx, s.dir, s.name)
	if isStale(err) || err == nil && (a.ID != s.id || a.Held != 0) {
		return fail("held", s.name, syscall.ENOENT)
	}
	return err
}

// claim answers opClaim of a set that holds a name for this one. EEXIST: the
// name leads elsewhere, and the object has no other.
func (o *Owner) claim(ctx context.Context, v *view, s *step) error {
	k := nameKey{s.dir, s.name}
	if v.owner(k.dir, k.name) != o.self || s.from == o.self {
		return fail("claim", s.name, syscall.EINVAL)
	}
	if err := o.names.lock(ctx, k, false, false); err != nil {
		return err
	}
	defer o.names.unlock(k)
	a, err := o.lookupHere(ctx, v, k.dir, k.name)
	free := isErrno(err, syscall.ENOENT)
	if err != nil && !free || a.ID == s.id && a.Held == s.from {
		return err
	}
	if a.Held != 0 {
		_, err := o.tell(ctx, v, a.Held, &step{op: opHeld, dir: k.dir, name: k.name, id: a.ID})
		if free = isErrno(err, syscall.ENOENT); free {
			err = o.store.Unlink(ctx, k.dir, k.name) // as verifyPointer would
		}
		if err != nil {
			return err
		}
	}
	_, err = o.tell(ctx, v, s.from, &step{op: opDrop, dir: k.dir, name: k.name, id: s.id})
	switch {
	case !isErrno(err, syscall.ENOTEMPTY):
		return err
	case !free:
		return fail("claim", s.name, syscall.EEXIST)
	}
	b, err := o.tell(ctx, v, s.from, &step{op: opWhere, id: s.id})
	if err != nil {
		return err
	}
	o.log.Info("an object gets its pointer back", "dir", k.dir, "name", k.name, "id", s.id)
	return o.store.Put(ctx, k.dir, k.name, volume.Pointer{ID: s.id, Mode: b.mode, Held: s.from}, volume.ID{}, volume.Key{Set: o.self})
}

// drop answers opDrop: it removes a name that is held here for nobody.
// ENOTEMPTY: the object has no other.
func (o *Owner) drop(ctx context.Context, v *view, s *step) error {
	if v.owner(s.dir, s.name) == o.self {
		return fail("drop", s.name, syscall.EINVAL)
	}
	a, err := o.store.Lookup(ctx, s.dir, s.name)
	switch {
	case err != nil || a.ID != s.id || a.Held != 0 || a.IsDir():
		return ignoreAbsent(err)
	case a.Nlink == 1:
		return fail("drop", s.name, syscall.ENOTEMPTY)
	}
	o.log.Info("a name held for no pointer is removed", "dir", s.dir, "name", s.name, "id", s.id)
	return o.store.Unlink(ctx, s.dir, s.name)
}

// verifyDir verifies a directory of this set.
func (o *Owner) verifyDir(ctx context.Context, v *view, k nameKey, id volume.ID) error {
	home := v.home(id)
	if home == o.self {
		return o.verifyHome(ctx, v, k, id)
	}
	a, err := o.tell(ctx, v, home, &step{op: opFetch, dir: id})
	switch {
	case isStale(err):
		return o.adoptOrClear(ctx, v, k, id)
	case err != nil || a.dir == k.dir && a.name == k.name:
		return err
	}
	return o.place(ctx, v, id, volume.ID{}, "")
}

// verifyHome sees to it that the owner of a directory's name has its copy. If
// another directory has the name there, for good as it seems, this one gets a free
// name, and all sets are told.
func (o *Owner) verifyHome(ctx context.Context, v *view, k nameKey, id volume.ID) error {
	tell := func(set volume.SetID) error {
		_, err := o.tell(ctx, v, set, &step{op: opPlace, id: id})
		return err
	}
	owner := v.owner(k.dir, k.name)
	switch {
	case strings.HasSuffix(k.name, restoredName("", id)):
		return first(each(o.others(v), tell))
	case owner == o.self:
		return nil
	}
	err := tell(owner)
	if isErrno(err, syscall.EEXIST) && o.walks.Load() > 2 && o.aside(ctx, k, volume.ID{}) {
		return o.verifyHome(ctx, v, nameKey{k.dir, restoredName(k.name, id)}, id)
	}
	return err
}

// adoptOrClear deals with a copy of a directory that its home does not have.
func (o *Owner) adoptOrClear(ctx context.Context, v *view, k nameKey, id volume.ID) error {
	if !o.inhabited(ctx, v, id, 0) {
		return o.gone(ctx, v, id)
	}
	c, err := o.store.Copy(ctx, id)
	if err != nil {
		return err
	}
	c.Home = v.home(id)
	for _, name := range []string{k.name, restoredName(k.name, id)} {
		_, err = o.tell(ctx, v, c.Home, &step{op: opAdopt, dir: k.dir, name: name, copy: &c})
		if err == nil {
			o.log.Info("a directory that its home had lost was adopted", "dir", k.dir, "name", name, "id", id)
			return o.place(ctx, v, id, volume.ID{}, "") // if it is restoredName
		}
		if !isErrno(err, syscall.EEXIST) {
			return err
		}
	}
	return err
}

// inhabited reports whether there is in a directory, or in one below it, what
// makes it worth to be adopted: anything but copies of directories that are
// without a home themselves.
func (o *Owner) inhabited(ctx context.Context, v *view, dir volume.ID, depth int) bool {
	for after, end := volume.CookieStart, false; !end && depth < depthMax; {
		var list []volume.Entry
		var err error
		if list, end, err = o.store.List(ctx, dir, after, 256, false, func(string) bool { return true }); err != nil {
			return false
		}
		if slices.ContainsFunc(list, func(e volume.Entry) bool {
			return e.Mode&syscall.S_IFMT != syscall.S_IFDIR || v.home(e.ID) == o.self || o.inhabited(ctx, v, e.ID, depth+1)
		}) {
			return true
		}
		if len(list) > 0 {
			after = list[len(list)-1].Cookie
		}
	}
	return false
}

// adopt answers opAdopt: this set, the directory's home, takes it from a copy.
func (o *Owner) adopt(ctx context.Context, v *view, s *step) error {
	if s.copy == nil || s.copy.ID.IsZero() || v.home(s.copy.ID) != o.self || s.copy.Home != o.self {
		return fail("adopt", s.name, syscall.EINVAL)
	}
	k := nameKey{dir: s.copy.ID}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return err
	}
	err := o.makeCopy(ctx, v, s.dir, s.name, *s.copy, 0, false)
	o.dirs.unlock(k)
	if err != nil {
		return err
	}
	return o.verifyHome(ctx, v, nameKey{s.dir, s.name}, s.copy.ID) // the walk here may have gone by already
}

// restore brings a discard back whose removal was lost. If its directory does
// not exist any more, and no home has lost it, what has no other name gets
// one in the root. ESTALE: that is not known yet.
func (o *Owner) restore(ctx context.Context, v *view, d volume.Discarded) error {
	o.mu.Lock()
	late := !o.mu.doubt.strays // the walks may have gone by
	o.mu.Unlock()
	err := o.store.Restore(ctx, d.Key)
	if isStale(err) {
		if err = o.ensureIfCopy(ctx, v, d.Dir); err == nil {
			err = o.store.Restore(ctx, d.Key)
		}
	}
	if err == nil && late {
		o.moved.Store(true)
		o.alarm(ctx, v)
	}
	if !isStale(err) || o.inDoubt() {
		return err
	}
	if d.Pointer.Held == 0 && !(object{mode: d.Pointer.Mode}).isDir() {
		a, err := o.store.Getattr(ctx, d.Pointer.ID)
		if err != nil && !isStale(err) {
			return err
		}
		if a.Nlink == 0 {
			k := nameKey{volume.Root, restoredName(d.Name, d.Pointer.ID)}
			if err := o.store.Put(ctx, k.dir, k.name, d.Pointer, volume.ID{}, volume.Key{}); err != nil {
				return err
			}
			o.log.Warn("an object whose directory is gone is restored in the root", "name", k.name, "id", d.Pointer.ID)
			if err := o.verifyEntry(ctx, v, k, volume.Entry{Name: k.name, ID: d.Pointer.ID, Mode: d.Pointer.Mode}); err != nil {
				return err
			}
		}
	}
	return o.store.Purge(ctx, d.Key)
}
