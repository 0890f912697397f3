package remote_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// record is a server.Lockers that outlives servers.
type record struct {
	mu  sync.Mutex
	ids map[[16]byte]bool
}

func (r *record) Lockers() ([][16]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.ids)), nil
}

func (r *record) AddLocker(_ context.Context, id [16]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[id] = true
	return nil
}

func (r *record) RemoveLocker(_ context.Context, id [16]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ids, id)
	return nil
}

func (r *record) len() int {
	ids, _ := r.Lockers()
	return len(ids)
}

func exclusive(owner uint64, start, end int64) volume.Lock {
	return volume.Lock{Owner: volume.LockOwner{Number: owner}, Type: volume.ExclusiveLock, Start: start, End: end}
}

func unlocked(l volume.Lock) volume.Lock {
	l.Type = volume.Unlocked
	return l
}

// lockers is a world with a record, and a second client that is never cut off by the proxy.
type lockers struct {
	*world
	t       *testing.T
	conf    func(*server.Config)
	rec     *record
	other   *remote.Remote
	a, b    volume.File // the same file, opened by either client
	aProxy  *proxy
	bTarget *proxy
}

func newLockers(t *testing.T, grace time.Duration) *lockers {
	l := &lockers{world: &world{backend: newBackend()}, t: t, rec: &record{ids: map[[16]byte]bool{}}}
	l.conf = func(c *server.Config) { c.Lockers, c.Grace = l.rec, grace }
	var addr string
	l.server, addr = serve(t, l.backend, l.conf)
	l.proxy, l.bTarget = newProxy(t, addr), newProxy(t, addr)
	l.aProxy = l.proxy
	l.remote, l.other = connect(t, l.proxy.addr(), nil), connect(t, l.bTarget.addr(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l.ctx = ctx
	l.a = l.create(t, "f")
	var err error
	if l.b, err = l.other.Open(ctx, l.a.ID(), volume.Read|volume.Write); err != nil {
		t.Fatal(err)
	}
	return l
}

// again puts a new server in the place of the old one, for both clients.
func (l *lockers) again() {
	l.restart(l.t, l.conf)
	l.bTarget.target.Store(l.proxy.target.Load())
}

func (l *lockers) lock(f volume.File, lk volume.Lock, want syscall.Errno) {
	l.t.Helper()
	if err := f.Lock(l.ctx, lk, false); volume.ErrnoOf(err) != want {
		l.t.Fatalf("lock %v … %v: %v, want %v", lk.Start, lk.End, err, want)
	}
}

// Locks hold over restarts of the server, and it gives out none before all who had any are back.
func TestLocksOutliveServer(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	l.lock(l.a, exclusive(1, 0, 9), 0)
	l.lock(l.a, unlocked(exclusive(1, 5, 9)), 0)
	l.lock(l.b, exclusive(1, 5, 5), 0)
	for range 3 {
		l.aProxy.refuse.Store(true)
		l.aProxy.cut()
		l.again()
		got := make(chan error, 1)
		go func() { got <- l.b.Lock(l.ctx, exclusive(2, 7, 7), false) }()
		select {
		case err := <-got:
			t.Fatalf("a lock was given out though another client's are not known yet: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		l.aProxy.refuse.Store(false)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		l.lock(l.b, exclusive(2, 4, 4), syscall.EAGAIN)
		l.lock(l.a, exclusive(1, 5, 5), syscall.EAGAIN)
		l.lock(l.b, unlocked(exclusive(2, 7, 7)), 0)
	}
	if _, err := l.a.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
		t.Error(err)
	}
}

// A client that was away for longer than the grace has lost its locks: it hears so
// when it is back, be it from the same server or from the third after it.
func TestLocksLost(t *testing.T) {
	t.Parallel()
	for _, restarts := range []int{0, 1, 2} {
		l := newLockers(t, 300*time.Millisecond)
		l.lock(l.a, exclusive(1, 0, 9), 0)
		l.lock(l.b, exclusive(1, 20, 20), 0)
		untouched := l.create(t, "g")
		l.aProxy.refuse.Store(true)
		l.aProxy.cut()
		for i := range 2 {
			if i < restarts {
				l.again()
			}
			if err := l.b.Lock(l.ctx, exclusive(1, 0, 9), true); err != nil { // once a's client has had its time
				t.Fatal(err)
			}
			if _, err := l.b.WriteAt(l.ctx, []byte("b's"), 0, 0); err != nil {
				t.Fatal(err)
			}
			l.lock(l.b, unlocked(exclusive(1, 0, 9)), 0)
		}
		l.aProxy.refuse.Store(false)
		if _, err := l.a.WriteAt(l.ctx, []byte("a's"), 0, 0); volume.ErrnoOf(err) != syscall.EIO {
			t.Errorf("after %d restarts: a write under a lock that was lost: %v", restarts, err)
		}
		if err := l.a.Lock(l.ctx, unlocked(exclusive(1, 0, 9)), false); volume.ErrnoOf(err) != syscall.EIO {
			t.Errorf("unlocking what was lost: %v", err)
		}
		if _, err := untouched.WriteAt(l.ctx, []byte("a's"), 0, 0); err != nil {
			t.Errorf("of another file: %v", err)
		}
		again, err := l.remote.Open(l.ctx, l.a.ID(), volume.Read|volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		l.lock(again, exclusive(1, 0, 9), 0)
		if n := l.rec.len(); n != 2 {
			t.Errorf("%d clients are recorded", n)
		}
	}
}

// A client that says bye leaves no locks, and no trace in the record.
func TestLocksGoWithClient(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	l.lock(l.a, exclusive(1, 0, 9), 0)
	got := make(chan error, 1)
	go func() { got <- l.b.Lock(l.ctx, exclusive(1, 0, 9), true) }()
	eventually(t, "it waits", func() bool { return l.rec.len() == 2 })
	if err := l.remote.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not recorded any more", func() bool { return l.rec.len() == 1 })
}

// However many wait, what they wait for can be unlocked, and all else goes on; and
// a restart of the server in between costs none his place.
func TestManyWaiters(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	l.lock(l.b, exclusive(1, 0, 0), 0)
	const n = 400
	var all sync.WaitGroup
	inside, turns := 0, 0
	var mu sync.Mutex
	for i := range n {
		all.Go(func() {
			own := exclusive(uint64(10+i), 0, 0)
			if err := l.a.Lock(l.ctx, own, true); err != nil {
				t.Errorf("waiting: %v", err)
				return
			}
			mu.Lock()
			inside, turns = inside+1, turns+1
			if inside != 1 {
				t.Errorf("%d have the lock", inside)
			}
			inside--
			mu.Unlock()
			if err := l.a.Lock(l.ctx, unlocked(own), false); err != nil {
				t.Errorf("unlocking: %v", err)
			}
		})
	}
	if _, err := l.a.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
		t.Error(err)
	}
	l.again()
	if _, err := l.a.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
		t.Error(err)
	}
	l.lock(l.b, unlocked(exclusive(1, 0, 0)), 0)
	if all.Wait(); turns != n {
		t.Errorf("%d of %d", turns, n)
	}
}

// A lock that was asked for while the connection broke is there or is not, as was told.
func TestLocksOverCuts(t *testing.T) {
	t.Parallel()
	l := newLockers(t, 30*time.Second)
	stop := make(chan struct{})
	var cuts sync.WaitGroup
	cuts.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(15 * time.Millisecond):
				l.aProxy.cut()
			}
		}
	})
	for range 60 {
		own := exclusive(1, 0, 0)
		ctx, cancel := context.WithTimeout(l.ctx, 5*time.Millisecond)
		err := l.a.Lock(ctx, own, true)
		cancel()
		want := syscall.EAGAIN
		if volume.ErrnoOf(err) == syscall.EINTR || volume.ErrnoOf(err) == syscall.ETIMEDOUT {
			want = 0
		} else if err != nil {
			t.Fatal(err)
		}
		l.lock(l.b, own, want)
		l.lock(l.b, unlocked(own), 0)
		l.lock(l.a, unlocked(own), 0)
	}
	close(stop)
	cuts.Wait()
}
