package brick

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var _ volume.Member = (*Store)(nil)

// carried reports whether an attribute is part of an object as all members have
// it. What is not: the ID, which goes without saying; a long link's target, which
// Object has; what file systems have of their own.
func carried(name string) bool {
	switch {
	case name == attrID, name == attrPointer, name == attrTarget, strings.HasPrefix(name, xfsACLPrefix):
		return false
	case name == attrACL, name == attrDefaultACL:
		return true
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")
}

// Describe tells all of an object but its contents and names.
func (s *Store) Describe(ctx context.Context, id volume.ID) (volume.Object, error) {
	const op = "describe"
	if err := start(ctx, op); err != nil {
		return volume.Object{}, err
	}
	t, err := s.target(op, id)
	if volume.ErrnoOf(err) == unix.ESTALE {
		t, err = s.discardedDir(op, id)
	}
	if err != nil {
		return volume.Object{}, err
	}
	defer s.release(&t)
	var o volume.Object
	if o.Attr, err = s.attr(t.found, t.fd, t.path); err != nil {
		return volume.Object{}, err
	}
	if t.Mode == unix.S_IFLNK {
		if o.Target, err = s.readlink(t.fd, t.path); err != nil {
			return volume.Object{}, s.failAttr(op, &t, id.String(), err)
		}
	}
	if o.Xattrs, err = s.xattrs(t.proc); err != nil {
		return volume.Object{}, s.failAttr(op, &t, id.String(), err)
	}
	return o, nil
}

// discardedDir finds a directory that is a discard, which the index does not have.
func (s *Store) discardedDir(op string, id volume.ID) (target, error) {
	k, ok := s.discards.find(id)
	if !ok {
		return target{}, stale(op, id)
	}
	key := keyName(k)
	info, err := s.sys.Stat(s.discardFD, key, noFollow)
	if err == unix.ENOENT {
		return target{}, stale(op, id)
	}
	if err != nil {
		return target{}, fail(op, id.String(), err)
	}
	t := target{fd: s.discardFD, path: key, proc: s.discardProc + key}
	t.info = info
	if t.node, err = s.identify(op, t.proc, key, &info); err == nil && t.ID != id {
		err = stale(op, id)
	}
	return t, err
}

// xattrs returns the attributes that are carried of what lies at path, in order of name.
func (s *Store) xattrs(path string) ([]volume.Xattr, error) {
	names, err := s.xattrNames(path)
	if err != nil {
		return nil, err
	}
	var all []volume.Xattr
	buf := make([]byte, 512)
	for _, name := range names {
		n, err := s.sys.Lgetxattr(path, name, buf)
		if err == unix.ERANGE {
			buf = make([]byte, volume.XattrValueMax)
			n, err = s.sys.Lgetxattr(path, name, buf)
		}
		if err == unix.ENODATA { // removed since
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, volume.Xattr{Name: name, Value: append(make([]byte, 0, n), buf[:n]...)})
	}
	return all, nil
}

// xattrNames returns the names of the attributes that are carried, in order.
func (s *Store) xattrNames(path string) ([]string, error) {
	var small [512]byte
	buf := small[:]
	n, err := s.sys.Llistxattr(path, buf)
	if err == unix.ERANGE {
		buf = make([]byte, volume.XattrListMax)
		n, err = s.sys.Llistxattr(path, buf)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name != "" && carried(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// checkObject says what is impossible about an object that is to be installed,
// and brings its attributes into order.
func checkObject(op string, o *volume.Object) error {
	id := o.Attr.ID
	bad := func(format string, a ...any) error { return volume.Errorf(op, id.String(), unix.EINVAL, format, a...) }
	if id.IsZero() || o.Attr.Held != 0 {
		return bad("no object")
	}
	switch o.Attr.Type() {
	case unix.S_IFDIR, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFLNK:
		if o.Target == "" || len(o.Target) > volume.TargetMax || strings.IndexByte(o.Target, 0) >= 0 {
			return bad("a symbolic link with a target of %d bytes", len(o.Target))
		}
	default:
		return bad("mode %#o has no type", o.Attr.Mode)
	}
	if id == volume.Root && !o.Attr.IsDir() {
		return bad("the root is a directory")
	}
	if o.Attr.Size < 0 || o.Attr.Atime.Nsec > 999_999_999 || o.Attr.Mtime.Nsec > 999_999_999 {
		return bad("size %d, atime %v, mtime %v", o.Attr.Size, o.Attr.Atime, o.Attr.Mtime)
	}
	meta := false
	for _, x := range o.Xattrs {
		switch {
		case !carried(x.Name) || len(x.Name) > volume.XattrNameMax || strings.IndexByte(x.Name, 0) >= 0 || len(x.Value) > volume.XattrValueMax:
			return bad("attribute %q", x.Name)
		case x.Name == attrDir:
			if _, err := decodeDirMeta(x.Value); err != nil {
				return bad("%w", err)
			}
			meta = true
		}
	}
	if meta != o.Attr.IsDir() {
		return bad("a directory, and nothing else, has %s", attrDir)
	}
	o.Xattrs = slices.Clone(o.Xattrs)
	slices.SortFunc(o.Xattrs, func(a, b volume.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// Nameless lists what has no name, discards excepted.
func (s *Store) Nameless(ctx context.Context) ([]volume.ID, error) {
	const op = "nameless"
	if err := start(ctx, op); err != nil {
		return nil, err
	}
	names, err := s.ownNames(s.openFD, ".")
	if err != nil {
		return nil, fail(op, s.path, err)
	}
	var ids []volume.ID
	for _, n := range names {
		if id, err := volume.ParseID(n); err == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b volume.ID) int { return slices.Compare(a[:], b[:]) })
	return ids, nil
}
