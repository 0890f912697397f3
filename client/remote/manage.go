package remote

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// manage keeps a link until Close.
func (r *Remote) manage() {
	backoff, futile := time.Duration(0), ""
	for !r.ended() {
		l, w, told := r.seek(futile)
		if l == nil {
			continue // the targets have changed, or it is over
		}
		err := r.adopt(l, w)
		if err == nil {
			r.log.Info("connected", "addr", l.target.Addr, "known", w.Known)
			err = r.stay(l, told)
			r.log.Warn("connection lost", "addr", l.target.Addr, "err", err)
		} else {
			r.failed(err)
		}
		useful := r.detach(l, err)
		l.close()
		if futile = ""; useful || time.Since(l.born) > backoffMax {
			backoff = 0
			continue
		}
		futile = l.target.id() // it may think that it serves the set, and does not
		r.pause(rand.N(backoff + backoffMin))
		backoff = min(2*backoff+backoffMin, backoffAsked)
	}
}

// ended reports whether Close has begun. The brick hangs up when it is told so, and must not be called again, for that
// would be a new session, which it keeps until its grace is over.
func (r *Remote) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.closed
}

// pause waits for d, or less when the targets change.
func (r *Remote) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.closing.Done():
	case <-r.moved:
	}
}

// stay returns when the link has failed, or leads to the wrong place as the
// targets are now; told was the primary when it was sought.
func (r *Remote) stay(l *link, told string) error {
	for {
		select {
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-r.moved:
			now, astray := r.astray(l, told)
			if astray {
				return errMoved
			}
			told = now
		}
	}
}

// detach makes the Remote be without a link. The brick has been away since it was heard
// last: who asks waits no longer for it, in all, than the timeout. It reports whether
// the link was good for anything.
func (r *Remote) detach(l *link, err error) (useful bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detachLocked(l, err)
	return l.useful
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
			if c.asks() && len(h.Ask) < wire.AskMax {
				h.Ask = append(h.Ask, n)
			}
		}
	}
	h.Handles, h.Server = slices.Collect(maps.Keys(r.mu.files)), r.mu.server
}

// adopt makes a link that was welcomed the Remote's: it opens the files again
// if the session is new to the brick, and lets their callers send what is unanswered.
func (r *Remote) adopt(l *link, w *wire.WelcomeBody) error {
	t := time.AfterFunc(connectTime, func() { l.fail(context.DeadlineExceeded) })
	defer t.Stop()
	all := decisionsOf(w)
	made := r.made(all)
	if !w.Known {
		if err := r.reopen(l, w, made); err != nil {
			return err
		}
		if err := r.reclaim(l, w.Version); err != nil {
			return err
		}
	}
	l.hatch = l.newHatch(w)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return errClosed
	}
	booted := r.mu.boot != wire.SessionID{} && r.mu.boot != w.Boot
	r.mu.boot, r.mu.server, r.mu.version = w.Boot, w.Server, w.Version
	r.mu.link, r.mu.lastErr = l, nil
	if !w.Known {
		r.debtsVoidLocked()
	}
	r.settleLocked(all, made)
	for _, c := range r.mu.pending {
		if err := r.barred(c, w.Known, booted, all); err != nil {
			r.endLocked(c, err)
		}
	}
	l.start()
	r.settleNamesLocked(l)
	l.queue.Kick()
	r.broadcastLocked()
	return nil
}

// reopen opens all files again, and those just made, in a session that is new to the
// brick. One that can't be opened keeps the error, for all that is asked of it later.
func (r *Remote) reopen(l *link, w *wire.WelcomeBody, made []*file) error {
	r.mu.Lock()
	booted := r.mu.boot != wire.SessionID{} && r.mu.boot != w.Boot
	files := append(slices.Collect(maps.Values(r.mu.files)), made...)
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
		if err := r.reopened(files[i], body, booted); err != nil {
			return err
		}
		i++
	}
	ln.answered = numbers[len(numbers)-1]
	return nil
}

// reopened notes how the reopening of a file ended. An error means that the brick
// can't say it, now.
func (r *Remote) reopened(f *file, body []byte, booted bool) error {
	rd := wire.NewReader(body)
	err := wire.ParseStatus(&rd)
	if e := volume.ErrnoOf(err); e == syscall.EINTR || e == syscall.ETIMEDOUT || volume.ReasonOf(err) == volume.Unavailable {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f.err = err
	if booted && f.dirty.Load() {
		f.lost.Store(true)
	}
	if err != nil {
		r.log.Warn("an open file is gone", "id", f.id.String(), "err", err)
	}
	return nil
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
			r.lapse(now)
			r.mu.Lock()
			l := r.mu.link
			r.mu.Unlock()
			if l != nil {
				l.watch(now)
			}
		}
	}
}
