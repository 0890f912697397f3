package brick

import (
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Link gives an object that is no directory one more name.
func (s *Store) Link(ctx context.Context, id, dir volume.ID, name string) (volume.Attr, error) {
	const op = "link"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	if err := checkNew(op, dir, name); err != nil {
		return volume.Attr{}, err
	}
	t, err := s.target(op, id)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.release(&t)
	if t.isDir() {
		return volume.Attr{}, &volume.Error{Op: op, Where: id.String(), Errno: unix.EPERM}
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	if _, err := s.enter(op, d, 0); err != nil {
		return volume.Attr{}, err
	}
	defer d.attr.RUnlock()
	a, err := s.link(op, &t, d, name)
	if err == nil {
		s.stampDirs(fixedOf(ctx), d)
	}
	return a, err
}

// link makes the name; it is locked.
func (s *Store) link(op string, t *target, d *dir, name string) (volume.Attr, error) {
	st := s.objs.stripe(t.ID)
	st.Lock()
	defer st.Unlock()
	info, err := s.sys.Stat(t.fd, t.path, noFollow)
	if err == unix.ENOENT {
		return volume.Attr{}, stale(op, t.ID)
	}
	if err != nil {
		return volume.Attr{}, fail(op, name, err)
	}
	defer s.touch(t.ID)()
	extra := st.extra[t.ID].links()
	if info.Nlink <= 1+extra {
		if st.open[t.ID] == nil && !st.extra[t.ID].held && !s.waiting.Load() {
			return volume.Attr{}, stale(op, t.ID)
		}
		return volume.Attr{}, volume.Errorf(op, name, unix.ENOENT, "the last name of %s has gone", t.ID)
	}
	if err := s.sys.Link(t.fd, t.path, d.fd, name, 0); err != nil {
		return volume.Attr{}, s.failIn(op, d, name, err)
	}
	d.list.add(name)
	f := found{node: t.node}
	if f.info, err = s.sys.Stat(t.fd, t.path, noFollow); err != nil {
		return volume.Attr{}, fail(op, name, err)
	}
	return s.attrOf(&f, extra), nil
}

// Unlink removes a name of what is no directory.
func (s *Store) Unlink(ctx context.Context, dir volume.ID, name string) error {
	const op = "unlink"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkOld(op, dir, name); err != nil {
		return err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	f, err := s.find(op, d, name)
	if err != nil {
		return err
	}
	if f.isDir() {
		return &volume.Error{Op: op, Where: name, Errno: unix.EISDIR}
	}
	fx := fixedOf(ctx)
	if err := s.removeLink(d.fd, name, &f, fx); err != nil {
		return fail(op, name, err)
	}
	s.stampDirs(fx, d)
	d.list.remove(name)
	return nil
}

// lastLink reports what becomes of an object, no directory, when one of its
// links goes, be it a name or a discard.
type lastLink int

const (
	notLast    lastLink = iota // other names or discards keep it
	lastOpen                   // it goes on in .mortar/open
	lastLogged                 // it ends, by way of .mortar/open: as long as it has a name, the log of fsyncs must find it by the index
	last                       // it ends
)

// fate tells which link this is of an object that is as info says; the stripe is locked.
// What a primary decided holds, but for what is open here. What is to be kept when its last name goes is moved to
// .mortar/open though a discard keeps it, too: by that alone nobody finds it who opens it again.
func (s *Store) fate(st *objectStripe, id volume.ID, info *sys.Info, isName bool, fx fixed) lastLink {
	e := st.extra[id]
	switch {
	case isName && fx.Keep && !e.kept && lastName(info, e):
		return lastOpen
	case info.Nlink > 2: // the index's and this one
		return notLast
	case st.open[id] != nil, fx.Keep, !fx.is && s.mayBeClaimed(info):
		return lastOpen
	case s.inLiveLog(id):
		return lastLogged
	}
	return last
}

// mayBeClaimed reports whether a client may still come back to an object that
// it had open before this start: not to what can't be open, nor to what was born since.
func (s *Store) mayBeClaimed(info *sys.Info) bool {
	return s.opt.Reclaim && s.waiting.Load() && info.Mode&unix.S_IFMT == unix.S_IFREG &&
		!(info.HasBtime && s.opened.Before(info.Btime))
}

// removeLink takes away the link called name below fd, a name or a discard, of
// a pointer or an object that is no directory. It is locked by its name. Of the
// last link the index's goes first: stopped in between, the object is
// whole and mendIndex puts it back into the index. If it is open it moves to .mortar/open.
func (s *Store) removeLink(fd int, name string, f *found, fx fixed) error {
	if f.isPointer() {
		err := s.sys.Unlink(fd, name, 0)
		if err == nil {
			s.inodes.drop(f.info.Ino)
		}
		return err
	}
	st := s.objs.stripe(f.ID)
	defer s.touch(f.ID)()
	st.Lock()
	defer st.Unlock()
	info, err := s.sys.Stat(fd, name, noFollow)
	if err != nil {
		return err
	}
	fate := s.fate(st, f.ID, &info, fd != s.discardFD, fx)
	switch fate {
	case notLast:
		if err := s.sys.Unlink(fd, name, 0); err != nil || fd != s.discardFD {
			return err
		}
		if after, err := s.sys.Stat(s.indexFD, indexPath(f.ID), noFollow); err == nil {
			st.hush(f.ID, info, after)
		}
		return nil
	case lastOpen, lastLogged:
		if err := s.sys.Rename(fd, name, s.openFD, f.ID.String(), 0); err != nil {
			return err
		}
		st.keep(f.ID, fx)
		if fate == lastLogged {
			s.endKept(st, f.ID)
		}
		return nil
	}
	index := indexPath(f.ID)
	if err := s.sys.Unlink(s.indexFD, index, 0); err != nil && err != unix.ENOENT {
		return err
	}
	if err := s.sys.Unlink(fd, name, 0); err != nil {
		s.sys.Link(fd, name, s.indexFD, index, 0)
		return err
	}
	s.inodes.drop(info.Ino)
	return nil
}

// Rmdir removes an empty directory.
func (s *Store) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	const op = "rmdir"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkOld(op, dir, name); err != nil {
		return err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	f, err := s.find(op, d, name)
	if err != nil {
		return err
	}
	if !f.isDir() {
		return &volume.Error{Op: op, Where: name, Errno: unix.ENOTDIR}
	}
	s.tree.Lock()
	defer s.tree.Unlock()
	if err := s.takeFromIndex(f.ID); err != nil {
		return fail(op, name, err)
	}
	if err := s.sys.Unlink(d.fd, name, unix.AT_REMOVEDIR); err != nil {
		s.backToIndex(f.ID)
		return fail(op, name, err)
	}
	s.dirGone(&f)
	d.list.remove(name)
	s.stampDirs(fixedOf(ctx), d)
	return nil
}

// takeFromIndex moves a directory's index entry to .mortar/tmp, before the
// directory is removed. Stopped before it was, the next Open moves it back;
// after, it removes it. The tree's lock is held.
func (s *Store) takeFromIndex(id volume.ID) error {
	return s.sys.Rename(s.indexFD, indexPath(id), s.tmpFD, noteRemove+id.String(), 0)
}

// backToIndex takes back takeFromIndex.
func (s *Store) backToIndex(id volume.ID) {
	if err := s.sys.Rename(s.tmpFD, noteRemove+id.String(), s.indexFD, indexPath(id), 0); err != nil {
		s.notes.Store(true)
		s.log.Error("a directory's place in the index could not be restored", "brick", s.path, "id", id, "err", err)
	}
}

// dirGone finishes the removal of a directory. The tree's lock is held.
func (s *Store) dirGone(f *found) {
	if err := s.sys.Unlink(s.tmpFD, noteRemove+f.ID.String(), 0); err != nil {
		s.log.Warn("a note of a removed directory stays until the next start", "brick", s.path, "id", f.ID, "err", err)
	}
	s.dirs.drop(f.ID)
	s.inodes.drop(f.info.Ino)
}
