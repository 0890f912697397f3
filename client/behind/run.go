package behind

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// object is what all Files of an object share.
type object struct {
	fs   *FS
	refs int         // guarded by FS.mu
	some atomic.Bool // there is a run; changed under mu

	mu    sync.Mutex
	run   run         // guarded by mu
	timer *time.Timer // of late; guarded by mu
}

// run are bytes that follow each other and are not handed on. No file: there is none.
type run struct {
	file  *file
	cred  volume.Cred // of the one who wrote first
	at    int64       // where they belong; of an append: where the file is believed to end
	data  []byte
	moved func(at int64) // of an append, else nil: called with where it went, if that is elsewhere
}

// end is where the next bytes of a run belong.
func (r *run) end() int64 { return r.at + int64(len(r.data)) }

// settle hands the run on, if there is one.
func (o *object) settle() {
	if !o.some.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.handLocked(0) // the file tells
}

// handLocked hands the run on. It does not end with who asks for it, for who wrote has his answer.
func (o *object) handLocked(flags volume.WriteFlags) error {
	r := o.run
	if r.file == nil {
		return nil
	}
	o.timer.Stop()
	ctx := volume.WithCred(context.Background(), r.cred)
	var err error
	if r.moved == nil {
		_, err = r.file.File.WriteAt(ctx, r.data, r.at, flags)
	} else {
		var at int64
		if at, err = r.file.File.Append(ctx, r.data, flags); err == nil && at != r.at {
			r.moved(at)
		}
	}
	if err != nil {
		r.file.note(err)
		o.fs.tight.Store(time.Now().Add(tightAfter).UnixNano())
	}
	o.run = run{data: r.data[:0]}
	o.some.Store(false)
	o.fs.runs.Add(-1)
	o.fs.kept.Add(-int64(len(r.data)))
	if cap(r.data) > smallMax {
		o.run.data = nil
	}
	return err
}

// delayLocked adds bytes to the run, which must fit, or begins one.
func (o *object) delayLocked(f *file, cred volume.Cred, p []byte, at int64, moved func(int64)) {
	if o.run.file == nil {
		o.run.file, o.run.cred, o.run.at, o.run.moved = f, cred, at, moved
		o.some.Store(true)
		o.fs.runs.Add(1)
		if o.timer == nil {
			o.timer = time.AfterFunc(Delay, o.settle)
		} else {
			o.timer.Reset(Delay)
		}
	}
	o.run.data = append(o.run.data, p...)
	o.fs.kept.Add(int64(len(p)))
}

// fitsLocked reports whether a write continues the run.
func (o *object) fitsLocked(f *file, cred volume.Cred, n int, at int64, appends bool) bool {
	r := &o.run
	return r.file == nil || r.file == f && r.cred == cred && r.end() == at && (r.moved != nil) == appends && len(r.data)+n <= runMax
}
