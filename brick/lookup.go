package brick

import (
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// noFollow is how everything is looked at: a symbolic link is the object itself.
const noFollow = unix.AT_SYMLINK_NOFOLLOW

// found is an object as it was found on the disk.
type found struct {
	node
	info sys.Info
}

func (f *found) isDir() bool     { return f.info.Mode&unix.S_IFMT == unix.S_IFDIR }
func (f *found) isRegular() bool { return f.info.Mode&unix.S_IFMT == unix.S_IFREG }
func (f *found) isPointer() bool { return f.Held != 0 }

// leads reports whether a name that leads to f leads to e.
func (f *found) leads(e volume.Pointer) bool { return f.ID == e.ID && f.Held == e.Held }

// Lookup returns what dir calls name.
func (s *Store) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	const op = "lookup"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	if err := checkOld(op, dir, name); err != nil {
		return volume.Attr{}, err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.RLock()
	defer l.RUnlock()
	f, err := s.find(op, d, name)
	if err != nil {
		return volume.Attr{}, err
	}
	return s.attr(f, d.fd, name)
}

// find returns what d calls name; the name's lock is held. Errors: ENOENT,
// ESTALE if the directory was removed, EIO (Damaged) for what is no object.
func (s *Store) find(op string, d *dir, name string) (found, error) {
	info, err := s.sys.Stat(d.fd, name, noFollow)
	if err != nil {
		return found{}, s.failIn(op, d, name, err)
	}
	f := found{info: info}
	var known bool
	if f.node, known = s.inodes.get(&info); !known {
		mark := s.inodes.mark(info.Ino)
		if f.node, err = s.identify(op, d.proc+name, name, &info); err != nil {
			return found{}, err
		}
		if f.isDir() {
			if err := s.mendPlace(op, d, name, f.ID); err != nil {
				return found{}, err
			}
		}
		s.inodes.learn(&info, f.node, mark)
	}
	if info.Nlink == 1 && !f.isDir() && !f.isPointer() {
		if err := s.mendIndex(op, d, name, &f); err != nil {
			return found{}, err
		}
	}
	return f, nil
}

// failIn makes an Error of what a system call on a directory's entry returned.
// A directory that was removed has no entries: ENOENT is ESTALE there, and so is
// EPERM, which ext4 says of a new file in it.
func (s *Store) failIn(op string, d *dir, name string, err error) error {
	if err == unix.ENOENT || err == unix.EPERM {
		if i, e := s.sys.Stat(d.fd, "", unix.AT_EMPTY_PATH); e == nil && i.Nlink == 0 {
			return stale(op, d.id)
		}
	}
	return fail(op, name, err)
}

// identify reads which object the file at path is, from its attributes.
func (s *Store) identify(op, path, where string, info *sys.Info) (node, error) {
	if info.Dev != s.dev {
		return node{}, damaged(op, where, "another file system is mounted there")
	}
	var buf [64]byte
	n, err := s.sys.Lgetxattr(path, attrID, buf[:])
	if err == unix.ENODATA && info.Mode&unix.S_IFMT == unix.S_IFREG {
		if n, err = s.sys.Lgetxattr(path, attrPointer, buf[:]); err == nil {
			p, err := decodePointer(buf[:n])
			if err != nil {
				return node{}, damaged(op, where, "%w", err)
			}
			return node{Pointer: p}, nil
		}
	}
	switch err {
	case nil:
	case unix.ENODATA:
		return node{}, damaged(op, where, "it has no ID: it was not made by Mortar")
	case unix.ERANGE:
		return node{}, damaged(op, where, "an attribute %s* is too long", attrPrefix)
	default:
		return node{}, fail(op, where, err)
	}
	id, err := decodeID(buf[:n])
	if err != nil {
		return node{}, damaged(op, where, "%w", err)
	}
	o := node{Pointer: volume.Pointer{ID: id, Mode: info.Mode & unix.S_IFMT}}
	if o.Mode == unix.S_IFDIR {
		if n, err = s.sys.Lgetxattr(path, attrDir, buf[:]); err != nil {
			return node{}, damaged(op, where, "reading %s: %w", attrDir, err)
		}
		if o.dir, err = decodeDirMeta(buf[:n]); err != nil {
			return node{}, damaged(op, where, "%w", err)
		}
	}
	return o, nil
}

// mendIndex gives an object that has but one link, its name, the index's: the
// store was stopped between the two. The name's lock is held.
func (s *Store) mendIndex(op string, d *dir, name string, f *found) error {
	st := s.objs.stripe(f.ID)
	st.Lock()
	defer st.Unlock()
	err := s.sys.Link(d.fd, name, s.indexFD, indexPath(f.ID), 0)
	if err != nil && err != unix.EEXIST {
		return fail(op, name, err)
	}
	info, e := s.sys.Stat(d.fd, name, noFollow)
	if e != nil {
		return fail(op, name, e)
	}
	if err == unix.EEXIST && info.Nlink == 1 {
		return damaged(op, name, "another file has the same ID %s: one was copied within the brick, attributes included", f.ID)
	}
	s.log.Info("mended an object's place in the index", "brick", s.path, "id", f.ID, "name", name)
	f.info = info
	return nil
}

// mendPlace makes the index lead to a directory that was found by its name, if
// it leads elsewhere.
func (s *Store) mendPlace(op string, d *dir, name string, id volume.ID) error {
	want := placeTarget(d.id, name)
	if t, err := s.sys.Readlink(s.indexFD, indexPath(id)); err == nil && t == want {
		return nil
	} else if err != nil && err != unix.ENOENT && err != unix.EINVAL {
		return fail(op, name, err)
	}
	s.tree.Lock()
	defer s.tree.Unlock()
	s.dirs.drop(id)
	if other, err := s.resolve(op, id, 0); err == nil {
		a, err1 := s.sys.Stat(other.fd, "", unix.AT_EMPTY_PATH)
		b, err2 := s.sys.Stat(d.fd, name, noFollow)
		s.dirs.put(other)
		if err1 == nil && err2 == nil && a.Ino != b.Ino {
			return damaged(op, name, "another directory has the same ID %s: one was copied within the brick, attributes included", id)
		}
	}
	s.log.Info("mended a directory's place in the index", "brick", s.path, "id", id, "name", name)
	return s.setPlace(op, id, d.id, name)
}

// setPlace makes the index lead to where a directory lies.
func (s *Store) setPlace(op string, id, parent volume.ID, name string) error {
	tmp := s.tmpName("place")
	if err := s.sys.Symlink(placeTarget(parent, name), s.tmpFD, tmp); err != nil {
		return fail(op, name, err)
	}
	if err := s.sys.Rename(s.tmpFD, tmp, s.indexFD, indexPath(id), 0); err != nil {
		s.sys.Unlink(s.tmpFD, tmp, 0)
		return fail(op, name, err)
	}
	return nil
}

// Getattr returns an object's attributes.
func (s *Store) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	const op = "getattr"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	return s.getattr(op, id)
}

func (s *Store) getattr(op string, id volume.ID) (volume.Attr, error) {
	t, err := s.target(op, id)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.release(&t)
	return s.finish(op, &t)
}

// look looks again at what was found, and returns its attributes.
func (s *Store) look(op string, t *target) (volume.Attr, error) {
	info, err := s.sys.Stat(t.fd, t.path, noFollow)
	if err != nil {
		return volume.Attr{}, s.failAttr(op, t, t.ID.String(), err)
	}
	if t.info = info; t.d != nil && info.Nlink == 0 {
		return volume.Attr{}, stale(op, t.ID)
	}
	return s.finish(op, t)
}

// finish returns the attributes of what was found, if it is there for callers.
func (s *Store) finish(op string, t *target) (volume.Attr, error) {
	a, err := s.attr(t.found, t.fd, t.path)
	if err == nil && a.Nlink == 0 && !s.alive(t.ID) {
		return volume.Attr{}, stale(op, t.ID)
	}
	return a, err
}

// alive reports whether an object without a name is there for callers: it is
// open or held, or it was open when the brick stopped and clients may still come back.
func (s *Store) alive(id volume.ID) bool {
	st := s.objs.stripe(id)
	st.RLock()
	defer st.RUnlock()
	return st.open[id] != nil || st.extra[id].held || s.waiting.Load() && (st.extra[id].kept || s.opt.Reclaim)
}

// attr returns the attributes of what was found at path below fd. Links that
// are no names are taken off; while there are some of this object, it is looked
// at again under its lock, so that both numbers belong together.
func (s *Store) attr(f found, fd int, path string) (volume.Attr, error) {
	if f.isPointer() {
		return volume.Attr{ID: f.ID, Mode: f.Mode, Held: f.Held}, nil
	}
	var extra uint32
	if !f.isDir() {
		st := s.objs.stripe(f.ID)
		st.RLock()
		defer st.RUnlock()
		if e, ok := st.extra[f.ID]; ok {
			flags := noFollow
			if path == "" {
				flags = unix.AT_EMPTY_PATH
			}
			info, err := s.sys.Stat(fd, path, flags)
			switch {
			case err == nil:
				f.info, extra = info, e.links()
			case err != unix.ENOENT: // otherwise it was removed meanwhile: before is as good as after
				return volume.Attr{}, fail("getattr", f.ID.String(), err)
			}
		}
		f.info.Ctime = st.ctime(f.ID, &f.info)
	}
	if f.info.Mode&unix.S_IFMT == unix.S_IFLNK && f.info.Size == longLinkLen {
		target, err := s.readlink(fd, path)
		switch {
		case err == nil:
			f.info.Size = int64(len(target))
		case err != unix.ENOENT:
			return volume.Attr{}, fail("getattr", f.ID.String(), err)
		}
	}
	return s.attrOf(&f, extra), nil
}

// attrOf translates; extra is the number of links that are no names, the index's aside.
func (s *Store) attrOf(f *found, extra uint32) volume.Attr {
	i := &f.info
	a := volume.Attr{
		ID: f.ID, Mode: i.Mode, Nlink: i.Nlink, UID: i.UID, GID: i.GID, Rdev: i.Rdev,
		Size: i.Size, Blocks: i.Blocks, Atime: i.Atime, Mtime: i.Mtime, Ctime: i.Ctime, Btime: i.Btime,
	}
	switch {
	case !f.isDir():
		a.Nlink -= min(a.Nlink, 1+extra)
	case f.ID == volume.Root:
		a.Version = f.dir.Version
		if a.Nlink > 2 {
			a.Nlink--
		}
	default:
		a.Version = f.dir.Version
	}
	return a
}

// Readlink returns a symbolic link's target.
func (s *Store) Readlink(ctx context.Context, id volume.ID) (string, error) {
	const op = "readlink"
	if err := start(ctx, op); err != nil {
		return "", err
	}
	t, err := s.target(op, id)
	if err != nil {
		return "", err
	}
	defer s.release(&t)
	if t.Mode != unix.S_IFLNK {
		return "", &volume.Error{Op: op, Where: id.String(), Errno: unix.EINVAL}
	}
	target, err := s.readlink(t.fd, t.path)
	if err != nil {
		return "", s.failAttr(op, &t, id.String(), err)
	}
	return target, nil
}

// readlink returns the target of the symbolic link at path below fd.
func (s *Store) readlink(fd int, path string) (string, error) {
	target, err := s.sys.Readlink(fd, path)
	if err != nil || target != longLink {
		return target, err
	}
	var buf [volume.TargetMax]byte
	n, err := s.sys.Lgetxattr(procPath(fd)+path, attrTarget, buf[:])
	if err == unix.ENODATA {
		return target, nil
	}
	return string(buf[:max(n, 0)]), err
}
