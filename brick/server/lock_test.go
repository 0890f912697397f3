package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// record is a Lockers in memory.
type record struct {
	mu  sync.Mutex
	ids [][16]byte
}

func (r *record) Lockers() ([][16]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids), nil
}

func (r *record) AddLocker(_ context.Context, id [16]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.ids, id) {
		r.ids = append(r.ids, id)
	}
	return nil
}

func (r *record) RemoveLocker(_ context.Context, id [16]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = slices.DeleteFunc(r.ids, func(o [16]byte) bool { return o == id })
	return nil
}

// locking is a server with a record, and two clients that have one file open under the handle 1.
type locking struct {
	t      *testing.T
	rec    *record
	id     volume.ID
	a, b   *raw
	number uint64
}

// newLocking records the sessions of a, b or both: each has locks of before to declare.
func newLocking(t *testing.T, grace time.Duration, recorded ...wire.SessionID) *locking {
	l := &locking{t: t, rec: &record{}, number: 100}
	for _, id := range recorded {
		l.rec.ids = append(l.rec.ids, id)
	}
	l.a = newRaw(t, func(c *Config) {
		c.Grace, c.Lockers = grace, func() Lockers { return l.rec }
	})
	l.a.hello(func(h *wire.HelloBody) { h.Attempt = 1 })
	l.a.openFile()
	at, err := l.a.b.FS.Lookup(t.Context(), volume.Root, "file")
	if err != nil {
		t.Fatal(err)
	}
	l.id = at.ID
	l.b = l.client(2)
	return l
}

// client connects another one.
func (l *locking) client(id byte) *raw {
	r := &raw{t: l.t, s: l.a.s, b: l.a.b, cc: l.a.cc, addr: l.a.addr, replies: make(chan answer, 1<<10), id: wire.SessionID{id}}
	r.open()
	r.hello(func(h *wire.HelloBody) { h.Attempt = 1 })
	l.openAgain(r)
	return r
}

func (l *locking) openAgain(r *raw) {
	l.t.Helper()
	l.number++
	r.ask(frameOf(wire.OpOpen, l.number, 0, (&wire.OpenArgs{ID: l.id, Flags: volume.Read, Handle: 1}).Append))
	if err := r.reply(l.number); err != nil {
		l.t.Fatal(err)
	}
}

// anew connects a client as one that takes the server for new, in an attempt.
func (l *locking) anew(r *raw, attempt uint64) wire.WelcomeBody {
	l.t.Helper()
	r.open()
	return r.hello(func(h *wire.HelloBody) { h.Server, h.Attempt = 0, attempt })
}

func lockOf(typ volume.LockType, start, end int64) volume.Lock {
	return volume.Lock{Owner: volume.LockOwner{Number: 1}, Type: typ, Start: start, End: end}
}

// step asks for a step of a lock.
func (l *locking) step(r *raw, step wire.LockStep, ticket uint64, lk volume.Lock) (wire.LockState, error) {
	l.t.Helper()
	l.number++
	r.ask(frameOf(wire.OpLock, l.number, 0, (&wire.LockArgs{Handle: 1, Step: step, Ticket: ticket, Lock: lk}).Append))
	f, err := r.answered()
	if err != nil {
		return 0, err
	}
	if f.Kind != wire.Reply || f.Number != l.number {
		l.t.Fatalf("%+v", f)
	}
	rd := wire.NewReader(f.Body)
	if err := wire.ParseStatus(&rd); err != nil {
		return 0, err
	}
	return rd.LockState(), nil
}

// wants asks for an exclusive lock at once, and expects a state, or an errno.
func (l *locking) wants(r *raw, start, end int64, state wire.LockState, errno syscall.Errno) {
	l.t.Helper()
	got, err := l.step(r, wire.LockAsk, 0, lockOf(volume.ExclusiveLock, start, end))
	if volume.ErrnoOf(err) != errno || err == nil && got != state {
		l.t.Fatalf("lock %d … %d: %v, %v; want %v, %v", start, end, got, err, state, errno)
	}
}

// declares declares exclusive locks on single bytes.
func (l *locking) declares(r *raw, errno syscall.Errno, last bool, at ...int64) {
	l.t.Helper()
	a := wire.ReclaimArgs{Last: last}
	for _, n := range at {
		a.Locks = append(a.Locks, wire.HeldLock{ID: l.id, Lock: lockOf(volume.ExclusiveLock, n, n)})
	}
	l.number++
	r.ask(frameOf(wire.OpReclaim, l.number, 0, a.Append))
	if err := r.reply(l.number); volume.ErrnoOf(err) != errno {
		l.t.Fatalf("declaring: %v, want %v", err, errno)
	}
}

// Nobody gets a lock before all of the record have declared theirs, be they connected or not.
func TestNothingBeforeClaims(t *testing.T) {
	t.Parallel()
	l := newLocking(t, time.Minute, wire.SessionID{1}, wire.SessionID{2})
	c := l.client(3)
	l.wants(c, 50, 50, wire.LockLater, 0)
	l.declares(c, syscall.ESTALE, true, 50)
	l.declares(l.b, 0, true, 20)
	l.wants(c, 50, 50, wire.LockLater, 0)
	l.wants(l.b, 50, 50, wire.LockLater, 0)
	l.declares(l.a, 0, false, 10)
	l.wants(l.b, 50, 50, wire.LockLater, 0) // not all that a has is there
	l.declares(l.a, 0, true, 11)
	for _, at := range []int64{10, 11, 20} {
		l.wants(c, at, at, 0, syscall.EAGAIN)
	}
	l.wants(c, 50, 50, wire.LockDone, 0)
	l.declares(l.a, syscall.ESTALE, true, 12)
}

// A client whose Welcome or declaration went astray begins anew: it has its locks meanwhile,
// and has then those that it declares.
func TestBeginsAnewWithLocks(t *testing.T) {
	t.Parallel()
	l := newLocking(t, time.Minute, wire.SessionID{1})
	l.declares(l.a, 0, true, 10, 11)
	if state, err := l.step(l.b, wire.LockAsk, 77, lockOf(volume.ExclusiveLock, 11, 11)); err != nil || state != wire.LockQueued {
		t.Fatal(state, err)
	}
	for attempt := range uint64(3) {
		if w := l.anew(l.a, attempt+2); w.Known || w.Err != nil {
			t.Fatalf("%+v", w)
		}
		l.wants(l.b, 10, 10, 0, syscall.EAGAIN)
		l.wants(l.b, 30+int64(attempt), 30+int64(attempt), wire.LockDone, 0) // others need not wait
		l.wants(l.a, 40, 40, 0, syscall.EBADF)
		l.openAgain(l.a)
		l.wants(l.a, 40, 40, wire.LockLater, 0) // it has to declare first
		l.declares(l.a, 0, true, 10, 11)
		l.wants(l.a, 40, 40, wire.LockDone, 0)
		l.wants(l.b, 11, 11, 0, syscall.EAGAIN)
	}
	l.anew(l.a, 9)
	l.declares(l.a, 0, true, 10) // the other one, and 40, were unlocked
	if state, err := l.step(l.b, wire.LockPoll, 77, lockOf(volume.ExclusiveLock, 11, 11)); err != nil || state != wire.LockDone {
		t.Errorf("what was declared no more: %v, %v", state, err)
	}
	l.wants(l.b, 40, 40, wire.LockDone, 0)
	l.wants(l.b, 10, 10, 0, syscall.EAGAIN)
	if n := len(l.rec.ids); n != 2 {
		t.Errorf("%d are recorded", n)
	}
}

// A client that was cut off before it could give a wait up may have got the lock by it, and then asks for it once
// more: what it is told that it has is not taken away because nobody ever asks about the first wait again.
func TestForgottenTicket(t *testing.T) {
	t.Parallel()
	l := newLocking(t, 200*time.Millisecond)
	l.wants(l.a, 0, 9, wire.LockDone, 0)
	for ticket, at := range map[uint64]int64{7: 0, 8: 50} {
		if state, err := l.step(l.b, wire.LockAsk, ticket, lockOf(volume.ExclusiveLock, at, 9+at)); err != nil || (state == wire.LockQueued) != (at == 0) {
			t.Fatal(state, err)
		}
	}
	if state, err := l.step(l.a, wire.LockAsk, 0, lockOf(volume.Unlocked, 0, 9)); err != nil || state != wire.LockDone {
		t.Fatal(state, err)
	}
	l.wants(l.b, 0, 9, wire.LockDone, 0)
	l.wants(l.a, 20, 20, wire.LockDone, 0)
	if state, err := l.step(l.b, wire.LockAsk, 9, lockOf(volume.ExclusiveLock, 20, 20)); err != nil || state != wire.LockQueued {
		t.Fatal(state, err)
	}
	eventually(t, "the tickets are forgotten", func() bool {
		for _, s := range l.a.s.sessions() {
			s.mu.Lock()
			n := len(s.mu.tickets)
			s.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
	l.wants(l.a, 0, 9, 0, syscall.EAGAIN)
	if state, err := l.step(l.a, wire.LockAsk, 0, lockOf(volume.Unlocked, 20, 20)); err != nil || state != wire.LockDone {
		t.Fatal(state, err)
	}
	if _, err := l.step(l.b, wire.LockCancel, 9, lockOf(volume.ExclusiveLock, 20, 20)); volume.ErrnoOf(err) != syscall.EINTR {
		t.Errorf("what waited, and was forgotten: %v", err)
	}
	l.wants(l.a, 20, 20, wire.LockDone, 0)
}

// A hello that its client has given up, and that comes late, ends no session.
func TestLateHello(t *testing.T) {
	t.Parallel()
	l := newLocking(t, time.Minute, wire.SessionID{1})
	now := l.anew(l.a, 5)
	l.declares(l.a, 0, true, 10)
	late := &raw{t: t, s: l.a.s, b: l.a.b, cc: l.a.cc, addr: l.a.addr, replies: make(chan answer, 1), id: l.a.id}
	for _, attempt := range []uint64{1, 4} {
		late.open()
		if w := late.hello(func(h *wire.HelloBody) { h.Attempt = attempt }); volume.ErrnoOf(w.Err) != syscall.EIO {
			t.Fatalf("%+v", w)
		}
		late.open()
		if w := late.hello(func(h *wire.HelloBody) { h.Attempt, h.Server = attempt, now.Server }); volume.ErrnoOf(w.Err) != syscall.EIO {
			t.Fatalf("%+v", w)
		}
	}
	l.openAgain(l.a)
	l.wants(l.a, 11, 11, wire.LockDone, 0)
	l.wants(l.b, 10, 10, 0, syscall.EAGAIN)
	l.a.open()
	if w := l.a.hello(func(h *wire.HelloBody) { h.Attempt = 6 }); !w.Known {
		t.Errorf("%+v", w)
	}
}

// Who says bye before it has declared its locks holds nobody up.
func TestByeBeforeDeclaring(t *testing.T) {
	t.Parallel()
	l := newLocking(t, time.Minute, wire.SessionID{1})
	l.wants(l.b, 10, 10, wire.LockLater, 0)
	l.a.batch(wire.AppendEmpty(nil, wire.Bye, 0))
	eventually(t, "it is not recorded any more", func() bool { ids, _ := l.rec.Lockers(); return len(ids) == 0 })
	for state := wire.LockLater; state == wire.LockLater; {
		var err error
		if state, err = l.step(l.b, wire.LockAsk, 0, lockOf(volume.ExclusiveLock, 10, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// How long a claim lasts depends on when the session was seen last, and has an end.
func TestClaimsTime(t *testing.T) {
	t.Parallel()
	const grace = 30 * time.Second
	begin := time.Now()
	a, b := wire.SessionID{1}, wire.SessionID{2}
	for _, tt := range []struct {
		name string
		seen time.Duration // since the beginning, when it was connected last; 0: never
		at   time.Duration
		late bool
	}{
		{"never seen, in time", 0, grace - time.Second, false},
		{"never seen", 0, grace + time.Second, true},
		{"connected", grace + time.Second, grace + time.Second, false},
		{"connected not long ago", grace - time.Second, 2*grace - 2*time.Second, false},
		{"connected long ago", time.Second, grace + 2*time.Second, true},
		{"connected, and does nothing", 2*grace + time.Second, 2*grace + time.Second, true},
	} {
		c := newClaims([]wire.SessionID{a, b}, grace)
		seen := map[wire.SessionID]time.Time{}
		if tt.seen > 0 {
			seen[a] = begin.Add(tt.seen)
		}
		late := c.late(begin.Add(tt.at), seen)
		if slices.Contains(late, a) != tt.late {
			t.Errorf("%s: %v", tt.name, late)
		}
		err := c.declare(a, func() error { return nil })
		if tt.late != (volume.ErrnoOf(err) == syscall.ESTALE) {
			t.Errorf("%s: declaring: %v", tt.name, err)
		}
		if again := c.late(begin.Add(tt.at), nil); tt.late && !slices.Contains(again, a) {
			t.Errorf("%s: what is late stays so until it is done", tt.name)
		}
		if err := c.wait(t.Context(), time.Now(), wire.SessionID{3}); volume.ErrnoOf(err) != syscall.ETIMEDOUT {
			t.Errorf("%s: others go on: %v", tt.name, err)
		}
		if tt.late {
			c.done(a)
		}
		if err := c.declare(b, func() error { return nil }); err == nil {
			if err := c.wait(t.Context(), time.Now(), wire.SessionID{3}); err != nil {
				t.Errorf("%s: nobody is waited for: %v", tt.name, err)
			}
		}
	}
}

// What can't be set is lost with all that was declared, and given up.
func TestClaimFails(t *testing.T) {
	t.Parallel()
	c := newClaims([]wire.SessionID{{1}}, time.Hour)
	if err := c.declare(wire.SessionID{1}, func() error { return fmt.Errorf("in the way: %w", syscall.EAGAIN) }); !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	if err := c.may(wire.SessionID{1}); volume.ErrnoOf(err) != syscall.ESTALE {
		t.Error(err)
	}
	if late := c.late(time.Now(), nil); len(late) != 1 {
		t.Error(late)
	}
}
