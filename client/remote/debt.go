package remote

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A debt is an owner of whom everything on a file is to be given up, which the brick could not be
// told in time: it was away for longer than a call may take, but not for so long that it ends the
// session, and with it all locks. Nobody asks again: the descriptor is closed, and its process may be gone. So the
// Remote tells the brick when it is back, or the lock would be nobody's, and for good.
//
// Until then the file stays open at the brick, and the owner, whose number may be another's by
// then, gets no lock on it: what is owed would take it away.
//
// In a session that begins anew the client has what it declares, and owes nothing.
type debt struct {
	f      *file
	lock   volume.Lock
	trying bool          // the brick is just being told
	paid   chan struct{} // closed when it is settled
}

type debtKey struct {
	id    volume.ID
	owner volume.LockOwner
	flock bool
}

func keyOf(f *file, l *volume.Lock) debtKey { return debtKey{f.id, l.Owner, l.Flock} }

// payPause is between two attempts on a link that is not renewed in between.
const payPause = time.Second

// owed reports whether an unlocking that failed leaves something that nobody else will give up.
func owed(l *volume.Lock, err error) bool {
	reason := volume.ReasonOf(err)
	return l.Start == 0 && l.End == volume.LockEnd &&
		(reason == volume.Unavailable || reason == volume.Unknown || volume.ErrnoOf(err) == syscall.ETIMEDOUT)
}

// owe enters a debt.
func (r *Remote) owe(f *file, l volume.Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := keyOf(f, &l)
	if r.mu.closed || r.mu.debts[k] != nil {
		return
	}
	if r.mu.debts == nil {
		r.mu.debts = map[debtKey]*debt{}
	}
	r.mu.debts[k] = &debt{f: f, lock: l, paid: make(chan struct{})}
	f.debts++
	if !r.mu.paying {
		r.mu.paying = true
		r.wg.Go(r.pay)
	}
}

// owesNothing waits until an owner may have locks again, but not for longer than a call takes.
func (r *Remote) owesNothing(ctx context.Context, f *file, l *volume.Lock) error {
	r.mu.Lock()
	d := r.mu.debts[keyOf(f, l)]
	r.mu.Unlock()
	if d == nil {
		return nil
	}
	t := time.NewTimer(r.timeout())
	defer t.Stop()
	select {
	case <-d.paid:
		return nil
	case <-ctx.Done():
		return r.ctxError(ctx, wire.OpLock)
	case <-r.closing.Done():
		return r.unavailable("lock", errClosed)
	case <-t.C:
		return r.unavailable("lock", errors.New("the brick could not be told yet what the owner has given up"))
	}
}

// pay tells the brick of all debts. It ends when there are none.
func (r *Remote) pay() {
	for {
		d, changed := r.nextDebt()
		if d == nil {
			return
		}
		_, err := d.f.lockStep(r.closing, wire.LockAsk, 0, &d.lock)
		if r.tried(d, err) {
			continue
		}
		t := time.NewTimer(payPause)
		select {
		case <-changed:
		case <-t.C:
		case <-r.closing.Done(): // the session ends, with all locks
			t.Stop()
			return
		}
		t.Stop()
	}
}

// nextDebt chooses one, nil if there is none; changed is closed when the link is not the present one any more.
func (r *Remote) nextDebt() (d *debt, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d = range r.mu.debts {
		d.trying = true
		return d, r.mu.changed
	}
	r.mu.paying = false
	return nil, nil
}

// tried notes what came of an attempt. False: it is to be repeated.
func (r *Remote) tried(d *debt, err error) bool {
	if err == nil {
		r.book.Sure(d.f.id, d.lock)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d.trying = false
	if err != nil && (owed(&d.lock, err) || volume.ErrnoOf(err) == syscall.EINTR) {
		return false
	}
	r.settleDebtLocked(d)
	return true
}

func (r *Remote) settleDebtLocked(d *debt) {
	delete(r.mu.debts, keyOf(d.f, &d.lock))
	close(d.paid)
	d.f.debts--
	d.f.forgetLocked()
}

// debtsVoidLocked notes that the session is a new one. (What is just being told is told to the new one, for
// nothing; so that ends before the owner gets a lock.)
func (r *Remote) debtsVoidLocked() {
	for _, d := range r.mu.debts {
		if !d.trying {
			r.settleDebtLocked(d)
		}
	}
}
