package server

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// role is what the server is for its sessions, for a time. A session begins and
// ends within one, so none of its requests reaches another's Backend.
type role struct {
	set         Backend // nil: the set is not served here
	incarnation uint64  // tells it from all others
	boot        wire.SessionID
	locks       locks.Table
	lockers     Lockers // the record, as long as this role may change it
	claims      *claims
	tending     atomic.Bool // late claims are being ended
	began       time.Time
	names       *names
	goers       goers

	namesTending atomic.Bool // who did not come back is being taken out of the record

	frame frame // of what is lent of set's files
}

// newRole returns one for a Backend, of whose record of lockers it makes claims.
func (s *Server) newRole(set Backend, boot wire.SessionID, l Lockers) *role {
	if set == nil {
		l = nil
	}
	lockers, namers := splitRecord(s.recorded(l))
	return &role{
		set: set, incarnation: rand.Uint64() | 1, boot: boot, lockers: l, claims: newClaims(lockers, s.conf.Grace),
		began: time.Now(), names: newNames(namers), goers: goers{hurry: make(chan struct{}, 1)},
	}
}

// SetBackend says what clients are served from now on: with nil nothing, they
// are told to look elsewhere (Reason NotPrimary). Their sessions end: what runs is cancelled,
// files that are open are closed, no reply is sent any more. In b all sessions begin anew. Sessions of
// other members, for Peers, go on. Nobody who calls it may hold what closing a file needs.
//
// What runs in the Backend of before may take a while to end: wait returns when
// it has. (It must not be called within a request.)
//
// A Backend that answers anything with Reason NotPrimary ends the session that asked:
// the client does not see the answer, and looks for who serves.
func (s *Server) SetBackend(b Backend) (wait func()) {
	s.mu.Lock()
	boot := s.mu.boot
	s.mu.Unlock()
	var l Lockers
	if s.conf.Lockers != nil && b != nil {
		l = s.conf.Lockers()
	}
	next := s.newRole(b, boot, l)
	s.mu.Lock()
	s.mu.role.frame.close()
	old := s.mu.role
	defer old.names.close()
	s.mu.role = next
	var ended []*session
	for _, all := range []map[wire.SessionID]*session{s.mu.sessions, s.mu.leaving} {
		for _, sess := range all {
			if !sess.member {
				ended = append(ended, sess)
			}
		}
	}
	s.mu.Unlock()
	for _, sess := range ended {
		s.end(sess, "the brick's part in its set has changed", again)
	}
	return func() {
		for _, sess := range ended {
			<-sess.drained
		}
		old.goers.work.Wait() // sessions that are drained begin no more
	}
}

// SetBoot says from when on clients hear, with the next SetBackend, that what was
// written and not synced may be gone: since the ID is another. A set
// of several members has one of its own, which is the same at all of them.
func (s *Server) SetBoot(id wire.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.boot = id
}

// Incarnation tells this server, since it serves what it does, from all others.
func (s *Server) Incarnation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.role.incarnation
}

func notPrimary() error {
	return &volume.Error{Op: "connect", Errno: syscall.EIO, Reason: volume.NotPrimary}
}

// disowned reports whether a reply says that the Backend does not serve the set any more.
func (s *session) disowned(reply []byte) bool {
	return !s.member && wire.PeekReason(reply[wire.FrameHeader:]) == volume.NotPrimary
}

// leave notes whether an ended session has nothing running, and no locks, any more.
func (s *session) leave() {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	s.mu.Lock()
	gone := s.mu.ended && s.mu.running == 0
	drop := gone && s.mu.locker == lockerGoes && !s.srv.mu.stopped
	if drop {
		s.mu.locker = lockerGoing
		s.srv.wg.Go(s.dropLocks)
	}
	gone = gone && s.mu.locker != lockerGoing
	s.mu.Unlock()
	if gone && s.srv.mu.leaving[s.id] == s {
		delete(s.srv.mu.leaving, s.id)
		close(s.drained)
	}
}

// enter finds or makes the client's session and attaches c to it. One that the
// client did not know as this server's is ended first, with all of its requests: what became
// of them must be settled when the client hears of it.
func (s *Server) enter(h *wire.HelloBody, version uint16, c *conn, addr string) (sess *session, known bool, err error) {
	for {
		var old *session
		if sess, old, known, err = s.find(h, version); err != nil {
			return nil, false, err
		}
		if old != nil {
			s.end(old, "the client begins anew", again)
			select {
			case <-old.drained:
			case <-c.ctx.Done():
				return nil, false, volume.Errorf("connect", "", syscall.EIO, "the client's former requests are not over")
			}
			continue
		}
		if sess.attach(c, addr, h) {
			return sess, known, nil
		}
	}
}

// find finds or makes the client's session, or returns an old one that must be gone before.
func (s *Server) find(h *wire.HelloBody, version uint16) (sess, old *session, known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.mu.role
	if h.Member {
		now = s.members
	}
	switch {
	case s.mu.stopped:
		return nil, nil, false, volume.Errorf("connect", "", syscall.EIO, "the brick stops")
	case !h.Member && now.set == nil:
		return nil, nil, false, notPrimary()
	case overtaken(s.mu.leaving[h.Session], h), overtaken(s.mu.sessions[h.Session], h):
		return nil, nil, false, volume.Errorf("connect", "", syscall.EIO, "the client has tried again meanwhile")
	case s.mu.leaving[h.Session] != nil:
		return nil, s.mu.leaving[h.Session], false, nil
	}
	if sess = s.mu.sessions[h.Session]; sess != nil {
		if sess.role != now || version >= 2 && h.Server != now.incarnation {
			return nil, sess, false, nil
		}
		return sess, nil, true, nil
	}
	if len(s.mu.sessions) >= sessionsMax {
		return nil, nil, false, volume.Errorf("connect", "", syscall.EIO, "the brick has %d clients already", sessionsMax)
	}
	sess = &session{
		srv: s, id: h.Session, name: h.Client, version: h.ClientVersion, since: time.Now(),
		member: h.Member, role: now, attempt: h.Attempt,
		slots:   make(chan struct{}, s.conf.InFlight),
		steps:   make(chan struct{}, stepsMax),
		drained: make(chan struct{}),
	}
	sess.mu.requests = map[uint64]*request{}
	sess.mu.handles = map[uint64]*handle{}
	sess.mu.detached = time.Now()
	s.mu.sessions[h.Session] = sess
	return sess, nil, false, nil
}

// overtaken reports whether a hello is older than the one that a session, if there is one, was made for.
// Its client has given it up, and must not be taken to begin the session anew.
func overtaken(sess *session, h *wire.HelloBody) bool { return sess != nil && h.Attempt < sess.attempt }

// decide tells a client whose session is new here what became of the requests
// that it has sent to earlier servers of the set.
func (s *session) decide(ctx context.Context, h *wire.HelloBody, w *wire.WelcomeBody) error {
	outcome := s.srv.conf.Outcome
	if w.Known || s.member || outcome == nil || w.Version < 2 {
		return nil
	}
	w.Decides = true
	for _, n := range h.Ask {
		o, executed, known := outcome(ctx, volume.Request{Session: s.id, Number: n})
		if ctx.Err() != nil { // of whoever serves now it may not be true
			return notPrimary()
		}
		if known {
			w.Outcomes = append(w.Outcomes, wire.Decided{Number: n, Executed: executed, Outcome: o})
		}
	}
	return nil
}
