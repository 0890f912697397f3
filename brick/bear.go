package brick

import (
	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// A file that is made with what is in it (volume.Node): it gets its contents and attributes
// while it has no name, so that each costs one system call at most, and none of them
// is seen without the others.

// foresee gives the birth the owner and mode that the change which goes with it leads to, so that nothing need be
// changed afterwards. Below a default ACL the mode is known when the file is there (settleMode).
func (b *birth) foresee() {
	c := &b.node.Then
	b.bornGID = b.gid
	if !b.in.defaultACL {
		b.mode = b.modeThen(b.mode)
	}
	if c.Mask&volume.SetUID != 0 {
		b.uid = c.UID
	}
	if c.Mask&volume.SetGID != 0 {
		b.gid = c.GID
	}
}

// modeThen returns what becomes of the mode with which the file would be made, when its owner has written it and
// changed its attributes.
func (b *birth) modeThen(mode uint32) uint32 {
	c := &b.node.Then
	mode |= unix.S_IFREG
	if len(b.node.Data) > 0 && b.by.UID != 0 {
		mode = withoutPriv(mode, b.bornGID, b.by)
	}
	if c.Mask&(volume.SetUID|volume.SetGID) != 0 { // what chown(2) clears even if root calls it
		mode = withoutPriv(mode, b.bornGID, volume.Cred{})
	}
	mode, _ = newMode(mode, b.bornGID, c, b.by)
	return mode & 0o7777
}

// writeNew writes what is in the file.
func (s *Store) writeNew(b *birth, fd int) error {
	for n, data := 0, b.node.Data; n < len(data); {
		m, err := s.sys.Pwrite(fd, data[n:], int64(n), 0)
		if err != nil {
			return err
		}
		if m == 0 {
			return unix.EIO
		}
		n += m
	}
	return nil
}

// settleMode gives a file below a default ACL, whose owner it has, the mode and ACL that the change leads to.
func (s *Store) settleMode(b *birth, fd int) error {
	if !b.in.defaultACL {
		return nil
	}
	info, err := s.sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	have, want := info.Mode&0o7777, b.modeThen(info.Mode&0o7777)
	if b.node.Then.Mask&volume.SetMinimalACL != 0 { // it sets the permissions, too
		if err := s.sys.Fsetxattr(fd, attrACL, volume.MinimalACL(want), 0); err != nil {
			return err
		}
		have = have&^0o777 | want&0o777
	}
	if have == want {
		return nil
	}
	return s.sys.Fchmod(fd, want)
}

// stampBorn gives the file its times: those of the change, and of its birth for the others.
func (s *Store) stampBorn(b *birth, fd int) error {
	at, mt, set := newTimes(&b.node.Then)
	if b.fx.is {
		present := func(t sys.Timespec) sys.Timespec {
			if t.Now || t.Omit {
				return b.fx.present()
			}
			return t
		}
		at, mt, set = present(at), present(mt), true
	}
	if !set {
		return nil
	}
	return s.sys.Utimens(fd, "", at, mt, unix.AT_EMPTY_PATH)
}
