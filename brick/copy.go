package brick

import (
	"bytes"
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// dirTarget finds a directory by its ID. Errors: ESTALE, ENOTDIR.
func (s *Store) dirTarget(op string, id volume.ID) (target, error) {
	t, err := s.target(op, id)
	if err != nil {
		return t, err
	}
	if t.d == nil {
		return t, &volume.Error{Op: op, Where: id.String(), Errno: unix.ENOTDIR}
	}
	return t, nil
}

// Copy tells what MakeCopy needs of a directory.
func (s *Store) Copy(ctx context.Context, dir volume.ID) (volume.Copy, error) {
	const op = "copy"
	if err := start(ctx, op); err != nil {
		return volume.Copy{}, err
	}
	t, err := s.dirTarget(op, dir)
	if err != nil {
		return volume.Copy{}, err
	}
	defer s.release(&t)
	t.d.attr.RLock()
	defer t.d.attr.RUnlock()
	if t.info, err = s.sys.Stat(t.d.fd, "", unix.AT_EMPTY_PATH); err != nil {
		return volume.Copy{}, fail(op, dir.String(), err)
	}
	var buf [dirMetaLen]byte
	n, err := s.sys.Fgetxattr(t.d.fd, attrDir, buf[:])
	if err != nil {
		return volume.Copy{}, fail(op, dir.String(), err)
	}
	m, err := decodeDirMeta(buf[:n])
	if err != nil {
		return volume.Copy{}, damaged(op, dir.String(), "%w", err)
	}
	c := volume.Copy{
		ID: dir, Mode: t.info.Mode, UID: t.info.UID, GID: t.info.GID,
		Version: m.Version, Home: m.Home, BirthTime: t.info.Btime,
	}
	if c.BirthTime == (volume.Time{}) {
		c.BirthTime = t.info.Ctime
	}
	if c.ACL, err = s.readACL(t.proc, attrACL); err == nil {
		c.Default, err = s.readACL(t.proc, attrDefaultACL)
	}
	if err != nil {
		return volume.Copy{}, fail(op, dir.String(), err)
	}
	return c, nil
}

// readACL returns an ACL as it is stored, nil if there is none.
func (s *Store) readACL(path, name string) ([]byte, error) {
	var buf [8 << 10]byte
	n, err := s.sys.Lgetxattr(path, name, buf[:])
	switch err {
	case nil:
		return bytes.Clone(buf[:n]), nil
	case unix.ENODATA, unix.EOPNOTSUPP:
		return nil, nil
	}
	return nil, err
}

// writeACL sets an ACL, or removes it if there is none.
func (s *Store) writeACL(path, name string, acl []byte) error {
	if acl != nil {
		return s.sys.Lsetxattr(path, name, acl, 0)
	}
	if err := s.sys.Lremovexattr(path, name); err != unix.ENODATA && err != unix.EOPNOTSUPP {
		return err
	}
	return nil
}

// MakeCopy makes a copy of a directory that has its home elsewhere.
func (s *Store) MakeCopy(ctx context.Context, parent volume.ID, name string, c volume.Copy) error {
	const op = "make copy"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkNew(op, parent, name); err != nil {
		return err
	}
	if c.ID.IsZero() || c.Mode&unix.S_IFMT != unix.S_IFDIR {
		return volume.Errorf(op, name, unix.EINVAL, "no copy can be made of %s, mode %#o", c.ID, c.Mode)
	}
	d, err := s.dir(op, parent)
	if err != nil {
		return err
	}
	defer s.dirs.put(d)
	l := s.names.one(parent, name)
	l.Lock()
	defer l.Unlock()
	switch f, err := s.find(op, d, name); {
	case err == nil && f.isDir() && f.ID == c.ID:
		return s.RefreshCopy(ctx, c)
	case err == nil:
		return volume.Errorf(op, name, unix.EEXIST, "it is %s", f.ID)
	case volume.ErrnoOf(err) != unix.ENOENT:
		return err
	}
	if t, err := s.target(op, c.ID); err == nil {
		s.release(&t)
		return volume.Errorf(op, name, unix.EEXIST, "%s is here under another name", c.ID)
	} else if volume.ErrnoOf(err) != unix.ESTALE {
		return err
	}
	if s.discards.has(c.ID) {
		return volume.Errorf(op, name, unix.EEXIST, "%s is here as a discard", c.ID)
	}
	return s.bearQuietly(op, d, name, c, fixedOf(ctx))
}

// bearQuietly makes a copy and leaves the parent's times as they are: they
// changed when the directory was made at its home. Nothing else is made in the parent meanwhile.
func (s *Store) bearQuietly(op string, d *dir, name string, c volume.Copy, fx fixed) error {
	d.attr.Lock()
	defer d.attr.Unlock()
	if err := s.loadInherit(op, d); err != nil {
		return err
	}
	if d.in.gone {
		return stale(op, d.id)
	}
	before, err := s.sys.Stat(d.fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return fail(op, name, err)
	}
	if err := s.bearCopy(op, d, name, c, fx); err != nil {
		return err
	}
	restore := func(t volume.Time) error {
		return s.sys.Utimens(d.fd, "", sys.Timespec{Omit: true}, sys.Timespec{Time: t}, unix.AT_EMPTY_PATH)
	}
	if fx.is { // a change elsewhere in the directory may be under way
		err = s.times.keep(d.id, before.Mtime, restore)
	} else {
		err = restore(before.Mtime)
	}
	if err != nil {
		s.log.Warn("a directory's times could not be kept", "brick", s.path, "id", d.id, "err", err)
	}
	return nil
}

// bearCopy makes a copy as bearOther makes a directory, with attributes as they are at home.
func (s *Store) bearCopy(op string, d *dir, name string, c volume.Copy, fx fixed) error {
	b := birth{op: op, d: d, name: name, node: volume.Node{ID: c.ID, Mode: unix.S_IFDIR | c.Mode&0o7777},
		mode: c.Mode & 0o7777, uid: c.UID, gid: c.GID, home: c.Home, version: c.Version, fx: fx}
	tmp := s.tmpName("new-" + c.ID.String())
	err := s.sys.Mkdir(s.tmpFD, tmp, 0o700)
	if err != nil {
		return fail(op, name, err)
	}
	err = s.dressCopy(&b, tmp, c)
	if err == nil {
		_, err = s.placeDir(&b, tmp)
		return err
	}
	s.sys.Unlink(s.tmpFD, tmp, unix.AT_REMOVEDIR)
	return fail(op, name, err)
}

func (s *Store) dressCopy(b *birth, tmp string, c volume.Copy) error {
	if err := s.sys.Lsetxattr(s.tmpProc+tmp, attrID, c.ID[:], 0); err != nil {
		return err
	}
	if err := s.sys.Lsetxattr(s.tmpProc+tmp, attrDir, encodeDirMeta(dirMeta{c.Version, c.Home}), 0); err != nil {
		return err
	}
	if err := s.copyAttrs(s.tmpFD, tmp, s.tmpProc+tmp, &c); err != nil {
		return err
	}
	t := sys.Timespec{Time: c.BirthTime}
	if c.BirthTime == (volume.Time{}) {
		t = b.fx.present()
	}
	return s.sys.Utimens(s.tmpFD, tmp, t, t, noFollow)
}

// copyAttrs gives a directory owner, ACLs and mode; the mode last, for chown
// takes bits of it and an ACL may have been removed from it.
func (s *Store) copyAttrs(fd int, path, proc string, c *volume.Copy) error {
	if err := s.sys.Chown(fd, path, int(c.UID), int(c.GID), noFollow); err != nil {
		return err
	}
	if err := s.writeACL(proc, attrACL, c.ACL); err != nil {
		return err
	}
	if err := s.writeACL(proc, attrDefaultACL, c.Default); err != nil {
		return err
	}
	return s.sys.Chmod(fd, path, c.Mode&0o7777)
}

// RefreshCopy takes over a directory's attributes from its home, if they are newer.
// The version is written last: stopped before, the copy is refreshed again.
func (s *Store) RefreshCopy(ctx context.Context, c volume.Copy) error {
	const op = "refresh copy"
	if err := start(ctx, op); err != nil {
		return err
	}
	t, err := s.dirTarget(op, c.ID)
	if err != nil {
		return err
	}
	defer s.release(&t)
	t.d.attr.Lock()
	defer t.d.attr.Unlock()
	if err := s.loadInherit(op, t.d); err != nil {
		return err
	}
	if t.d.in.gone {
		return stale(op, c.ID)
	}
	m := t.d.in.meta
	if c.Version <= m.Version {
		return nil
	}
	defer func() { t.d.in.known = false }()
	if err := s.copyAttrs(t.fd, t.path, t.proc, &c); err != nil {
		return fail(op, c.ID.String(), err)
	}
	m.Version = c.Version
	return s.setDirMeta(op, &t, m)
}

// Path tells where a directory lies.
func (s *Store) Path(ctx context.Context, dir volume.ID) (volume.ID, string, error) {
	const op = "path"
	if err := start(ctx, op); err != nil {
		return volume.ID{}, "", err
	}
	if dir == volume.Root {
		return volume.ID{}, "", volume.Errorf(op, dir.String(), unix.EINVAL, "the root has no parent")
	}
	t, err := s.dirTarget(op, dir)
	if err != nil {
		return volume.ID{}, "", err
	}
	defer s.release(&t)
	s.tree.RLock()
	defer s.tree.RUnlock()
	parent, name, err := s.placeOf(op, dir)
	if err != nil {
		return volume.ID{}, "", err
	}
	if parent == nowhere {
		return volume.ID{}, "", volume.Errorf(op, dir.String(), unix.ENOENT, "the directory has no name")
	}
	return parent, name, nil
}
