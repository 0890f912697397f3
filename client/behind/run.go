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
	fs    *FS
	id    volume.ID
	refs  int         // guarded by FS.mu
	some  atomic.Bool // there is a run; changed under mu
	known atomic.Bool // attr is known; changed under mu

	shared atomic.Bool // it was opened more than once: attr is not known any more
	unborn atomic.Bool // run.birth is set; changed under mu
	place  place       // where it is made, if it was unborn; set before it is found by anyone

	mu    sync.Mutex
	run   run         // guarded by mu
	timer *time.Timer // of tick; guarded by mu
	maker *file       // through which the object was made, and all was written, if known; guarded by mu
	attr  volume.Attr // what its attributes will be with the run handed on, if known; guarded by mu

	latent *file // through which it was made, and that is not open below; guarded by mu
	lost   error // why it could not be made; guarded by mu
}

// run are bytes that follow each other and are not handed on, and a change of attributes that follows
// them. No file: there is none.
type run struct {
	file  *file
	cred  volume.Cred // of the one who wrote first
	at    int64       // where they belong; of an append: where the file is believed to end
	data  []byte
	moved func(at int64) // of an append, else nil: called with where it went, if that is elsewhere
	then  volume.Change
	birth *birth // what has this in it is not made yet; nil: it is
}

// end is where the next bytes of a run belong.
func (r *run) end() int64 { return r.at + int64(len(r.data)) }

// hand hands the run on, if there is one, for who merely wants it to be with the servers.
func (o *object) hand() {
	if !o.some.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.handLocked(0) // the file tells
}

// settle hands the run on for who depends on it, or changes the object otherwise than through a write.
func (o *object) settle() {
	if !o.some.Load() && !o.known.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.handLocked(0) // the file tells
	o.forgetLocked()
}

// told notes that somebody is told the object's attributes as the servers have them, and reports whether there is a run.
func (o *object) told() bool {
	o.forget()
	return o.some.Load()
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
	if r.birth != nil {
		err = o.bearLocked(ctx, &r)
	} else {
		err = o.writeLocked(ctx, &r, flags)
	}
	if err != nil {
		o.forgetLocked()
		r.file.note(err)
		o.fs.tight.Store(time.Now().Add(tightAfter).UnixNano())
	}
	o.fs.noteHanded(o.id)
	o.run = run{data: r.data[:0]}
	o.some.Store(false)
	o.fs.runs.Add(-1)
	o.fs.kept.Add(-int64(len(r.data)))
	if cap(r.data) > smallMax {
		o.run.data = nil
	}
	return err
}

// writeLocked writes what a run consists of, and makes its change.
func (o *object) writeLocked(ctx context.Context, r *run, flags volume.WriteFlags) error {
	u, err := r.file.belowLocked(ctx)
	switch {
	case err != nil:
	case r.moved != nil:
		var at int64
		if at, err = u.Append(ctx, r.data, flags); err == nil && at != r.at {
			o.forgetLocked()
			r.moved(at)
		}
	case r.then.Mask == 0:
		_, err = u.WriteAt(ctx, r.data, r.at, flags)
	case len(r.data) == 0:
		_, err = u.Setattr(ctx, r.then)
	default:
		_, err = u.WriteSet(ctx, r.data, r.at, flags, r.then)
	}
	return err
}

// delayLocked adds bytes to the run, which must fit, or begins one.
func (o *object) delayLocked(f *file, cred volume.Cred, p []byte, at int64, moved func(int64)) {
	if o.run.file == nil {
		o.run.moved = moved
		o.beginLocked(f, cred, at)
	}
	went := o.run.end()
	o.run.data = append(o.run.data, p...)
	o.fs.kept.Add(int64(len(p)))
	o.wroteLocked(o.run.end())
	if o.run.birth != nil && moved != nil && went != at {
		moved(went)
	}
}

// beginLocked begins a run.
func (o *object) beginLocked(f *file, cred volume.Cred, at int64) {
	o.run.file, o.run.cred, o.run.at = f, cred, at
	o.some.Store(true)
	o.fs.runs.Add(1)
	if o.timer == nil {
		o.timer = time.AfterFunc(Delay, o.tick)
	} else {
		o.timer.Reset(Delay)
	}
}

// fitsLocked reports whether a write continues the run.
func (o *object) fitsLocked(f *file, cred volume.Cred, n int, at int64, appends bool) bool {
	r := &o.run
	if r.birth != nil { // who writes makes no difference, nor what comes first but for the mtime; and the end is here
		return r.file == f && (appends || r.end() == at) && len(r.data)+n <= runMax && r.then.Mask&volume.SetMtime == 0
	}
	return r.file == nil || r.file == f && r.cred == cred && r.end() == at && (r.moved != nil) == appends && len(r.data)+n <= runMax &&
		r.then.Mask == 0
}
