package brick

import (
	"context"

	"github.com/mortarfs/mortar/brick/fsynclog"
	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// ID returns the object's.
func (h *file) ID() volume.ID { return h.o.id }

// anyFD returns a descriptor of the object, for what needs no permission.
func (h *file) anyFD() int {
	if h.wr >= 0 {
		return h.wr
	}
	return h.rd
}

func (h *file) fail(op string, err error) error { return fail(op, h.o.id.String(), err) }

// check says whether an operation on [off, off+n) may begin.
func (h *file) check(ctx context.Context, op string, fd int, off, n int64) error {
	if err := start(ctx, op); err != nil {
		return err
	}
	if fd < 0 {
		return h.fail(op, &volume.Error{Op: op, Where: h.o.id.String(), Errno: unix.EBADF})
	}
	if off < 0 || n < 0 || n > volume.IOMax && op != opAllocate {
		return h.fail(op, unix.EINVAL)
	}
	if off+n < off {
		return h.fail(op, unix.EFBIG)
	}
	return nil
}

// ReadAt reads, up to the end of the file.
func (h *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	const op = "read"
	if err := h.check(ctx, op, h.rd, off, int64(len(p))); err != nil {
		return 0, err
	}
	n := 0
	for n < len(p) {
		m, err := h.s.sys.Pread(h.rd, p[n:], off+int64(n))
		if err != nil {
			return n, h.fail(op, err)
		}
		n += m
		if m == 0 || n == len(p) {
			break
		}
		// Short: the end, nearly always. Asking where it is costs less than reading again.
		if end, err := h.s.sys.Seek(h.rd, 0, unix.SEEK_END); err == nil && end <= off+int64(n) {
			break
		}
	}
	return n, nil
}

// syncFlags are what pwritev2(2) takes to write as O_DSYNC or O_SYNC would.
func (h *file) syncFlags() int {
	switch {
	case h.flags&volume.FullSync != 0:
		return unix.RWF_SYNC
	case h.flags&volume.DataSync != 0:
		return unix.RWF_DSYNC
	}
	return 0
}

// writeFixed is write, which leaves the mtime that the primary decided on, if it did, and makes durable what the handle's
// flags ask for: small writes by a Sync, which may go by way of the log of fsyncs.
func (h *file) writeFixed(fx fixed, op string, p []byte, off int64) (int, error) {
	flags := h.syncFlags()
	after := len(p) <= fsynclog.DataMax || fx.is && flags == unix.RWF_SYNC // the time belongs to what O_SYNC makes durable
	if flags != 0 && after {
		if err := h.syncFailed(op); err != nil {
			return 0, err
		}
	}
	n, err := h.writeNoted(op, p, off, func() (int, error) {
		with := flags
		if after {
			with = 0
		}
		n, err := h.write(op, p, off, with)
		h.s.stamp(fx, h.o.id, h.wr)
		return n, err
	})
	if flags == 0 || !after {
		return n, err
	}
	switch volume.ErrnoOf(err) {
	case 0:
		err = h.s.syncObject(op, h.o.id, h.wr, flags == unix.RWF_DSYNC)
	case unix.EIO:
		h.markFailed("write", err)
	}
	return n, err
}

// write writes all of p; h.o.size is held.
func (h *file) write(op string, p []byte, off int64, flags int) (int, error) {
	if flags != 0 {
		if err := h.syncFailed(op); err != nil {
			return 0, err
		}
	}
	n := 0
	for n < len(p) {
		m, err := h.s.sys.Pwrite(h.wr, p[n:], off+int64(n), flags)
		if err != nil {
			if flags != 0 && err == unix.EIO {
				h.markFailed("write", err)
			}
			return n, h.fail(op, err)
		}
		if m == 0 {
			return n, h.fail(op, unix.EIO)
		}
		n += m
	}
	if from, length, now := h.o.stream.wrote(off, int64(n)); now && flags == 0 {
		_ = h.s.sys.SyncFileRange(h.wr, from, length) // a hint: what goes wrong with the data the next fsync tells
	}
	return n, nil
}

// WriteAt writes p at off.
func (h *file) WriteAt(ctx context.Context, p []byte, off int64, f volume.WriteFlags) (int, error) {
	n, err := h.writeAt(ctx, p, off, f)
	return n, h.synced(ctx, f, err)
}

// synced ends a write that failed with err, or did not: it does what f says of durability.
func (h *file) synced(ctx context.Context, f volume.WriteFlags, err error) error {
	if err != nil || f&volume.WriteSynced == 0 {
		return err
	}
	return h.Sync(ctx, f&volume.WriteFullSync == 0)
}

func (h *file) writeAt(ctx context.Context, p []byte, off int64, f volume.WriteFlags) (int, error) {
	const op = "write"
	if err := h.check(ctx, op, h.wr, off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	h.o.size.RLock()
	defer h.o.size.RUnlock()
	if f&volume.WriteKillPriv != 0 {
		if err := h.killPriv(ctx, op); err != nil {
			return 0, err
		}
	}
	return h.writeFixed(fixedOf(ctx), op, p, off)
}

// Append writes p at the end of the file.
func (h *file) Append(ctx context.Context, p []byte, f volume.WriteFlags) (int64, error) {
	off, err := h.append(ctx, p, f)
	return off, h.synced(ctx, f, err)
}

func (h *file) append(ctx context.Context, p []byte, f volume.WriteFlags) (int64, error) {
	const op = "append"
	if err := h.check(ctx, op, h.wr, 0, int64(len(p))); err != nil {
		return 0, err
	}
	h.o.size.Lock()
	defer h.o.size.Unlock()
	if f&volume.WriteKillPriv != 0 && len(p) > 0 {
		if err := h.killPriv(ctx, op); err != nil {
			return 0, err
		}
	}
	end, err := h.s.sys.Seek(h.wr, 0, unix.SEEK_END)
	if err != nil {
		return 0, h.fail(op, err)
	}
	n, err := h.writeFixed(fixedOf(ctx), op, p, end)
	if err != nil && n > 0 && volume.ErrnoOf(err) != unix.EIO {
		// All or nothing: who appends again would leave a torn record before it.
		if e := h.truncate(ctx, op, end); e != nil {
			return 0, h.fail(op, unix.EIO)
		}
	}
	return end, err
}

// truncate sets the file's size; h.o.size is held for writing.
func (h *file) truncate(ctx context.Context, op string, size int64) error {
	end, err := h.s.alter(op, h.o.id)
	if err != nil {
		return err
	}
	defer end()
	if err := h.s.sys.Ftruncate(h.o.wr, size); err != nil {
		return h.fail(op, err)
	}
	h.s.stamp(fixedOf(ctx), h.o.id, h.o.wr)
	return nil
}

// killPriv clears what withoutPriv does not leave.
func (h *file) killPriv(ctx context.Context, op string) error {
	if h.o.clean.Load() {
		return nil
	}
	h.o.clean.Store(true) // before the look, so that a later chmod is not overlooked
	info, err := h.s.sys.Stat(h.o.wr, "", unix.AT_EMPTY_PATH)
	mode := info.Mode
	if err == nil {
		if mode = withoutPriv(info.Mode, info.GID, volume.CredOf(ctx)); mode != info.Mode {
			end := h.s.touch(h.o.id)
			err = h.s.sys.Fchmod(h.o.wr, mode&0o7777)
			end()
		}
	}
	if err != nil || mode&unix.S_ISGID != 0 { // which the next writer may have to clear
		h.o.clean.Store(false)
	}
	if err != nil {
		return h.fail(op, err)
	}
	return nil
}

// withoutPriv is a mode after a write or chown by one without privilege: a
// setgid bit that does not go with execution is left to root and the group.
func withoutPriv(mode, gid uint32, by volume.Cred) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode
	}
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 || by.UID != 0 && by.GID != gid {
		mode &^= unix.S_ISGID
	}
	return mode
}

// cut makes the file empty as part of an open.
func (h *file) cut(ctx context.Context, op string, kill bool) error {
	h.o.size.Lock()
	defer h.o.size.Unlock()
	if kill {
		if err := h.killPriv(ctx, op); err != nil {
			return err
		}
	}
	return h.truncate(ctx, op, 0)
}

// Getattr returns the object's attributes.
func (h *file) Getattr(ctx context.Context) (volume.Attr, error) {
	const op = "getattr"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	return h.getattr(op)
}

func (h *file) getattr(op string) (volume.Attr, error) {
	fd := h.anyFD()
	info, err := h.s.sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return volume.Attr{}, h.fail(op, err)
	}
	f := found{info: info, node: node{Pointer: volume.Pointer{ID: h.o.id, Mode: unix.S_IFREG}}}
	return h.s.attr(f, fd, "")
}

// Setattr changes the object's attributes.
func (h *file) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	return h.s.Setattr(ctx, h.o.id, c)
}

// WriteSet writes p at off and changes attributes.
func (h *file) WriteSet(ctx context.Context, p []byte, off int64, f volume.WriteFlags, c volume.Change) (int, error) {
	if c.Mask&volume.SetSize != 0 {
		return 0, h.fail("setattr", unix.EINVAL)
	}
	n, err := h.writeAt(ctx, p, off, f)
	if err == nil {
		_, err = h.Setattr(ctx, c)
	}
	return n, h.synced(ctx, f, err)
}

// allocModes are the modes of Allocate that exist, in the combinations of fallocate(2).
func validAlloc(mode uint32) bool {
	switch mode {
	case 0, volume.AllocKeepSize, volume.AllocPunchHole | volume.AllocKeepSize, volume.AllocCollapseRange,
		volume.AllocZeroRange, volume.AllocZeroRange | volume.AllocKeepSize, volume.AllocInsertRange:
		return true
	}
	return false
}

const opAllocate = "allocate"

// Allocate is fallocate(2).
func (h *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	const op = opAllocate
	if err := h.check(ctx, op, h.wr, off, length); err != nil {
		return err
	}
	if !validAlloc(mode) {
		return h.fail(op, unix.EOPNOTSUPP)
	}
	if length == 0 {
		return h.fail(op, unix.EINVAL)
	}
	h.o.size.Lock()
	defer h.o.size.Unlock()
	end, err := h.s.alter(op, h.o.id)
	if err != nil {
		return err
	}
	defer end()
	err = h.s.sys.Fallocate(h.wr, mode, off, length)
	if err == nil && volume.CredOf(ctx).UID != 0 {
		err = h.killPriv(ctx, op)
	}
	fx := fixedOf(ctx)
	if err == nil && mode&volume.AllocPunchHole != 0 && h.s.fsType == unix.BTRFS_SUPER_MAGIC && !fx.is {
		// Btrfs leaves the times alone where there was nothing to punch.
		err = h.s.sys.Utimens(h.wr, "", sys.Timespec{Omit: true}, sys.Timespec{Now: true}, unix.AT_EMPTY_PATH)
	}
	h.s.stamp(fx, h.o.id, h.wr)
	if err != nil {
		return h.fail(op, err)
	}
	return nil
}

// Seek finds data or a hole.
func (h *file) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	const op = "seek"
	if err := start(ctx, op); err != nil {
		return 0, err
	}
	if whence != volume.SeekData && whence != volume.SeekHole {
		return 0, h.fail(op, unix.EINVAL)
	}
	if off < 0 {
		return 0, h.fail(op, unix.ENXIO)
	}
	n, err := h.s.sys.Seek(h.anyFD(), off, whence)
	if err != nil {
		return 0, h.fail(op, err)
	}
	return n, nil
}

func (h *file) Flush(ctx context.Context) error { return start(ctx, "flush") }
