package remote

import (
	"context"
	"errors"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// call is a request from its making until its reply has been decoded. Its
// caller owns it, except that while it is in Remote.mu.pending the fields below done are
// guarded by Remote.mu; who else takes it out of there sends on done.
type call struct {
	number   uint64
	op       wire.Op
	frame    []byte // the whole request, kept for sending it again; without out
	out      []byte // the data of a write, which end the request
	in       []byte // where the data of a read go
	n        int    // how many came there
	deadline time.Time
	file     *file // the operation is on it
	done     chan struct{}

	sent       bool        // it was handed to a connection: it may have been executed
	polls      bool        // it waits for a lock
	lock       volume.Lock // of a Lock
	parting    *parting    // of a Remove
	repeatable bool        // it may be sent to a brick that does not know whether it was executed
	twice      bool        // it was
	lane       *lane       // on which it is under way; the caller alone uses it
	reply      []byte      // body of the reply, if err is nil
	outcome    []byte      // likewise, of a call that a server before the present one has executed
	told       volume.Attr
	data       []byte // contents of the file that it opened
	turn       uint64 // Remote.mu.turn when it began
	err        error

	id     volume.ID    // of an Open
	flags  volume.Flags // of an Open or Create
	opened *file        // by an Open or Create that succeeded

	// Of a repeatable change: what it touches, and the next one of the same object.
	object     volume.ID
	from, to   int64
	syncs      bool // and makes what was written before durable
	superseded bool // a later change of the same was acknowledged
	next       *call
}

// frameKeep is how large a request's buffer may be, in bytes, to be used again.
const frameKeep = 16 << 10

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// newCall returns a call whose frame has its header; arguments are to be appended.
func (r *Remote) newCall(ctx context.Context, op wire.Op) *call {
	c := calls.Get().(*call)
	c.op = op
	c.number = r.number.Add(1)
	c.repeatable = op.Idempotent()
	timeout := r.timeout()
	now := time.Now()
	if d, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, d.Sub(now)), time.Millisecond)
	}
	c.deadline = now.Add(timeout)
	c.frame = wire.AppendRequest(c.frame[:0], op, c.number, wire.Header{
		Timeout: timeout, Cred: volume.CredOf(ctx), Layout: volume.LayoutOf(ctx)})
	return c
}

// free gives a call back that is not pending and whose reply has been decoded.
func free(c *call) {
	frame := c.frame
	if cap(frame) > frameKeep {
		frame = nil
	}
	*c = call{done: c.done, frame: frame}
	calls.Put(c)
}

// changes notes what a repeatable change touches: bytes from … to of an object,
// or, with 0, 0, all that Setattr and the like change.
func (c *call) changes(object volume.ID, from, to int64) {
	if from == 0 && to == 0 {
		to = math.MaxInt64
	}
	c.object, c.from, c.to = object, from, to
}

// do sends a call whose arguments are complete and waits for its end. The
// Reader is of the results; they may be there though an error is, too.
func (r *Remote) do(ctx context.Context, c *call) (wire.Reader, error) {
	t, err := r.start(ctx, c)
	if err != nil {
		return wire.Reader{}, err
	}
	return r.await(ctx, c, t)
}

// try is a call on its way for the first time.
type try struct {
	l    *link
	ln   *lane // nil: the call has ended before it was sent
	err  error // of the sending
	stop func() bool
}

// start sends a call whose arguments are complete; await must follow.
func (r *Remote) start(ctx context.Context, c *call) (t try, err error) {
	wire.EndFrameWith(c.frame, 0, len(c.out))
	if err := r.begin(ctx, c); err != nil {
		return t, err
	}
	if ctx.Done() != nil {
		number, op := c.number, c.op
		t.stop = context.AfterFunc(ctx, func() { r.abandon(number, r.ctxError(ctx, op)) })
	}
	if t.l, t.ln = r.seize(ctx, c); t.ln != nil {
		t.err = t.ln.send(c)
	}
	return t, nil
}

// await waits for the end of a call that start has begun.
func (r *Remote) await(ctx context.Context, c *call, t try) (wire.Reader, error) {
	if t.stop != nil {
		defer t.stop()
	}
	for t.ln != nil {
		if t.err == nil {
			t.err = t.ln.receive(c)
		}
		answered, over := r.settle(t.l, t.ln, c, t.err)
		if answered {
			return r.result(ctx, c)
		}
		if over {
			break
		}
		select { // the link has failed, and its successor sends the call again
		case <-t.l.ctx.Done():
		case <-c.done:
			c.done <- struct{}{}
		}
		if t.l, t.ln = r.seize(ctx, c); t.ln != nil {
			t.err = t.ln.send(c)
		}
	}
	<-c.done
	if c.err != nil {
		return wire.Reader{}, c.err
	}
	c.reply = c.outcome
	return r.result(ctx, c)
}

// result reads the reply of a call.
func (r *Remote) result(ctx context.Context, c *call) (wire.Reader, error) {
	if !c.told.ID.IsZero() {
		if b := volume.BesideOf(ctx); b != nil && c.op == wire.OpOpen {
			b.File = c.told
		} else if b != nil {
			b.Dir = c.told
		}
	}
	rd := wire.NewReader(c.reply)
	err := wire.ParseStatus(&rd)
	if rd.Bad() {
		err = r.malformed(c.op)
	}
	return rd, err
}

// settle notes how an exchange ended, and reports whether the call was answered by
// it, or is over because somebody ended it meanwhile, of which done tells.
func (r *Remote) settle(l *link, ln *lane, c *call, err error) (answered, over bool) {
	r.mu.Lock()
	c.lane = nil
	pending := r.mu.pending[c.number] == c
	if pending && err == nil && r.mu.link != l && (c.op == wire.OpLock || c.op == wire.OpOpen || c.op == wire.OpCreate || c.parting != nil) {
		err = errLate
	}
	if pending && err == nil {
		err = r.acceptLocked(c)
	}
	if pending && err == nil {
		l.useful = true
		l.returnLocked(ln)
		r.mu.Unlock()
		r.release(c)
		return true, false
	}
	c.reply = nil
	r.mu.Unlock()
	if pending { // the connection broke, or the brick breaks the protocol
		if errors.Is(err, wire.ErrMalformed) {
			r.log.Error("the brick breaks the protocol", "err", err)
		}
		l.fail(err)
	} else {
		l.drop(ln)
	}
	return false, !pending
}

// errLate is why an answer about a lock, an open file, or that a name will be removed, is not taken: what this client has may have
// been declared to the next server, and opened there, meanwhile. The call is sent again there.
var errLate = errors.New("the answer came when its link was given up")

func (r *Remote) malformed(op wire.Op) error {
	return &volume.Error{Op: op.String(), Where: r.where, Errno: syscall.EIO, Err: wire.ErrMalformed}
}

// ctxError is what a call returns whose context is done.
func (r *Remote) ctxError(ctx context.Context, op wire.Op) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &volume.Error{Op: op.String(), Where: r.where, Errno: syscall.ETIMEDOUT, Reason: volume.Unavailable, Err: ctx.Err()}
	}
	return &volume.Error{Op: op.String(), Where: r.where, Errno: syscall.EINTR, Err: ctx.Err()}
}

// begin enters a call into pending.
func (r *Remote) begin(ctx context.Context, c *call) error {
	if ctx.Err() != nil {
		return r.ctxError(ctx, c.op)
	}
	if c.slotted() {
		if err := r.acquire(ctx, c); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuseLocked(c); err != nil {
		r.release(c)
		return err
	}
	r.mu.pending[c.number] = c
	if c.writes() {
		r.mu.turn++
	}
	c.turn = r.mu.turn
	if !c.object.IsZero() && c.repeatable {
		c.next = r.mu.changing[c.object]
		r.mu.changing[c.object] = c
	}
	return nil
}

// refuseLocked tells why a call can't begin.
func (r *Remote) refuseLocked(c *call) error {
	switch {
	case r.mu.closed:
		return r.unavailable(c.op.String(), errClosed)
	case c.fileFailureLocked() != nil:
		return c.fileFailureLocked()
	case r.mu.link != nil:
		return r.lockless(c)
	case c.op.Between(), time.Since(r.mu.downSince) > r.timeout():
		return r.unavailable(c.op.String(), r.mu.lastErr)
	}
	return nil
}

// fileFailureLocked returns why all that is asked of the call's file fails. Locks can be given up all the same, if
// it is open at the brick.
func (c *call) fileFailureLocked() error {
	switch {
	case c.file == nil:
		return nil
	case c.op == wire.OpLock && c.lock.Type == volume.Unlocked:
		return c.file.err
	}
	return c.file.failureLocked()
}

// acquire waits for one of the slots, which bound what is in flight.
func (r *Remote) acquire(ctx context.Context, c *call) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(time.Until(c.deadline))
	defer t.Stop()
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return r.ctxError(ctx, c.op)
	case <-t.C:
		return r.unavailable(c.op.String(), errors.New("too many requests are waiting"))
	case <-r.closing.Done():
		return r.unavailable(c.op.String(), errClosed)
	}
}

func (r *Remote) release(c *call) {
	if c.slotted() {
		<-r.slots
	}
}

// slotted reports whether the call takes one of the slots: not, if it merely waits.
func (c *call) slotted() bool { return !c.op.Between() && !c.polls }

// takeLocked takes a call out of pending. False: someone else did.
func (r *Remote) takeLocked(c *call, acknowledged bool) bool {
	if r.mu.pending[c.number] != c {
		return false
	}
	delete(r.mu.pending, c.number)
	if c.writes() {
		r.mu.turn++
	}
	if !c.object.IsZero() && c.repeatable {
		r.untrackLocked(c, acknowledged)
	}
	return true
}

// untrackLocked takes a change out of the list of its object and, if it was
// acknowledged, bars the others that touch the same from being repeated:
// they would undo it.
func (r *Remote) untrackLocked(c *call, acknowledged bool) {
	var head *call
	for o := r.mu.changing[c.object]; o != nil; {
		next := o.next
		if o != c {
			if acknowledged && o.from < c.to && c.from < o.to {
				o.superseded = true
			}
			o.next, head = head, o
		}
		o = next
	}
	c.next = nil
	if head == nil {
		delete(r.mu.changing, c.object)
	} else {
		r.mu.changing[c.object] = head
	}
}

// endLocked ends a pending call without a reply.
func (r *Remote) endLocked(c *call, err error) {
	if !r.takeLocked(c, false) {
		return
	}
	c.err = err
	if c.lane != nil {
		c.lane.Interrupt()
	}
	r.release(c)
	c.done <- struct{}{}
}

// abandon ends the call with this number, if it is still pending: its caller
// does not want to wait any more.
func (r *Remote) abandon(number uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.mu.pending[number]; c != nil {
		r.cancelLocked(c, err)
	}
}

// cancelLocked ends a pending call and tells the brick that nobody wants its reply.
func (r *Remote) cancelLocked(c *call, err error) {
	if l := r.mu.link; c.sent && l != nil {
		_ = l.queue.Add(wire.AppendEmpty(nil, wire.Cancel, c.number))
		l.queue.Kick()
	}
	r.endLocked(c, err)
}

// expire ends what is over its deadline. A link on which nothing was heard for as
// long as a call may take is given up with the first call that this happens to, so that the
// next ones need not wait as long again.
func (r *Remote) expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, expired := r.mu.link, false
	for _, c := range r.mu.pending {
		if now.After(c.deadline) {
			cause := errors.New("no answer in time")
			if l == nil {
				cause = r.mu.lastErr
			}
			expired = true
			r.cancelLocked(c, r.unavailable(c.op.String(), cause))
		}
	}
	if expired && l != nil && now.Sub(l.heardAt()) > max(r.timeout(), wire.PingInterval+wire.PingInterval/2) {
		l.fail(errSilent)
		r.detachLocked(l, errSilent)
	}
}

var errSilent = errors.New("nothing was heard for the time that a call may take")

// acceptLocked takes note of a call's reply; the call leaves pending. An
// error means that the brick breaks the protocol.
func (r *Remote) acceptLocked(c *call) error {
	ok := wire.PeekErrno(c.reply) == 0
	if ok && (c.op == wire.OpOpen || c.op == wire.OpCreate) {
		if err := r.openedLocked(c, c.reply); err != nil {
			return err
		}
	}
	if ok && c.op == wire.OpLock {
		r.lockedLocked(c)
	}
	if ok && c.parting != nil {
		if err := r.removedLocked(c); err != nil {
			return err
		}
	}
	r.takeLocked(c, ok)
	return nil
}

// openedLocked enters the file that a call has opened, so that it is opened again in a new session.
func (r *Remote) openedLocked(c *call, body []byte) error {
	object := c.id
	if c.op == wire.OpCreate {
		rd := wire.NewReader(body)
		_ = wire.ParseStatus(&rd)
		opened, attr := rd.Created()
		if !rd.Done() {
			return wire.ErrMalformed
		}
		if !opened {
			return nil
		}
		object = attr.ID
	}
	c.opened = r.newFile(c, object)
	r.mu.files[c.number] = c.opened
	r.firstLocked(c.opened, c)
	return nil
}
