package volume

import (
	"context"
	"syscall"
)

// CopyMax is how much one CopyFrom copies at most, in bytes, so that it ends soon: who asks for more goes on
// from where it stopped.
const CopyMax = 16 << 20

// Copier is a File into which bytes of another can be copied where both lie. Not every File is one, see CopyFrom.
type Copier interface {
	// CopyFrom copies up to n bytes (1 … CopyMax) that src has at from to off: what ReadAt and WriteAt with these
	// flags would do, without the bytes coming here. It returns how many were copied, which may be fewer for any reason;
	// 0 only at src's end. With an error nothing of n counts: of [off, off+n) any byte may be new after those errors
	// after which a write may have happened. The bytes that are read are src's at one time or another during the call. Holes may
	// become zeros on the disk.
	//
	// EXDEV: src lies elsewhere; EOPNOTSUPP: nobody here can do it. After both nothing was changed, and the caller may read and
	// write. EBADF: src is not open for reading, or this File not for writing. EINVAL: the ranges are of one
	// file and overlap, or are none. Like WriteAt it may be repeated by the layer that sent it.
	CopyFrom(ctx context.Context, src File, from, off, n int64, f WriteFlags) (int64, error)
}

// CopyFrom has dst copy from src, if it is a Copier, and fails with EOPNOTSUPP if not.
func CopyFrom(ctx context.Context, dst, src File, from, off, n int64, f WriteFlags) (int64, error) {
	c, ok := dst.(Copier)
	if !ok {
		return 0, copyError(dst, syscall.EOPNOTSUPP)
	}
	return c.CopyFrom(ctx, src, from, off, n, f)
}

// CheckCopy says what is wrong with ranges of a CopyFrom, as every Copier must; same: they are of one file.
func CheckCopy(dst File, same bool, from, off, n int64) error {
	switch {
	case from < 0 || off < 0 || n <= 0 || n > CopyMax, same && from < off+n && off < from+n:
		return copyError(dst, syscall.EINVAL)
	case from+n < 0 || off+n < 0:
		return copyError(dst, syscall.EFBIG)
	}
	return nil
}

// Apart is how a CopyFrom fails whose src its layer does not know, or knows to lie elsewhere: EXDEV.
func Apart(dst File) error { return copyError(dst, syscall.EXDEV) }

func copyError(dst File, errno syscall.Errno) error {
	return &Error{Op: "copy", Where: dst.ID().String(), Errno: errno}
}
