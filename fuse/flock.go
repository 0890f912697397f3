package fuse

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// A flock is free when the last descriptor of its open file is closed, be it by the end
// of its process; and who has seen that end expects to get the lock at once. But the kernel tells by
// RELEASE, for which nobody waits: it is in the kernel's queue before the process is seen to have ended, and can still be
// overtaken by the next request for the lock, which another thread takes from there.
//
// FLUSH is waited for by each close. So if a lock is refused that is asked for without waiting, and
// a handle of this mount that has one on the file has seen a FLUSH since it got it, its RELEASE may be near:
// the refusal is held back until that has been carried out. Was it the close of a copy (dup, fork), the
// lock is still held, and the refusal is true as soon as all that the kernel has asked has begun (census) and
// no such RELEASE is among it. On a mount that is never so quiet, or of whose kernel
// that can't be learned, it is believed after flockPatience, or blindPatience.
//
// A handle that the kernel sends no FLUSH for (see handle) may always be near its RELEASE. Since FLUSH is asked for from
// the first lock of a file on, these are mostly first ones.
//
// Requests that wait need none of this. Nor can it be had between mounts: a RELEASE's unlocking
// arrives when it arrives, some time after the process has ended.

const (
	flockPatience   = 2 * time.Second        // with a RELEASE that may be on its way
	blindPatience   = 100 * time.Millisecond // likewise, without a census
	releasePatience = 10 * time.Second       // with those that are, one after the other
	quietMin        = 500 * time.Microsecond // between two looks at whether the mount is quiet, at first …
	quietMax        = 20 * time.Millisecond  // … and at last
)

// flocks are the handles that have flocks on a file.
type flocks struct {
	mu struct {
		sync.Mutex
		by      map[*openFile]*flockHold
		gone    uint64        // counts what was given up
		changed chan struct{} // closed, and replaced, when one begins or ends to be given up; nil: nobody waits
	}
}

// flockHold is a handle's flock.
type flockHold struct {
	near  bool // it may be closed by now: a descriptor was closed since it got its lock, or closes are not told
	going bool // it is being given up
}

// flockView is how others' flocks on a file stand.
type flockView struct {
	near, going bool // as of any of them
	gone        uint64
	changed     <-chan struct{}
}

// took notes that a handle got a lock.
func (k *flocks) took(o *openFile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.by == nil {
		k.mu.by = map[*openFile]*flockHold{}
	}
	k.mu.by[o] = &flockHold{near: o.mute}
}

// flushed notes that a descriptor of a handle was closed.
func (k *flocks) flushed(o *openFile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.mu.by[o]; h != nil {
		h.near = true
	}
}

// gives notes that a handle's lock is being given up; what is returned is to be called
// when that is over.
func (k *flocks) gives(o *openFile) (over func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.mu.by[o]
	if h == nil || h.going {
		return func() {}
	}
	h.going = true
	k.broadcastLocked()
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.mu.by[o] == h {
			delete(k.mu.by, o)
		}
		k.mu.gone++
		k.broadcastLocked()
	}
}

func (k *flocks) broadcastLocked() {
	if k.mu.changed != nil {
		close(k.mu.changed)
		k.mu.changed = nil
	}
}

// look returns how the flocks of handles other than o stand.
func (k *flocks) look(o *openFile) flockView {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.changed == nil {
		k.mu.changed = make(chan struct{})
	}
	v := flockView{gone: k.mu.gone, changed: k.mu.changed}
	for other, h := range k.mu.by {
		if other != o {
			v.near, v.going = v.near || h.near, v.going || h.going
		}
	}
	return v
}

// tryFlock is a flock that does not wait, except for who is just going.
func (f *front) tryFlock(ctx context.Context, o *openFile, l volume.Lock) error {
	end := time.Now().Add(releasePatience)
	for {
		v := o.node.flocks.look(o)
		err := o.file.Lock(ctx, l, false)
		if volume.ErrnoOf(err) != syscall.EAGAIN || !f.gives(ctx, o, v.gone, end) {
			return err
		}
	}
}

// gives waits as long as a handle other than o may be about to give its flock up, at most until end. It reports
// whether any has, since as many had as gone says.
func (f *front) gives(ctx context.Context, o *openFile, gone uint64, end time.Time) bool {
	begin, pause := time.Now(), quietMin
	for {
		v := o.node.flocks.look(o)
		until := end
		switch {
		case v.gone != gone:
			return time.Now().Before(end)
		case v.going:
			pause = releasePatience // the end of that wakes
		case !v.near:
			return false
		default:
			quiet, known := f.census.quiet()
			if now := o.node.flocks.look(o); quiet && now.gone == gone && !now.going {
				return false
			}
			patience := flockPatience
			if !known {
				patience, pause = blindPatience, blindPatience
			}
			if t := begin.Add(patience); t.Before(until) {
				until = t
			}
		}
		wait := time.Until(until)
		if wait <= 0 {
			return false
		}
		timer := time.NewTimer(min(wait, pause))
		select {
		case <-v.changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		timer.Stop()
		pause = min(2*pause, quietMax)
	}
}
