package fuse

import (
	"context"
	"errors"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// getattr asks for the attributes of n: through the open file if the kernel
// named one, so that fstat works after the last unlink wherever the file moved.
// What is gone keeps the attributes that it had, for whoever still has it.
func (f *front) getattr(ctx context.Context, n *node, o *openFile) (volume.Attr, error) {
	if o != nil {
		return o.file.Getattr(ctx)
	}
	a, err := f.fs.Getattr(ctx, n.id)
	if err == nil || !errors.Is(err, syscall.ESTALE) {
		return a, err
	}
	if last, ok := n.removed(); ok {
		return last, nil
	}
	if o := f.anyOpen(n); o != nil {
		return o.file.Getattr(ctx)
	}
	return a, err
}

// anyOpen finds an open file of n, nil if there is none. It searches all: for
// what happens only after a file's last name has gone.
func (f *front) anyOpen(n *node) (found *openFile) {
	f.files.all(func(_ uint64, o *openFile) {
		if o.node == n {
			found = o
		}
	})
	return found
}

// GetAttr is stat and fstat.
func (f *front) GetAttr(cancel <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	var o *openFile
	if in.Flags()&gofuse.FUSE_GETATTR_FH != 0 {
		o = f.files.get(in.Fh())
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	a, err := f.getattr(c, n, o)
	if err != nil {
		return f.stale(f.fail("getattr", err), &in.InHeader)
	}
	return f.attr(out, n, &a)
}

// Statx is asked when somebody wants the time of birth.
func (f *front) Statx(cancel <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	var o *openFile
	if in.GetattrFlags&gofuse.FUSE_GETATTR_FH != 0 {
		o = f.files.get(in.Fh)
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	a, err := f.getattr(c, n, o)
	if err != nil {
		return f.stale(f.fail("statx", err), &in.InHeader)
	}
	n.remember(&a, nil)
	n.note(&a)
	out.AttrValid, out.AttrValidNsec = f.attrValid(&a)
	out.Statx = gofuse.Statx{
		Mask:      unix.STATX_BASIC_STATS,
		Blksize:   blockSize,
		Nlink:     a.Nlink,
		Uid:       a.UID,
		Gid:       a.GID,
		Mode:      uint16(a.Mode),
		Ino:       a.ID.Inode(),
		Size:      uint64(a.Size),
		Blocks:    uint64(a.Blocks),
		Atime:     sxTime(a.Atime),
		Mtime:     sxTime(a.Mtime),
		Ctime:     sxTime(a.Ctime),
		RdevMajor: unix.Major(a.Rdev),
		RdevMinor: unix.Minor(a.Rdev),
	}
	if a.Btime != (volume.Time{}) {
		out.Statx.Mask |= unix.STATX_BTIME
		out.Statx.Btime = sxTime(a.Btime)
	}
	return gofuse.OK
}

func sxTime(t volume.Time) gofuse.SxTime { return gofuse.SxTime{Sec: uint64(t.Sec), Nsec: t.Nsec} }

// change translates what a SETATTR asks for. FATTR_CTIME comes only with the
// write-back cache, which is never on.
func change(in *gofuse.SetAttrIn) volume.Change {
	c := volume.Change{
		Mode: in.Mode & 07777,
		UID:  in.Uid,
		GID:  in.Gid,
		Size: int64(in.Size),
		Atime: volume.Time{
			Sec: int64(in.Atime), Nsec: in.Atimensec,
		},
		Mtime: volume.Time{
			Sec: int64(in.Mtime), Nsec: in.Mtimensec,
		},
	}
	for _, b := range [...]struct {
		fattr uint32
		mask  volume.Mask
	}{
		{gofuse.FATTR_MODE, volume.SetMode},
		{gofuse.FATTR_UID, volume.SetUID},
		{gofuse.FATTR_GID, volume.SetGID},
		{gofuse.FATTR_SIZE, volume.SetSize},
		{gofuse.FATTR_KILL_SUIDGID, volume.ClearPriv},
	} {
		if in.Valid&b.fattr != 0 {
			c.Mask |= b.mask
		}
	}
	switch {
	case in.Valid&gofuse.FATTR_ATIME_NOW != 0:
		c.Mask |= volume.SetAtimeNow
	case in.Valid&gofuse.FATTR_ATIME != 0:
		c.Mask |= volume.SetAtime
	}
	switch {
	case in.Valid&gofuse.FATTR_MTIME_NOW != 0:
		c.Mask |= volume.SetMtimeNow
	case in.Valid&gofuse.FATTR_MTIME != 0:
		c.Mask |= volume.SetMtime
	}
	return c
}

// SetAttr is chmod, chown, truncate and utimes. It goes through the open file
// if the kernel named one (ftruncate), or if the object has no name any more.
func (f *front) SetAttr(cancel <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	if in.Valid&gofuse.FATTR_SIZE != 0 && int64(in.Size) < 0 {
		return gofuse.Status(syscall.EFBIG)
	}
	var o *openFile
	if fh, ok := in.GetFh(); ok {
		o = f.files.get(fh)
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	if in.Valid&gofuse.FATTR_KILL_SUIDGID != 0 {
		c.join(n)
	}
	ch := change(in)
	if a, late := f.changeLater(c, n, ch); late {
		setAttr(&out.Attr, &a) // and to be believed for no time
		return gofuse.OK
	}
	a, err := f.setattr(c, n, o, ch)
	f.touch(n)
	if err != nil {
		return f.fail("setattr", err)
	}
	return f.attr(out, n, &a)
}

// changeLater makes a change that may be delayed, if it is one and may.
func (f *front) changeLater(c *call, n *node, ch volume.Change) (a volume.Attr, late bool) {
	l, ok := f.fs.(volume.LateChanger)
	if !ok {
		return a, false
	}
	if a, late = l.ChangeLater(c, n.id, ch); late {
		f.touch(n)
		n.note(&a)
	}
	return a, late
}

func (f *front) setattr(ctx context.Context, n *node, o *openFile, ch volume.Change) (volume.Attr, error) {
	if ch.Mask == 0 {
		return f.getattr(ctx, n, o)
	}
	if o != nil {
		return o.file.Setattr(ctx, ch)
	}
	a, err := f.fs.Setattr(ctx, n.id, ch)
	if errors.Is(err, syscall.ESTALE) {
		if o := f.anyOpen(n); o != nil {
			return o.file.Setattr(ctx, ch)
		}
	}
	return a, err
}
