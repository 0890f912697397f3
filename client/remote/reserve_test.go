package remote_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// reserves has a client reserve a name for a new file, which it returns. On a busy machine the answer may be of no use any more when it
// comes: then again, when the name is free.
func (l *lockers) reserves(r *remote.Remote, name string, want syscall.Errno) volume.Node {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
		a, err := r.Reserve(l.ctx, volume.Root, name, n)
		if volume.ErrnoOf(err) == syscall.EAGAIN && time.Now().Before(end) {
			continue
		}
		if volume.ErrnoOf(err) != want || err == nil && a.ID != n.ID {
			l.t.Fatalf("reserve %s: %v, %v; want %v", name, a.ID, err, want)
		}
		return n
	}
}

// waits fails the test if something is over that has to wait.
func (l *lockers) waits(got <-chan error, what string) {
	l.t.Helper()
	select {
	case err := <-got:
		l.t.Fatalf("%s, and it did not wait: %v", what, err)
	case <-time.After(20 * time.Millisecond):
	}
}

func (l *lockers) makes(r *remote.Remote, name string, n volume.Node, want syscall.Errno) {
	l.t.Helper()
	if err := l.make(r, name, n); volume.ErrnoOf(err) != want {
		l.t.Fatalf("make %s: %v, want %v", name, err, want)
	}
}

// make makes a file, though a server may end just then.
func (l *lockers) make(r *remote.Remote, name string, n volume.Node) error {
	for {
		_, err := r.Make(l.ctx, volume.Root, name, n)
		if volume.ReasonOf(err) != volume.Unknown {
			return err
		}
		if a, err := r.Lookup(l.ctx, volume.Root, name); err == nil && a.ID == n.ID {
			return nil
		}
	}
}

// Whatever would tell that a reserved name's file is not there yet waits until it is.
func TestReservedNameIsThere(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	dir, err := l.other.Make(l.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		what string
		ask  func(name string) error
		want syscall.Errno
	}{
		{"lookup", func(name string) error { _, err := l.other.Lookup(l.ctx, volume.Root, name); return err }, 0},
		{"create", func(name string) error {
			f, _, err := l.other.Create(l.ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write|volume.Excl)
			if err == nil {
				f.Close()
			}
			return err
		}, syscall.EEXIST},
		{"make", func(name string) error {
			_, err := l.other.Make(l.ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o644})
			return err
		}, syscall.EEXIST},
		{"link", func(name string) error { _, err := l.other.Link(l.ctx, l.a.ID(), volume.Root, name); return err }, syscall.EEXIST},
		{"unlink", func(name string) error { return l.other.Unlink(l.ctx, volume.Root, name) }, 0},
		{"rename", func(name string) error { return l.other.Rename(l.ctx, volume.Root, name, dir.ID, name, 0) }, 0},
		{"reserve", func(name string) error {
			for {
				_, err := l.other.Reserve(l.ctx, volume.Root, name, volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644})
				if volume.ErrnoOf(err) != syscall.EAGAIN { // the Make has not been answered yet
					return err
				}
			}
		}, syscall.EEXIST},
		{"readdir", func(name string) error {
			all, _, err := l.other.ReadDir(l.ctx, volume.Root, volume.CookieStart, 1000, false)
			for _, e := range all {
				if e.Name == name {
					return err
				}
			}
			return syscall.ENOENT
		}, 0},
		{"getattr", func(string) error { _, err := l.other.Getattr(l.ctx, volume.Root); return err }, 0},
	} {
		name := fmt.Sprint(tt.what, i)
		n := l.reserves(l.remote, name, 0)
		got := make(chan error, 1)
		go func() { got <- tt.ask(name) }()
		l.waits(got, tt.what)
		l.makes(l.remote, name, n, 0)
		if err := <-got; volume.ErrnoOf(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
	if _, err := l.other.Lookup(l.ctx, volume.Root, "elsewhere"); volume.ErrnoOf(err) != syscall.ENOENT {
		t.Error(err)
	}
}

// A directory whose file is still to be made can't be removed.
func TestReservedNameKeepsDirectory(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	dir, err := l.remote.Make(l.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
	if _, err := l.remote.Reserve(l.ctx, dir.ID, "x", n); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- l.other.Rmdir(l.ctx, volume.Root, "dir") }()
	l.waits(got, "a name is reserved in it")
	if _, err := l.remote.Make(l.ctx, dir.ID, "x", n); err != nil {
		t.Fatal(err)
	}
	if err := <-got; volume.ErrnoOf(err) != syscall.ENOTEMPTY {
		t.Fatal(err)
	}
}

// What can't be reserved is told at once, and leaves nothing behind.
func TestReserveRefused(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	l.reserves(l.remote, "f", syscall.EEXIST)
	if _, err := l.remote.Reserve(l.ctx, l.a.ID(), "x", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG}); volume.ErrnoOf(err) != syscall.ENOTDIR {
		t.Error(err)
	}
	if _, err := l.remote.Reserve(l.ctx, volume.Root, "x", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFDIR}); volume.ErrnoOf(err) != syscall.EINVAL {
		t.Error(err)
	}
	dir, err := l.remote.Make(l.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	acl := append([]byte{2, 0, 0, 0}, volume.MinimalACL(0o750)[4:]...)
	if err := l.remote.Setxattr(l.ctx, dir.ID, volume.ACLDefault, acl, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.remote.Reserve(l.ctx, dir.ID, "x", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG}); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("in a directory with a default ACL: %v", err)
	}
	l.makes(l.other, "x", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG}, 0)
}

// A reservation ends by itself. The file can still be made if nobody else has taken the name.
func TestReservationEnds(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	free, taken := l.reserves(l.remote, "free", 0), l.reserves(l.remote, "taken", 0)
	begin := time.Now()
	l.makes(l.other, "taken", volume.Node{Mode: syscall.S_IFREG | 0o600}, 0)
	if waited := time.Since(begin); waited < volume.ReserveTime/2 || waited > 20*volume.ReserveTime {
		t.Errorf("the name was free after %v", waited)
	}
	l.makes(l.remote, "taken", taken, syscall.EEXIST)
	l.makes(l.remote, "free", free, 0)
}

// The next server holds names back for who had reserved some, and for no longer than that matters.
func TestReservedNameOutlivesServer(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	n := l.reserves(l.remote, "x", 0)
	l.aProxy.refuse.Store(true)
	l.aProxy.cut()
	l.again()
	got := make(chan error, 1)
	go func() { got <- l.make(l.other, "x", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o600}) }()
	select {
	case err := <-got:
		t.Fatalf("another client was not held back: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.aProxy.refuse.Store(false)
	begin := time.Now()
	l.makes(l.remote, "x", n, 0)
	if err := <-got; volume.ErrnoOf(err) != syscall.EEXIST {
		t.Fatalf("another client: %v", err)
	}
	t.Logf("both were answered after %v", time.Since(begin))

	n = l.reserves(l.remote, "y", 0)
	l.aProxy.refuse.Store(true)
	l.aProxy.cut()
	l.again()
	l.makes(l.other, "y", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o600}, 0) // it did not come back in time
	l.aProxy.refuse.Store(false)
	l.makes(l.remote, "y", n, syscall.EEXIST)
	l.reserves(l.remote, "z", 0)
}

// A session that ends is taken out of the record.
func TestReserverIsForgotten(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 100*time.Millisecond)
	l.reserves(l.other, "x", 0)
	if l.rec.len() != 1 {
		t.Errorf("the record has %d sessions, want 1", l.rec.len())
	}
	if err := l.other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session has left the record", func() bool { return l.rec.len() == 0 })
	l.makes(l.remote, "x", volume.Node{Mode: syscall.S_IFREG | 0o600}, 0)

	l.reserves(l.remote, "y", 0)
	l.aProxy.refuse.Store(true)
	l.aProxy.cut()
	l.again() // nobody comes back
	eventually(t, "who did not come back has left the record", func() bool { return l.rec.len() == 0 })
}

// restarts puts a new server in the old one's place again and again, each when both clients have heard of the one before, until stop.
func (l *lockers) restarts(seed uint64) (stop func()) {
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 99))
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rng.IntN(150)) * time.Millisecond):
				l.again()
			}
			for _, r := range []*remote.Remote{l.remote, l.other} {
				for l.ctx.Err() == nil {
					if _, err := r.Lookup(l.ctx, volume.Root, "f"); err == nil { // nothing is held back any more
						break
					}
				}
			}
		}
	})
	return func() { close(over); done.Wait() }
}

// Of clients that race for a name one gets it, be it reserved or made at once, whatever happens to the server.
func TestReservedNamesHaveOneWinner(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	const rounds = 150
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	clients := []*remote.Remote{l.remote, l.other}
	stop := l.restarts(seed)
	var reserved atomic.Int32
	for round := range rounds {
		name := fmt.Sprint("n", round)
		var winners atomic.Int32
		var all sync.WaitGroup
		for i, r := range clients {
			for k := range 2 {
				rng := rand.New(rand.NewPCG(seed, uint64(round*10+i*2+k)))
				all.Go(func() {
					if l.race(r, name, rng, &reserved) {
						winners.Add(1)
					}
				})
			}
		}
		all.Wait()
		if w := winners.Load(); w != 1 {
			t.Fatalf("%s: %d have got it", name, w)
		}
	}
	stop()
	t.Logf("%d of %d names were reserved", reserved.Load(), rounds)
	if reserved.Load() < rounds/20 {
		t.Error("too few to tell anything")
	}
}

// race tries to get a name. It has won as soon as it is told that the name is reserved.
func (l *lockers) race(r *remote.Remote, name string, rng *rand.Rand, reserved *atomic.Int32) bool {
	<-time.After(time.Duration(rng.IntN(1000)) * time.Microsecond)
	n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
	if rng.IntN(3) > 0 {
		begin := time.Now()
		if _, err := r.Reserve(l.ctx, volume.Root, name, n); err == nil {
			reserved.Add(1)
			<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
			err := l.make(r, name, n)
			if time.Since(begin) > volume.ReserveTime { // a busy machine: it may be another's
				return err == nil
			}
			if a, e := r.Lookup(l.ctx, volume.Root, name); e != nil || a.ID != n.ID {
				l.t.Errorf("%s was reserved and could not be made: %v; %v, %v", name, err, a.ID, e)
			}
			return true
		}
	}
	err := l.make(r, name, n)
	if volume.ErrnoOf(err) == syscall.EEXIST { // be it, as a name that was made before the answer was lost
		a, e := r.Lookup(l.ctx, volume.Root, name)
		if e == nil && a.ID == n.ID {
			err = nil
		}
	}
	if err != nil && volume.ErrnoOf(err) != syscall.EEXIST {
		l.t.Errorf("make %s: %v", name, err)
	}
	return err == nil
}

// A file that is made under a reserved name stays for its maker, who opens it a little later, though somebody else removes it at once.
func TestBornStaysForItsMaker(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	for round := range 20 {
		name := fmt.Sprint("x", round)
		n := l.reserves(l.remote, name, 0)
		gone := make(chan error, 1)
		go func() { gone <- l.other.Unlink(l.ctx, volume.Root, name) }()
		l.makes(l.remote, name, n, 0)
		if err := <-gone; err != nil {
			t.Fatal(err)
		}
		f, err := l.remote.Open(l.ctx, n.ID, volume.Read|volume.Write)
		if err != nil {
			t.Fatalf("it is gone: %v", err)
		}
		if _, err := f.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}

// Nothing is kept open of what its maker removes himself.
func TestBornIsNotHeldFromItsMaker(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	n := l.reserves(l.remote, "x", 0)
	l.makes(l.remote, "x", n, 0)
	if err := l.remote.Unlink(l.ctx, volume.Root, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.remote.Open(l.ctx, n.ID, volume.Read); volume.ErrnoOf(err) != syscall.ESTALE {
		t.Errorf("it is open still: %v", err)
	}
}
