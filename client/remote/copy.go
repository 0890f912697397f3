package remote

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

var _ volume.Copier = (*file)(nil)

// CopyFrom is volume.Copier's: the brick copies, if both files are its and it can.
func (f *file) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*file)
	if !ok || s.r != f.r {
		return 0, volume.Apart(f)
	}
	if err := volume.CheckCopy(f, s.id == f.id, from, off, n); err != nil {
		return 0, err
	}
	if !f.r.speaks(wire.CopySince) {
		return 0, &volume.Error{Op: wire.OpCopy.String(), Where: f.id.String(), Errno: syscall.EOPNOTSUPP}
	}
	if flags&volume.WriteSynced == 0 {
		f.dirty.Store(true)
		return f.copyFrom(ctx, s, from, off, n, flags)
	}
	var done int64
	err := f.synced(true, func() (err error) {
		done, err = f.copyFrom(ctx, s, from, off, n, flags)
		return err
	})
	return done, err
}

func (f *file) copyFrom(ctx context.Context, src *file, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	c := f.call(ctx, wire.OpCopy)
	defer free(c)
	c.changes(f.id, off, off+n)
	c.syncs = flags&volume.WriteSynced != 0
	c.frame = (&wire.CopyArgs{Handle: f.handle, Source: src.handle, From: from, Off: off, Len: n, Flags: flags}).Append(c.frame)
	rd, err := f.r.do(ctx, c)
	if err != nil {
		return 0, err
	}
	done := rd.I64()
	if !rd.Done() || done < 0 || done > n {
		return 0, f.r.malformed(c.op)
	}
	return done, nil
}
