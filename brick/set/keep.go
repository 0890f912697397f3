package set

import (
	"context"

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
