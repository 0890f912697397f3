package remote

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// file is an open file at the brick.
type file struct {
	r      *Remote
	id     volume.ID
	handle uint64
	flags  volume.Flags // for opening it again

	// Guarded by Remote.mu:
	err    error // why it could not be opened again
	broken error // its locks were lost, and it fails until it is closed
	debts  int   // of owners whose locks on it are still to be given up (debt.go)
	closed bool  // the brick is told when none is left

	dirty atomic.Bool // writes were acknowledged since the last Sync began
	lost  atomic.Bool // such writes may be gone: the next Sync says so
	first atomic.Pointer[first]

	reads  atomic.Uint32         // that were asked for
	wanted atomic.Pointer[hatch] // where the file was asked for
	loan   atomic.Pointer[loan]  // by which it is read; nil: by requests. Stored under Remote.mu
}

// ID is volume.File's.
func (f *file) ID() volume.ID { return f.id }

// call returns a new call on the file.
func (f *file) call(ctx context.Context, op wire.Op) *call {
	c := f.r.newCall(ctx, op)
	c.file = f
	return c
}

func checkIO(op wire.Op, p []byte) error {
	if len(p) > volume.IOMax {
		return volume.Errorf(op.String(), "", syscall.EINVAL, "%d bytes at once", len(p))
	}
	return nil
}

// ReadAt is volume.File's.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := checkIO(wire.OpRead, p); err != nil {
		return 0, err
	}
	if n, ok := f.readFirst(p, off); ok {
		return n, nil
	}
	if n, ok := f.readBorrowed(p, off); ok {
		return n, nil
	}
	c := f.call(ctx, wire.OpRead)
	defer free(c)
	c.frame = (&wire.ReadArgs{Handle: f.handle, Off: off, Len: uint32(len(p))}).Append(c.frame)
	c.in = p
	if _, err := f.r.do(ctx, c); err != nil {
		return 0, err
	}
	f.readAsked()
	return c.n, nil
}

// WriteAt is volume.File's.
func (f *file) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	return f.put(ctx, &write{op: wire.OpWrite, data: p, off: off, flags: flags})
}

// Append is volume.File's.
func (f *file) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	return f.send(ctx, &write{op: wire.OpAppend, data: p, flags: flags})
}

// WriteSet is volume.File's.
func (f *file) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, c volume.Change) (int, error) {
	if f.r.speaks(wire.WriteSetSince) {
		return f.put(ctx, &write{op: wire.OpWriteSet, data: p, off: off, flags: flags, set: c})
	}
	if c.Mask&volume.SetSize != 0 {
		return 0, &volume.Error{Op: wire.OpWriteSet.String(), Where: f.id.String(), Errno: syscall.EINVAL}
	}
	n, err := f.WriteAt(ctx, p, off, flags&^volume.WriteSynced)
	if err == nil {
		_, err = f.Setattr(ctx, c)
	}
	if err == nil && flags&volume.WriteSynced != 0 {
		err = f.Sync(ctx, flags&volume.WriteFullSync == 0)
	}
	return n, err
}

// write is a request that carries data.
type write struct {
	op    wire.Op
	data  []byte
	off   int64
	flags volume.WriteFlags
	set   volume.Change // of OpWriteSet
}

// put sends a write of which the brick answers how much it has written.
func (f *file) put(ctx context.Context, w *write) (int, error) {
	n, err := f.send(ctx, w)
	if all := int64(len(w.data)); n < 0 || n > all || err == nil && n != all {
		return 0, f.r.malformed(w.op)
	}
	return int(n), err
}

// send sends a write and returns the number that the brick answers. If the brick does not know of
// volume.WriteSynced, it is asked to sync afterwards.
func (f *file) send(ctx context.Context, w *write) (n int64, err error) {
	if err := checkIO(w.op, w.data); err != nil {
		return 0, err
	}
	if w.flags&volume.WriteSynced == 0 {
		f.dirty.Store(true)
		return f.exchange(ctx, w)
	}
	if f.r.speaks(3) {
		err = f.synced(true, func() error {
			n, err = f.exchange(ctx, w)
			return err
		})
		return n, err
	}
	f.dirty.Store(true)
	plain := *w
	plain.flags &^= volume.WriteSynced
	if n, err = f.exchange(ctx, &plain); err == nil {
		err = f.Sync(ctx, w.flags&volume.WriteFullSync == 0)
	}
	return n, err
}

// speaks reports whether the brick speaks a version of the protocol.
func (r *Remote) speaks(version uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.version >= version
}

func (f *file) exchange(ctx context.Context, w *write) (int64, error) {
	c := f.call(ctx, w.op)
	defer free(c)
	args := wire.WriteArgs{Handle: f.handle, Off: w.off, Flags: w.flags}
	switch w.op {
	case wire.OpWrite:
		c.changes(f.id, w.off, w.off+int64(len(w.data)))
		c.frame = args.Append(c.frame)
	case wire.OpWriteSet:
		c.changes(f.id, 0, 0)
		c.frame = (&wire.WriteSetArgs{WriteArgs: args, Change: w.set}).Append(c.frame)
	default:
		c.frame = args.Append(c.frame)
	}
	c.syncs = w.flags&volume.WriteSynced != 0
	c.out = w.data
	rd, err := f.r.do(ctx, c)
	if err != nil && rd.Len() == 0 {
		return 0, err
	}
	n := rd.I64()
	if !rd.Done() {
		return 0, f.r.malformed(w.op)
	}
	return n, err
}

// Getattr is volume.File's.
func (f *file) Getattr(ctx context.Context) (volume.Attr, error) {
	c := f.call(ctx, wire.OpFileGetattr)
	c.frame = (&wire.HandleArgs{Handle: f.handle}).Append(c.frame)
	return f.r.attr(ctx, c)
}

// Setattr is volume.File's.
func (f *file) Setattr(ctx context.Context, change volume.Change) (volume.Attr, error) {
	f.dirty.Store(true)
	change, err := f.r.understood(ctx, f.id, change)
	if err != nil {
		return volume.Attr{}, err
	}
	c := f.call(ctx, wire.OpFileSetattr)
	c.changes(f.id, 0, 0)
	c.frame = (&wire.FileSetattrArgs{Handle: f.handle, Change: change}).Append(c.frame)
	return f.r.attr(ctx, c)
}

// Allocate is volume.File's.
func (f *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	f.dirty.Store(true)
	c := f.call(ctx, wire.OpAllocate)
	c.repeatable = mode&(volume.AllocCollapseRange|volume.AllocInsertRange) == 0
	c.changes(f.id, 0, 0)
	c.frame = (&wire.AllocateArgs{Handle: f.handle, Mode: mode, Off: off, Len: length}).Append(c.frame)
	return f.r.nothing(ctx, c)
}

// Seek is volume.File's.
func (f *file) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	c := f.call(ctx, wire.OpSeek)
	defer free(c)
	c.frame = (&wire.SeekArgs{Handle: f.handle, Off: off, Whence: uint32(whence)}).Append(c.frame)
	rd, err := f.r.do(ctx, c)
	if err != nil {
		return 0, err
	}
	at := rd.I64()
	if !rd.Done() {
		return 0, f.r.malformed(c.op)
	}
	return at, nil
}

// Sync is volume.File's.
func (f *file) Sync(ctx context.Context, dataOnly bool) error {
	return f.synced(false, func() error {
		c := f.call(ctx, wire.OpFileSync)
		c.frame = (&wire.FileSyncArgs{Handle: f.handle, DataOnly: dataOnly}).Append(c.frame)
		return f.r.nothing(ctx, c)
	})
}

// synced has do make durable what was written, and reports it if some of that was lost before. If
// do writes, too, it may have done so though it fails.
func (f *file) synced(writes bool, do func() error) error {
	dirty := f.dirty.Swap(false)
	err := do()
	if err != nil && (dirty || writes) {
		f.dirty.Store(true)
	}
	if f.lost.Swap(false) {
		return volume.Errorf("fsync", f.id.String(), syscall.EIO,
			"the machine of %s was rebooted: writes since the last sync may be gone", f.r.where)
	}
	return err
}

// Flush is volume.File's. Nothing is delayed here, so it asks the brick only if that delays.
func (f *file) Flush(ctx context.Context) error {
	f.r.mu.Lock()
	l, err := f.r.mu.link, f.failureLocked()
	f.r.mu.Unlock()
	if err != nil || l != nil && !l.wantFlush {
		return err
	}
	c := f.call(ctx, wire.OpFlush)
	c.frame = (&wire.HandleArgs{Handle: f.handle}).Append(c.frame)
	return f.r.nothing(ctx, c)
}

// failureLocked returns why all that is asked of the file fails, nil if it does not.
func (f *file) failureLocked() error {
	if f.broken != nil {
		return f.broken
	}
	return f.err
}

// Close is volume.File's: the brick is told with the next request, or a moment later.
func (f *file) Close() error {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.giveBack(f.loan.Load()) // before the brick hears of it
	f.closed = true
	f.forgetLocked()
	return nil
}

// forgetLocked has the brick close a file that nobody needs any more.
func (f *file) forgetLocked() {
	if f.closed && f.debts == 0 {
		delete(f.r.mu.files, f.handle)
		f.r.mu.closes = append(f.r.mu.closes, f.handle)
	}
}
