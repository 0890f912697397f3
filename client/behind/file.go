package behind

import (
	"context"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// file is a File of the layer below whose writes may be delayed.
type file struct {
	volume.File
	o     *object
	flags volume.Flags

	mu struct {
		sync.Mutex
		err error // of a run that was lost, not told yet
	}
}

func (f *FS) open(under volume.File, flags volume.Flags) *file {
	o, first := f.object(under.ID())
	if !first {
		o.shared.Store(true)
		o.forget()
	}
	return &file{File: under, o: o, flags: flags}
}

// note keeps the first error of a run until it is told.
func (f *file) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.err == nil {
		f.mu.err = err
	}
}

// told returns what is to be told, once.
func (f *file) told() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.mu.err
	f.mu.err = nil
	return err
}

// delays reports whether a write may be delayed.
func (f *file) delays(n int, at int64, flags volume.WriteFlags) bool {
	const at1 = volume.DataSync | volume.FullSync | volume.Direct
	fs := f.o.fs
	return n > 0 && n <= smallMax && at >= 0 && at < offMax && flags == 0 && f.flags&volume.Write != 0 && f.flags&at1 == 0 &&
		!fs.off.Load() && fs.kept.Load() < keptMax && fs.tight.Load() < time.Now().UnixNano()
}

// WriteAt implements volume.File.
func (f *file) WriteAt(ctx context.Context, p []byte, at int64, flags volume.WriteFlags) (int, error) {
	done, err := f.later(ctx, p, at, flags, nil)
	switch {
	case err != nil:
		return 0, err
	case done:
		return len(p), nil
	}
	n, err := f.File.WriteAt(ctx, p, at, flags)
	f.o.wrote(at, n, flags, err)
	return n, err
}

// WriteSet implements volume.File.
func (f *file) WriteSet(ctx context.Context, p []byte, at int64, flags volume.WriteFlags, c volume.Change) (int, error) {
	f.o.settle()
	if err := f.told(); err != nil {
		return 0, err
	}
	return f.File.WriteSet(ctx, p, at, flags, c)
}

// CopyFrom implements volume.Copier: what either file's writes have left here goes first.
func (f *file) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*file)
	if !ok || s.o.fs != f.o.fs {
		return 0, volume.Apart(f)
	}
	s.o.hand()
	f.o.settle()
	if err := f.told(); err != nil {
		return 0, err
	}
	return volume.CopyFrom(ctx, f.File, s.File, from, off, n, flags)
}

// AppendLater implements volume.LateAppender.
func (f *file) AppendLater(ctx context.Context, p []byte, end int64, flags volume.WriteFlags, moved func(at int64)) error {
	done, err := f.later(ctx, p, end, flags, moved)
	if done || err != nil {
		return err
	}
	f.o.forget()
	at, err := f.File.Append(ctx, p, flags)
	if err == nil && at != end {
		moved(at)
	}
	return err
}

// later delays a write, or hands the run on that it does not fit to; that may have failed before.
func (f *file) later(ctx context.Context, p []byte, at int64, flags volume.WriteFlags, moved func(int64)) (done bool, err error) {
	o, delays := f.o, f.delays(len(p), at, flags)
	if !delays && !o.some.Load() {
		return false, f.told()
	}
	cred := volume.CredOf(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !delays || !o.fitsLocked(f, cred, len(p), at, moved != nil) {
		_ = o.handLocked(0)
	}
	if err := f.told(); err != nil {
		return false, err
	}
	if delays {
		o.delayLocked(f, cred, p, at, moved)
	}
	return delays, nil
}

// Append implements volume.File.
func (f *file) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	f.o.settle()
	if err := f.told(); err != nil {
		return 0, err
	}
	return f.File.Append(ctx, p, flags)
}

// ReadAt implements volume.File.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.o.hand()
	return f.File.ReadAt(ctx, p, off)
}

// Getattr implements volume.File.
func (f *file) Getattr(ctx context.Context) (volume.Attr, error) {
	f.o.settle()
	return f.File.Getattr(ctx)
}

// Setattr implements volume.File.
func (f *file) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	f.o.settle()
	return f.File.Setattr(ctx, c)
}

// Allocate implements volume.File.
func (f *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	f.o.settle()
	return f.File.Allocate(ctx, mode, off, length)
}

// Seek implements volume.File.
func (f *file) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	f.o.settle()
	return f.File.Seek(ctx, off, whence)
}

// Sync implements volume.File. A run is made durable with the request that hands it on, and all
// that was written before with it.
func (f *file) Sync(ctx context.Context, dataOnly bool) error {
	synced, err := f.syncRun(dataOnly)
	if !synced {
		err = f.File.Sync(ctx, dataOnly)
	}
	if e := f.told(); e != nil {
		return e
	}
	return err
}

// syncRun hands the run on and makes it durable. False: there was none of this file's.
func (f *file) syncRun(dataOnly bool) (bool, error) {
	o := f.o
	if !o.some.Load() {
		return false, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.run.file != f {
		_ = o.handLocked(0)
		return false, nil
	}
	if len(o.run.data) == 0 {
		_ = o.handLocked(0) // the file tells
		return false, nil
	}
	flags := volume.WriteFullSync
	if dataOnly {
		flags = volume.WriteDataSync
	}
	return true, o.handLocked(flags)
}

// Flush implements volume.File.
func (f *file) Flush(ctx context.Context) error {
	f.o.hand()
	err := f.File.Flush(ctx)
	if e := f.told(); e != nil {
		return e
	}
	return err
}

// Lock implements volume.File. Data follow locks: what is delayed is on the bricks before a lock is given up or
// loses its exclusiveness, so that who gets it next reads it, and before one is got, so that nothing which was
// written before goes to the bricks in somebody else's turn. A run that is lost then is the business of the File through which it
// was written, as ever: an unlocking must not fail because of it, or nobody would get the lock.
func (f *file) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	f.o.settle()
	return f.File.Lock(ctx, l, wait)
}

// Close implements volume.File.
func (f *file) Close() error {
	o := f.o
	o.mu.Lock()
	if o.run.file == f {
		_ = o.handLocked(0)
	}
	o.forgetLocked()
	o.mu.Unlock()
	f.o.fs.release(f.File.ID(), o)
	return f.File.Close()
}
