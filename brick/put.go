package brick

import (
	"context"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// put is one Put under way.
type put struct {
	d    *dir
	name string
	e    volume.Pointer
	src  target // of a link: the object
	fx   fixed
}

// Put makes a name lead to e.
func (s *Store) Put(ctx context.Context, dir volume.ID, name string, e volume.Pointer, old volume.ID, k volume.Key) error {
	const op = "put"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkNew(op, dir, name); err != nil {
		return err
	}
	if e.Mode &= unix.S_IFMT; e.ID.IsZero() || e.Held != 0 && e.Mode == 0 {
		return volume.Errorf(op, name, unix.EINVAL, "a name can't lead to %+v", e)
	}
	p := put{name: name, e: e, fx: fixedOf(ctx)}
	var err error
	if e.Held == 0 {
		if p.src, err = s.target(op, e.ID); err != nil {
			return err
		}
		defer s.release(&p.src)
	}
	if p.d, err = s.dir(op, dir); err != nil {
		return err
	}
	defer s.dirs.put(p.d)
	defer s.names.lock(lockName{dir, name}, keyLock(k))()
	f, err := s.find(op, p.d, name)
	exists := err == nil
	switch {
	case err != nil && volume.ErrnoOf(err) != unix.ENOENT:
		return err
	case exists && f.leads(e):
		return nil
	case e.Held == 0 && p.src.isDir():
		return &volume.Error{Op: op, Where: name, Errno: unix.EPERM}
	case exists && old.IsZero():
		return &volume.Error{Op: op, Where: name, Errno: unix.EEXIST}
	case !old.IsZero() && (!exists || f.ID != old):
		return volume.Errorf(op, name, unix.ESTALE, "it does not lead to %s", old)
	}
	if exists {
		err = s.putOver(op, &p, &f, k)
	} else {
		err = s.putNew(op, &p)
	}
	if err != nil {
		return s.failIn(op, p.d, name, err)
	}
	s.stampDirs(p.fx, p.d)
	return nil
}

// putNew makes a free name; it is locked.
func (s *Store) putNew(op string, p *put) error {
	p.d.attr.RLock()
	defer p.d.attr.RUnlock()
	if p.d.in.gone {
		return stale(op, p.d.id)
	}
	defer s.touch(p.e.ID)()
	defer s.objs.lock(p.e.ID)()
	if err := s.putAt(op, p, p.d.fd, p.name); err != nil {
		return err
	}
	s.named(p)
	p.d.list.add(p.name)
	return nil
}

// putAt makes the new entry called name below fd: a pointer's file, complete
// before it has the name, or a link. The object's stripe is locked.
func (s *Store) putAt(op string, p *put, fd int, name string) error {
	if p.e.Held == 0 {
		err := s.sys.Link(p.src.fd, p.src.path, fd, name, 0)
		if err == unix.ENOENT {
			if _, e := s.sys.Stat(p.src.fd, p.src.path, noFollow); e == unix.ENOENT {
				return stale(op, p.e.ID)
			}
		}
		return err
	}
	file, err := s.sys.Open(fd, ".", unix.O_TMPFILE|unix.O_WRONLY, pointerMode)
	if err != nil {
		return err
	}
	defer s.sys.Close(file)
	if err := s.sys.Fsetxattr(file, attrPointer, encodePointer(p.e), 0); err != nil {
		return err
	}
	info, err := s.sys.Stat(file, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	if err := s.sys.Link(file, "", fd, name, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	s.inodes.set(&info, node{Pointer: p.e})
	return nil
}

// putOver replaces what the name leads to: the new entry is made in the
// discard's place, then both change places at once.
func (s *Store) putOver(op string, p *put, f *found, k volume.Key) error {
	if _, taken := s.discards.get(k); taken {
		return volume.Errorf(op, p.name, unix.EEXIST, "there is a discard %s already", keyName(k))
	}
	key := keyName(k)
	return s.takeOut(op, p.d, p.name, f, k, p.e.ID, p.fx, func() error {
		if err := s.putAt(op, p, s.discardFD, key); err != nil {
			return err
		}
		if err := s.sys.Rename(s.discardFD, key, p.d.fd, p.name, unix.RENAME_EXCHANGE); err != nil {
			s.sys.Unlink(s.discardFD, key, 0)
			return err
		}
		if p.fx.is {
			s.keepTime(f, s.discardFD, key)
		}
		s.named(p)
		return nil
	})
}

// named notes that the object of a new link has a name; its stripe is locked.
func (s *Store) named(p *put) {
	if p.e.Held == 0 {
		s.unkeep(s.objs.stripe(p.e.ID), p.e.ID)
	}
}
