package set

import (
	"context"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Copier = (*file)(nil)

// copies are the buffers of copies that are under way.
var copies = sync.Pool{New: func() any { return new([volume.IOMax]byte) }}

// CopyFrom implements volume.Copier: what this member reads is written on all members, as one write of at most
// volume.IOMax bytes. So all have the same, and a copy is logged, healed and decided after a failure as a write is. (If
// each member copied by itself none would send data, but a takeover could not tell by a sum of them whether a
// copy was made, and the members' room could differ by what their disks share.)
//
// Both ranges are held from the reading to the end of the writing: nobody sees the one without the other.
func (f *file) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*file)
	if !ok || s.r != f.r {
		return 0, volume.Apart(f)
	}
	if err := volume.CheckCopy(f, s.id == f.id, from, off, n); err != nil {
		return 0, err
	}
	n = min(n, volume.IOMax)
	if err := f.check("copy", off, int(n)); err != nil {
		return 0, err
	}
	if s.flags&volume.Read == 0 {
		return 0, &volume.Error{Op: "copy", Where: s.id.String(), Errno: syscall.EBADF}
	}
	at := contentsOf(f.id, off, n, false)
	if flags&volume.WriteKillPriv != 0 {
		at = whole(f.id, false) // it changes the mode
	}
	spans := order([]span{contentsOf(s.id, from, n, true), at})
	if err := f.lock(ctx, "copy", spans...); err != nil {
		return 0, err
	}
	defer f.r.s.locks.unlock(spans...)
	buf := copies.Get().(*[volume.IOMax]byte)
	defer copies.Put(buf)
	m, err := s.local.ReadAt(ctx, buf[:n], from)
	if err == nil && m == 0 {
		err = f.r.lease(ctx, "copy") // an answer like a read's
	}
	if err != nil || m == 0 {
		return 0, err
	}
	written := 0
	c := f.write(buf[:m], off, flags)
	if err := f.r.change(ctx, c, f.writeHere(c, &written)); err != nil {
		return 0, err
	}
	return int64(written), nil
}
