package fuse

import (
	"errors"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// copyMax bounds what one COPY_FILE_RANGE copies, in bytes, so that it stays
// interruptible; callers go on from where it stopped.
const copyMax = 64 << 20

// CopyFileRange has the bricks copy, where both files lie on one set. Elsewhere it reads and writes here: in pieces
// of a megabyte and without the bytes entering the kernel; if it were refused, the kernel would
// send them through a pipe of 64 KiB.
func (f *front) CopyFileRange(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	from, to := f.files.get(in.FhIn), f.files.get(in.FhOut)
	if from == nil || to == nil {
		return 0, gofuse.EBADF
	}
	if in.Flags != 0 {
		return 0, gofuse.EINVAL
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	p := copying{from: from.file, to: to.file, at: int64(in.OffIn), off: int64(in.OffOut), left: int64(min(in.Len, copyMax))}
	if in.Uid != 0 {
		p.flags = volume.WriteKillPriv // the kernel says nothing of it here
		c.join(to.node)
	}
	defer f.touch(to.node)
	done, here := int64(0), false
	for p.left > 0 {
		n, err := int64(0), c.Err()
		switch {
		case err != nil:
		case here:
			n, err = f.copyHere(c, &p)
		default:
			n, err = volume.CopyFrom(c, p.to, p.from, p.at, p.off, min(p.left, volume.CopyMax), p.flags)
			if here = elsewhere(err); here {
				continue
			}
		}
		if err != nil && done == 0 && n == 0 {
			return 0, f.fail("copy_file_range", err)
		}
		done += n
		if err != nil || n == 0 {
			break
		}
		p.at, p.off, p.left = p.at+n, p.off+n, p.left-n
	}
	return uint32(done), gofuse.OK
}

// copying is what is left of a copy.
type copying struct {
	from, to volume.File
	at       int64 // in from
	off      int64 // in to
	left     int64
	flags    volume.WriteFlags
}

// elsewhere reports whether the bricks can't copy and have changed nothing.
func elsewhere(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EOPNOTSUPP)
}

// copyHere copies a piece by reading and writing. What was written before a failure counts.
func (f *front) copyHere(c *call, p *copying) (int64, error) {
	buf := f.copies.Get().(*[volume.IOMax]byte)
	defer f.copies.Put(buf)
	n, err := p.from.ReadAt(c, buf[:min(p.left, volume.IOMax)], p.at)
	if err != nil || n == 0 {
		return 0, err
	}
	n, err = p.to.WriteAt(c, buf[:n], p.off, p.flags)
	return int64(max(n, 0)), err
}
