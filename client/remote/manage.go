package remote

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
)

// manage keeps a link until Close.
func (r *Remote) manage() {
	backoff := time.Duration(0)
	for r.closing.Err() == nil {
		addr := r.Addr()
		if addr == "" {
			r.pause(r.timeout())
			continue
		}
		l, w, err := r.connect(addr)
		if err == nil {
			err = r.adopt(l, w)
		}
		if err != nil {
			l.close()
			r.failed(err)
		} else {
			r.log.Info("connected", "addr", addr, "known", w.Known)
			r.stay(l, addr)
			err = context.Cause(l.ctx)
			r.detach(l, err)
			l.close()
			r.log.Warn("connection lost", "addr", addr, "err", err)
			backoff = 0
			if time.Since(l.born) > backoffMax {
				continue
			}
		}
		if r.pause(backoff/2 + rand.N(backoff/2+backoffMin/4)) {
			backoff = 0
			continue
		}
		backoff = min(max(2*backoff, backoffMin), backoffMax)
	}
}

// pause waits for d, or less when the address changes: then it returns true.
func (r *Remote) pause(d time.Duration) (moved bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.closing.Done():
	case <-r.moved:
		return true
	}
	return false
}

// stay returns when the link has failed or leads to the wrong address.
func (r *Remote) stay(l *link, addr string) {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-r.moved:
			if now := r.Addr(); now != "" && now != addr {
				return
			}
		}
	}
}

// failed notes why there is no link.
func (r *Remote) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.lastErr == nil || r.mu.lastErr.Error() != err.Error() {
		r.log.Warn("can't connect", "addr", r.mu.addr, "err", err)
	}
	r.mu.lastErr = err
	r.broadcastLocked()
}

// detach makes the Remote be without a link. The brick has been away since it was heard
// last: who asks waits no longer for it, in all, than the timeout.
func (r *Remote) detach(l *link, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detachLocked(l, err)
}

func (r *Remote) detachLocked(l *link, err error) {
	if r.mu.link != l {
		return
	}
	r.mu.link, r.mu.downSince, r.mu.lastErr = nil, l.heardAt(), err
	for _, c := range r.mu.pending {
		if c.op.Between() {
			r.endLocked(c, r.unavailable(c.op.String(), err))
		}
	}
	r.broadcastLocked()
}

// remember writes into a hello the requests that the brick must not forget, and
// the files that it must keep open.
func (r *Remote) remember(h *wire.HelloBody) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, c := range r.mu.pending {
		if c.sent && len(h.Unanswered) < wire.UnansweredMax {
			h.Unanswered = append(h.Unanswered, n)
		}
	}
	h.Handles, h.Server = slices.Collect(maps.Keys(r.mu.files)), r.mu.server
}

// adopt makes a link that was welcomed the Remote's: it opens the files again
// if the session is new to the brick, and lets their callers send what is unanswered.
func (r *Remote) adopt(l *link, w *wire.WelcomeBody) error {
	t := time.AfterFunc(connectTime, func() { l.fail(context.DeadlineExceeded) })
	defer t.Stop()
	if !w.Known {
		if err := r.reopen(l, w); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return errClosed
	}
	booted := r.mu.boot != wire.SessionID{} && r.mu.boot != w.Boot
	r.mu.boot, r.mu.server = w.Boot, w.Server
	r.mu.link, r.mu.lastErr = l, nil
	for _, c := range r.mu.pending {
		if err := r.barred(c, w.Known, booted); err != nil {
			r.endLocked(c, err)
		}
	}
	l.start()
	l.queue.Kick()
	r.broadcastLocked()
	return nil
}

// barred tells why a pending call must not be sent on a new link.
func (r *Remote) barred(c *call, known, booted bool) error {
	op := c.op.String()
	switch {
	case known:
		return nil
	case c.file != nil && c.file.err != nil:
		return c.file.err
	case !c.sent:
		return nil
	case !c.repeatable:
		return r.unknown(op, "the brick was restarted before it answered")
	case c.superseded:
		return r.unknown(op, "the brick was restarted before it answered, and a later change was acknowledged")
	case booted && (c.op == wire.OpSync || c.op == wire.OpFileSync):
		return r.unknown(op, "the brick's machine was rebooted before what was written was synced")
	}
	return nil
}

// reopen opens all files again in a session that is new to the brick. One that
// can't be opened keeps the error, for all that is asked of it later.
func (r *Remote) reopen(l *link, w *wire.WelcomeBody) error {
	r.mu.Lock()
	booted := r.mu.boot != wire.SessionID{} && r.mu.boot != w.Boot
	files := slices.Collect(maps.Values(r.mu.files))
	r.mu.Unlock()
	if len(files) == 0 {
		return nil
	}
	ln, err := l.openLane(l.ctx)
	for err == nil && len(files) > 0 {
		n := min(len(files), reopenBatch)
		err = r.reopenSome(ln, files[:n], booted)
		files = files[n:]
	}
	if err != nil {
		return err
	}
	l.returnLocked(ln) // nobody else has the link yet
	return nil
}

// reopenBatch is how many files are asked for before the first answer is
// read: few enough for the sockets' buffers.
const reopenBatch = 64

func (r *Remote) reopenSome(ln *lane, files []*file, booted bool) error {
	var b []byte
	numbers := make([]uint64, len(files))
	for i, f := range files {
		numbers[i] = r.number.Add(1)
		start := len(b)
		b = wire.AppendRequest(b, wire.OpOpen, numbers[i], wire.Header{Timeout: connectTime})
		b = (&wire.OpenArgs{ID: f.id, Flags: f.flags, Handle: f.handle}).Append(b)
		b = wire.EndFrame(b, start)
	}
	if err := ln.Send(b, nil); err != nil {
		return err
	}
	for i := 0; i < len(files); {
		f, size, err := ln.Next()
		if err != nil {
			return err
		}
		body := make([]byte, size)
		if err := ln.Body(body); err != nil {
			return err
		}
		switch {
		case f.Kind == wire.Pong:
			continue
		case f.Kind != wire.Reply || f.Number != numbers[i]:
			return wire.ErrMalformed
		}
		r.reopened(files[i], body, booted)
		i++
	}
	ln.answered = numbers[len(numbers)-1]
	return nil
}

// reopened notes how the reopening of a file ended.
func (r *Remote) reopened(f *file, body []byte, booted bool) {
	rd := wire.NewReader(body)
	err := wire.ParseStatus(&rd)
	r.mu.Lock()
	defer r.mu.Unlock()
	f.err = err
	if booted && f.dirty.Load() {
		f.lost.Store(true)
	}
	if err != nil {
		r.log.Warn("an open file is gone", "id", f.id.String(), "err", err)
	}
}

// watch looks after deadlines and the link until Close.
func (r *Remote) watch() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-r.closing.Done():
			return
		case now := <-t.C:
			r.expire(now)
			r.dropFirsts(now)
			r.mu.Lock()
			l := r.mu.link
			r.mu.Unlock()
			if l != nil {
				l.watch(now)
			}
		}
	}
}
