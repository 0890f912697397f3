package set

import (
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// changeUnder makes a change under locks, which it takes.
func (s store) changeUnder(ctx context.Context, c *change, do func(context.Context) (Outcome, error), spans ...span) error {
	spans = order(spans)
	if err := s.lock(ctx, c.kind.String(), spans...); err != nil {
		return err
	}
	defer s.r.s.locks.unlock(spans...)
	return s.r.change(ctx, c, do)
}

// apply makes a change under locks, and does here what apply does everywhere.
func (s store) apply(ctx context.Context, c *change, spans ...span) (o Outcome, err error) {
	err = s.changeUnder(ctx, c, s.here(c, &o), spans...)
	return o, err
}

// here is what applies a change at the primary, and notes its outcome.
func (s store) here(c *change, o *Outcome) func(context.Context) (Outcome, error) {
	return func(ctx context.Context) (Outcome, error) {
		var err error
		*o, err = apply(ctx, s.member(), s.r.s.follow.files, c)
		return *o, err
	}
}

// withObject makes a change of one name that an object loses, gains or
// gets: prepare looks under the names' locks at what they lead to, fills the change in and tells
// the other spans that it needs. These are mostly to be had at once. Otherwise everything is given
// free and taken again together, in its turn, and prepare looks anew: who waited for
// an object while he held its name, or took it only to give it back, would be in others' way.
func (s store) withObject(ctx context.Context, c *change, names []span, prepare func() ([]span, error)) (o Outcome, err error) {
	op := c.kind.String()
	held := order(names)
	for {
		if err := s.lock(ctx, op, held...); err != nil {
			return o, err
		}
		want, err := prepare()
		if err != nil {
			s.r.s.locks.unlock(held...)
			return o, s.refused(ctx, op, err)
		}
		want = slices.DeleteFunc(order(want), func(w span) bool { return covered(w, held) })
		if s.r.s.locks.try(want...) {
			defer s.r.s.locks.unlock(held...)
			defer s.r.s.locks.unlock(want...)
			return s.lastName(ctx, c)
		}
		s.r.s.locks.unlock(held...)
		held = order(append(slices.Clone(held), want...))
	}
}

// covered reports whether who holds spans holds w.
func covered(w span, held []span) bool {
	return slices.ContainsFunc(held, func(h span) bool {
		return h.id == w.id && h.from <= w.from && w.to <= h.to && (w.shared || !h.shared)
	})
}

// refused lets an answer out that a look at what is there gave in place of a change.
func (s store) refused(ctx context.Context, op string, answer error) error {
	if s.r.deposed() {
		return s.r.refuse(op)
	}
	if err := s.r.lease(ctx, op); err != nil {
		return err
	}
	return answer
}

// lastName makes a change with which an object may lose its last name, under its locks.
func (s store) lastName(ctx context.Context, c *change) (o Outcome, err error) {
	loser := c.loser()
	c.keep = s.r.mayBeOpen(loser)
	err = s.r.change(ctx, c, s.here(c, &o))
	if c.keep {
		s.r.keepOpen(loser)
	}
	return o, err
}

// loser is the object that may lose its last name with the change.
func (c *change) loser() volume.ID {
	switch c.kind {
	case doUnlink, doDiscard, doPurge:
		return c.id
	case doRename, doPut:
		return c.old
	}
	return volume.ID{}
}

// lookHere tells what a name leads to on this member; a free name is no error.
func (s store) lookHere(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	a, err := s.member().Lookup(ctx, dir, name)
	if volume.ErrnoOf(err) == enoent {
		return volume.Attr{}, nil
	}
	return a, err
}

// Setattr implements volume.FS.
func (s store) Setattr(ctx context.Context, id volume.ID, ch volume.Change) (volume.Attr, error) {
	o, err := s.apply(ctx, &change{kind: doSetattr, id: id, set: ch}, whole(id, false))
	return o.Attr, err
}

// Make implements volume.FS.
func (s store) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	if n.ID.IsZero() {
		n.ID = volume.NewID(s.r.s.cfg.Set)
	}
	if err := n.CheckBears("make", name); err != nil {
		return volume.Attr{}, err
	}
	c := &change{kind: doMake, dir: dir, name: name, node: n.Plain(), set: n.Then, data: n.Data, len: int64(len(n.Data))}
	at := []span{entryOf(dir, name, false)}
	if c.bears() { // who reserved the name knows the ID, and may ask about the object by that
		at = append(at, whole(n.ID, false))
	}
	o, err := s.apply(ctx, c, at...)
	if err == nil {
		s.r.noteBorn(n.ID)
	}
	return o.Attr, err
}

// Link implements volume.FS.
func (s store) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	c := &change{kind: doLink, id: id, dir: dir, name: name}
	o, err := s.withObject(ctx, c, []span{entryOf(dir, name, false)}, func() ([]span, error) { return []span{namesOf(id)}, nil })
	return o.Attr, err
}

// Unlink implements volume.FS.
func (s store) Unlink(ctx context.Context, dir volume.ID, name string) error {
	c := &change{kind: doUnlink, dir: dir, name: name}
	_, err := s.withObject(ctx, c, []span{entryOf(dir, name, false)}, func() ([]span, error) {
		a, err := s.member().Lookup(ctx, dir, name)
		if c.id = a.ID; err != nil || a.Held != 0 || a.IsDir() {
			return nil, ignoreMissing(err)
		}
		return []span{namesOf(a.ID)}, nil
	})
	return err
}

// ignoreMissing leaves it to the change itself to say that something is not there, which is never under way.
func ignoreMissing(err error) error {
	switch volume.ErrnoOf(err) {
	case enoent, estale, enotdir:
		return nil
	}
	return err
}

// Rmdir implements volume.FS.
func (s store) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	c := &change{kind: doRmdir, dir: dir, name: name}
	_, err := s.withObject(ctx, c, []span{entryOf(dir, name, false)}, func() ([]span, error) {
		a, err := s.member().Lookup(ctx, dir, name)
		if c.id = a.ID; err != nil || !a.IsDir() {
			return nil, ignoreMissing(err)
		}
		return []span{whole(a.ID, false)}, nil
	})
	return err
}

// Rename implements volume.FS.
func (s store) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, f volume.RenameFlags) error {
	c := &change{kind: doRename, dir: oldDir, name: oldName, dir2: newDir, name2: newName, flags: uint32(f)}
	names := []span{entryOf(oldDir, oldName, false), entryOf(newDir, newName, false)}
	_, err := s.withObject(ctx, c, names, func() ([]span, error) {
		var want []span
		src, err := s.member().Lookup(ctx, oldDir, oldName)
		if c.id = src.ID; err != nil {
			return nil, ignoreMissing(err)
		}
		dst, err := s.lookHere(ctx, newDir, newName)
		if c.old = dst.ID; err != nil {
			return nil, ignoreMissing(err)
		}
		for _, a := range []volume.Attr{src, dst} {
			switch {
			case a.ID.IsZero() || a.Held != 0:
			case a.IsDir():
				want = append(want, s.dirSpan(a.ID, oldDir, newDir))
			default:
				want = append(want, namesOf(a.ID))
			}
		}
		if src.IsDir() && oldDir != newDir {
			want = append(want, span{treeID, 0, 1, false})
		}
		return want, nil
	})
	return err
}

// dirSpan is what a rename of a directory, or one that replaces it, holds of it: all of
// it, unless it holds names in it already, which can only fail.
func (s store) dirSpan(id, oldDir, newDir volume.ID) span {
	if id == oldDir || id == newDir {
		return namesOf(id)
	}
	return whole(id, false)
}

// treeID is on whose line directories are that move: one at a time.
var treeID = volume.ID{0: 't', 1: 'r', 2: 'e', 3: 'e', 15: 0xff}

// Setxattr implements volume.FS.
func (s store) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	c := &change{kind: doSetxattr, id: id, name: name, value: value, flags: uint32(f)}
	_, err := s.withObject(ctx, c, []span{whole(id, false)}, func() ([]span, error) { return nil, s.refuseXattr(ctx, c) })
	return err
}

// Removexattr implements volume.FS.
func (s store) Removexattr(ctx context.Context, id volume.ID, name string) error {
	c := &change{kind: doRemovexattr, id: id, name: name}
	_, err := s.withObject(ctx, c, []span{whole(id, false)}, func() ([]span, error) { return nil, s.refuseXattr(ctx, c) })
	return err
}

// refuseXattr refuses a change that depends on what was there before, so that what was recorded
// and is there now was done by it (reign.hasXattr).
func (s store) refuseXattr(ctx context.Context, c *change) error {
	f := volume.XattrFlags(c.flags)
	if c.kind == doSetxattr && f == 0 {
		return nil
	}
	_, err := s.member().Getxattr(ctx, c.id, c.name)
	switch volume.ErrnoOf(err) {
	case 0:
		if f&volume.XattrCreate != 0 { // it can only fail, and says so in its own words
			return s.member().Setxattr(ctx, c.id, c.name, c.value, f)
		}
	case syscall.ENODATA:
		if c.kind == doRemovexattr {
			return s.member().Removexattr(ctx, c.id, c.name)
		}
		if f&volume.XattrReplace != 0 {
			return s.member().Setxattr(ctx, c.id, c.name, c.value, f)
		}
	}
	return nil
}

// MakeCopy implements volume.Store.
func (s store) MakeCopy(ctx context.Context, parent volume.ID, name string, cp volume.Copy) error {
	c := &change{kind: doMakeCopy, dir: parent, name: name, copy: cp}
	_, err := s.withObject(ctx, c, []span{entryOf(parent, name, false)}, func() ([]span, error) { return []span{whole(cp.ID, false)}, nil })
	return err
}

// RefreshCopy implements volume.Store.
func (s store) RefreshCopy(ctx context.Context, cp volume.Copy) error {
	_, err := s.apply(ctx, &change{kind: doRefreshCopy, id: cp.ID, copy: cp}, whole(cp.ID, false))
	return err
}

// Put implements volume.Store.
func (s store) Put(ctx context.Context, dir volume.ID, name string, e volume.Pointer, old volume.ID, k volume.Key) error {
	c := &change{kind: doPut, dir: dir, name: name, ptr: e, old: old, key: k}
	_, err := s.withObject(ctx, c, []span{entryOf(dir, name, false)}, func() ([]span, error) {
		var want []span
		if e.Held == 0 {
			want = append(want, namesOf(e.ID))
		}
		if !old.IsZero() && old != e.ID {
			want = append(want, s.objectSpan(ctx, old))
		}
		return want, nil
	})
	if err == nil && !old.IsZero() {
		s.r.noteDiscard(k, old)
	}
	return err
}

// objectSpan is what is held of an object whose name goes: all of a directory.
func (s store) objectSpan(ctx context.Context, id volume.ID) span {
	if a, err := s.member().Getattr(ctx, id); err == nil && a.IsDir() {
		return whole(id, false)
	}
	return namesOf(id)
}

// Discard implements volume.Store.
func (s store) Discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key) error {
	c := &change{kind: doDiscard, dir: dir, name: name, id: id, key: k}
	_, err := s.withObject(ctx, c, []span{entryOf(dir, name, false)}, func() ([]span, error) {
		return []span{s.objectSpan(ctx, id)}, nil
	})
	if err == nil {
		s.r.noteDiscard(k, id)
	}
	return err
}

// Purge implements volume.Store.
func (s store) Purge(ctx context.Context, k volume.Key) error {
	id := s.r.discard(k)
	c := &change{kind: doPurge, id: id, key: k}
	_, err := s.withObject(ctx, c, nil, func() ([]span, error) {
		if id.IsZero() {
			return nil, nil
		}
		return []span{whole(id, false)}, nil
	})
	if err == nil {
		s.r.forgetDiscard(k)
	}
	return err
}

// Restore implements volume.Store.
func (s store) Restore(ctx context.Context, k volume.Key) error {
	var at volume.Discarded
	list, err := s.Discards(ctx)
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.Key == k {
			at = d
		}
	}
	if at.Name == "" {
		return nil
	}
	c := &change{kind: doRestore, key: k, dir: at.Dir, name: at.Name}
	if at.Pointer.Held == 0 {
		c.id = at.Pointer.ID
	}
	// It may get another name than it had: all of the directory is held.
	_, err = s.withObject(ctx, c, []span{whole(at.Dir, false)}, func() ([]span, error) {
		if c.id.IsZero() {
			return nil, nil
		}
		return []span{s.objectSpan(ctx, c.id)}, nil
	})
	if err == nil {
		s.r.forgetDiscard(k)
	}
	return err
}
