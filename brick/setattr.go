package brick

import (
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Setattr changes an object's attributes. The parts of a change are several
// system calls: of one that fails, the parts that were made are taken back; a
// crash may keep the first of them.
func (s *Store) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	const op = "setattr"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	t, err := s.target(op, id)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.release(&t)
	if t.d != nil {
		t.d.attr.Lock()
		defer t.d.attr.Unlock()
		if err := s.beginDirChange(op, &t, c.Mask&(volume.SetMode|volume.SetUID|volume.SetGID) != 0); err != nil {
			return volume.Attr{}, err
		}
	}
	if err := checkChange(op, &t, &c); err != nil {
		return volume.Attr{}, err
	}
	if t.isRegular() {
		end, err := s.beginSetattr(op, id, c.Mask)
		if err != nil {
			return volume.Attr{}, err
		}
		defer end()
	}
	err = s.change(&t, &c, volume.CredOf(ctx), fixedOf(ctx))
	if t.d != nil {
		t.d.in.known = false
	}
	if err != nil {
		if err == unix.ENOENT {
			return volume.Attr{}, stale(op, id)
		}
		return volume.Attr{}, fail(op, id.String(), err)
	}
	return s.look(op, &t)
}

// beginSetattr tells the log of fsyncs of a change of a regular file's attributes.
func (s *Store) beginSetattr(op string, id volume.ID, mask volume.Mask) (end func(), err error) {
	const times = volume.SetAtime | volume.SetAtimeNow | volume.SetMtime | volume.SetMtimeNow
	if mask&(volume.SetSize|times) != 0 {
		return s.alter(op, id)
	}
	return s.touch(id), nil
}

// beginDirChange makes sure that the directory is there and, if what is about
// to change is inherited, gives it its next version. The version comes first:
// were it stopped in between, copies would be refreshed in vain, never missed.
// d.attr is held for writing.
func (s *Store) beginDirChange(op string, t *target, inherited bool) error {
	if err := s.loadInherit(op, t.d); err != nil {
		return err
	}
	if t.d.in.gone {
		return stale(op, t.ID)
	}
	if !inherited {
		return nil
	}
	m := t.d.in.meta
	m.Version++
	return s.setDirMeta(op, t, m)
}

// setDirMeta writes a directory's meta; d.attr is held for writing.
func (s *Store) setDirMeta(op string, t *target, m dirMeta) error {
	if err := s.sys.Fsetxattr(t.d.fd, attrDir, encodeDirMeta(m), 0); err != nil {
		return fail(op, t.ID.String(), err)
	}
	t.d.in.meta, t.dir = m, m
	s.inodes.change(&t.info, t.node)
	return nil
}

// checkChange says what is impossible about a change.
func checkChange(op string, t *target, c *volume.Change) error {
	size, acl := c.Mask&volume.SetSize != 0, c.Mask&volume.SetMinimalACL != 0
	e := &volume.Error{Op: op, Where: t.ID.String(), Errno: unix.EINVAL}
	switch {
	case size && t.isDir():
		e.Errno = unix.EISDIR
		return e
	case (size || acl) && !t.isRegular(), size && c.Size < 0, acl && c.Mask&volume.SetMode != 0:
		return e
	}
	return nil
}

// truncate sets a file's size, apart from appends to it.
func (s *Store) truncate(t *target, size int64) error {
	st := s.objs.stripe(t.ID)
	st.Lock()
	o := st.open[t.ID]
	if o == nil { // and can't be opened meanwhile
		defer st.Unlock()
		return s.sys.Truncate(t.proc, size)
	}
	o.refs++
	st.Unlock()
	h := &file{s: s, o: o}
	defer h.Close()
	o.size.Lock()
	defer o.size.Unlock()
	return s.sys.Truncate(t.proc, size)
}

// change makes all of a change, or, if a part fails, none.
func (s *Store) change(t *target, c *volume.Change, by volume.Cred, fx fixed) error {
	old := &t.info
	chowned, chmodded := false, false
	undo := func(err error) error {
		if chowned {
			s.sys.Chown(t.fd, t.path, int(old.UID), int(old.GID), noFollow)
		}
		if (chowned || chmodded) && t.Mode != unix.S_IFLNK {
			s.sys.Chmod(t.fd, t.path, old.Mode&0o7777)
		}
		return err
	}
	if c.Mask&(volume.SetUID|volume.SetGID) != 0 {
		uid, gid := -1, -1
		if c.Mask&volume.SetUID != 0 {
			uid = int(c.UID)
		}
		if c.Mask&volume.SetGID != 0 {
			gid = int(c.GID)
		}
		if err := s.sys.Chown(t.fd, t.path, uid, gid, noFollow); err != nil {
			return err
		}
		chowned = true
	}
	if mode, set := newMode(old.Mode, old.GID, c, by); set {
		if t.Mode == unix.S_IFLNK {
			return undo(unix.EOPNOTSUPP)
		}
		s.dirty(t)
		if err := s.sys.Chmod(t.fd, t.path, mode&0o7777); err != nil {
			return undo(err)
		}
		s.dirty(t)
		chmodded = true
	}
	if c.Mask&volume.SetSize != 0 {
		if err := s.truncate(t, c.Size); err != nil {
			return undo(err)
		}
	}
	if err := s.setTimes(t, c, fx); err != nil {
		return undo(err)
	}
	if c.Mask&volume.SetMinimalACL != 0 {
		if err := s.dropACL(t); err != nil {
			return undo(err)
		}
	}
	return nil
}

// dropACL removes an access ACL that says more than the mode, if there is one. To look for it costs much less than to
// remove what is not there.
func (s *Store) dropACL(t *target) error {
	_, err := s.sys.Lgetxattr(t.proc, attrACL, nil)
	if err == nil {
		err = s.sys.Lremovexattr(t.proc, attrACL)
	}
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil
	}
	return err
}

// dirty makes handles of an object look again whether it has privileges to clear.
func (s *Store) dirty(t *target) {
	if t.Mode != unix.S_IFREG {
		return
	}
	st := s.objs.stripe(t.ID)
	st.RLock()
	defer st.RUnlock()
	if o := st.open[t.ID]; o != nil {
		o.clean.Store(false)
	}
}

// newMode returns the mode that a change by a caller wants to be set. What
// chown(2) clears by itself when root calls it is no part of it.
func newMode(old, gid uint32, c *volume.Change, by volume.Cred) (mode uint32, set bool) {
	owner := c.Mask&(volume.SetUID|volume.SetGID) != 0
	switch {
	case c.Mask&volume.SetMode != 0:
		return old&unix.S_IFMT | c.Mode&0o7777, true // it has the last word
	case c.Mask&volume.SetMinimalACL != 0:
		if mode = old; owner || c.Mask&volume.ClearPriv != 0 {
			mode = withoutPriv(old, gid, by)
		}
		return mode&^0o777 | c.Mode&0o777, true
	case c.Mask&volume.ClearPriv != 0, owner && by.UID != 0:
		mode = withoutPriv(old, gid, by)
		return mode, mode != old
	}
	return old, false
}

// newTimes returns the times that a change wants to be set.
func newTimes(c *volume.Change) (atime, mtime sys.Timespec, set bool) {
	one := func(given, now volume.Mask, t volume.Time) sys.Timespec {
		switch {
		case c.Mask&now != 0:
			return sys.Timespec{Now: true}
		case c.Mask&given != 0:
			return sys.Timespec{Time: t}
		}
		return sys.Timespec{Omit: true}
	}
	atime = one(volume.SetAtime, volume.SetAtimeNow, c.Atime)
	mtime = one(volume.SetMtime, volume.SetMtimeNow, c.Mtime)
	return atime, mtime, !atime.Omit || !mtime.Omit
}
