package behind

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/mortarfs/mortar/volume"
)

// file is a File of the layer below whose writes may be delayed.
type file struct {
	o     *object
	flags volume.Flags
	under atomic.Pointer[volume.File] // the layer below's; nil: it is not open there, see unborn.go; set under o.mu

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
	h := &file{o: o, flags: flags}
	h.under.Store(&under)
	return h
}

// ID implements volume.File.
func (f *file) ID() volume.ID { return f.o.id }

// below returns the file of the layer below. What is not there yet is made and opened.
func (f *file) below(ctx context.Context) (volume.File, error) {
	if u := f.under.Load(); u != nil {
		return *u, nil
	}
	f.o.mu.Lock()
	defer f.o.mu.Unlock()
	_ = f.o.handLocked(0) // the file tells
	return f.belowLocked(ctx)
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

// atOnce are the flags of a file whose writes are never delayed.
const atOnce = volume.DataSync | volume.FullSync | volume.Direct

// delays reports whether a write may be delayed. Into what is unborn larger ones may go, for each spares a change of
// its own; and there are no privileges to clear.
func (f *file) delays(n int, at int64, flags volume.WriteFlags, unborn bool) bool {
	most := smallMax
	if unborn {
		most, flags = runMax, flags&^volume.WriteKillPriv
	}
	return n > 0 && n <= most && at >= 0 && at < offMax && flags == 0 && f.flags&volume.Write != 0 && f.flags&atOnce == 0 &&
		f.o.fs.delaying()
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
	u, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	n, err := u.WriteAt(ctx, p, at, flags)
	f.o.wrote(at, n, flags, err)
	return n, err
}

// WriteSet implements volume.File.
func (f *file) WriteSet(ctx context.Context, p []byte, at int64, flags volume.WriteFlags, c volume.Change) (int, error) {
	f.o.settle()
	if err := f.told(); err != nil {
		return 0, err
	}
	u, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	return u.WriteSet(ctx, p, at, flags, c)
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
	to, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	of, err := s.below(ctx)
	if err != nil {
		return 0, err
	}
	return volume.CopyFrom(ctx, to, of, from, off, n, flags)
}

// AppendLater implements volume.LateAppender.
func (f *file) AppendLater(ctx context.Context, p []byte, end int64, flags volume.WriteFlags, moved func(at int64)) error {
	done, err := f.later(ctx, p, end, flags, moved)
	if done || err != nil {
		return err
	}
	u, err := f.below(ctx)
	if err != nil {
		return err
	}
	f.o.forget()
	at, err := u.Append(ctx, p, flags)
	if err == nil && at != end {
		moved(at)
	}
	return err
}

// later delays a write, or hands the run on that it does not fit to; that may have failed before.
func (f *file) later(ctx context.Context, p []byte, at int64, flags volume.WriteFlags, moved func(int64)) (done bool, err error) {
	o := f.o
	if !o.some.Load() && !f.delays(len(p), at, flags, false) {
		return false, f.told()
	}
	cred := volume.CredOf(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	delays := o.lost == nil && f.delays(len(p), at, flags, o.plainLocked())
	if !delays || !o.fitsLocked(f, cred, len(p), at, moved != nil) {
		_ = o.handLocked(0)
		delays = delays && f.delays(len(p), at, flags, false) && o.lost == nil
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
	u, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	return u.Append(ctx, p, flags)
}

// ReadAt implements volume.File.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.o.hand()
	u, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	return u.ReadAt(ctx, p, off)
}

// Getattr implements volume.File.
func (f *file) Getattr(ctx context.Context) (volume.Attr, error) {
	if a, ok := f.o.foreseen(); ok {
		return a, nil
	}
	f.o.settle()
	if u := f.under.Load(); u != nil {
		return (*u).Getattr(ctx)
	}
	return f.o.fs.FS.Getattr(ctx, f.o.id) // it has a name, or can't be opened either
}

// Setattr implements volume.File.
func (f *file) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	f.o.settle()
	if u := f.under.Load(); u != nil {
		return (*u).Setattr(ctx, c)
	}
	return f.o.fs.FS.Setattr(ctx, f.o.id, c)
}

// Allocate implements volume.File.
func (f *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	f.o.settle()
	u, err := f.below(ctx)
	if err != nil {
		return err
	}
	return u.Allocate(ctx, mode, off, length)
}

// Seek implements volume.File.
func (f *file) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	f.o.settle()
	u, err := f.below(ctx)
	if err != nil {
		return 0, err
	}
	return u.Seek(ctx, off, whence)
}

// Sync implements volume.File. A run is made durable with the request that hands it on, and all
// that was written before with it.
func (f *file) Sync(ctx context.Context, dataOnly bool) error {
	synced, err := f.syncRun(dataOnly)
	if !synced {
		var u volume.File
		if u, err = f.below(ctx); err == nil {
			err = u.Sync(ctx, dataOnly)
		}
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
	if len(o.run.data) == 0 || o.run.birth != nil {
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
	var err error
	if u := f.under.Load(); u != nil {
		err = (*u).Flush(ctx)
	}
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
	u, err := f.below(ctx)
	if err != nil {
		return err
	}
	return u.Lock(ctx, l, wait)
}

// TestLock implements volume.File.
func (f *file) TestLock(ctx context.Context, l volume.Lock) (volume.Lock, error) {
	u, err := f.below(ctx)
	if err != nil {
		return volume.Lock{}, err
	}
	return u.TestLock(ctx, l)
}

// Close implements volume.File.
func (f *file) Close() error {
	o := f.o
	o.mu.Lock()
	if o.run.file == f {
		_ = o.handLocked(0)
	}
	o.forgetLocked()
	if o.latent == f {
		o.timer.Stop()
		o.openedLocked()
	}
	o.mu.Unlock()
	o.fs.release(o.id, o)
	var err error
	if u := f.under.Load(); u != nil {
		err = (*u).Close()
	}
	if e := f.told(); e != nil {
		return e
	}
	return err
}
