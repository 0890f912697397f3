package model

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Names with a meaning.
const (
	aclAccess  = volume.ACLAccess
	aclDefault = volume.ACLDefault
	capability = "security.capability" // goes with the first write, as Linux has it
	own        = "trusted.mortar."     // does not exist for callers
)

// checkXattr says what is wrong with an attribute's name, 0 for nothing.
func checkXattr(name string) syscall.Errno {
	if name == "" || len(name) > volume.XattrNameMax {
		return syscall.ERANGE
	}
	if name == aclAccess || name == aclDefault {
		return 0
	}
	for _, space := range []string{"user.", "security.", "trusted."} {
		if rest, ok := strings.CutPrefix(name, space); ok {
			if rest == "" || strings.Contains(rest, "\x00") {
				return syscall.EINVAL
			}
			return 0
		}
	}
	return syscall.EOPNOTSUPP
}

// checkXattrOn says what is wrong with changing an attribute of o, 0 for nothing.
func checkXattrOn(o *object, name string) syscall.Errno {
	errno := checkXattr(name)
	link := o.mode&syscall.S_IFMT == syscall.S_IFLNK
	switch {
	case errno != 0:
		return errno
	case strings.HasPrefix(name, "user.") && !o.isDir() && !o.isRegular():
		return syscall.EPERM
	case link && (name == aclAccess || name == aclDefault):
		return syscall.EOPNOTSUPP
	}
	return 0
}

// Getxattr implements volume.FS.
func (s *FS) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	if err := s.enter(ctx, "getxattr", name); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("getxattr", id)
	if err != nil {
		return nil, err
	}
	if errno := checkXattr(name); errno != 0 {
		return nil, fail("getxattr", name, errno)
	}
	if v, ok := o.xattrs[name]; ok {
		return append([]byte{}, v...), nil
	}
	return nil, fail("getxattr", name, syscall.ENODATA)
}

// Setxattr implements volume.FS.
func (s *FS) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	if err := s.enter(ctx, "setxattr", name); err != nil {
		return err
	}
	defer s.leave()
	o, err := s.mu.find("setxattr", id)
	if err != nil {
		return err
	}
	errno := checkXattrOn(o, name)
	_, exists := o.xattrs[name]
	switch {
	case errno != 0:
	case len(value) > volume.XattrValueMax:
		errno = syscall.E2BIG
	case f&^(volume.XattrCreate|volume.XattrReplace) != 0:
		errno = syscall.EINVAL
	case strings.HasPrefix(name, own):
		errno = syscall.EPERM
	case name == aclAccess || name == aclDefault:
		errno = setACL(o, name, value)
	case f&volume.XattrCreate != 0 && exists:
		errno = syscall.EEXIST
	case f&volume.XattrReplace != 0 && !exists:
		errno = syscall.ENODATA
	default:
		o.xattrs[name] = bytes.Clone(value)
	}
	if errno != 0 {
		return fail("setxattr", name, errno)
	}
	o.ctime = s.now().Time
	return nil
}

// Listxattr implements volume.FS.
func (s *FS) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	if err := s.enter(ctx, "listxattr", id.String()); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("listxattr", id)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(o.xattrs)), nil
}

// Removexattr implements volume.FS.
func (s *FS) Removexattr(ctx context.Context, id volume.ID, name string) error {
	if err := s.enter(ctx, "removexattr", name); err != nil {
		return err
	}
	defer s.leave()
	o, err := s.mu.find("removexattr", id)
	if err != nil {
		return err
	}
	errno := checkXattrOn(o, name)
	if _, exists := o.xattrs[name]; errno == 0 && !exists {
		errno = syscall.ENODATA
	}
	if errno != 0 {
		return fail("removexattr", name, errno)
	}
	delete(o.xattrs, name)
	if o.isDir() && (name == aclAccess || name == aclDefault) {
		o.version++
	}
	o.ctime = s.now().Time
	return nil
}
