package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
)

// lane is a connection on which a client sends requests one after the other,
// each after it has the reply to the one before. One goroutine serves it: it executes what it reads.
type lane struct {
	*wire.Lane
	sess *session
	conn *conn // of the session, that the lane belongs to

	answered uint64       // the request whose reply, remembered by the session, was sent last; 0: none
	busy     atomic.Int64 // since when a request runs, or when that was last said, ns of the Unix epoch; 0: none runs
	reply    []byte       // scratch
}

// scratchSize is how many bytes of scratch a lane has for its replies; larger
// ones are made in memory of their own.
const scratchSize = 1 << 10

// Greet is wire.Greeter's for gRPC.
func (v service) Greet(raw net.Conn) (greeted func()) {
	v.s.greeting(raw)
	return func() { v.s.greeted(raw) }
}

// Lane is wire.Greeter's for gRPC.
func (v service) Lane(raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(wire.HelloTimeout))
	v.s.greeting(raw)
	if !v.s.goes(func() { v.s.serveLane(raw) }) {
		v.s.greeted(raw)
		_ = raw.Close()
	}
}

// greeting notes a connection that has not said what it wants.
func (s *Server) greeting(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.greeting[raw] = struct{}{}
	if s.mu.stopped {
		_ = raw.Close()
	}
}

// greeted notes that it has.
func (s *Server) greeted(raw net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.greeting, raw)
}

// serveLane serves a connection until it ends.
func (s *Server) serveLane(raw net.Conn) {
	ln, err := s.greet(raw)
	if err != nil {
		s.log.Debug("lane refused", "err", err)
		return
	}
	defer ln.conn.drop(ln)
	ln.serve()
}

// greet finds out whose lane it is.
func (s *Server) greet(raw net.Conn) (*lane, error) {
	wl, h, err := wire.AcceptLane(raw, s.conf.TLS)
	s.greeted(raw)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	ln := &lane{Lane: wl}
	if ln.sess, err = s.whose(h); err == nil {
		err = ln.sess.take(ln, h.Attachment)
	}
	if err != nil {
		wl.Close()
		return nil, err
	}
	return ln, nil
}

// whose returns the session that a lane or a hatch says it belongs to.
func (s *Server) whose(h wire.LaneHello) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess := s.mu.sessions[h.Session]; sess != nil {
		return sess, nil
	}
	return nil, errEnded
}

// attachedLocked returns the session's connection, if it still is the one with this number.
func (s *session) attachedLocked(attachment uint64) (*conn, error) {
	switch c := s.mu.conn; {
	case s.mu.ended:
		return nil, errEnded
	case c == nil || c.number != attachment:
		return nil, errReplaced
	default:
		return c, nil
	}
}

// take makes a lane one of the session's connection.
func (s *session) take(ln *lane, attachment uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.attachedLocked(attachment)
	if err != nil {
		return err
	}
	if len(c.lanes) >= lanesMax {
		return fmt.Errorf("the client has %d lanes", lanesMax)
	}
	ln.conn = c
	c.lanes[ln] = struct{}{}
	return nil
}

// drop closes a lane.
func (c *conn) drop(ln *lane) {
	ln.Close()
	ln.sess.mu.Lock()
	defer ln.sess.mu.Unlock()
	delete(c.lanes, ln)
}

// hangUpLocked ends a connection and its lanes, and hangs its hatch up: this comes before any of the session's files
// is closed.
func (c *conn) hangUpLocked(why error) {
	c.cancel(why)
	if c.hatch != nil {
		c.hatch.Hang()
	}
	for ln := range c.lanes {
		ln.Close()
	}
}

// serve takes what the client sends until the lane or its session ends.
func (ln *lane) serve() {
	for {
		err := ln.next()
		if errors.Is(err, wire.ErrMalformed) {
			ln.sess.srv.end(ln.sess, err.Error(), lost)
		}
		if err != nil {
			return
		}
	}
}

// next takes one frame and answers it.
func (ln *lane) next() error {
	f, size, err := ln.Next()
	if err != nil {
		return err
	}
	var pooled *[]byte
	switch f.Op {
	case wire.OpWrite, wire.OpAppend, wire.OpWriteSet, wire.OpBear, wire.OpPeer: // of their arguments the Backend keeps nothing
		pooled = wire.Buffers.Get(size)
		defer wire.Buffers.Put(pooled)
		f.Body = *pooled
	default:
		f.Body = make([]byte, size)
	}
	if err := ln.Body(f.Body); err != nil {
		return err
	}
	switch f.Kind {
	case wire.Request:
		return ln.request(f)
	case wire.Ack, wire.Close:
		return ln.sess.note(f)
	}
	return fmt.Errorf("%w: a %s on a lane", wire.ErrMalformed, f.Kind)
}

// request executes a request, or finds how it ended when it came before, and
// sends the reply.
func (ln *lane) request(f wire.Frame) error {
	s := ln.sess
	r, err := s.newRequest(f)
	if err != nil {
		return err
	}
	slots := s.slots
	if f.Op.Between() {
		slots = s.steps
	}
	select {
	case slots <- struct{}{}:
	case <-ln.conn.ctx.Done():
		return context.Cause(ln.conn.ctx)
	}
	defer func() { <-slots }()
	// That the client asks again says that it has the reply before.
	old, err := s.admit(ln.conn.number, r, ln.answered)
	if err != nil {
		return err
	}
	ln.answered = 0
	ln.busy.Store(time.Now().UnixNano())
	defer ln.busy.Store(0)
	var reply []byte
	if old != nil {
		if reply, err = s.join(ln.conn, old); err != nil {
			return err
		}
	} else {
		s.requests.Add(1)
		scratch, free := ln.scratch(r)
		defer free()
		reply = s.srv.answer(r, scratch)
		if s.disowned(reply) {
			s.srv.end(s, "the set is not served here any more", again)
		}
		s.srv.tell(r, reply)
		if ended := s.complete(r, reply); ended {
			return errEnded
		}
	}
	if !r.op.Repeatable() {
		ln.answered = r.number
	}
	if r.aside != nil {
		reply = append(r.aside, reply...)
	}
	return ln.Send(reply, r.tail)
}

// tell adds to a request's reply the attributes of the directory that it has
// changed, which spares its client a question. If they can't be had, it may ask.
func (s *Server) tell(r *request, reply []byte) {
	dir, ok := wire.ChangedDir(r.op, r.body)
	if !ok || wire.PeekErrno(reply[wire.FrameHeader:]) != 0 {
		return
	}
	if a, ok := r.attrOf(dir); ok {
		if !r.going.Object.IsZero() {
			a.Mtime, a.Ctime = r.going.At, r.going.At
		}
		r.aside = wire.AppendTold(make([]byte, 0, 512), &a)
	}
}

// scratch returns memory to build a reply in, and what to call when it was sent.
func (ln *lane) scratch(r *request) (b []byte, free func()) {
	if n := wire.ReplySize(r.op, r.body); n > scratchSize {
		p := wire.Buffers.Get(n)
		return (*p)[:0], func() { wire.Buffers.Put(p) }
	}
	if ln.reply == nil {
		ln.reply = make([]byte, 0, scratchSize)
	}
	return ln.reply[:0], func() {}
}

// join waits for the first execution of a request that came again, and returns its reply.
func (s *session) join(c *conn, old *request) ([]byte, error) {
	s.mu.Lock()
	reply := old.reply
	if reply == nil && old.finished == nil {
		old.finished = make(chan struct{})
	}
	finished := old.finished
	s.mu.Unlock()
	if reply != nil {
		return reply, nil
	}
	select {
	case <-finished:
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old.reply == nil {
		return nil, errEnded
	}
	return old.reply, nil
}

// slow says on each lane whose request takes long that it is being worked on.
func (s *session) slow(now time.Time) {
	s.mu.Lock()
	var slow []*lane
	if c := s.mu.conn; c != nil {
		for ln := range c.lanes {
			if since := ln.busy.Load(); since != 0 && now.UnixNano()-since > int64(wire.SlowAfter) &&
				ln.busy.CompareAndSwap(since, now.UnixNano()) {
				slow = append(slow, ln)
			}
		}
	}
	s.mu.Unlock()
	for _, ln := range slow { // it can't block: nothing is sent while the request runs
		_ = ln.Send(wire.AppendEmpty(nil, wire.Pong, 0), nil)
	}
}
