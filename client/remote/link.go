package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/mortarfs/mortar/brick/wire"
)

// directMax bounds the bytes of unanswered requests up to which a caller sends
// by himself: less than gRPC's write quota of a stream (64 KiB), so that his send can't
// block, for what is not yet written is not yet answered.
const directMax = 48 << 10

// link is one connection of the session: the Session stream, and connections for bulk data.
type link struct {
	r          *Remote
	addr       string
	attachment uint64
	wantFlush  bool
	stream     grpc.ClientStream
	queue      *wire.Queue
	ctx        context.Context // done when the link has failed
	cancel     context.CancelCauseFunc
	born       time.Time
	closed     chan struct{} // closed when all is torn down
	wg         sync.WaitGroup

	heard      atomic.Int64 // when something came on the Session stream, ns of the Unix epoch
	unanswered atomic.Int64 // bytes of requests sent and not answered
	lost       atomic.Int64 // of them, bytes of those that were abandoned
	scratch    []byte       // guarded by Remote.mu
	lastPing   time.Time    // of watch
	lostAtPing int64        // of watch, and of receive after the ping

	mu struct {
		sync.Mutex
		lanes  []*lane // the first one carries the Session stream, the others bulk data
		idle   []*bulkStream
		failed bool
	}
}

// lane is one gRPC connection over one TCP connection, which is never made
// again: a link that breaks is replaced.
type lane struct {
	grpc  *grpc.ClientConn
	raw   net.Conn     // nil until it is dialed; guarded by link.mu
	heard atomic.Int64 // when bytes came, ns of the Unix epoch
	busy  atomic.Int32 // bulk calls that wait for it
}

// watchedConn notes when bytes came.
type watchedConn struct {
	net.Conn
	lane *lane
}

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.lane.heard.Store(time.Now().UnixNano())
	return n, err
}

// laneLocked adds a lane, which is dialed by its first stream.
func (l *link) laneLocked() (*lane, error) {
	if l.mu.failed {
		return nil, context.Cause(l.ctx)
	}
	ln := &lane{}
	ln.heard.Store(time.Now().UnixNano())
	opts := append(wire.DialOptions(l.r.conf.TLS), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return l.dial(ctx, ln, addr) }))
	var err error
	if ln.grpc, err = grpc.NewClient("passthrough:///"+l.addr, opts...); err != nil {
		return nil, err
	}
	l.mu.lanes = append(l.mu.lanes, ln)
	return ln, nil
}

// dial is called by gRPC to connect a lane.
func (l *link) dial(ctx context.Context, ln *lane, addr string) (net.Conn, error) {
	l.mu.Lock()
	used := ln.raw != nil
	l.mu.Unlock()
	if used {
		err := errors.New("the connection was lost")
		l.fail(err)
		return nil, err
	}
	raw, err := l.r.conf.Dial(ctx, addr)
	if err != nil {
		l.fail(err)
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed {
		_ = raw.Close()
		return nil, context.Cause(l.ctx)
	}
	ln.raw = raw
	ln.heard.Store(time.Now().UnixNano())
	return watchedConn{raw, ln}, nil
}

// connect makes a link up to the brick's Welcome. The caller must close it, also after an error.
func (r *Remote) connect(addr string) (*link, *wire.WelcomeBody, error) {
	l := &link{r: r, addr: addr, born: time.Now(), closed: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(r.closing)
	l.lastPing = l.born
	t := time.AfterFunc(connectTime, func() { l.fail(fmt.Errorf("%s did not answer within %v", addr, connectTime)) })
	defer t.Stop()
	w, err := l.hello()
	if err != nil && l.ctx.Err() != nil && r.closing.Err() == nil {
		err = context.Cause(l.ctx) // says more
	}
	return l, w, err
}

func (l *link) hello() (*wire.WelcomeBody, error) {
	l.mu.Lock()
	ln, err := l.laneLocked()
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if l.stream, err = ln.grpc.NewStream(l.ctx, wire.StreamDesc, wire.SessionMethod); err != nil {
		return nil, err
	}
	l.queue = wire.NewQueue(func(m *wire.Out) error { return l.stream.SendMsg(m) })
	c := &l.r.conf
	h := wire.HelloBody{
		VersionMin: wire.VersionMin, VersionMax: wire.Version,
		Volume: c.VolumeID, Brick: c.BrickID, Session: l.r.session,
		Client: c.Client, ClientVersion: c.Version, Token: c.Token, Layout: c.Layout,
	}
	h.Unanswered, h.Handles = l.r.remembered()
	b := h.Append(wire.AppendBatchHeader(nil))
	wire.EndBatch(b)
	if err := l.stream.SendMsg(&wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}); err != nil {
		return nil, err
	}
	f, err := l.next()
	if err != nil {
		return nil, err
	}
	var w wire.WelcomeBody
	rd := wire.NewReader(f.Body)
	if f.Kind != wire.Welcome || !w.Parse(&rd) {
		return nil, wire.ErrMalformed
	}
	if w.Err != nil {
		return nil, w.Err
	}
	l.attachment, l.wantFlush = w.Attachment, w.WantFlush
	return &w, nil
}

// next receives a batch of one frame, while nothing else is under way.
func (l *link) next() (f wire.Frame, err error) {
	var in wire.In
	if err := l.stream.RecvMsg(&in); err != nil {
		return f, err
	}
	l.heard.Store(time.Now().UnixNano())
	frames, err := wire.ParseBatch(in.Batch)
	if err == nil {
		f, _, err = wire.NextFrame(frames)
	}
	return f, err
}

func (l *link) heardAt() time.Time { return time.Unix(0, l.heard.Load()) }

// start begins to receive and to send.
func (l *link) start() {
	l.wg.Go(func() { l.queue.Run(l.ctx) })
	l.wg.Go(l.receive)
}

// receive hands replies to their callers until the link fails.
func (l *link) receive() {
	for {
		var in wire.In
		if err := l.stream.RecvMsg(&in); err != nil {
			l.fail(err)
			return
		}
		l.heard.Store(time.Now().UnixNano())
		frames, err := wire.ParseBatch(in.Batch)
		if err == nil {
			err = l.r.replies(l, frames)
		}
		if err != nil {
			l.r.log.Error("the brick breaks the protocol", "err", err)
			l.fail(err)
			return
		}
	}
}

// watch pings, and fails a link that has stalled.
func (l *link) watch(now time.Time) {
	if now.Sub(l.lastPing) >= wire.PingInterval {
		l.lastPing = now
		l.r.mu.Lock()
		l.lostAtPing += l.lost.Swap(0)
		l.r.ackLocked(l)
		l.r.mu.Unlock()
		_ = l.queue.Add(wire.AppendEmpty(nil, wire.Ping, 0))
	}
	l.queue.Kick() // also what Close has queued
	if silent := now.Sub(l.heardAt()); silent > wire.StallAfter {
		l.fail(fmt.Errorf("nothing was heard for %v", silent.Round(tick)))
		return
	}
	if l.bulkStalled(now) {
		l.fail(fmt.Errorf("nothing was heard for %v on a bulk connection", wire.StallAfter))
	}
}

// bulkStalled reports whether calls wait for a silent bulk connection. On a
// live one there is always something to hear, at least gRPC's keepalive from the server.
func (l *link) bulkStalled(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.mu.lanes[1:] {
		if ln.busy.Load() > 0 && now.Sub(time.Unix(0, ln.heard.Load())) > wire.StallAfter {
			return true
		}
	}
	return false
}

// pong is called, with Remote.mu held, when all that was sent before the last ping has arrived.
func (l *link) pong() {
	l.unanswered.Add(-l.lostAtPing)
	l.lostAtPing = 0
}

// fail makes the link unusable, for the reason err; whatever waits for it goes on.
func (l *link) fail(err error) {
	l.cancel(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.failed = true
	for _, ln := range l.mu.lanes {
		if ln.raw != nil {
			_ = ln.raw.Close()
		}
	}
}

// bye tells the brick that the session ends, and waits a little for it to hang up.
func (l *link) bye() {
	_ = l.queue.Add(wire.AppendEmpty(nil, wire.Bye, 0))
	l.queue.Kick()
	select {
	case <-l.ctx.Done():
	case <-time.After(500 * time.Millisecond):
	}
}

// close tears down what fail has left and waits for the goroutines.
func (l *link) close() {
	l.fail(errClosed)
	l.mu.Lock()
	lanes := l.mu.lanes
	l.mu.Unlock()
	for _, ln := range lanes {
		_ = ln.grpc.Close()
	}
	l.wg.Wait()
	close(l.closed)
}
