package brick

import (
	"context"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var _ volume.Copier = (*file)(nil)

// copyStep is how many bytes are copied at a time: between two it is seen whether anybody still waits.
const copyStep = 4 << 20

// CopyFrom copies within the brick. The kernel shares the blocks where the file system can (XFS, Btrfs), and else
// moves pages without their coming here.
func (h *file) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, f volume.WriteFlags) (int64, error) {
	const op = "copy"
	s, ok := src.(*file)
	if !ok || s.s != h.s {
		return 0, volume.Apart(h)
	}
	if err := volume.CheckCopy(h, s.o == h.o, from, off, n); err != nil {
		return 0, err
	}
	for _, fd := range []int{s.rd, h.wr} {
		if err := h.check(ctx, op, fd, 0, 0); err != nil {
			return 0, err
		}
	}
	done, err := h.copyFrom(ctx, op, s, from, off, n, f)
	if err != nil {
		return 0, err
	}
	return done, h.synced(ctx, f, nil)
}

func (h *file) copyFrom(ctx context.Context, op string, src *file, from, off, n int64, f volume.WriteFlags) (int64, error) {
	h.o.size.RLock()
	defer h.o.size.RUnlock()
	if f&volume.WriteKillPriv != 0 {
		if end, err := h.s.sys.Seek(src.rd, 0, unix.SEEK_END); err == nil && end <= from {
			return 0, nil // nothing will be written
		}
		if err := h.killPriv(ctx, op); err != nil {
			return 0, err
		}
	}
	end, err := h.s.alter(op, h.o.id)
	if err != nil {
		return 0, err
	}
	defer end()
	done, err := h.copySteps(ctx, src, from, off, n)
	if done == 0 && apart(err) {
		done, err = h.copyBytes(ctx, op, src, from, off, n)
	}
	h.s.stamp(fixedOf(ctx), h.o.id, h.wr)
	if done == 0 && err != nil {
		return 0, h.fail(op, err)
	}
	if from, length, now := h.o.stream.wrote(off, done); now {
		_ = h.s.sys.SyncFileRange(h.wr, from, length) // a hint, see write
	}
	if flags := h.syncFlags(); flags != 0 && done > 0 {
		return done, h.s.syncFD(op, h.o.id, h.wr, flags == unix.RWF_DSYNC)
	}
	return done, nil
}

// apart reports whether the kernel refuses to copy between two files that can be read and written.
func apart(err error) bool {
	return err == unix.EXDEV || err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL
}

// copySteps has the kernel copy. An error tells why it stopped.
func (h *file) copySteps(ctx context.Context, src *file, from, off, n int64) (done int64, err error) {
	for done < n && (done == 0 || ctx.Err() == nil) {
		m, err := h.s.sys.CopyRange(src.rd, from+done, h.wr, off+done, min(n-done, copyStep))
		if err != nil || m == 0 {
			return done, err
		}
		done += m
	}
	return done, nil
}

// copyBytes reads and writes, at most volume.IOMax bytes.
func (h *file) copyBytes(ctx context.Context, op string, src *file, from, off, n int64) (int64, error) {
	p := make([]byte, min(n, volume.IOMax))
	m, err := src.ReadAt(ctx, p, from)
	if err != nil {
		return 0, err
	}
	m, err = h.write(op, p[:m], off, 0)
	if m > 0 {
		err = nil // the next one tells
	}
	return int64(m), err
}
