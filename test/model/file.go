package model

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// file is an open file. It implements volume.File.
type file struct {
	fs    *FS
	id    volume.ID
	boot  uint64
	flags volume.Flags
	done  bool // closed; guarded by fs.mu
}

// notRegular is the errno of opening what has mode.
func notRegular(mode uint32) syscall.Errno {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return syscall.EISDIR
	case syscall.S_IFLNK:
		return syscall.ELOOP
	}
	return syscall.ENXIO
}

// handle makes an open file of an object.
func (s *FS) handle(o *object, f volume.Flags) *file {
	o.opens++
	return &file{fs: s, id: o.id, boot: s.mu.boot, flags: f}
}

// open opens an object that may be of any type.
func (s *FS) open(ctx context.Context, op string, o *object, f volume.Flags) (*file, error) {
	if !o.isRegular() {
		return nil, fail(op, o.id.String(), notRegular(o.mode))
	}
	if f&volume.Truncate != 0 {
		now := s.now()
		s.resize(o, func(d *data) { d.truncate(0) })
		o.touch(now)
		delete(o.xattrs, capability)
		if f&volume.KillPriv != 0 {
			o.clearPriv(o.member(volume.CredOf(ctx)))
		}
	}
	return s.handle(o, f), nil
}

// Open implements volume.FS.
func (s *FS) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	if err := s.enter(ctx, "open", id.String()); err != nil {
		return nil, err
	}
	defer s.leave()
	if f&(volume.Read|volume.Write) == 0 {
		return nil, fail("open", id.String(), syscall.EINVAL)
	}
	o, err := s.mu.find("open", id)
	if err != nil && s.mu.as != nil && s.mu.as.Keep { // it is open elsewhere
		o, err = s.mu.here("open", id)
	}
	if err != nil {
		return nil, err
	}
	h, err := s.open(ctx, "open", o, f)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// ID implements volume.File.
func (h *file) ID() volume.ID { return h.id }

// enter begins an operation on the open file; need is what it must be open for.
func (h *file) enter(ctx context.Context, op string, need volume.Flags) (*object, error) {
	if err := h.fs.enter(ctx, op, h.id.String()); err != nil {
		return nil, err
	}
	var err error
	switch {
	case h.boot != h.fs.mu.boot:
		err = &volume.Error{Op: op, Where: h.id.String(), Errno: syscall.EIO, Reason: volume.Unavailable}
	case h.done || h.flags&need != need:
		err = fail(op, h.id.String(), syscall.EBADF)
	}
	if err != nil {
		h.fs.mu.Unlock()
		return nil, err
	}
	return h.fs.mu.objects[h.id], nil
}

// ReadAt implements volume.File.
func (h *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	o, err := h.enter(ctx, "read", volume.Read)
	if err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if off < 0 || len(p) > volume.IOMax {
		return 0, fail("read", h.id.String(), syscall.EINVAL)
	}
	return o.data.read(p, off), nil
}

// WriteAt implements volume.File.
func (h *file) WriteAt(ctx context.Context, p []byte, off int64, f volume.WriteFlags) (int, error) {
	o, err := h.enter(ctx, "write", volume.Write)
	if err != nil {
		return 0, err
	}
	defer h.fs.leave()
	return h.write(ctx, o, p, off, f)
}

// WriteSet implements volume.File.
func (h *file) WriteSet(ctx context.Context, p []byte, off int64, f volume.WriteFlags, c volume.Change) (int, error) {
	o, err := h.enter(ctx, "write", volume.Write)
	if err != nil {
		return 0, err
	}
	defer h.fs.leave()
	if c.Mask&volume.SetSize != 0 {
		return 0, fail("setattr", h.id.String(), syscall.EINVAL)
	}
	n, err := h.write(ctx, o, p, off, f&^volume.WriteSynced)
	if err != nil {
		return n, err
	}
	if _, err = h.fs.setattr(o, c, volume.CredOf(ctx)); err == nil && f&volume.WriteSynced != 0 {
		h.fs.durable()
	}
	return n, err
}

// Append implements volume.File.
func (h *file) Append(ctx context.Context, p []byte, f volume.WriteFlags) (int64, error) {
	o, err := h.enter(ctx, "append", volume.Write)
	if err != nil {
		return 0, err
	}
	defer h.fs.leave()
	off := o.data.size
	_, err = h.write(ctx, o, p, off, f)
	return off, err
}

// write stores p wholly or not at all.
func (h *file) write(ctx context.Context, o *object, p []byte, off int64, f volume.WriteFlags) (int, error) {
	if off < 0 || len(p) > volume.IOMax {
		return 0, fail("write", h.id.String(), syscall.EINVAL)
	}
	if len(p) == 0 {
		if f&volume.WriteSynced != 0 {
			h.fs.durable()
		}
		return 0, nil
	}
	if err := h.fs.reserve("write", o, off, int64(len(p))); err != nil {
		return 0, err
	}
	o.data.write(p, off)
	o.touch(h.fs.now())
	delete(o.xattrs, capability)
	if f&volume.WriteKillPriv != 0 {
		o.clearPriv(o.member(volume.CredOf(ctx)))
	}
	if h.flags&(volume.DataSync|volume.FullSync) != 0 || f&volume.WriteSynced != 0 {
		h.fs.durable()
	}
	return len(p), nil
}

// Getattr implements volume.File.
func (h *file) Getattr(ctx context.Context) (volume.Attr, error) {
	o, err := h.enter(ctx, "getattr", 0)
	if err != nil {
		return volume.Attr{}, err
	}
	defer h.fs.mu.Unlock()
	return o.attr(), nil
}

// Setattr implements volume.File.
func (h *file) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	o, err := h.enter(ctx, "setattr", 0)
	if err != nil {
		return volume.Attr{}, err
	}
	defer h.fs.leave()
	return h.fs.setattr(o, c, volume.CredOf(ctx))
}

// Allocate implements volume.File.
func (h *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	o, err := h.enter(ctx, "allocate", volume.Write)
	if err != nil {
		return err
	}
	defer h.fs.leave()
	if off < 0 || length <= 0 {
		return fail("allocate", h.id.String(), syscall.EINVAL)
	}
	if off > maxSize-length {
		return fail("allocate", h.id.String(), syscall.EFBIG)
	}
	if err := h.fs.allocate(o, mode, off, length); err != nil {
		return err
	}
	if by := volume.CredOf(ctx); by.UID != 0 {
		o.clearPriv(o.member(by))
	}
	o.touch(h.fs.now())
	return nil
}

// allocate is fallocate(2) on an object.
func (s *FS) allocate(o *object, mode uint32, off, length int64) error {
	end, id := off+length, o.id.String()
	aligned := off%pageSize == 0 && length%pageSize == 0
	switch mode {
	case 0, volume.AllocKeepSize, volume.AllocZeroRange, volume.AllocZeroRange | volume.AllocKeepSize:
		if err := s.reserve("allocate", o, off, length); err != nil {
			return err
		}
		if mode&volume.AllocZeroRange != 0 {
			s.resize(o, func(d *data) {
				d.zero(off, length)
				d.fill(off, length)
			})
		}
		if mode&volume.AllocKeepSize == 0 {
			o.data.size = max(o.data.size, end)
		}
	case volume.AllocPunchHole | volume.AllocKeepSize:
		s.resize(o, func(d *data) { d.zero(off, length) })
	case volume.AllocCollapseRange:
		if !aligned || end >= o.data.size {
			return fail("allocate", id, syscall.EINVAL)
		}
		s.resize(o, func(d *data) {
			d.zero(off, length)
			d.shift(off/pageSize, -length/pageSize)
		})
	case volume.AllocInsertRange:
		if !aligned || off >= o.data.size {
			return fail("allocate", id, syscall.EINVAL)
		}
		if o.data.size > maxSize-length {
			return fail("allocate", id, syscall.EFBIG)
		}
		s.resize(o, func(d *data) { d.shift(off/pageSize, length/pageSize) })
	default:
		return fail("allocate", id, syscall.EOPNOTSUPP)
	}
	return nil
}

// Seek implements volume.File.
func (h *file) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	o, err := h.enter(ctx, "seek", 0)
	if err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if whence != volume.SeekData && whence != volume.SeekHole {
		return 0, fail("seek", h.id.String(), syscall.EINVAL)
	}
	at, ok := o.data.seek(off, whence)
	if !ok {
		return 0, fail("seek", h.id.String(), syscall.ENXIO)
	}
	return at, nil
}

// Sync implements volume.File.
func (h *file) Sync(ctx context.Context, dataOnly bool) error {
	if _, err := h.enter(ctx, "fsync", 0); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	h.fs.durable()
	return nil
}

// Flush implements volume.File: nothing is delayed here.
func (h *file) Flush(ctx context.Context) error {
	if _, err := h.enter(ctx, "flush", 0); err != nil {
		return err
	}
	h.fs.mu.Unlock()
	return nil
}

// Close implements volume.File.
func (h *file) Close() error {
	o, err := h.enter(context.Background(), "close", 0)
	if err != nil {
		return err
	}
	defer h.fs.leave()
	h.done = true
	o.opens--
	if o.opens == 0 {
		o.orphan = false // whoever reopened it is done with it
	}
	h.fs.mu.reap(volume.Pointer{ID: h.id})
	return nil
}
