package remote_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
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

func newLockers(t *testing.T, grace time.Duration) *lockers { return newLockersOver(t, grace, nil) }

// newLockersOver is newLockers; the client a dials with dial, if that is not nil.
func newLockersOver(t *testing.T, grace time.Duration, dial func(context.Context, string) (net.Conn, error)) *lockers {
	l := &lockers{world: &world{backend: newBackend()}, t: t, rec: &record{ids: map[[16]byte]bool{}}}
	l.conf = func(c *server.Config) { c.Lockers, c.Grace = func() server.Lockers { return l.rec }, grace }
	var addr string
	l.server, addr = serve(t, l.backend, l.conf)
	l.proxy, l.bTarget = newProxy(t, addr), newProxy(t, addr)
	l.aProxy = l.proxy
	patient := func(c *remote.Config) { c.Timeout = 30 * time.Second }
	l.remote = connect(t, l.proxy.addr(), func(c *remote.Config) { patient(c); c.Dial = dial })
	l.other = connect(t, l.bTarget.addr(), patient)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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

// isRequest reports whether a message on a lane begins with a request for an operation.
func isRequest(b []byte, op wire.Op) bool {
	return len(b) >= wire.FrameHeader && b[4] == byte(wire.Request) && b[5] == byte(op)
}

// cutReply is a connection that breaks where the reply to a Reclaim would be read, so that
// the server has executed it and the client does not know; as often as left says.
type cutReply struct {
	net.Conn
	left *atomic.Int64
	cut  atomic.Bool
}

func (c *cutReply) Write(b []byte) (int, error) {
	if isRequest(b, wire.OpReclaim) && c.left.Add(-1) >= 0 {
		c.cut.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutReply) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() && err == nil {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// A declaration whose answer is lost is made again, and nobody gets the locks in between.
func TestDeclaredTwice(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	l := newLockersOver(t, 30*time.Second, func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		return &cutReply{Conn: c, left: &left}, err
	})
	l.lock(l.a, exclusive(1, 0, 9), 0)
	l.lock(l.b, exclusive(1, 20, 20), 0)
	for range 3 {
		left.Store(2)
		l.again()
		got := make(chan error, 1)
		go func() { got <- l.b.Lock(l.ctx, exclusive(1, 5, 5), false) }()
		if err := <-got; volume.ErrnoOf(err) != syscall.EAGAIN {
			t.Fatalf("what is locked by another client: %v", err)
		}
		eventually(t, "all answers are lost", func() bool { return left.Load() < 0 })
		l.lock(l.b, exclusive(1, 5, 5), syscall.EAGAIN)
		l.lock(l.a, exclusive(1, 10, 10), 0)
		l.lock(l.a, unlocked(exclusive(1, 10, 10)), 0)
		l.lock(l.b, exclusive(1, 10, 10), 0)
		l.lock(l.b, unlocked(exclusive(1, 10, 10)), 0)
	}
	if _, err := l.a.WriteAt(l.ctx, []byte("x"), 0, 0); err != nil {
		t.Error(err)
	}
	l.lock(l.a, unlocked(exclusive(1, 0, 9)), 0)
	l.lock(l.b, exclusive(1, 5, 5), 0)
	if n := l.rec.len(); n != 2 {
		t.Errorf("%d clients are recorded", n)
	}
}

// slowReply is a connection that hands over the reply to a Lock only when it is let go, even
// if it was closed meanwhile, as one does whose reader was not scheduled.
type slowReply struct {
	net.Conn
	on      *atomic.Bool
	read    chan<- struct{} // gets a value when the reply is there
	release <-chan struct{}
	slow    atomic.Bool
}

func (c *slowReply) Write(b []byte) (int, error) {
	c.slow.Store(isRequest(b, wire.OpLock) && c.on.CompareAndSwap(true, false))
	return c.Conn.Write(b)
}

func (c *slowReply) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.slow.Load() {
		c.read <- struct{}{}
		<-c.release
	}
	return n, err
}

// What was granted by a server that is gone, and is heard of after this client has told the next
// one what it holds, is not held.
func TestGrantHeardLate(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	read, release := make(chan struct{}, 1), make(chan struct{})
	l := newLockersOver(t, 30*time.Second, func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		return &slowReply{Conn: c, on: &on, read: read, release: release}, err
	})
	l.lock(l.a, exclusive(1, 0, 0), 0) // it is a locker
	on.Store(true)
	got := make(chan error, 1)
	go func() { got <- l.a.Lock(l.ctx, exclusive(1, 5, 5), false) }()
	<-read
	l.again()
	l.lock(l.b, exclusive(1, 5, 5), 0) // once a has declared the other one
	close(release)
	if err := <-got; volume.ErrnoOf(err) != syscall.EAGAIN {
		t.Errorf("both have it: %v", err)
	}
	l.lock(l.b, exclusive(1, 0, 0), syscall.EAGAIN)
}

// A client that was away for longer than the grace has lost its locks: it hears so
// when it is back, be it from the same server or from the third after it.
func TestLocksLost(t *testing.T) {
	t.Parallel()
	for _, restarts := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(restarts, " restarts"), func(t *testing.T) {
			t.Parallel()
			locksLost(t, restarts)
		})
	}
}

func locksLost(t *testing.T, restarts int) {
	l := newLockers(t, 2*time.Second) // in which b's client is back on any machine
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
	eventually(t, "back", l.remote.Up)
	if _, err := l.a.WriteAt(l.ctx, []byte("a's"), 0, 0); volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("a write under a lock that was lost: %v", err)
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
	l.again() // where it is opened anew without any trouble
	l.lock(again, exclusive(1, 0, 5), 0)
	if _, err := l.a.WriteAt(l.ctx, []byte("a's"), 0, 0); volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("a write after one more restart: %v", err)
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
	const n = 150 // more than are polled for at a time
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
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		var cuts sync.WaitGroup
		at := []time.Duration{time.Duration(rng.Int64N(int64(10 * time.Millisecond))), time.Duration(rng.Int64N(int64(50 * time.Millisecond)))}
		cuts.Go(func() {
			for _, d := range at { // no more, for a call has its time to end
				<-time.After(d)
				l.aProxy.cut()
			}
		})
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
		cuts.Wait()
	}
}
