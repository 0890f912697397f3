package set

import (
	"context"
	"time"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
)

// keep is what every member does with a change: record it, note for whoever
// is absent and for a loss of power what it touches, apply it, remember the reply.
func (s *Set) keep(ctx context.Context, epoch Epoch, n, finished Seq, c *change, do func(context.Context) (Outcome, error)) error {
	keys := c.touches()
	noted, err := s.ledger.record(ctx, epoch, n, finished, keys, c)
	if err != nil {
		return err
	}
	_, err = do(ctx)
	s.ledger.release(&noted)
	if err != nil {
		if c.request != (volume.Request{}) {
			s.ledger.void(epoch, n)
		}
		return err
	}
	s.replies.note(c.request, c.effect(), true)
	if err := s.ledger.sync(ctx, &noted); err != nil {
		return queueError{err}
	}
	return nil
}

// queueError is of a change that was applied, but could not be noted for who is absent.
type queueError struct{ error }

func (e queueError) Unwrap() error { return e.error }

// hand writes down the reply to a request that this member did not see executed: it has the
// effect, and must know of it after its own restart, too.
func (l *ledger) hand(q volume.Request, r reply) error {
	if !r.sure || q == (volume.Request{}) {
		return nil
	}
	w := &writer{}
	w.bool(true)
	w.effect(r.effect)
	// Epoch 0 is below every mark; the numbers there are only to differ.
	for {
		last, n := l.handed.Load(), uint64(time.Now().UnixNano())
		if n = max(n, last+1); l.handed.CompareAndSwap(last, n) {
			return l.log.Append(oplog.Record{Point: oplog.Point{Seq: n}, Request: q, Outcome: w.b})
		}
	}
}
