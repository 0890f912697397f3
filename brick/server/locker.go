package server

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Locks outlive the server that gave them out. They lie in memory, and clients declare
// them again to who serves next, which is safe because of the record of lockers:
//
//   - A session is recorded, for whoever may serve next, before it gets its first lock.
//   - It is removed from the record before its locks are given to others: when it has
//     ended (bye, or away for the grace), or did not declare its locks in time.
//   - Who begins to serve gives out no lock until each session of the record has declared
//     its locks, or was removed. Only sessions of the record may declare any.
//
// So of two declarations none can be in the other's way: both got their locks from
// one table. And a client that was cut off meanwhile, while its lock went to another, was
// removed before that happened, and is refused however many servers have come and gone since:
// it marks its files as broken.

// claims are the sessions of the record that have not declared their locks yet.
type claims struct {
	over chan struct{} // closed when there are none any more
	mu   struct {
		sync.Mutex
		waiting map[wire.SessionID]bool
		until   time.Time
	}
}

func newClaims(sessions []wire.SessionID, until time.Time) *claims {
	c := &claims{over: make(chan struct{})}
	c.mu.waiting, c.mu.until = map[wire.SessionID]bool{}, until
	for _, id := range sessions {
		c.mu.waiting[id] = true
	}
	if len(sessions) == 0 {
		close(c.over)
	}
	return c
}

// open reports whether declarations are still waited for.
func (c *claims) open() bool {
	select {
	case <-c.over:
		return false
	default:
		return true
	}
}

// wait waits until all have declared theirs, but not beyond a time, or ctx's end.
func (c *claims) wait(ctx context.Context, until time.Time) error {
	if !c.open() {
		return nil
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-c.over:
		return nil
	case <-t.C:
		return &volume.Error{Op: "lock", Errno: syscall.ETIMEDOUT, Err: errors.New("not all clients have declared the locks that they had")}
	case <-ctx.Done():
		return &volume.Error{Op: "lock", Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
	}
}

// declare calls f, which sets locks of the session, if it may declare any: no more
// than once f said so with last.
func (c *claims) declare(id wire.SessionID, last bool, f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.waiting[id] {
		return volume.Errorf("reclaim locks", "", syscall.ESTALE, "they are lost: the client was away for too long")
	}
	if err := f(); err != nil {
		return err
	}
	if last {
		c.doneLocked(id)
	}
	return nil
}

func (c *claims) doneLocked(id wire.SessionID) {
	if delete(c.mu.waiting, id); len(c.mu.waiting) == 0 {
		close(c.over)
	}
}

// done takes a session out that was late.
func (c *claims) done(id wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.mu.waiting[id]; there {
		c.doneLocked(id)
	}
}

// late returns those that had their time: they may not declare anything any more, but are
// waited for until done.
func (c *claims) late(now time.Time) (ids []wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.mu.until) {
		return nil
	}
	for id := range c.mu.waiting {
		c.mu.waiting[id] = false
		ids = append(ids, id)
	}
	return ids
}

// reclaim answers a client that declares its locks.
func reclaim(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.ReclaimArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.reclaim(&a)), true
}

func (s *session) reclaim(a *wire.ReclaimArgs) error {
	return s.role.claims.declare(s.id, a.Last, func() error {
		for _, h := range a.Locks {
			h.Lock.Owner.Session = s.id
			if err := s.role.locks.Set(h.ID, h.Lock); err != nil {
				return volume.Errorf("reclaim locks", h.ID.String(), syscall.ESTALE, "%w", err)
			}
		}
		if a.Last {
			s.mu.Lock()
			s.mu.locker = lockerIs
			s.mu.Unlock()
		}
		return nil
	})
}

// lockerState says whether a session is in the record because of its own locks.
type lockerState uint8

const (
	lockerNot   lockerState = iota // or as one that has not declared its locks yet
	lockerAsked                    // it may be recorded
	lockerIs                       // it is, and may have locks
	lockerGoes                     // it has ended, and they are to be given up
	lockerGoing                    // that is being done
)

// becomeLocker records the session before it gets its first lock.
func (s *session) becomeLocker(ctx context.Context) error {
	s.mu.Lock()
	state := s.mu.locker
	if state == lockerNot {
		s.mu.locker = lockerAsked
	}
	s.mu.Unlock()
	if state >= lockerIs {
		return nil
	}
	if rec := s.srv.conf.Lockers; rec != nil {
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

// unrecord removes a session from the record, which has to succeed before its locks
// are anybody else's. False: the set is not served here any more, or the server stops.
func (s *Server) unrecord(of *role, id wire.SessionID) bool {
	if s.conf.Lockers == nil {
		return true
	}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), s.conf.MaxTimeout)
		err := s.conf.Lockers.RemoveLocker(ctx, id)
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

// finish ends a session for good: its locks are others' soon.
func (s *Server) finish(sess *session, why string) {
	sess.mu.Lock()
	if !sess.mu.ended && (sess.mu.locker == lockerAsked || sess.mu.locker == lockerIs) {
		sess.mu.locker = lockerGoes
	}
	sess.mu.Unlock()
	s.end(sess, why)
}

// dropLocks gives up the locks of a session that has ended for good.
func (s *session) dropLocks() {
	if s.srv.unrecord(s.role, s.id) {
		s.role.locks.Drop(func(o volume.LockOwner) bool { return o.Session == s.id })
	}
	s.mu.Lock()
	s.mu.locker = lockerNot
	s.mu.Unlock()
	s.leave()
}

// tendLocks gives up what was not asked about in time: sessions that have not
// declared their locks, and tickets.
func (s *Server) tendLocks(now time.Time) {
	s.mu.Lock()
	of := s.mu.role
	s.mu.Unlock()
	if late := of.claims.late(now); len(late) > 0 && of.tending.CompareAndSwap(false, true) {
		if !s.goes(func() {
			defer of.tending.Store(false)
			for _, id := range late {
				if s.unrecord(of, id) {
					of.locks.Drop(func(o volume.LockOwner) bool { return o.Session == id })
					of.claims.done(id)
					s.log.Warn("a client has not declared its locks again in time; they are lost", "session", volume.ID(id).String())
				}
			}
		}) {
			of.tending.Store(false)
		}
	}
	for _, sess := range s.sessions() {
		sess.expireTickets(now)
	}
}

// hostOf returns the machine in a client's name, HOST:PROCESS.
func hostOf(client string) string {
	if i := strings.LastIndexByte(client, ':'); i >= 0 {
		return client[:i]
	}
	return client
}

// recorded returns the sessions of the record, for a new role.
func (s *Server) recorded() []wire.SessionID {
	if s.conf.Lockers == nil {
		return nil
	}
	ids, err := s.conf.Lockers.Lockers()
	if err != nil {
		s.log.Error("nobody knows who had locks; they are lost", "error", err)
	}
	out := make([]wire.SessionID, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}
