package brick

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Place makes a name lead to p, or to nothing.
func (s *Store) Place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error {
	const op = "place"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkNew(op, dir, name); err != nil {
		return err
	}
	if p.Mode &= unix.S_IFMT; p.Held != 0 && (p.ID.IsZero() || p.Mode == 0) {
		return volume.Errorf(op, name, unix.EINVAL, "a name can't lead to %+v", p)
	}
	q := put{name: name, e: p}
	var err error
	if p.Held == 0 && !p.ID.IsZero() {
		if q.src, err = s.target(op, p.ID); err != nil {
			return err
		}
		defer s.release(&q.src)
		q.e.Mode = q.src.Mode
	}
	if q.d, err = s.dir(op, dir); err != nil {
		return err
	}
	defer s.dirs.put(q.d)
	if err := s.clearForeign(op, q.d, dir, name); err != nil {
		return err
	}
	if q.src.d != nil {
		return s.placeDirectory(op, &q)
	}
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	if err := s.placeEntry(op, &q); err != nil {
		return s.failIn(op, q.d, name, err)
	}
	return nil
}

// clearForeign gives what lies under a name and is no object, because somebody put it there
// behind Mortar's back (sed -i, vim), another name: nothing is lost that way, and the name is free.
func (s *Store) clearForeign(op string, d *dir, dir volume.ID, name string) error {
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	if _, err := s.find(op, d, name); err == nil || !errors.As(err, new(noObject)) {
		return nil // what is the matter, if anything, the placing tells
	}
	// An object, even one that can't be read, has its link in the index, too.
	if info, err := s.sys.Stat(d.fd, name, noFollow); err != nil || info.Mode&unix.S_IFMT != unix.S_IFREG || info.Nlink != 1 {
		return nil
	}
	aside := fmt.Sprintf("%.200s.foreign-%x", name, rand.Uint64())
	if err := s.sys.Rename(d.fd, name, d.fd, aside, unix.RENAME_NOREPLACE); err != nil {
		return s.failIn(op, d, name, err)
	}
	s.log.Warn("what was put onto the brick from outside has another name now", "brick", s.path, "was", name, "is", aside)
	return nil
}

// placeEntry places what is no directory, or nothing; the name is locked.
func (s *Store) placeEntry(op string, p *put) error {
	f, err := s.find(op, p.d, p.name)
	switch {
	case err != nil && volume.ErrnoOf(err) != unix.ENOENT:
		return err
	case err != nil:
	case f.leads(p.e): // already; what could not be undone of its being nameless is
		defer s.objs.lock(p.e.ID)()
		s.named(p)
		return nil
	case f.isDir(): // it makes room first
		s.tree.Lock()
		err := s.clearDir(p.d, p.name, f.ID)
		s.tree.Unlock()
		if err != nil {
			return err
		}
	case p.e.ID.IsZero():
		return s.clearOther(p.d, p.name, &f)
	default:
		return s.placeOver(op, p, &f)
	}
	if p.e.ID.IsZero() {
		return nil
	}
	return s.putNew(op, p)
}

// clearDir moves a directory from its name to .mortar/open. The name and the tree are locked.
func (s *Store) clearDir(d *dir, name string, id volume.ID) error {
	if err := s.moveDir(id, d.fd, name, s.openFD, nowhere, id.String()); err != nil {
		return err
	}
	d.list.remove(name)
	return nil
}

// moveDir moves a directory to a free name and leads the index there, as
// renameDir does. The names and the tree are locked.
func (s *Store) moveDir(id volume.ID, fromFD int, from string, toFD int, parent volume.ID, to string) error {
	if err := s.noteMove(id, parent, to); err != nil {
		return err
	}
	if err := s.sys.Rename(fromFD, from, toFD, to, unix.RENAME_NOREPLACE); err != nil {
		s.sys.Unlink(s.tmpFD, noteMove+id.String(), 0)
		return err
	}
	s.hasMoved(id)
	return nil
}

// clearOther takes a name away of what is no directory: a pointer goes, an object
// that has no other name is moved to .mortar/open. The name is locked.
func (s *Store) clearOther(d *dir, name string, f *found) error {
	if f.isPointer() {
		if err := s.sys.Unlink(d.fd, name, 0); err != nil {
			return err
		}
		s.inodes.drop(f.info.Ino)
		d.list.remove(name)
		return nil
	}
	defer s.touch(f.ID)()
	st := s.objs.stripe(f.ID)
	st.Lock()
	defer st.Unlock()
	info, err := s.sys.Stat(d.fd, name, noFollow)
	if err != nil {
		return err
	}
	if e := st.extra[f.ID]; e.kept || !lastName(&info, e) {
		err = s.sys.Unlink(d.fd, name, 0)
	} else if err = s.sys.Rename(d.fd, name, s.openFD, f.ID.String(), 0); err == nil {
		st.hold(f.ID)
	}
	if err != nil {
		return err
	}
	d.list.remove(name)
	return nil
}

// placeOver replaces a name, which is locked, of what is no directory: the new
// entry is made in .mortar/tmp and moved over the old one, of which .mortar/open gets a
// link first if it has no other name (of which a crash leaves an object with
// a name in .mortar/open: the next Open removes it there).
func (s *Store) placeOver(op string, p *put, f *found) error {
	p.d.attr.RLock()
	defer p.d.attr.RUnlock()
	if p.d.in.gone {
		return stale(op, p.d.id)
	}
	defer s.touch(f.ID, p.e.ID)()
	defer s.objs.lock(f.ID, p.e.ID)()
	tmp := s.tmpName("place")
	if err := s.putAt(op, p, s.tmpFD, tmp); err != nil {
		return err
	}
	keeps, err := s.keepLink(p.d, p.name, f)
	if err == nil {
		err = s.sys.Rename(s.tmpFD, tmp, p.d.fd, p.name, 0)
	}
	if err != nil {
		if s.sys.Unlink(s.tmpFD, tmp, 0); keeps {
			s.sys.Unlink(s.openFD, f.ID.String(), 0)
		}
		return err
	}
	if keeps {
		s.objs.stripe(f.ID).hold(f.ID)
	}
	if f.isPointer() {
		s.inodes.drop(f.info.Ino)
	}
	s.named(p)
	return nil
}

// keepLink gives .mortar/open a link of an object whose only name is to be
// replaced, and reports whether it did. Its stripe is locked.
func (s *Store) keepLink(d *dir, name string, f *found) (bool, error) {
	if f.isPointer() {
		return false, nil
	}
	e := s.objs.stripe(f.ID).extra[f.ID]
	info, err := s.sys.Stat(d.fd, name, noFollow)
	if err != nil || e.kept || !lastName(&info, e) {
		return false, err
	}
	err = s.sys.Link(d.fd, name, s.openFD, f.ID.String(), 0)
	return err == nil || err == unix.EEXIST, dropErr(err, unix.EEXIST)
}

// dropErr is err, or nil if it is one that does not count.
func dropErr(err error, but unix.Errno) error {
	if err == but {
		return nil
	}
	return err
}

// placeDirectory moves a directory, from its name or from .mortar/open, to its new name.
func (s *Store) placeDirectory(op string, p *put) error {
	for {
		s.tree.RLock()
		parent, name, err := s.placeOf(op, p.e.ID)
		s.tree.RUnlock()
		if err != nil {
			return err
		}
		done, err := s.placeDirectoryFrom(op, p, parent, name)
		if done || err != nil {
			return err
		}
	}
}

// placeOf returns where the index, or a note (resolveNote), says that a directory
// lies. Of the root: nowhere. The tree is locked.
func (s *Store) placeOf(op string, id volume.ID) (parent volume.ID, name string, err error) {
	if id == volume.Root {
		return nowhere, "", nil
	}
	if s.notes.Load() {
		if d, err := s.resolveNote(op, id, 0); err == nil {
			s.dirs.put(d)
		}
	}
	target, err := s.sys.Readlink(s.indexFD, indexPath(id))
	if err == unix.ENOENT || err == unix.EINVAL {
		return nowhere, "", stale(op, id)
	}
	if err != nil {
		return nowhere, "", fail(op, id.String(), err)
	}
	parent, name, ok := parsePlace(target)
	if !ok {
		return nowhere, "", damaged(op, id.String(), "the index says %q", target)
	}
	return parent, name, nil
}

// placeDirectoryFrom is placeDirectory for a directory that lay in parent under
// name. Neither done nor failed: it lies elsewhere by now.
func (s *Store) placeDirectoryFrom(op string, p *put, parent volume.ID, name string) (done bool, err error) {
	defer s.names.lock(lockName{p.d.id, p.name}, lockName{parent, name})()
	f, err := s.find(op, p.d, p.name)
	if err == nil && f.leads(p.e) {
		return true, nil
	}
	taken := err == nil
	if err != nil && volume.ErrnoOf(err) != unix.ENOENT {
		return false, err
	}
	s.tree.Lock()
	defer s.tree.Unlock()
	if now, called, err := s.placeOf(op, p.e.ID); err != nil || now != parent || called != name {
		return false, err
	}
	if err := s.checkLoop(op, p.d.id, p.e.ID); err != nil {
		return false, err
	}
	from, fromFD := (*dir)(nil), s.openFD
	if parent != nowhere {
		if from, err = s.resolve(op, parent, 0); err != nil {
			return false, err
		}
		defer s.dirs.put(from)
		fromFD = from.fd
	}
	defer lockAttrs(nil, p.d)()
	if p.d.in.gone {
		return false, stale(op, p.d.id)
	}
	if taken {
		if f.isDir() {
			err = s.clearDir(p.d, p.name, f.ID)
		} else {
			err = s.clearOther(p.d, p.name, &f)
		}
		if err != nil {
			return false, fail(op, p.name, err)
		}
	}
	if err := s.moveDir(p.e.ID, fromFD, name, p.d.fd, p.d.id, p.name); err != nil {
		return false, s.failIn(op, p.d, p.name, err)
	}
	if from != nil {
		from.list.remove(name)
	}
	p.d.list.add(p.name)
	return true, nil
}

// checkLoop says why a directory can't come to lie in dir: it is above it. The tree is locked.
func (s *Store) checkLoop(op string, dir, id volume.ID) error {
	for depth := 0; dir != nowhere; depth++ {
		if dir == id {
			return volume.Errorf(op, id.String(), unix.ELOOP, "the directory would come to lie in itself")
		}
		if depth > depthMax {
			return damaged(op, id.String(), "the index leads round in a circle")
		}
		var err error
		if dir, _, err = s.placeOf(op, dir); err != nil {
			return err
		}
	}
	return nil
}
