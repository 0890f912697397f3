package remote_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// away cuts client a off, for longer than its calls wait, while do is done.
func (l *lockers) away(do func()) {
	l.t.Helper()
	l.aProxy.refuse.Store(true)
	l.aProxy.cut()
	l.remote.SetTimeout(200 * time.Millisecond)
	eventually(l.t, "it is away", func() bool { return !l.remote.Up() })
	do()
	l.remote.SetTimeout(30 * time.Second)
	l.aProxy.refuse.Store(false)
	eventually(l.t, "it is back", l.remote.Up)
}

// gives has a client give up all that an owner has, in vain.
func (l *lockers) givesInVain(f volume.File, owner uint64) {
	l.t.Helper()
	if err := f.Lock(l.ctx, unlocked(exclusive(owner, 0, volume.LockEnd)), false); volume.ErrnoOf(err) != syscall.EIO {
		l.t.Fatalf("unlocking while the brick is away: %v", err)
	}
}

// What a process's end was to give up while its client was cut off, for less than the grace, is given up when
// it is back, though nobody is there to ask again.
func TestGivenUpWhileAway(t *testing.T) {
	t.Parallel()
	l := newLockers(t, time.Hour)
	l.lock(l.a, exclusive(1, 0, 9), 0)
	l.lock(l.a, exclusive(2, 20, 29), 0)
	l.away(func() {
		l.givesInVain(l.a, 1)
		if err := l.a.Close(); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
	defer cancel()
	if err := l.b.Lock(ctx, exclusive(1, 0, 9), true); err != nil {
		t.Errorf("what was given up: %v", err)
	}
	l.lock(l.b, exclusive(1, 20, 29), syscall.EAGAIN)
	eventually(t, "the file is closed at the brick", func() bool {
		clients := l.server.Clients()
		n := 0
		for _, c := range clients {
			n += c.Files
		}
		return n == 1
	})
}

// An owner that is to have nothing any more, and wants something again, keeps what it then gets; also if the session
// begins anew meanwhile.
func TestWantsAgain(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]bool{"the same server": false, "a new one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLockers(t, time.Hour)
			l.lock(l.a, exclusive(1, 0, 9), 0)
			got := make(chan error, 1)
			l.away(func() {
				l.givesInVain(l.a, 1)
				l.remote.SetTimeout(30 * time.Second)
				go func() { got <- l.a.Lock(l.ctx, exclusive(1, 0, 9), true) }()
				if restarts {
					l.again()
				}
			})
			if err := <-got; err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing is owed", func() bool { return remote.Debts(l.remote) == 0 })
			l.lock(l.b, exclusive(1, 5, 5), syscall.EAGAIN)
			l.lock(l.a, unlocked(exclusive(1, 0, 9)), 0)
			l.lock(l.b, exclusive(1, 5, 5), 0)
		})
	}
}

// A brick that has no locks says so, in words that tell what to do.
func TestOlderBrick(t *testing.T) {
	t.Parallel()
	l := newLockers(t, time.Hour)
	l.remote.SpeaksVersion(3)
	for _, wait := range []bool{false, true} {
		err := l.a.Lock(l.ctx, exclusive(1, 0, 9), wait)
		if want := "the brick's program is older than locks between mounts: it speaks protocol 3, locks need 4; update it"; volume.ErrnoOf(err) != syscall.EOPNOTSUPP ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := l.a.TestLock(l.ctx, exclusive(1, 0, 9)); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Error(err)
	}
	if _, err := l.a.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
		t.Error(err)
	}
}
