package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// session is the state of one client.
type session struct {
	srv     *Server
	id      wire.SessionID
	name    string
	version string
	since   time.Time
	member  bool          // another member's, for Peers only
	role    *role         // whom its requests go to
	attempt uint64        // of the client to connect, that it was made for
	slots   chan struct{} // one in it for each request in flight, except
	steps   chan struct{} // each Step or Peer
	drained chan struct{} // closed when it has ended and none of its requests runs
	values  atomic.Pointer[values]

	read, written, requests atomic.Uint64

	mu struct {
		sync.Mutex
		conn     *conn // nil while detached
		addr     string
		detached time.Time // since when, while conn is nil
		requests map[uint64]*request
		handles  map[uint64]*handle
		running  int // requests that are being executed
		ended    bool
		locker   lockerState
		named    bool               // it is recorded as one that may have reserved names
		unmade   []wire.Unmade      // names that could not be removed though it was answered so
		tickets  map[uint64]*ticket // in queues of locks
		told     []uint64           // tickets that have their lock
		declared []locks.Entry      // so far
	}
}

// conn is a session's connection: its Session stream, and its lanes.
type conn struct {
	number uint64 // attachment
	queue  *wire.Queue
	ctx    context.Context
	cancel context.CancelCauseFunc
	lanes  map[*lane]struct{} // guarded by session.mu
	hatch  *hatch             // nil: none yet; likewise
}

// handle is an open file. It is guarded by session.mu.
type handle struct {
	file    volume.File
	refs    int  // operations on it
	closing bool // close it when refs is 0
}

var (
	errReplaced = errors.New("the session has a newer connection")
	errEnded    = errors.New("the session has ended")
	errGone     = errors.New("the client has gone")
)

// attach makes c the session's connection in place of whichever it had,
// forgets the requests that the client does not ask about and closes the files
// that it does not know. False: the session has ended.
func (s *session) attach(c *conn, addr string, h *wire.HelloBody) bool {
	wanted, known := setOf(h.Unanswered), setOf(h.Handles)
	s.mu.Lock()
	if s.mu.ended {
		s.mu.Unlock()
		return false
	}
	if s.mu.conn != nil {
		s.mu.conn.hangUpLocked(errReplaced)
	}
	c.number = s.srv.attachments.Add(1)
	s.mu.conn, s.mu.addr = c, addr
	for n, r := range s.mu.requests {
		switch {
		case wanted[n]:
			known[r.opened] = true
		case r.reply != nil: // answered: the client has the reply, or its caller has gone
			delete(s.mu.requests, n)
		default:
			s.forgetLocked(r)
		}
	}
	var files []volume.File
	for n := range s.mu.handles {
		if !known[n] {
			files = append(files, s.closeLocked(n)...)
		}
	}
	s.mu.Unlock()
	closeFiles(files)
	return true
}

func setOf(numbers []uint64) map[uint64]bool {
	set := make(map[uint64]bool, len(numbers))
	for _, n := range numbers {
		set[n] = true
	}
	return set
}

// detach notes that c is no more.
func (s *session) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.hangUpLocked(errGone)
	if s.mu.conn == c {
		s.mu.conn, s.mu.detached = nil, time.Now()
	}
}

// admit enters a request, unless it is known already and changes something:
// then it returns the old one. The reply to answered, if not 0, need not be remembered any
// more. An error means that the connection is not the session's any more.
func (s *session) admit(attachment uint64, r *request, answered uint64) (old *request, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.ended:
		return nil, errEnded
	case s.mu.conn == nil || s.mu.conn.number != attachment:
		return nil, errReplaced
	}
	s.acknowledgeLocked(answered)
	if old := s.mu.requests[r.number]; old != nil {
		if old.op != r.op {
			return nil, wire.ErrMalformed
		}
		if !r.op.Repeatable() {
			return old, nil
		}
	}
	if len(s.mu.requests) >= 8*s.srv.conf.InFlight {
		return nil, errors.New("too many replies are not acknowledged")
	}
	s.mu.requests[r.number] = r
	s.mu.running++
	return nil, nil
}

// complete notes a request's reply, a whole frame, and reports whether the session
// has ended: then the reply is nobody's.
func (s *session) complete(r *request, reply []byte) (ended bool) {
	s.mu.Lock()
	var files []volume.File
	switch {
	case r.forgotten || s.mu.ended:
		s.dropLocked(r)
		files = s.closeLocked(r.opened)
	case r.op.Repeatable():
		s.dropLocked(r)
	default:
		r.reply = slices.Clone(reply)
		r.body = nil
	}
	if r.finished != nil {
		close(r.finished)
	}
	s.mu.running--
	ended = s.mu.ended
	s.mu.Unlock()
	closeFiles(files)
	r.cancel(context.Canceled)
	if ended {
		s.leave()
	}
	return ended
}

// dropLocked forgets a request, of which a repetition may have taken the place.
func (s *session) dropLocked(r *request) {
	if s.mu.requests[r.number] == r {
		delete(s.mu.requests, r.number)
	}
}

// forget is called when nobody wants the request's reply any more.
func (s *session) forget(number uint64) {
	s.mu.Lock()
	var files []volume.File
	if r := s.mu.requests[number]; r != nil {
		files = s.forgetLocked(r)
	}
	s.mu.Unlock()
	closeFiles(files)
}

func (s *session) forgetLocked(r *request) []volume.File {
	r.forgotten = true
	if r.reply == nil {
		r.cancel(context.Canceled) // complete removes it
		return nil
	}
	delete(s.mu.requests, r.number)
	return s.closeLocked(r.opened)
}

// note takes an Ack, whose replies need not be remembered, or a Close.
func (s *session) note(f wire.Frame) error {
	if len(f.Body)%8 != 0 {
		return wire.ErrMalformed
	}
	s.mu.Lock()
	var files []volume.File
	for r := wire.NewReader(f.Body); r.Len() > 0; {
		if f.Kind == wire.Ack {
			s.acknowledgeLocked(r.U64())
		} else {
			files = append(files, s.closeLocked(r.U64())...)
		}
	}
	s.mu.Unlock()
	closeFiles(files)
	return nil
}

func (s *session) acknowledgeLocked(number uint64) {
	if r := s.mu.requests[number]; r != nil && r.reply != nil {
		delete(s.mu.requests, number)
	}
}

// expire cancels what is over its deadline and reports whether the grace has passed.
func (s *session) expire(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.mu.requests {
		if r.reply == nil && now.After(r.deadline) {
			r.cancel(context.DeadlineExceeded)
		}
	}
	return s.mu.conn == nil && now.Sub(s.mu.detached) > s.srv.conf.Grace
}

// seen returns when the session was connected last.
func (s *session) seen(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.conn != nil {
		return now
	}
	return s.mu.detached
}

// end ends a session; what becomes of its locks is another matter.
func (s *Server) end(sess *session, why string, locks fate) {
	s.mu.Lock()
	if s.mu.sessions[sess.id] == sess {
		delete(s.mu.sessions, sess.id)
		s.mu.leaving[sess.id] = sess
	}
	s.mu.Unlock()

	sess.mu.Lock()
	if sess.mu.ended {
		sess.mu.Unlock()
		return
	}
	sess.mu.ended = true
	sess.settleLocked(locks)
	if locks == lost {
		defer sess.role.names.drop(sess.id)
	}
	if sess.mu.conn != nil {
		sess.mu.conn.hangUpLocked(errEnded)
	}
	for _, r := range sess.mu.requests {
		r.cancel(context.Canceled)
	}
	var files []volume.File
	for number := range sess.mu.handles {
		files = append(files, sess.closeLocked(number)...)
	}
	sess.mu.Unlock()
	closeFiles(files)
	sess.leave()
	s.log.Info("session ended", "client", sess.name, "why", why)
}

// open enters a file that a request opened under a handle.
func (s *session) open(r *request, number uint64, f volume.File) error {
	s.mu.Lock()
	ended := s.mu.ended
	taken := s.mu.handles[number] != nil
	full := len(s.mu.handles) >= wire.HandlesMax
	if !ended && !taken && !full {
		s.mu.handles[number] = &handle{file: f}
		r.opened = number
	}
	s.mu.Unlock()
	if full {
		closeFiles([]volume.File{f})
		return volume.Errorf(r.op.String(), "", syscall.ENFILE, "the client has %d files open", wire.HandlesMax)
	}
	if ended || taken {
		closeFiles([]volume.File{f})
		return volume.Errorf(r.op.String(), "", syscall.EIO, "the handle is in use or the session has ended")
	}
	return nil
}

// fileID returns the object that is open under a handle, zero if there is none.
func (s *session) fileID(number uint64) (id volume.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.mu.handles[number]; h != nil {
		id = h.file.ID()
	}
	return id
}

// isOpen reports whether a handle is in use.
func (s *session) isOpen(number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.handles[number] != nil
}

// use returns an open file, for which done must be called.
func (s *session) use(op wire.Op, number uint64) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.mu.handles[number]
	if h == nil {
		return nil, &volume.Error{Op: op.String(), Errno: syscall.EBADF}
	}
	h.refs++
	return h, nil
}

func (s *session) done(h *handle) {
	s.mu.Lock()
	h.refs--
	last := h.closing && h.refs == 0
	s.mu.Unlock()
	if last {
		closeFiles([]volume.File{h.file})
	}
}

// closeLocked takes a handle out; it returns the file if it is to be closed
// now, and else leaves that to the last operation on it.
func (s *session) closeLocked(number uint64) []volume.File {
	h := s.mu.handles[number]
	if h == nil {
		return nil
	}
	delete(s.mu.handles, number)
	h.closing = true
	if h.refs > 0 {
		return nil
	}
	return []volume.File{h.file}
}

func closeFiles(files []volume.File) {
	for _, f := range files {
		_ = f.Close() // nothing depends on it: Flush and Sync have told of failures
	}
}

func (s *session) describe() wire.Client {
	c := wire.Client{
		Name: s.name, Version: s.version, Since: s.since,
		BytesRead: s.read.Load(), BytesWritten: s.written.Load(), Requests: s.requests.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Addr, c.Connected, c.Files = s.mu.addr, s.mu.conn != nil, len(s.mu.handles)
	return c
}
