package model

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Getattr implements volume.FS.
func (s *FS) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	if err := s.enter(ctx, "getattr", id.String()); err != nil {
		return volume.Attr{}, err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("getattr", id)
	if err != nil {
		return volume.Attr{}, err
	}
	return o.attr(), nil
}

// Setattr implements volume.FS.
func (s *FS) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	if err := s.enter(ctx, "setattr", id.String()); err != nil {
		return volume.Attr{}, err
	}
	defer s.leave()
	o, err := s.mu.find("setattr", id)
	if err != nil {
		return volume.Attr{}, err
	}
	return s.setattr(o, c, volume.CredOf(ctx))
}

// setattr checks a change and makes it.
func (s *FS) setattr(o *object, c volume.Change, by volume.Cred) (volume.Attr, error) {
	if errno := mayChange(o, c); errno != 0 {
		return volume.Attr{}, fail("setattr", o.id.String(), errno)
	}
	now := s.now()
	o.ctime = now.Time
	member := o.member(by) // before the group changes
	if c.Mask&volume.SetSize != 0 {
		s.resize(o, func(d *data) { d.truncate(c.Size) })
		delete(o.xattrs, capability)
		o.date(now, now.present())
	}
	if c.Mask&(volume.SetUID|volume.SetGID) != 0 {
		if c.Mask&volume.SetUID != 0 {
			o.uid = c.UID
		}
		if c.Mask&volume.SetGID != 0 {
			o.gid = c.GID
		}
		if !o.isDir() {
			o.clearPriv(member)
		}
	}
	if c.Mask&volume.ClearPriv != 0 && !o.isDir() {
		o.clearPriv(member)
	}
	if c.Mask&volume.SetMode != 0 {
		o.mode = o.mode&syscall.S_IFMT | c.Mode&0o7777
		aclChmod(o)
	}
	if c.Mask&volume.SetMinimalACL != 0 {
		o.mode = o.mode&^0o777 | c.Mode&0o777
		storeACL(o, aclAccess, nil)
	}
	if o.isDir() && c.Mask&(volume.SetMode|volume.SetUID|volume.SetGID) != 0 {
		o.version++
	}
	o.setTimes(c, now)
	return o.attr(), nil
}

// mayChange says what is wrong with a change, 0 for nothing.
func mayChange(o *object, c volume.Change) syscall.Errno {
	size := c.Mask&volume.SetSize != 0
	switch {
	case size && o.isDir():
		return syscall.EISDIR
	case size && (!o.isRegular() || c.Size < 0):
		return syscall.EINVAL
	case c.Mask&volume.SetMinimalACL != 0 && (!o.isRegular() || c.Mask&volume.SetMode != 0):
		return syscall.EINVAL
	case size && c.Size > maxSize:
		return syscall.EFBIG
	case c.Mask&volume.SetMode != 0 && o.mode&syscall.S_IFMT == syscall.S_IFLNK:
		return syscall.EOPNOTSUPP
	case c.Mask&volume.SetAtime != 0 && c.Atime.Nsec > 999_999_999,
		c.Mask&volume.SetMtime != 0 && c.Mtime.Nsec > 999_999_999:
		return syscall.EINVAL
	}
	return 0
}

// setTimes sets the times of a change.
func (o *object) setTimes(c volume.Change, now moment) {
	if c.Mask&volume.SetAtimeNow != 0 {
		o.atime = now.present()
	} else if c.Mask&volume.SetAtime != 0 {
		o.atime = c.Atime
	}
	if c.Mask&volume.SetMtimeNow != 0 {
		o.date(now, now.present())
	} else if c.Mask&volume.SetMtime != 0 {
		o.date(now, c.Mtime)
	}
	if c.Mask&volume.SetCtime != 0 {
		o.ctime = c.Ctime
	}
}

// member reports whether S_ISGID without execution may stay when by writes.
func (o *object) member(by volume.Cred) bool { return by.UID == 0 || by.GID == o.gid }

// clearPriv takes away what a change of owner or data by an ordinary user does,
// who is a member of the object's group or not.
func (o *object) clearPriv(member bool) {
	o.mode &^= syscall.S_ISUID
	if o.mode&0o010 != 0 || !member {
		o.mode &^= syscall.S_ISGID
	}
	delete(o.xattrs, capability)
}

// Sync implements volume.FS.
func (s *FS) Sync(ctx context.Context, id volume.ID) error {
	if err := s.enter(ctx, "sync", id.String()); err != nil {
		return err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("sync", id)
	switch {
	case err != nil:
		return err
	case o.isDir():
		s.pin(id)
	default:
		s.durable()
	}
	return nil
}

// Statfs implements volume.FS.
func (s *FS) Statfs(ctx context.Context) (volume.Statfs, error) {
	if err := s.enter(ctx, "statfs", ""); err != nil {
		return volume.Statfs{}, err
	}
	defer s.mu.Unlock()
	free := uint64(max(0, s.capacity-s.mu.pages*pageSize))
	return volume.Statfs{
		Total: uint64(s.capacity), Free: free, Available: free,
		Files: 1 << 32, FilesFree: 1<<32 - uint64(len(s.mu.objects)),
		BlockSize: pageSize, NameMax: volume.NameMax,
	}, nil
}
