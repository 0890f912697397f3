package fuse

import (
	"context"
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
// # Numbers that are used again
//
// The number of an open file description is its address in the kernel, which is the next one's as soon as the last
// close has put the RELEASE in the queue. So a lock may be asked for through one handle while the unlocking for another one of the
// same number is still to come: that would take the new lock away, in silence. It is therefore waited for, in the same way, before
// any lock of an owner that has, or had, some through another handle of the file, of which
// a descriptor was closed. (Mostly that is so; if not, it is a process that has locked through both, and another one has closed a copy.)
// Should the RELEASE come later than that patience, it leaves alone what it can't tell from the new one's.
//
// Flocks that wait need no more than that. Nor can it be had between mounts: a RELEASE's unlocking
// arrives when it arrives, some time after the process has ended.

const (
	flockPatience   = 2 * time.Second        // with a RELEASE that may be on its way
	blindPatience   = 100 * time.Millisecond // likewise, without a census
	releasePatience = 10 * time.Second       // with those that are, one after the other
	quietMin        = 500 * time.Microsecond // between two looks at whether the mount is quiet, at first …
	quietMax        = 20 * time.Millisecond  // … and at last
)

// tryFlock is a flock that does not wait, except for who is just going.
func (f *front) tryFlock(ctx context.Context, o *openFile, l volume.Lock) error {
	end := time.Now().Add(releasePatience)
	for {
		v := o.node.grants.look(o, flocks)
		err := o.file.Lock(ctx, l, false)
		if volume.ErrnoOf(err) != syscall.EAGAIN || !f.gives(ctx, o, flocks, v.gone, end) {
			return err
		}
	}
}

// inherit waits until what another handle has under an owner's number is given up, if it is going to be. That
// one was closed, then, and its number is another's by now.
func (f *front) inherit(ctx context.Context, o *openFile, k lockKey) {
	end := time.Now().Add(releasePatience)
	for {
		v := o.node.grants.look(o, ofOwner(k))
		if !v.near && !v.going || !f.gives(ctx, o, ofOwner(k), v.gone, end) {
			return
		}
	}
}

// gives waits as long as a handle other than o may be about to give the chosen up, at most until end. It reports
// whether any has given up what it had, since as many had as gone says.
func (f *front) gives(ctx context.Context, o *openFile, chosen func(*grant) bool, gone uint64, end time.Time) bool {
	begin, pause := time.Now(), quietMin
	for {
		v := o.node.grants.look(o, chosen)
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
			if quiet && o.node.grants.held(o, chosen, &v) {
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
