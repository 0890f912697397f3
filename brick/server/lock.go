package server

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// Lockers is the lasting record of the sessions that may hold locks: whoever serves the
// set next, a process after a crash or another member, lets these, and nobody else, declare
// theirs again, and gives out no other locks before they have.
type Lockers interface {
	// Lockers returns the sessions that were added and not removed.
	Lockers() ([][16]byte, error)
	// AddLocker returns when the session is recorded for whoever serves next.
	AddLocker(ctx context.Context, id [16]byte) error
	// RemoveLocker likewise. It may be repeated.
	RemoveLocker(ctx context.Context, id [16]byte) error
}

// Times and limits of locks.
const (
	lockHold   = time.Second // how long a request may wait for a lock before the client has to ask again
	ticketsMax = 1 << 14     // that a session has in queues
	toldMax    = 1 << 10     // tickets with a lock that are remembered, in case the client asks once more
)

// ticket is a place in a lock's queue. It is guarded by session.mu.
type ticket struct {
	id     volume.ID
	waiter *locks.Waiter
	polls  int       // requests that wait for it
	last   time.Time // that one did
}

func lockOp(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.LockArgs
	if !a.Parse(args) {
		return nil, false
	}
	var state wire.LockState
	err := on(r, a.Handle, func(f volume.File) (err error) {
		if state, err = r.lock(f.ID(), &a); err == nil && state == wire.LockDone {
			err = stillServed(r, f)
		}
		return err
	})
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendLockState(b, state)
	}
	return b, true
}

// stillServed fails with Reason NotPrimary where the Backend has lost its set to
// another member, without having noticed so far: what was found in the table counts for nothing then.
func stillServed(r *request, f volume.File) error {
	if _, err := f.Getattr(r); volume.ReasonOf(err) != volume.Plain {
		return err
	}
	return nil
}

func testLock(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.TestLockArgs
	if !a.Parse(args) {
		return nil, false
	}
	a.Lock.Owner.Session = r.sess.id
	var found volume.Lock
	err := on(r, a.Handle, func(f volume.File) (err error) {
		if err = r.sess.role.claims.wait(r, r.deadline, wire.SessionID{}); err == nil {
			found, err = r.sess.role.locks.Test(f.ID(), a.Lock)
		}
		if err == nil {
			err = stillServed(r, f)
		}
		return err
	})
	if b = wire.AppendStatus(b, err); err == nil {
		if !r.sess.srv.sameHost(r.sess, wire.SessionID(found.Owner.Session)) {
			found.PID = 0
		}
		found.Owner.Number = 0
		b = wire.AppendLock(b, &found)
	}
	return b, true
}

// lock carries out a step of a lock.
func (r *request) lock(id volume.ID, a *wire.LockArgs) (wire.LockState, error) {
	s := r.sess
	l := a.Lock
	l.Owner.Session = s.id
	switch {
	case a.Step == wire.LockCancel:
		return s.cancelTicket(a.Ticket)
	case l.Type == volume.Unlocked:
		return wire.LockDone, s.role.locks.Set(id, l)
	case a.Step == wire.LockPoll:
		if t := s.takeTicket(a.Ticket); t != nil {
			return r.poll(a.Ticket, t)
		}
	}
	if err := s.role.claims.wait(r, time.Now().Add(lockHold), s.id); err != nil {
		return wire.LockLater, nil // if nobody waits for the answer it does no harm
	}
	if err := s.becomeLocker(r); err != nil {
		return 0, err
	}
	if a.Ticket == 0 {
		return wire.LockDone, s.role.locks.Set(id, l)
	}
	w, err := s.role.locks.Enqueue(id, l)
	if w == nil {
		return wire.LockDone, err
	}
	return s.addTicket(a.Ticket, &ticket{id: id, waiter: w, last: time.Now()})
}

// poll waits for a ticket's lock.
func (r *request) poll(number uint64, t *ticket) (wire.LockState, error) {
	s := r.sess
	until := time.NewTimer(min(lockHold, time.Until(r.deadline)))
	defer until.Stop()
	state, err := wire.LockQueued, error(nil)
	select {
	case <-t.waiter.Granted():
		state = wire.LockDone
	case <-until.C:
	case <-r.Done():
		err = &volume.Error{Op: "lock", Where: t.id.String(), Errno: volume.ErrnoOf(r.Err()), Err: r.Err()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.polls--
	t.last = time.Now()
	if state == wire.LockDone && s.mu.tickets[number] == t {
		// If the answer is not wanted any more, it will be asked for by a cancel.
		delete(s.mu.tickets, number)
		s.mu.told = append(s.mu.told, number)
		if len(s.mu.told) > toldMax {
			s.mu.told = s.mu.told[1:]
		}
	}
	return state, err
}

// takeTicket returns a ticket that is to be waited for, nil if it is not known.
func (s *session) takeTicket(number uint64) *ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.tickets[number]
	if t != nil {
		t.polls++
	}
	return t
}

// addTicket enters a ticket; if that can't be its lock is not waited for, unless it was got meanwhile.
func (s *session) addTicket(number uint64, t *ticket) (wire.LockState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errno syscall.Errno
	switch {
	case s.mu.ended:
		errno = syscall.EIO
	case s.mu.tickets[number] != nil, len(s.mu.tickets) >= ticketsMax:
		errno = syscall.ENOLCK
	default:
		if s.mu.tickets == nil {
			s.mu.tickets = map[uint64]*ticket{}
		}
		s.mu.tickets[number] = t
		return wire.LockQueued, nil
	}
	if s.role.locks.Withdraw(t.waiter) {
		return wire.LockDone, nil
	}
	return 0, &volume.Error{Op: "lock", Where: t.id.String(), Errno: errno}
}

// cancelTicket gives a ticket up unless it has its lock.
func (s *session) cancelTicket(number uint64) (wire.LockState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.mu.told {
		if n == number {
			return wire.LockDone, nil
		}
	}
	t := s.mu.tickets[number]
	if t != nil {
		delete(s.mu.tickets, number)
		if s.role.locks.Withdraw(t.waiter) {
			s.mu.told = append(s.mu.told, number)
			return wire.LockDone, nil
		}
	}
	return 0, &volume.Error{Op: "lock", Errno: syscall.EINTR}
}

// expireTickets forgets those that nobody has asked about for the grace: the client could not give them
// up, and takes it that their owner may have the lock, until he unlocks. So if he got it, it is his: he may
// have asked for it once more, too, and been told that he has it.
func (s *session) expireTickets(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, t := range s.mu.tickets {
		if t.polls == 0 && now.Sub(t.last) > s.srv.conf.Grace {
			delete(s.mu.tickets, n)
			s.role.locks.Withdraw(t.waiter)
		}
	}
}

// sameHost reports whether a session's client runs where another's does, as far as they say.
func (s *Server) sameHost(a *session, b wire.SessionID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.mu.sessions[b]
	return other != nil && hostOf(a.name) == hostOf(other.name)
}
