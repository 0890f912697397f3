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

// link is one attachment of the session to the brick: the Session stream, and
// lanes. It is never mended: when anything of it breaks, it is replaced.
type link struct {
	r          *Remote
	target     Target
	attachment uint64
	wantFlush  bool
	grpc       *grpc.ClientConn // over one TCP connection
	stream     grpc.ClientStream
	queue      *wire.Queue
	ctx        context.Context // done when the link has failed
	cancel     context.CancelCauseFunc
	born       time.Time
	wg         sync.WaitGroup
	hatch      *hatch // nil: none can be had; set before the link is the Remote's

	heard    atomic.Int64 // when something came on the Session stream, ns of the Unix epoch
	lastPing time.Time    // of watch
	useful   bool         // a call was answered on it; guarded by Remote.mu
	idle     []*lane      // the one used last is the last; guarded by Remote.mu

	mu struct {
		sync.Mutex
		raw    net.Conn // of grpc; nil until it is dialed
		lanes  map[*lane]struct{}
		hatch  *hatch // the same
		failed bool
	}
}

// dial is called by gRPC to connect; a second time means that the connection was lost.
func (l *link) dial(ctx context.Context, _ string) (net.Conn, error) {
	l.mu.Lock()
	used := l.mu.raw != nil
	l.mu.Unlock()
	if used {
		err := errors.New("the connection was lost")
		l.fail(err)
		return nil, err
	}
	raw, err := l.target.dial(ctx)
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
	l.mu.raw = raw
	return raw, nil
}

// connect makes a link up to the brick's Welcome, unless ctx ends before. The
// caller must close it, also after an error.
func (r *Remote) connect(ctx context.Context, target Target) (*link, *wire.WelcomeBody, error) {
	l := &link{r: r, target: target, born: time.Now()}
	l.mu.lanes = map[*lane]struct{}{}
	l.ctx, l.cancel = context.WithCancelCause(r.closing)
	l.lastPing = l.born
	t := time.AfterFunc(connectTime, func() { l.fail(fmt.Errorf("%s did not answer within %v", target.Addr, connectTime)) })
	defer t.Stop()
	defer context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })()
	w, err := l.hello()
	if err != nil && l.ctx.Err() != nil && r.closing.Err() == nil {
		err = context.Cause(l.ctx) // says more
	}
	return l, w, err
}

func (l *link) hello() (*wire.WelcomeBody, error) {
	c := &l.r.conf
	opts := append(wire.DialOptions(c.TLS), grpc.WithIdleTimeout(0), grpc.WithContextDialer(l.dial))
	var err error
	if l.grpc, err = grpc.NewClient("passthrough:///"+l.target.Addr, opts...); err != nil {
		return nil, err
	}
	if l.stream, err = l.grpc.NewStream(l.ctx, wire.StreamDesc, wire.SessionMethod); err != nil {
		return nil, err
	}
	l.queue = wire.NewQueue(func(m *wire.Out) error { return l.stream.SendMsg(m) })
	h := wire.HelloBody{
		VersionMin: wire.VersionMin, VersionMax: wire.Version,
		Volume: c.VolumeID, Brick: l.target.BrickID, Session: l.r.session,
		Client: c.Client, ClientVersion: c.Version, Token: c.Token, Layout: c.Layout, Member: c.Member,
		Attempt: l.r.attempts.Add(1),
	}
	l.r.remember(&h)
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

// next receives a batch of one frame.
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
	if l.hatch != nil {
		l.wg.Go(l.hatch.run)
	}
}

// receive listens to the Session stream until the link fails.
func (l *link) receive() {
	for {
		f, err := l.next()
		if err == nil && f.Kind != wire.Pong {
			err = fmt.Errorf("%w: a %s on a Session", wire.ErrMalformed, f.Kind)
			l.r.log.Error("the brick breaks the protocol", "err", err)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// watch pings, and fails a link that has stalled.
func (l *link) watch(now time.Time) {
	l.r.mu.Lock()
	if len(l.r.mu.closes) > 0 { // no request took them along
		_ = l.queue.Add(wire.AppendClose(nil, l.r.mu.closes))
		l.r.mu.closes = l.r.mu.closes[:0]
	}
	l.r.mu.Unlock()
	if now.Sub(l.lastPing) >= wire.PingInterval {
		l.lastPing = now
		l.trim(now)
		_ = l.queue.Add(wire.AppendEmpty(nil, wire.Ping, 0))
	}
	l.queue.Kick()
	switch silent := now.Sub(l.heardAt()); {
	case silent > wire.StallAfter:
		l.fail(fmt.Errorf("nothing was heard for %v", silent.Round(tick)))
	case l.stalled(now):
		l.fail(errStalled)
	}
}

// fail makes the link unusable, for the reason err; whatever waits for it goes on.
func (l *link) fail(err error) {
	l.cancel(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.failed = true
	if l.mu.raw != nil {
		_ = l.mu.raw.Close()
	}
	for ln := range l.mu.lanes {
		ln.Close()
	}
	if l.mu.hatch != nil {
		l.mu.hatch.end()
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
	if l.grpc != nil {
		_ = l.grpc.Close()
	}
	l.wg.Wait()
}
