package remote

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/mortarfs/mortar/brick/wire"
)

// bulk is the state of a bulk call: what it reads into or writes, and the
// stream that it has borrowed.
type bulk struct {
	out    []byte // to write
	in     []byte // to read into
	n      int    // bytes read
	ctx    context.Context
	cancel context.CancelFunc // by abort: the call has been ended
}

// abort makes a stream that the call waits for give up.
func (b *bulk) abort() { b.cancel() }

// bulkStream is one bulk stream of a link, used by one call at a time.
type bulkStream struct {
	grpc.ClientStream
	cancel context.CancelFunc
	lane   *lane
}

// doBulk is do for a call whose payload goes over a bulk stream.
func (r *Remote) doBulk(ctx context.Context, c *call) (wire.Reader, error) {
	wire.EndFrame(c.frame, 0)
	c.bulk.ctx, c.bulk.cancel = context.WithCancel(ctx)
	defer c.bulk.cancel()
	if err := r.begin(ctx, c); err != nil {
		return wire.Reader{}, err
	}
	for {
		l := r.awaitLink(ctx, c)
		if l == nil {
			return r.result(c)
		}
		f, err := l.bulkCall(c)
		if err == nil {
			r.bulkReply(l, c, f)
			return r.result(c)
		}
		switch {
		case ctx.Err() != nil:
			r.abandon(c, r.ctxError(ctx, c.op))
			return r.result(c)
		case c.bulk.ctx.Err() == nil:
			l.fail(err)
		}
		select { // the link's end
		case <-l.ctx.Done():
		case <-c.done:
			c.done <- struct{}{} // awaitLink takes it
		}
	}
}

// awaitLink waits for a link that works and marks the call as sent on it. It
// returns nil when the call has ended, done being consumed.
func (r *Remote) awaitLink(ctx context.Context, c *call) *link {
	for {
		r.mu.Lock()
		l, changed, pending := r.mu.link, r.mu.changed, r.mu.pending[c.number] == c
		if pending && l != nil && l.ctx.Err() == nil {
			c.sent = true
			r.mu.Unlock()
			return l
		}
		r.mu.Unlock()
		select {
		case <-c.done:
			return nil
		case <-changed:
		case <-ctx.Done():
			r.abandon(c, r.ctxError(ctx, c.op))
			return nil
		}
	}
}

// bulkReply takes the reply of a bulk call, and consumes done.
func (r *Remote) bulkReply(l *link, c *call, f wire.Frame) {
	r.mu.Lock()
	if r.mu.pending[c.number] == c {
		switch {
		case f.Number != c.number || f.Op != c.op:
			r.endLocked(c, r.malformed(c.op))
		default:
			_ = r.acceptLocked(c, f.Body) // opens nothing, so can't fail
			r.finish(c)
		}
	}
	r.mu.Unlock()
	<-c.done
}

// bulkCall sends the call on a bulk stream and waits for its reply. When it
// returns nobody uses the caller's buffers any more.
func (l *link) bulkCall(c *call) (f wire.Frame, err error) {
	st, err := l.borrow(c.bulk.ctx)
	if err != nil {
		return f, err
	}
	defer st.lane.busy.Add(-1)
	stop := context.AfterFunc(c.bulk.ctx, st.cancel)

	head := make([]byte, 0, wire.BulkHeader+len(c.frame))
	head = wire.AppendBulkHeader(head, wire.BulkPrefix{Session: l.r.session, Attachment: l.attachment})
	head = append(head, c.frame...)
	wire.EndBulk(head, len(c.bulk.out))
	out := wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(head)}}
	var lent lender
	if len(c.bulk.out) > 0 {
		lent = make(lender, 1)
		p := c.bulk.out
		out.Buffers = append(out.Buffers, mem.NewBuffer(&p, lent))
	}
	reply := wire.BulkReply{Payload: c.bulk.in}
	if err = st.SendMsg(&out); err == nil {
		err = st.RecvMsg(&reply)
	}
	lent.wait(l, err == nil)
	c.bulk.n = reply.N
	if stop() && err == nil {
		l.giveBack(st)
	} else {
		st.cancel()
	}
	return reply.Frame, err
}

// borrow returns an idle bulk stream, or a new one: on a lane that nobody uses,
// or on another lane as long as there may be more, or on the least busy one.
func (l *link) borrow(call context.Context) (*bulkStream, error) {
	l.mu.Lock()
	if n := len(l.mu.idle); n > 0 {
		st := l.mu.idle[n-1]
		l.mu.idle = l.mu.idle[:n-1]
		st.lane.busy.Add(1)
		l.mu.Unlock()
		return st, nil
	}
	var ln *lane
	for _, other := range l.mu.lanes[1:] {
		if ln == nil || other.busy.Load() < ln.busy.Load() {
			ln = other
		}
	}
	if ln == nil || ln.busy.Load() > 0 && len(l.mu.lanes) < 1+l.r.conf.BulkConns {
		var err error
		if ln, err = l.laneLocked(); err != nil {
			l.mu.Unlock()
			return nil, err
		}
	}
	if ln.busy.Add(1) == 1 {
		ln.heard.Store(time.Now().UnixNano())
	}
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(l.ctx)
	defer context.AfterFunc(call, cancel)() // while the lane is connecting
	st, err := ln.grpc.NewStream(ctx, wire.StreamDesc, wire.BulkMethod)
	if err != nil {
		ln.busy.Add(-1)
		cancel()
		return nil, err
	}
	return &bulkStream{ClientStream: st, cancel: cancel, lane: ln}, nil
}

// giveBack keeps a stream for the next call.
func (l *link) giveBack(st *bulkStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.idle = append(l.mu.idle, st)
}

// lender is a mem.BufferPool that tells when gRPC gives a lent buffer back.
type lender chan struct{}

// Get is never called.
func (lender) Get(n int) *[]byte { b := make([]byte, n); return &b }

// Put is called when gRPC needs the buffer no more.
func (c lender) Put(*[]byte) { c <- struct{}{} }

// lendTime is how long gRPC may hold a buffer of a call that has ended before
// the link is given up for it.
const lendTime = 100 * time.Millisecond

// wait returns when the buffer is the caller's again.
func (c lender) wait(l *link, answered bool) {
	if c == nil {
		return
	}
	select {
	case <-c:
		return
	default:
	}
	d := lendTime
	if answered {
		d = wire.StallAfter // all was sent: it is a matter of a moment
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
		l.fail(errors.New("a connection does not take what is sent"))
		select {
		case <-c:
		case <-l.closed:
		}
	}
}
