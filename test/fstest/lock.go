package fstest

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// posix returns a lock of an owner on the bytes start … end.
func posix(owner uint64, typ volume.LockType, start, end int64) volume.Lock {
	return volume.Lock{Owner: volume.LockOwner{Number: owner}, Type: typ, Start: start, End: end, PID: uint32(owner)}
}

// flock returns a lock on a whole file.
func flock(owner uint64, typ volume.LockType) volume.Lock {
	return volume.Lock{Owner: volume.LockOwner{Number: owner}, Flock: true, Type: typ, End: volume.LockEnd}
}

const (
	un = volume.Unlocked
	sh = volume.SharedLock
	ex = volume.ExclusiveLock
)

// locked opens a new file, and gives up all locks of owners 1 to 3 in the end.
func (e *env) locked() volume.File {
	f := e.open(e.file(e.dir, "f", "content"), volume.Read|volume.Write)
	e.Cleanup(func() {
		for owner := uint64(1); owner <= 3; owner++ {
			for _, l := range []volume.Lock{posix(owner, un, 0, volume.LockEnd), flock(owner, un)} {
				if err := f.Lock(context.Background(), l, false); err != nil && volume.ErrnoOf(err) != syscall.EBADF {
					e.Errorf("unlock: %v", err)
				}
			}
		}
	})
	return f
}

// set sets a lock, and expects an errno, 0 for success.
func (e *env) set(f volume.File, l volume.Lock, want syscall.Errno) {
	e.Helper()
	if err := f.Lock(e.ctx, l, false); volume.ErrnoOf(err) != want {
		e.Fatalf("lock %+v: %v, want %v", l, err, want)
	}
}

// waiting returns when somebody has waited for a lock for a while, and fails if he gets it.
func (e *env) waiting(done <-chan error) {
	e.Helper()
	select {
	case err := <-done:
		e.Fatalf("it did not wait: %v", err)
	case <-time.After(30 * time.Millisecond): // it has time to go wrong
	}
}

// wait waits for a lock in a goroutine of its own.
func (e *env) wait(ctx context.Context, f volume.File, l volume.Lock) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f.Lock(ctx, l, true) }()
	return done
}

var lockTests = []test{
	{"ranges", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 10, 19), 0)
		e.set(f, posix(2, sh, 15, 15), syscall.EAGAIN)
		e.set(f, posix(2, ex, 0, volume.LockEnd), syscall.EAGAIN)
		e.set(f, posix(2, ex, 0, 9), 0)
		e.set(f, posix(2, ex, 20, volume.LockEnd), 0)
		e.set(f, posix(1, un, 12, 14), 0)
		e.set(f, posix(2, sh, 12, 14), 0)
		e.set(f, posix(2, sh, 11, 14), syscall.EAGAIN)
		e.set(f, posix(1, sh, 15, 19), 0)
		e.set(f, posix(2, sh, 15, 19), 0)
		e.set(f, posix(1, ex, 15, 19), syscall.EAGAIN)
		e.set(f, posix(3, sh, 15, 19), 0)
	}},
	{"what fails changes nothing", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 0, 9), 0)
		e.set(f, posix(2, ex, 20, 29), 0)
		e.set(f, posix(1, sh, 0, 25), syscall.EAGAIN)
		e.set(f, posix(3, sh, 5, 5), syscall.EAGAIN)
		e.set(f, posix(3, sh, 10, 10), 0)
	}},
	{"test", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 10, 19), 0)
		e.set(f, posix(1, sh, 30, 39), 0)
		for _, c := range []struct {
			ask, want volume.Lock
		}{
			{posix(2, sh, 0, 12), posix(1, ex, 10, 19)},
			{posix(2, ex, 20, volume.LockEnd), posix(1, sh, 30, 39)},
			{posix(2, sh, 20, volume.LockEnd), posix(2, un, 20, volume.LockEnd)},
			{posix(1, ex, 0, volume.LockEnd), posix(1, un, 0, volume.LockEnd)},
		} {
			got, err := f.TestLock(e.ctx, c.ask)
			if e.ok(err); got.Type != c.want.Type || got.Type != un && (got.Start != c.want.Start || got.End != c.want.End || got.PID != c.want.PID) {
				e.Errorf("%+v: %+v, want %+v", c.ask, got, c.want)
			}
		}
	}},
	{"flock and fcntl are apart", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 0, volume.LockEnd), 0)
		e.set(f, flock(2, sh), 0)
		e.set(f, flock(3, sh), 0)
		e.set(f, flock(3, ex), syscall.EAGAIN) // and the shared one is gone with that
		e.set(f, flock(2, ex), 0)
		e.set(f, flock(3, sh), syscall.EAGAIN)
		e.set(f, flock(2, sh), 0)
		e.set(f, flock(3, sh), 0)
	}},
	{"an impossible lock", func(e *env) {
		f := e.locked()
		for _, l := range []volume.Lock{posix(1, ex, 5, 4), posix(1, ex, -1, 4), posix(1, 3, 0, 0)} {
			e.set(f, l, syscall.EINVAL)
		}
	}},
	{"locks are the object's, not the handle's", func(e *env) {
		f := e.locked()
		g, err := e.fs.Open(e.ctx, f.ID(), volume.Read)
		e.ok(err)
		e.set(g, posix(1, ex, 0, 0), 0)
		e.ok(g.Close())
		e.set(f, posix(2, ex, 0, 0), syscall.EAGAIN)
		e.set(f, posix(1, un, 0, 0), 0)
		e.set(f, posix(2, ex, 0, 0), 0)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		e.set(f, posix(1, ex, 0, 0), syscall.EAGAIN)
	}},
	{"waiting in order", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 0, 9), 0)
		second := e.wait(e.ctx, f, posix(2, ex, 5, 5))
		e.waiting(second)
		third := e.wait(e.ctx, f, posix(3, ex, 5, 5))
		e.waiting(third)
		e.set(f, posix(1, un, 0, 4), 0)
		e.waiting(second)
		e.set(f, posix(1, un, 5, 9), 0)
		e.ok(<-second)
		e.waiting(third)
		e.set(f, posix(2, un, 5, 5), 0)
		e.ok(<-third)
	}},
	{"a wait that is given up", func(e *env) {
		f := e.locked()
		e.set(f, posix(1, ex, 0, 9), 0)
		e.set(f, posix(2, sh, 20, 20), 0)
		ctx, cancel := context.WithCancel(e.ctx)
		done := e.wait(ctx, f, posix(2, ex, 0, 20))
		e.waiting(done)
		cancel()
		if err := <-done; volume.ErrnoOf(err) != syscall.EINTR {
			e.Fatalf("%v", err)
		}
		e.set(f, posix(1, un, 0, 9), 0)
		e.set(f, posix(3, ex, 0, 9), 0)   // 2 waits no more
		e.set(f, posix(3, sh, 20, 20), 0) // and has what it had
		e.set(f, posix(3, ex, 20, 20), syscall.EAGAIN)
	}},
	{"deadlock", func(e *env) { // on one file, for two may be on two sets
		f := e.locked()
		e.set(f, posix(1, ex, 0, 0), 0)
		e.set(f, posix(2, ex, 1, 1), 0)
		done := e.wait(e.ctx, f, posix(1, sh, 1, 1))
		e.waiting(done)
		if err := <-e.wait(e.ctx, f, posix(2, sh, 0, 9)); volume.ErrnoOf(err) != syscall.EDEADLK {
			e.Fatalf("%v", err)
		}
		e.set(f, posix(2, un, 1, 1), 0)
		e.ok(<-done)
	}},
}
