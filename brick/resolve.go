package brick

import (
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// dir returns the open directory of that ID; the caller puts it back. The
// tree's lock must not be held. Errors: ESTALE, ENOTDIR.
func (s *Store) dir(op string, id volume.ID) (*dir, error) {
	if d := s.dirs.get(id); d != nil {
		return d, nil
	}
	s.tree.RLock()
	defer s.tree.RUnlock()
	return s.resolve(op, id, 0)
}

// depthMax bounds the depth of a directory below the root.
const depthMax = 1 << 15

// resolve opens a directory by its place in the index, and what lies above it
// as far as needed. The tree's lock is held. Every step opens one name in one
// directory without following links, so nothing leads out of the brick, and
// checks that it found the ID that it looked for.
func (s *Store) resolve(op string, id volume.ID, depth int) (*dir, error) {
	if d := s.dirs.get(id); d != nil {
		return d, nil
	}
	if depth > depthMax {
		return nil, damaged(op, id.String(), "the index leads round in a circle")
	}
	target, err := s.sys.Readlink(s.indexFD, indexPath(id))
	switch err {
	case nil:
	case unix.ENOENT:
		return s.resolveNote(op, id, depth)
	case unix.EINVAL:
		return nil, &volume.Error{Op: op, Where: id.String(), Errno: unix.ENOTDIR}
	default:
		return nil, fail(op, id.String(), err)
	}
	if parent, name, ok := parsePlace(target); ok {
		fd, err := s.openPlace(op, id, parent, name, depth)
		if err == nil {
			return s.dirs.add(id, fd), nil
		}
		if e := volume.ErrnoOf(err); e != unix.ESTALE && e != unix.ENOTDIR {
			return nil, err
		}
	}
	// It leads nowhere, or is no entry of a directory but a symbolic link's own.
	var buf [idLen]byte
	if _, err := s.sys.Lgetxattr(s.indexProc+indexPath(id), attrID, buf[:]); err == nil {
		return nil, &volume.Error{Op: op, Where: id.String(), Errno: unix.ENOTDIR}
	}
	return s.resolveNote(op, id, depth)
}

// resolveNote is resolve for a directory of which the index does not know the
// place: a note in .mortar/tmp does if the last step of its move, or the first
// of what was to remove it, could not be made or taken back. It is made then.
func (s *Store) resolveNote(op string, id volume.ID, depth int) (*dir, error) {
	if !s.notes.Load() {
		return nil, stale(op, id)
	}
	for _, kind := range []string{noteMove, noteRemove} {
		note := kind + id.String()
		target, err := s.sys.Readlink(s.tmpFD, note)
		if err != nil {
			continue
		}
		parent, name, ok := parsePlace(target)
		if !ok {
			continue
		}
		fd, err := s.openPlace(op, id, parent, name, depth)
		if err != nil {
			continue
		}
		if err := s.sys.Rename(s.tmpFD, note, s.indexFD, indexPath(id), 0); err != nil && err != unix.ENOENT {
			s.log.Warn("a directory's place in the index could not be mended", "brick", s.path, "id", id, "err", err)
		}
		return s.dirs.add(id, fd), nil
	}
	return nil, stale(op, id)
}

// openPlace opens the directory id, which lies in parent under name. ESTALE: it does not.
func (s *Store) openPlace(op string, id, parent volume.ID, name string, depth int) (int, error) {
	in := s.openFD
	if parent != nowhere {
		p, err := s.resolve(op, parent, depth+1)
		if err != nil {
			return -1, err
		}
		defer s.dirs.put(p)
		in = p.fd
	}
	fd, err := s.sys.Open(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return -1, stale(op, id)
	}
	if err != nil {
		return -1, fail(op, id.String(), err)
	}
	var buf [idLen]byte
	n, err := s.sys.Fgetxattr(fd, attrID, buf[:])
	if err == nil && n == idLen && volume.ID(buf) == id {
		return fd, nil
	}
	s.sys.Close(fd)
	if err != nil && err != unix.ENODATA && err != unix.ERANGE {
		return -1, fail(op, id.String(), err)
	}
	return -1, stale(op, id)
}

// target is an object found by its ID, and how system calls name it: a path
// below a descriptor, which is "." for a directory.
type target struct {
	found
	fd   int
	path string
	proc string // the same as one path, for l*xattr(2)
	d    *dir   // of a directory, held; nil for others
}

// release gives up what a target holds.
func (s *Store) release(t *target) {
	if t.d != nil {
		s.dirs.put(t.d)
	}
}

// target finds an object by its ID. Errors: ESTALE.
func (s *Store) target(op string, id volume.ID) (target, error) {
	d := s.dirs.get(id)
	if d == nil {
		path := indexPath(id)
		info, err := s.sys.Stat(s.indexFD, path, noFollow)
		switch {
		case err == unix.ENOENT:
			return s.noteTarget(op, id)
		case err != nil:
			return target{}, fail(op, id.String(), err)
		}
		t := target{fd: s.indexFD, path: path, proc: s.indexProc + path}
		t.info, t.Pointer = info, volume.Pointer{ID: id, Mode: info.Mode & unix.S_IFMT}
		if t.Mode != unix.S_IFLNK || s.isSymlink(&t) {
			return t, nil
		}
		if d, err = s.dir(op, id); err != nil {
			return target{}, err
		}
	}
	return s.dirAsTarget(op, d)
}

// noteTarget is target for what is not in the index: nothing, or a directory (resolveNote).
func (s *Store) noteTarget(op string, id volume.ID) (target, error) {
	d, err := s.dir(op, id)
	if err != nil {
		return target{}, err
	}
	return s.dirAsTarget(op, d)
}

// dirAsTarget makes a target of a directory, which it takes over.
func (s *Store) dirAsTarget(op string, d *dir) (target, error) {
	id := d.id
	t := target{fd: d.fd, path: ".", proc: d.proc + ".", d: d}
	var err error
	if t.info, err = s.sys.Stat(d.fd, "", unix.AT_EMPTY_PATH); err != nil {
		s.dirs.put(d)
		return target{}, fail(op, id.String(), err)
	}
	if t.info.Nlink == 0 {
		s.dirs.put(d)
		return target{}, stale(op, id)
	}
	n, known := s.inodes.get(&t.info)
	if !known {
		mark := s.inodes.mark(t.info.Ino)
		if n, err = s.identify(op, t.proc, id.String(), &t.info); err != nil {
			s.dirs.put(d)
			return target{}, err
		}
		s.inodes.learn(&t.info, n, mark)
	}
	t.node = n
	return t, nil
}

// isSymlink tells a symbolic link, which has an ID, from the index's entry of a directory.
func (s *Store) isSymlink(t *target) bool {
	if n, known := s.inodes.get(&t.info); known && n.ID == t.ID {
		return true
	}
	// The mark comes before the attribute is read at the ID's own place: if the
	// object goes after that, and its inode number to another, nothing is learned.
	mark := s.inodes.mark(t.info.Ino)
	var buf [idLen]byte
	n, err := s.sys.Lgetxattr(t.proc, attrID, buf[:])
	if err != nil || n != idLen || volume.ID(buf) != t.ID {
		return false
	}
	s.inodes.learn(&t.info, t.node, mark)
	return true
}
