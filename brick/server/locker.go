package server

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// Locks outlive the server that gave them out. They lie in memory, and clients declare
// them again to who serves next, which is safe because of the record of lockers:
//
//   - A session is recorded, for whoever may serve next, before it gets its first lock.
//   - It is removed from the record before its locks are given to others: when it has
//     ended (bye, or away for the grace), or did not declare its locks in time (claims).
//   - Who begins to serve gives out no lock until each session of the record has declared
//     its locks, or was removed. Only sessions of the record may declare any.
//   - A client may find that its session is new, and declare its locks, more than once to one
//     server: it counts only what it has done with a Welcome, and the declaration may have come while its
//     answer did not. Meanwhile the table keeps what the session has; what is declared takes the place of that.
//
// So of two declarations none can be in the other's way: both got their locks from
// one table. And a client that was cut off meanwhile, while its lock went to another, was
// removed before that happened, and is refused however many servers have come and gone since:
// it marks its files as broken.

// reclaim answers a client that declares its locks.
func reclaim(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.ReclaimArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.reclaim(&a)), true
}

// reclaim takes what is declared. It counts as a whole: nothing does before the last of it is there.
func (s *session) reclaim(a *wire.ReclaimArgs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return volume.Errorf("reclaim locks", "", syscall.EIO, "the session has ended")
	}
	if err := s.role.claims.may(s.id); err != nil {
		return err
	}
	for _, h := range a.Locks {
		h.Lock.Owner.Session = s.id
		s.mu.declared = append(s.mu.declared, locks.Entry(h))
	}
	if len(s.mu.declared) > locks.Max {
		return volume.Errorf("reclaim locks", "", syscall.ESTALE, "there are more than %d", locks.Max)
	}
	if !a.Last {
		return nil
	}
	err := s.role.claims.declare(s.id, func() error {
		return s.role.locks.Restore(s.owns, s.mu.declared)
	})
	if s.mu.declared = nil; err != nil {
		return volume.Errorf("reclaim locks", "", syscall.ESTALE, "%w", err)
	}
	s.mu.locker = lockerAsked // it is recorded; to make sure costs little, and only if it wants more
	return nil
}

// owns reports whether a lock's owner is the session's.
func (s *session) owns(o volume.LockOwner) bool { return o.Session == s.id }

// lockerState says whether a session is in the record because of its own locks.
type lockerState uint8

const (
	lockerNot   lockerState = iota // or as one that has not declared its locks yet
	lockerAsked                    // it may be recorded, and may have locks
	lockerIs                       // it is recorded
	lockerGoes                     // it has ended, and its locks are to be given up
	lockerGoing                    // that is being done
)

// becomeLocker records the session before it gets its first lock.
func (s *session) becomeLocker(ctx context.Context) error {
	s.mu.Lock()
	state, ended := s.mu.locker, s.mu.ended
	if state == lockerNot && !ended {
		s.mu.locker = lockerAsked
	}
	s.mu.Unlock()
	switch {
	case ended:
		return volume.Errorf("lock", "", syscall.EIO, "the session has ended")
	case state >= lockerIs:
		return nil
	}
	if rec := s.role.lockers; rec != nil {
		if err := rec.AddLocker(ctx, s.id); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.locker == lockerAsked {
		s.mu.locker = lockerIs
	}
	return nil
}

// fate is what becomes of the locks of a session that ends.
type fate uint8

const (
	again fate = iota // the client may declare them in its next one, here or to who serves then
	lost              // they are others' soon
)

// settleLocked does what a session's end means for its locks.
func (s *session) settleLocked(f fate) {
	has := s.mu.locker == lockerAsked || s.mu.locker == lockerIs
	switch {
	case f == lost && s.mu.named:
		s.mu.locker = lockerGoes // with what it may have
		if !has {
			s.role.claims.lose(s.id)
		}
	case f == again && has:
		s.mu.locker = lockerNot
		s.role.claims.again(s.id)
	case f == lost && has:
		s.mu.locker = lockerGoes
	case f == lost:
		s.role.claims.lose(s.id)
	}
}

// unrecord removes a session from the record, which has to succeed before its locks
// are anybody else's. False: the set is not served here any more, or the server stops.
func (s *Server) unrecord(of *role, id wire.SessionID) bool {
	if of.lockers == nil {
		return true
	}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), s.conf.MaxTimeout)
		err := of.lockers.RemoveLocker(ctx, id)
		cancel()
		if err == nil {
			return true
		}
		if !s.serves(of) || volume.ReasonOf(err) == volume.NotPrimary {
			return false
		}
		s.log.Warn("a client's locks can't be given up yet", "error", err)
		select {
		case <-s.quit:
			return false
		case <-time.After(tick):
		}
	}
}

// serves reports whether a role is still the server's.
func (s *Server) serves(of *role) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.role == of && !s.mu.stopped
}

// dropLocks gives up the locks of a session that has ended for good.
func (s *session) dropLocks() {
	if s.srv.unrecord(s.role, s.id) {
		s.role.locks.Drop(s.owns)
	}
	s.mu.Lock()
	named := s.mu.named
	s.mu.Unlock()
	if named {
		s.srv.unrecord(s.role, marked(s.id))
	}
	s.mu.Lock()
	s.mu.locker = lockerNot
	s.mu.Unlock()
	s.leave()
}

// tendLocks gives up what was not asked about in time: sessions that have not
// declared their locks, and tickets.
func (s *Server) tendLocks(of *role, now time.Time) {
	sessions, seen := s.sessions(), map[wire.SessionID]time.Time{}
	for _, sess := range sessions {
		if sess.role == of {
			seen[sess.id] = sess.seen(now)
		}
	}
	if late := of.claims.late(now, seen); len(late) > 0 {
		s.tends(&of.tending, func() {
			for _, id := range late {
				if s.unrecord(of, id) {
					of.locks.Drop(func(o volume.LockOwner) bool { return o.Session == id })
					of.claims.done(id)
					s.log.Warn("a client has not declared its locks again in time; they are lost", "session", volume.ID(id).String())
				}
			}
		})
	}
	for _, sess := range sessions {
		sess.expireTickets(now)
	}
}

// tends runs f on a goroutine of its own, unless one is running.
func (s *Server) tends(running *atomic.Bool, f func()) {
	if running.CompareAndSwap(false, true) && !s.goes(func() { defer running.Store(false); f() }) {
		running.Store(false)
	}
}

// hostOf returns the machine in a client's name, HOST:PROCESS.
func hostOf(client string) string {
	if i := strings.LastIndexByte(client, ':'); i >= 0 {
		return client[:i]
	}
	return client
}

// recorded returns the sessions of a record, for a new role.
func (s *Server) recorded(l Lockers) []wire.SessionID {
	if l == nil {
		return nil
	}
	ids, err := l.Lockers()
	if err != nil {
		s.log.Error("nobody knows who had locks; they are lost", "error", err)
	}
	out := make([]wire.SessionID, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}
