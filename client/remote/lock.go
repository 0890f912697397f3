package remote

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Locks are at the brick. What it has granted is written in a book here, for they
// lie in its memory only: to who serves the set after it they are declared again (reclaim).
//
// In the book is never more than the brick may think that this client has, and never less than
// what callers were told: what is given up leaves it before the request is sent, and what is got enters it
// when the answer is taken, in one step with that. An answer is taken only while its link is
// the Remote's, so what is declared on the next one is all that callers have heard, or will, of those before. A lock of
// which nobody knows is noted as a doubt, and unlocked when its owner closes the file.

// pollsMax is how many waiting locks are polled for at a time; the others take turns.
const pollsMax = 64

// lockable refuses a lock that is none, or that the brick knows nothing of.
func (f *file) lockable(l *volume.Lock) error {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	switch {
	case f.failureLocked() != nil:
		return f.failureLocked()
	case !l.Valid():
		return &volume.Error{Op: "lock", Where: f.id.String(), Errno: syscall.EINVAL}
	case f.r.mu.version != 0:
		return f.r.lockless(&call{op: wire.OpLock})
	}
	return nil
}

// lockless refuses a call about a lock if the brick that is connected, or was last, has no locks.
func (r *Remote) lockless(c *call) error {
	if v := r.mu.version; v < wire.LocksSince && (c.op == wire.OpLock || c.op == wire.OpTestLock) {
		return volume.Errorf(c.op.String(), r.where, syscall.EOPNOTSUPP,
			"the brick's program is older than locks between mounts: it speaks protocol %d, locks need %d; update it", v, wire.LocksSince)
	}
	return nil
}

// Lock is volume.File's.
func (f *file) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	l.Owner.Session = [16]byte{}
	err := f.lockable(&l)
	switch {
	case l.Type == volume.Unlocked && l.Valid():
		return f.unlock(ctx, l, err)
	case err != nil:
		return err
	}
	if err := f.r.owesNothing(ctx, f, &l); err != nil {
		return err
	}
	book := &f.r.book
	f.r.locker.Store(true)
	var gone []volume.Lock
	if l.Flock {
		if book.Change(f.id, l) { // which costs the old one, whatever comes of it
			book.Doubt(f.id, l)
		}
	} else {
		gone = book.Weaken(f.id, l)
	}
	err = f.obtain(ctx, l, wait)
	switch volume.ErrnoOf(err) {
	case 0:
		f.r.forgetFirsts()
		return nil
	case syscall.EAGAIN, syscall.EDEADLK, syscall.EINTR, syscall.ENOLCK, syscall.EOPNOTSUPP:
	default: // it has the one or the other
		book.Doubt(f.id, l)
		return err
	}
	for _, old := range gone { // it still has what it had
		if f.obtain(ctx, old, false) != nil {
			f.r.breakFiles(f.id)
		}
	}
	return err
}

// unlock gives up what the owner may have; if it has nothing that costs nothing. The error is what is wrong with the file.
func (f *file) unlock(ctx context.Context, l volume.Lock, failed error) error {
	book := &f.r.book
	if !book.Has(f.id, l) {
		return failed
	}
	book.Note(f.id, l)
	book.Doubt(f.id, l)
	_, err := f.lockStep(context.WithoutCancel(ctx), wire.LockAsk, 0, &l)
	switch {
	case err == nil:
		book.Sure(f.id, l)
	case owed(&l, err):
		f.r.owe(f, l)
		fallthrough
	default:
		book.Doubt(f.id, l) // a session that began anew meanwhile has ended it
	}
	return cmp.Or(failed, err)
}

// obtain gets a lock. EINTR: ctx was cancelled, and it has not got it.
func (f *file) obtain(ctx context.Context, l volume.Lock, wait bool) error {
	ticket := uint64(0)
	if wait {
		ticket = f.r.number.Add(1)
	}
	whole := context.WithoutCancel(ctx) // what is asked for at once is answered at once, exactly
	state, err := f.lockStep(whole, wire.LockAsk, ticket, &l)
	for err == nil && state != wire.LockDone {
		if state == wire.LockLater {
			if ctx.Err() != nil {
				return f.r.ctxError(ctx, wire.OpLock)
			}
			state, err = f.lockStep(whole, wire.LockAsk, ticket, &l)
		} else {
			state, err = f.poll(ctx, ticket, &l)
		}
	}
	switch volume.ErrnoOf(err) {
	case 0:
		return nil
	case syscall.EINTR, syscall.ETIMEDOUT, syscall.EIO:
		if ticket == 0 {
			return err
		}
	default:
		return err
	}
	switch _, e := f.lockStep(whole, wire.LockCancel, ticket, &l); {
	case e == nil: // got just before
		return nil
	case !errors.Is(e, syscall.EINTR):
		return f.r.unknown("lock", "whether the lock was got is not known")
	}
	return err
}

// poll waits for a lock in whose queue the ticket is, for a while.
func (f *file) poll(ctx context.Context, ticket uint64, l *volume.Lock) (wire.LockState, error) {
	select {
	case f.r.polls <- struct{}{}:
		defer func() { <-f.r.polls }()
	case <-ctx.Done():
		return 0, f.r.ctxError(ctx, wire.OpLock)
	case <-f.r.closing.Done():
		return 0, f.r.unavailable("lock", errClosed)
	}
	return f.lockStep(ctx, wire.LockPoll, ticket, l)
}

// lockStep asks the brick.
func (f *file) lockStep(ctx context.Context, step wire.LockStep, ticket uint64, l *volume.Lock) (wire.LockState, error) {
	c := f.call(ctx, wire.OpLock)
	defer free(c)
	c.polls = step == wire.LockPoll
	c.lock = *l
	c.frame = (&wire.LockArgs{Handle: f.handle, Step: step, Ticket: ticket, Lock: *l}).Append(c.frame)
	rd, err := f.r.do(ctx, c)
	if err != nil {
		return 0, err
	}
	state := rd.LockState()
	if !rd.Done() {
		return 0, f.r.malformed(c.op)
	}
	return state, nil
}

// lockedLocked notes the lock that a call has got, by its reply.
func (r *Remote) lockedLocked(c *call) {
	rd := wire.NewReader(c.reply)
	if wire.ParseStatus(&rd) == nil && rd.LockState() == wire.LockDone && rd.Done() && c.lock.Type != volume.Unlocked {
		r.book.Note(c.file.id, c.lock)
	}
}

// TestLock is volume.File's.
func (f *file) TestLock(ctx context.Context, l volume.Lock) (volume.Lock, error) {
	if err := f.lockable(&l); err != nil {
		return l, err
	}
	c := f.call(ctx, wire.OpTestLock)
	defer free(c)
	c.frame = (&wire.TestLockArgs{Handle: f.handle, Lock: l}).Append(c.frame)
	rd, err := f.r.do(ctx, c)
	if err != nil {
		return l, err
	}
	found := rd.Lock()
	if !rd.Done() {
		return l, f.r.malformed(c.op)
	}
	return found, nil
}

// forgetFirsts voids what came with the opening of files: data follow locks.
func (r *Remote) forgetFirsts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.turn++
}

// reclaim declares all locks to a brick to which the session is new, or marks the
// files as broken if it does not take that.
func (r *Remote) reclaim(l *link, version uint16) error {
	if !r.locker.Load() {
		return nil
	}
	if version < wire.LocksSince {
		r.lose(errors.New("the brick's program is older and has no locks"))
		return nil
	}
	var held []wire.HeldLock
	for _, e := range r.book.All() {
		held = append(held, wire.HeldLock(e))
	}
	ln, err := l.openLane(l.ctx)
	if err != nil {
		return err
	}
	for last := false; !last; {
		n := min(len(held), wire.ReclaimMax)
		last = n == len(held)
		number := r.number.Add(1)
		b := wire.AppendRequest(nil, wire.OpReclaim, number, wire.Header{Timeout: connectTime})
		b = wire.EndFrame((&wire.ReclaimArgs{Last: last, Locks: held[:n]}).Append(b), 0)
		held = held[n:]
		body, err := ln.ask(number, b)
		if err != nil {
			return err
		}
		rd := wire.NewReader(body)
		if err = wire.ParseStatus(&rd); err != nil {
			if passing(err) || volume.ErrnoOf(err) == syscall.EIO {
				return err
			}
			r.lose(err)
			break
		}
	}
	r.book.Certain()
	l.returnLocked(ln) // nobody else has the link yet
	return nil
}

// ask sends a whole request and returns the body of its reply.
func (ln *lane) ask(number uint64, b []byte) ([]byte, error) {
	if err := ln.Send(b, nil); err != nil {
		return nil, err
	}
	for {
		f, size, err := ln.Next()
		if err != nil {
			return nil, err
		}
		body := make([]byte, size)
		if err := ln.Body(body); err != nil {
			return nil, err
		}
		switch {
		case f.Kind == wire.Pong:
		case f.Kind != wire.Reply || f.Number != number:
			return nil, wire.ErrMalformed
		default:
			ln.answered = number
			return body, nil
		}
	}
}

// passing reports whether an error says that the brick can't tell, now.
func passing(err error) bool {
	e := volume.ErrnoOf(err)
	return e == syscall.EINTR || e == syscall.ETIMEDOUT || volume.ReasonOf(err) == volume.Unavailable || volume.ReasonOf(err) == volume.NotPrimary
}

// lose notes that all locks are gone.
func (r *Remote) lose(err error) {
	ids := r.book.Lose()
	if len(ids) > 0 {
		r.log.Warn("locks are lost: their files fail until they are closed", "files", len(ids), "err", err)
	}
	r.breakFiles(ids...)
}

// breakFiles makes all handles of files fail whose users believe in locks that they have not.
func (r *Remote) breakFiles(ids ...volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.mu.files {
		if f.broken == nil && slices.Contains(ids, f.id) {
			f.broken = volume.Errorf("lock", f.id.String(), syscall.EIO, "its locks were lost while %s was away", r.where)
		}
	}
}
