package model

import (
	"context"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Lookup implements volume.FS.
func (s *FS) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	if err := s.enter(ctx, "lookup", name); err != nil {
		return volume.Attr{}, err
	}
	defer s.mu.Unlock()
	_, p, err := s.mu.entry("lookup", dir, name)
	if err != nil {
		return volume.Attr{}, err
	}
	return s.mu.view(p), nil
}

// Make implements volume.FS.
func (s *FS) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	if err := s.enter(ctx, "make", name); err != nil {
		return volume.Attr{}, err
	}
	defer s.leave()
	switch n.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR, syscall.S_IFREG, syscall.S_IFCHR, syscall.S_IFBLK, syscall.S_IFIFO, syscall.S_IFSOCK:
		if n.Target != "" {
			return volume.Attr{}, fail("make", name, syscall.EINVAL)
		}
	case syscall.S_IFLNK:
		if n.Target == "" || strings.Contains(n.Target, "\x00") {
			return volume.Attr{}, fail("make", name, syscall.EINVAL)
		}
		if len(n.Target) > volume.TargetMax {
			return volume.Attr{}, fail("make", name, syscall.ENAMETOOLONG)
		}
	default:
		return volume.Attr{}, fail("make", name, syscall.EINVAL)
	}
	if err := n.CheckBears("make", name); err != nil {
		return volume.Attr{}, err
	}
	d, p, err := s.mu.place("make", dir, name)
	if err == nil && !p.ID.IsZero() {
		err = fail("make", name, syscall.EEXIST)
	}
	if err == nil && !s.fits(int64(len(n.Data))) {
		err = fail("make", name, syscall.ENOSPC)
	}
	if err != nil {
		return volume.Attr{}, err
	}
	o, err := s.born("make", d, name, n, volume.CredOf(ctx))
	if err == nil && n.Bears() {
		err = s.fill(o, &n, volume.CredOf(ctx))
	}
	if err != nil {
		return volume.Attr{}, err
	}
	return o.attr(), nil
}

// fits reports whether there is room for a new file's data.
func (s *FS) fits(size int64) bool {
	return (s.mu.pages+(size+pageSize-1)/pageSize)*pageSize <= s.capacity
}

// fill gives a file that has just been made what is to be in it: its owner writes it, and changes its attributes.
func (s *FS) fill(o *object, n *volume.Node, cred volume.Cred) error {
	if size := int64(len(n.Data)); size > 0 {
		s.mu.pages += o.data.fill(0, size)
		o.data.write(n.Data, 0)
		o.touch(s.now())
		if cred.UID != 0 {
			o.clearPriv(o.member(cred))
		}
	}
	if n.Then.Mask == 0 {
		return nil
	}
	_, err := s.setattr(o, n.Then, cred)
	return err
}

// born makes an object in d under a name that is free.
func (s *FS) born(op string, d *object, name string, n volume.Node, cred volume.Cred) (*object, error) {
	if n.Parent != 0 && n.Parent != d.version {
		return nil, &volume.Error{Op: op, Where: name, Errno: syscall.ESTALE, Reason: volume.Outdated}
	}
	id := n.ID
	if id.IsZero() {
		id = volume.NewID(s.set)
	}
	if s.mu.objects[id] != nil {
		return nil, fail(op, name, syscall.EEXIST)
	}
	now := s.now()
	o := &object{
		id: id, mode: n.Mode & (syscall.S_IFMT | 0o7777), uid: cred.UID, gid: cred.GID,
		xattrs: map[string][]byte{}, atime: now.present(), mtime: now.present(), ctime: now.Time, btime: now.Time,
	}
	if d.mode&syscall.S_ISGID != 0 {
		o.gid = d.gid
		if o.isDir() {
			o.mode |= syscall.S_ISGID
		}
	}
	switch o.mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		o.mode, o.target = syscall.S_IFLNK|0o777, n.Target
	case syscall.S_IFCHR, syscall.S_IFBLK:
		o.rdev = n.Rdev
	case syscall.S_IFDIR:
		o.children, o.version, o.home = map[string]volume.Pointer{}, 1, s.set
		if b := id.Born(); b != 0 {
			o.home = b
		}
	}
	inherit(o, d, cred.Umask)
	s.mu.objects[id] = o
	s.mu.insert(d, name, volume.Pointer{ID: id, Mode: o.mode & syscall.S_IFMT})
	d.touch(now)
	return o, nil
}

// Create implements volume.FS.
func (s *FS) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	if err := s.enter(ctx, "create", name); err != nil {
		return nil, volume.Attr{}, err
	}
	defer s.leave()
	if t := n.Mode & syscall.S_IFMT; t != 0 && t != syscall.S_IFREG || f&(volume.Read|volume.Write) == 0 {
		return nil, volume.Attr{}, fail("create", name, syscall.EINVAL)
	}
	if err := n.CheckEmpty("create", name); err != nil {
		return nil, volume.Attr{}, err
	}
	d, p, err := s.mu.place("create", dir, name)
	switch {
	case err != nil:
		return nil, volume.Attr{}, err
	case p.ID.IsZero():
		n.Mode = n.Mode&0o7777 | syscall.S_IFREG
		o, err := s.born("create", d, name, n, volume.CredOf(ctx))
		if err != nil {
			return nil, volume.Attr{}, err
		}
		return s.handle(o, f), o.attr(), nil
	case f&volume.Excl != 0:
		return nil, volume.Attr{}, fail("create", name, syscall.EEXIST)
	case p.Held != 0 && p.Mode&syscall.S_IFMT == syscall.S_IFREG:
		return nil, s.mu.view(p), nil
	case p.Held != 0:
		return nil, volume.Attr{}, fail("create", name, notRegular(p.Mode))
	}
	h, err := s.open(ctx, "create", s.mu.objects[p.ID], f)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	return h, s.mu.view(p), nil
}

// Readlink implements volume.FS.
func (s *FS) Readlink(ctx context.Context, id volume.ID) (string, error) {
	if err := s.enter(ctx, "readlink", id.String()); err != nil {
		return "", err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("readlink", id)
	if err == nil && o.mode&syscall.S_IFMT != syscall.S_IFLNK {
		err = fail("readlink", id.String(), syscall.EINVAL)
	}
	if err != nil {
		return "", err
	}
	return o.target, nil
}

// Link implements volume.FS.
func (s *FS) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	if err := s.enter(ctx, "link", name); err != nil {
		return volume.Attr{}, err
	}
	defer s.leave()
	o, err := s.mu.find("link", id)
	if err != nil {
		return volume.Attr{}, err
	}
	d, p, err := s.mu.place("link", dir, name)
	switch {
	case err != nil:
		return volume.Attr{}, err
	case o.isDir():
		return volume.Attr{}, fail("link", name, syscall.EPERM)
	case !p.ID.IsZero():
		return volume.Attr{}, fail("link", name, syscall.EEXIST)
	case o.names == 0:
		return volume.Attr{}, fail("link", name, syscall.ENOENT)
	case o.names >= linkMax:
		return volume.Attr{}, fail("link", name, syscall.EMLINK)
	}
	now := s.now()
	s.mu.insert(d, name, volume.Pointer{ID: id, Mode: o.mode & syscall.S_IFMT})
	o.ctime = now.Time
	d.touch(now)
	return o.attr(), nil
}

// linkMax is the greatest number of names of an object: ext4's.
const linkMax = 65000

// Unlink implements volume.FS.
func (s *FS) Unlink(ctx context.Context, dir volume.ID, name string) error {
	if err := s.enter(ctx, "unlink", name); err != nil {
		return err
	}
	defer s.leave()
	d, p, err := s.mu.entry("unlink", dir, name)
	if err != nil {
		return err
	}
	if p.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return fail("unlink", name, syscall.EISDIR)
	}
	s.drop(d, name, p)
	return nil
}

// Rmdir implements volume.FS.
func (s *FS) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	if err := s.enter(ctx, "rmdir", name); err != nil {
		return err
	}
	defer s.leave()
	d, p, err := s.mu.entry("rmdir", dir, name)
	if err != nil {
		return err
	}
	if p.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return fail("rmdir", name, syscall.ENOTDIR)
	}
	if p.Held == 0 && len(s.mu.objects[p.ID].children) > 0 {
		return fail("rmdir", name, syscall.ENOTEMPTY)
	}
	s.drop(d, name, p)
	return nil
}

// drop removes a name and what it leads to, if that was all that kept it.
func (s *FS) drop(d *object, name string, p volume.Pointer) {
	now := s.now()
	s.remove(d, name)
	s.mu.changed(p, now)
	s.mu.reap(p)
	d.touch(now)
}
