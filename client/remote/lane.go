package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// laneIdle is after what time a lane that was not used is closed, the last excepted.
const laneIdle = 10 * time.Second

// lane is a connection of a link for one call at a time.
type lane struct {
	*wire.Lane
	out      []byte      // scratch: what is sent
	answered uint64      // the call whose reply came last and the brick remembers; 0: none
	busy     atomic.Bool // a call waits for it
	used     time.Time   // last; guarded by Remote.mu
}

// openLane connects a new lane.
func (l *link) openLane(ctx context.Context) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	raw, err := l.target.dial(ctx)
	if err != nil {
		return nil, err
	}
	wl, err := wire.OpenLane(raw, l.tls(), wire.LaneHello{Session: l.r.session, Attachment: l.attachment})
	if err != nil {
		return nil, err
	}
	ln := &lane{Lane: wl}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed {
		wl.Close()
		return nil, context.Cause(l.ctx)
	}
	l.mu.lanes[ln] = struct{}{}
	return ln, nil
}

// tls returns the configuration of lanes, nil for none. As gRPC does, it takes
// the address for the name of the brick if none is given.
func (l *link) tls() *tls.Config {
	conf := l.r.conf.TLS
	if conf == nil || conf.ServerName != "" {
		return conf
	}
	conf = conf.Clone()
	if conf.ServerName, _, _ = net.SplitHostPort(l.target.Addr); conf.ServerName == "" {
		conf.ServerName = l.target.Addr
	}
	return conf
}

// drop closes a lane.
func (l *link) drop(ln *lane) {
	ln.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.lanes, ln)
}

// send sends a call; receive must follow if that succeeds.
func (ln *lane) send(c *call) error {
	ln.Expect(time.Now())
	ln.busy.Store(true)
	ln.out = append(ln.out, c.frame...) // after the Closes that are there
	err := ln.Send(ln.out, c.out)
	if ln.out = ln.out[:0]; err != nil {
		ln.busy.Store(false)
		return err
	}
	ln.answered = 0
	return nil
}

// receive takes a call's reply: the data of a read where the
// caller wants them, else into the call's body. When it returns nobody uses the
// caller's buffers any more.
func (ln *lane) receive(c *call) error {
	defer ln.busy.Store(false)
	for {
		f, size, err := ln.Next()
		switch {
		case err != nil:
			return err
		case f.Kind == wire.Pong: // it is being worked on
			continue
		case f.Kind == wire.Told || f.Kind == wire.Data:
			if err := ln.aside(c, f.Kind, size); err != nil {
				return err
			}
			continue
		case f.Kind != wire.Reply || f.Number != c.number || f.Op != c.op:
			return wire.ErrMalformed
		}
		if err := ln.take(c, size); err != nil {
			return err
		}
		if !c.op.Repeatable() {
			ln.answered = c.number
		}
		return nil
	}
}

// aside reads what comes before a reply.
func (ln *lane) aside(c *call, k wire.Kind, size int) error {
	if size > volume.IOMax {
		return wire.ErrMalformed
	}
	body := make([]byte, size)
	if err := ln.Body(body); err != nil {
		return err
	}
	if k == wire.Data {
		c.data = body
		return nil
	}
	r := wire.NewReader(body)
	if c.told = r.Attr(); !r.Done() {
		return wire.ErrMalformed
	}
	return nil
}

// take reads the body of a call's reply.
func (ln *lane) take(c *call, size int) error {
	const status = 2
	if c.in == nil || size <= status {
		c.reply = make([]byte, size)
		return ln.Body(c.reply)
	}
	c.reply = make([]byte, status, 64)
	if err := ln.Body(c.reply); err != nil {
		return err
	}
	if wire.PeekErrno(c.reply) != 0 {
		c.reply = append(c.reply, make([]byte, size-status)...)
		return ln.Body(c.reply[status:])
	}
	if c.n = size - status; c.n > len(c.in) {
		return wire.ErrMalformed
	}
	return ln.Body(c.in[:c.n])
}

// seize waits for a link that works and gets the call a lane of it, marked as
// sent on it. It returns none when the call has ended.
func (r *Remote) seize(ctx context.Context, c *call) (*link, *lane) {
	for {
		r.mu.Lock()
		l, changed := r.mu.link, r.mu.changed
		if r.mu.pending[c.number] != c {
			r.mu.Unlock()
			return nil, nil
		}
		if l != nil && l.ctx.Err() == nil {
			if ln := l.idleLocked(); ln != nil {
				r.occupyLocked(c, ln)
				r.mu.Unlock()
				return l, ln
			}
			r.mu.Unlock()
			if ln := r.open(ctx, l, c); ln != nil {
				return l, ln
			}
			continue
		}
		r.mu.Unlock()
		select {
		case <-c.done:
			c.done <- struct{}{} // the caller takes it
			return nil, nil
		case <-changed:
		}
	}
}

// open gets a call a new lane; nil: the call or the link has ended.
func (r *Remote) open(ctx context.Context, l *link, c *call) *lane {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	ln, err := l.openLane(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.fail(err)
		}
		select { // the end of either is near
		case <-l.ctx.Done():
		case <-c.done:
			c.done <- struct{}{}
		}
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.pending[c.number] != c || r.mu.link != l {
		l.drop(ln)
		return nil
	}
	r.occupyLocked(c, ln)
	return ln
}

// idleLocked takes an idle lane: the one used last, whose ends are awake.
func (l *link) idleLocked() *lane {
	n := len(l.idle)
	if n == 0 {
		return nil
	}
	ln := l.idle[n-1]
	l.idle = l.idle[:n-1]
	return ln
}

// occupyLocked gives a call a lane, and the lane the Closes that are due.
func (r *Remote) occupyLocked(c *call, ln *lane) {
	c.lane, c.sent = ln, true
	if len(r.mu.closes) > 0 {
		ln.out = wire.AppendClose(ln.out, r.mu.closes)
		r.mu.closes = r.mu.closes[:0]
	}
}

// returnLocked makes a lane idle.
func (l *link) returnLocked(ln *lane) {
	ln.used = time.Now()
	l.idle = append(l.idle, ln)
}

// trim closes lanes that are not needed any more.
func (l *link) trim(now time.Time) {
	l.r.mu.Lock()
	n := 0
	for n < len(l.idle)-1 && now.Sub(l.idle[n].used) > laneIdle {
		n++
	}
	old := slices.Clone(l.idle[:n])
	l.idle = slices.Delete(l.idle, 0, n)
	l.r.mu.Unlock()
	for _, ln := range old {
		if ln.answered != 0 {
			_ = l.queue.Add(wire.AppendAck(nil, []uint64{ln.answered}))
		}
		l.drop(ln)
	}
}

// stalled reports whether a call waits on a lane that is silent: on a live
// one the brick says every second that it is at work.
func (l *link) stalled(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ln := range l.mu.lanes {
		if ln.busy.Load() && now.Sub(ln.Heard()) > wire.StallAfter {
			return true
		}
	}
	return false
}

var errStalled = errors.New("nothing was heard on a lane for " + wire.StallAfter.String())
