package brick

import (
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// rename is one Rename under way.
type rename struct {
	from, to         *dir
	oldName, newName string
	old, target      found
	replaces         bool // target exists
	flags            volume.RenameFlags
	fx               fixed
}

// Rename is renameat2(2).
func (s *Store) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, flags volume.RenameFlags) error {
	const op = "rename"
	if err := checkRename(ctx, op, oldDir, oldName, newDir, newName, flags); err != nil {
		return err
	}
	from, err := s.dir(op, oldDir)
	if err != nil {
		return err
	}
	defer s.dirs.put(from)
	to, err := s.dir(op, newDir)
	if err != nil {
		return err
	}
	defer s.dirs.put(to)
	defer s.names.lock(lockName{oldDir, oldName}, lockName{newDir, newName})()
	r := rename{from: from, to: to, oldName: oldName, newName: newName, flags: flags, fx: fixedOf(ctx)}
	if done, err := s.prepareRename(op, &r); done || err != nil {
		return err
	}
	if r.old.isDir() || r.replaces && r.target.isDir() {
		err = s.renameDir(op, &r)
	} else {
		err = s.renameOther(op, &r)
	}
	if err != nil {
		return s.failIn(op, to, newName, err)
	}
	if flags&volume.RenameExchange == 0 {
		from.list.remove(oldName)
		to.list.add(newName)
	}
	s.stampDirs(r.fx, from, to)
	return nil
}

func checkRename(ctx context.Context, op string, oldDir volume.ID, oldName string, newDir volume.ID, newName string, flags volume.RenameFlags) error {
	if err := start(ctx, op); err != nil {
		return err
	}
	if flags&^(volume.RenameNoReplace|volume.RenameExchange) != 0 || flags == volume.RenameNoReplace|volume.RenameExchange {
		return volume.Errorf(op, oldName, unix.EINVAL, "flags %#x", uint32(flags))
	}
	if err := checkOld(op, oldDir, oldName); err != nil {
		return err
	}
	return checkNew(op, newDir, newName)
}

// prepareRename looks at both names, which are locked, and decides what needs
// no system call: done means there is nothing to do. Two names of one object are
// those that lead to one ID, be it here or by pointers.
func (s *Store) prepareRename(op string, r *rename) (done bool, err error) {
	if r.old, err = s.find(op, r.from, r.oldName); err != nil {
		return false, err
	}
	r.target, err = s.find(op, r.to, r.newName)
	r.replaces = err == nil
	e := &volume.Error{Op: op, Where: r.newName}
	switch {
	case err != nil && volume.ErrnoOf(err) != unix.ENOENT:
		return false, err
	case r.flags&volume.RenameExchange != 0:
		return r.old.ID == r.target.ID, err
	case !r.replaces:
		return false, nil
	case r.flags&volume.RenameNoReplace != 0:
		e.Errno = unix.EEXIST
	case r.old.ID == r.target.ID:
		return true, nil
	case r.old.isDir() && !r.target.isDir():
		e.Errno = unix.ENOTDIR
	case !r.old.isDir() && r.target.isDir():
		e.Errno = unix.EISDIR
	default:
		return false, nil
	}
	return false, e
}

// lockInto keeps the directories into which something is renamed from being
// taken away meanwhile.
func (s *Store) lockInto(op string, r *rename) (unlock func(), err error) {
	into := []*dir{r.to}
	if r.flags&volume.RenameExchange != 0 {
		into = append(into, r.from)
	}
	unlock = lockAttrs(nil, into...)
	for _, d := range into {
		if d.in.gone {
			unlock()
			return nil, stale(op, d.id)
		}
	}
	return unlock, nil
}

func (s *Store) callRename(r *rename) error {
	err := s.sys.Rename(r.from.fd, r.oldName, r.to.fd, r.newName, uint(r.flags))
	if err == unix.EEXIST && r.flags&volume.RenameNoReplace == 0 {
		return unix.ENOTEMPTY // as XFS says it
	}
	return err
}

// renameOther renames what is no directory. What is replaced goes as by
// removeLink: out of the index first or, open, with one more link that
// keeps it (of which a crash leaves an object with a name in .mortar/open: the next Open removes it there).
func (s *Store) renameOther(op string, r *rename) error {
	unlock, err := s.lockInto(op, r)
	if err != nil {
		return err
	}
	defer unlock()
	defer s.touch(r.old.ID, r.target.ID)()
	if r.flags&volume.RenameExchange != 0 || !r.replaces || r.target.isPointer() {
		return s.callRename(r)
	}
	return s.renameOver(r)
}

// renameOver is a rename that replaces an object that is no directory.
func (s *Store) renameOver(r *rename) error {
	id, index := r.target.ID, indexPath(r.target.ID)
	st := s.objs.stripe(id)
	st.Lock()
	defer st.Unlock()
	info, err := s.sys.Stat(r.to.fd, r.newName, noFollow)
	if err != nil {
		return err
	}
	fate := s.fate(st, id, &info, true, r.fx)
	switch fate {
	case notLast:
		return s.callRename(r)
	case lastOpen, lastLogged:
		if err := s.sys.Link(s.indexFD, index, s.openFD, id.String(), 0); err != nil && err != unix.EEXIST {
			return err
		}
		if err := s.callRename(r); err != nil {
			s.sys.Unlink(s.openFD, id.String(), 0)
			return err
		}
		st.keep(id, r.fx)
		if fate == lastLogged {
			s.endKept(st, id)
		}
		return nil
	}
	if err := s.sys.Unlink(s.indexFD, index, 0); err != nil && err != unix.ENOENT {
		return err
	}
	if err := s.callRename(r); err != nil {
		s.sys.Link(r.to.fd, r.newName, s.indexFD, index, 0)
		return err
	}
	s.inodes.drop(info.Ino)
	return nil
}

// renameDir renames where a directory moves. Each directory's new place is
// written beforehand into a note in .mortar/tmp, which, once the directory is
// there, replaces its index entry. Stopped in between, the next Open looks
// where the directory is and keeps or drops the note. An empty directory that
// is replaced goes as by Rmdir.
func (s *Store) renameDir(op string, r *rename) error {
	s.tree.Lock()
	defer s.tree.Unlock()
	unlock, err := s.lockInto(op, r)
	if err != nil {
		return err
	}
	defer unlock()
	exchange := r.flags&volume.RenameExchange != 0
	var moved []volume.ID
	forget := func() {
		for _, id := range moved {
			s.sys.Unlink(s.tmpFD, noteMove+id.String(), 0)
		}
	}
	note := func(f *found, parent volume.ID, name string) error {
		if !f.isDir() {
			return nil
		}
		err := s.noteMove(f.ID, parent, name)
		if err == nil {
			moved = append(moved, f.ID)
		}
		return err
	}
	err = note(&r.old, r.to.id, r.newName)
	if err == nil && exchange {
		err = note(&r.target, r.from.id, r.oldName)
	}
	if err != nil {
		forget()
		return err
	}
	replaced := r.replaces && !exchange
	if replaced {
		if err := s.takeFromIndex(r.target.ID); err != nil {
			forget()
			return err
		}
	}
	if err := s.callRename(r); err != nil {
		if replaced {
			s.backToIndex(r.target.ID)
		}
		forget()
		return err
	}
	for _, id := range moved {
		s.hasMoved(id)
	}
	if replaced {
		s.dirGone(&r.target)
	}
	if exchange && r.from != r.to {
		s.keepTime(&r.old, r.to.fd, r.newName)
		s.keepTime(&r.target, r.from.fd, r.oldName)
	}
	return nil
}

// keepTime gives a directory that was moved the mtime that it had: XFS counts
// it as changed when directories change places, others do not.
func (s *Store) keepTime(f *found, fd int, name string) {
	if !f.isDir() {
		return
	}
	err := s.times.keep(f.ID, f.info.Mtime, func(t volume.Time) error {
		return s.sys.Utimens(fd, name, sys.Timespec{Omit: true}, sys.Timespec{Time: t}, noFollow)
	})
	if err != nil {
		s.log.Warn("a directory's times could not be kept", "brick", s.path, "id", f.ID, "err", err)
	}
}

// noteMove notes where a directory will be when it has moved. The tree's lock is held.
func (s *Store) noteMove(id, parent volume.ID, name string) error {
	n := noteMove + id.String()
	err := s.sys.Symlink(placeTarget(parent, name), s.tmpFD, n)
	if err == unix.EEXIST { // left by a failure of hasMoved
		s.sys.Unlink(s.tmpFD, n, 0)
		err = s.sys.Symlink(placeTarget(parent, name), s.tmpFD, n)
	}
	return err
}

// hasMoved makes the note of a directory that has moved its place in the index.
// The tree's lock is held.
func (s *Store) hasMoved(id volume.ID) {
	if err := s.sys.Rename(s.tmpFD, noteMove+id.String(), s.indexFD, indexPath(id), 0); err != nil {
		s.notes.Store(true)
		s.log.Error("a moved directory's place in the index could not be written", "brick", s.path, "id", id, "err", err)
	}
}
