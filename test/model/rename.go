package model

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Rename implements volume.FS.
func (s *FS) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, f volume.RenameFlags) error {
	if err := s.enter(ctx, "rename", oldName); err != nil {
		return err
	}
	defer s.leave()
	if f > volume.RenameExchange { // NOREPLACE with EXCHANGE, whiteouts, unknown flags
		return fail("rename", oldName, syscall.EINVAL)
	}
	from, to, err := s.mu.renameEnds(oldDir, oldName, newDir, newName)
	if err != nil {
		return err
	}
	if err := s.mu.mayRename(from, to, f); err != nil {
		return err
	}
	if from.ptr.ID == to.ptr.ID {
		return nil
	}
	now := s.now()
	s.tie(from.dir.id, to.dir.id)
	s.remove(from.dir, oldName)
	if !to.ptr.ID.IsZero() {
		s.remove(to.dir, newName)
		s.mu.changed(to.ptr, now)
	}
	s.mu.insert(to.dir, newName, from.ptr)
	if f == volume.RenameExchange {
		s.mu.insert(from.dir, oldName, to.ptr)
	}
	s.mu.changed(from.ptr, now)
	s.mu.reap(to.ptr)
	from.dir.touch(now)
	to.dir.touch(now)
	return nil
}

// end is one of the two names of a rename.
type end struct {
	dir  *object
	name string
	ptr  volume.Pointer // zero: the name is free
}

// renameEnds finds both names; the old one must exist.
func (t *tree) renameEnds(oldDir volume.ID, oldName string, newDir volume.ID, newName string) (from, to end, err error) {
	from.name, to.name = oldName, newName
	if to.dir, to.ptr, err = t.place("rename", newDir, newName); err == nil {
		from.dir, from.ptr, err = t.entry("rename", oldDir, oldName)
	}
	return from, to, err
}

// mayRename checks renameat2(2)'s rules, in the order in which Linux does.
func (t *tree) mayRename(from, to end, f volume.RenameFlags) error {
	free := to.ptr.ID.IsZero()
	fromDir := from.ptr.Mode&syscall.S_IFMT == syscall.S_IFDIR
	toDir := to.ptr.Mode&syscall.S_IFMT == syscall.S_IFDIR
	switch {
	case f == volume.RenameNoReplace && !free:
		return fail("rename", to.name, syscall.EEXIST)
	case f == volume.RenameExchange && free:
		return fail("rename", to.name, syscall.ENOENT)
	case fromDir && t.within(to.dir.id, from.ptr.ID):
		return fail("rename", from.name, syscall.EINVAL)
	case f == volume.RenameExchange && toDir && t.within(from.dir.id, to.ptr.ID):
		return fail("rename", to.name, syscall.EINVAL)
	case toDir && t.within(from.dir.id, to.ptr.ID):
		return fail("rename", to.name, syscall.ENOTEMPTY)
	case free, f == volume.RenameExchange, from.ptr.ID == to.ptr.ID:
		return nil
	case fromDir && !toDir:
		return fail("rename", to.name, syscall.ENOTDIR)
	case !fromDir && toDir:
		return fail("rename", to.name, syscall.EISDIR)
	case toDir && to.ptr.Held == 0 && len(t.objects[to.ptr.ID].children) > 0:
		return fail("rename", to.name, syscall.ENOTEMPTY)
	}
	return nil
}

// within reports whether directory id is top or lies below it.
func (t *tree) within(id, top volume.ID) bool {
	for {
		if id == top {
			return true
		}
		o := t.objects[id]
		if o == nil || id == volume.Root || o.names == 0 {
			return false
		}
		id = o.parent
	}
}
