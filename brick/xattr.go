package brick

import (
	"context"
	"strings"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// xfsACLPrefix begins the attributes under which XFS keeps and shows ACLs a
// second time; only system.posix_acl_* is there for callers.
const xfsACLPrefix = "trusted.SGI_ACL_"

// checkAttr says why an attribute is not there for callers.
func checkAttr(op, name string, set bool) error {
	e := &volume.Error{Op: op, Where: name}
	switch {
	case len(name) > volume.XattrNameMax || name == "":
		e.Errno = unix.ERANGE
	case strings.IndexByte(name, 0) >= 0:
		e.Errno = unix.EINVAL
	case strings.HasPrefix(name, attrPrefix), strings.HasPrefix(name, xfsACLPrefix):
		if e.Errno = unix.ENODATA; set {
			e.Errno = unix.EPERM
		}
	case name == attrACL, name == attrDefaultACL:
		return nil
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "security."), strings.HasPrefix(name, "trusted."):
		return nil
	default:
		e.Errno = unix.EOPNOTSUPP
	}
	return e
}

// xattrTarget finds the object for an operation on an attribute.
func (s *Store) xattrTarget(ctx context.Context, op string, id volume.ID, name string, set bool) (target, error) {
	if err := start(ctx, op); err != nil {
		return target{}, err
	}
	t, err := s.target(op, id)
	if err != nil {
		return target{}, err
	}
	if name != "" || op != opList {
		if err := checkAttr(op, name, set); err != nil {
			s.release(&t)
			return target{}, err
		}
	}
	return t, nil
}

const opList = "listxattr"

// Getxattr returns an attribute's value.
func (s *Store) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	const op = "getxattr"
	t, err := s.xattrTarget(ctx, op, id, name, false)
	if err != nil {
		return nil, err
	}
	defer s.release(&t)
	var small [256]byte
	n, err := s.sys.Lgetxattr(t.proc, name, small[:])
	if err == nil {
		return append(make([]byte, 0, n), small[:n]...), nil
	}
	if err == unix.ERANGE {
		buf := make([]byte, volume.XattrValueMax)
		if n, err = s.sys.Lgetxattr(t.proc, name, buf); err == nil {
			return append(make([]byte, 0, n), buf[:n]...), nil
		}
	}
	return nil, s.failAttr(op, &t, name, err)
}

// failAttr makes an Error of what a call on an attribute of t returned.
func (s *Store) failAttr(op string, t *target, name string, err error) error {
	if err == unix.ENOENT {
		return stale(op, t.ID)
	}
	return fail(op, name, err)
}

// Setxattr sets an attribute.
func (s *Store) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	const op = "setxattr"
	t, err := s.xattrTarget(ctx, op, id, name, true)
	if err != nil {
		return err
	}
	defer s.release(&t)
	switch {
	case len(value) > volume.XattrValueMax:
		return &volume.Error{Op: op, Where: name, Errno: unix.E2BIG}
	case f&^(volume.XattrCreate|volume.XattrReplace) != 0:
		return &volume.Error{Op: op, Where: name, Errno: unix.EINVAL}
	}
	return s.changeAttr(op, &t, name, func() error { return s.sys.Lsetxattr(t.proc, name, value, int(f)) })
}

// Removexattr removes an attribute.
func (s *Store) Removexattr(ctx context.Context, id volume.ID, name string) error {
	const op = "removexattr"
	t, err := s.xattrTarget(ctx, op, id, name, true)
	if err != nil {
		return err
	}
	defer s.release(&t)
	return s.changeAttr(op, &t, name, func() error { return s.sys.Lremovexattr(t.proc, name) })
}

// changeAttr makes a change of an attribute; an ACL of a directory is inherited, so the version counts it.
func (s *Store) changeAttr(op string, t *target, name string, change func() error) error {
	acl := name == attrACL || name == attrDefaultACL
	if acl && t.d != nil {
		t.d.attr.Lock()
		defer t.d.attr.Unlock()
		if err := s.beginDirChange(op, t, true); err != nil {
			return err
		}
		t.d.in.known = false
	}
	st := s.objs.stripe(t.ID)
	end := s.touch(t.ID)
	st.RLock() // for hush: nothing but the ctime would tell of the change
	err := change()
	st.RUnlock()
	end()
	if acl {
		s.dirty(t)
	}
	if err != nil {
		return s.failAttr(op, t, name, err)
	}
	return nil
}

// Listxattr returns the names of an object's attributes.
func (s *Store) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	t, err := s.xattrTarget(ctx, opList, id, "", false)
	if err != nil {
		return nil, err
	}
	defer s.release(&t)
	var small [512]byte
	buf := small[:]
	n, err := s.sys.Llistxattr(t.proc, buf)
	if err == unix.ERANGE {
		buf = make([]byte, volume.XattrListMax)
		n, err = s.sys.Llistxattr(t.proc, buf)
	}
	if err != nil {
		return nil, s.failAttr(opList, &t, id.String(), err)
	}
	var names []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name != "" && checkAttr(opList, name, false) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// Sync makes a directory's entries and attributes, or another object's, durable.
// The directory's place in the index was made before its name, and ext4 and XFS
// make changes durable in that order. Btrfs does not: there the directory of the
// index is synced as well, and an entry in it is written with what it leads to.
func (s *Store) Sync(ctx context.Context, id volume.ID) error {
	const op = "fsync"
	if err := start(ctx, op); err != nil {
		return err
	}
	t, err := s.target(op, id)
	if err != nil {
		return err
	}
	defer s.release(&t)
	if t.d != nil {
		if s.fsType == unix.BTRFS_SUPER_MAGIC && id != volume.Root {
			if err := s.syncIndex(op, id); err != nil {
				return err
			}
		}
		return s.syncFD(op, id, t.d.fd, false)
	}
	if !t.isRegular() { // can't be opened without side effects
		return s.Settle(ctx)
	}
	fd, err := s.sys.Open(t.fd, t.path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return s.failAttr(op, &t, id.String(), err)
	}
	defer s.sys.Close(fd)
	return s.syncObject(op, id, fd, false)
}

// syncIndex makes the part of the index durable in which an object's place is.
func (s *Store) syncIndex(op string, id volume.ID) error {
	fd, err := s.sys.Open(s.indexFD, indexPath(id)[:2], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(op, id.String(), err)
	}
	defer s.sys.Close(fd)
	return s.syncFD(op, id, fd, false)
}
