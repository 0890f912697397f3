package server

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// claims are the sessions that may declare their locks: those of the record, to who
// begins to serve, and later whose client begins its session anew.
type claims struct {
	open  chan struct{} // closed when none of the record's is left: locks can be given out
	grace time.Duration
	mu    struct {
		sync.Mutex
		of       map[wire.SessionID]*claim
		blocking int // of the record, not over
	}
}

// claim is a session's right to declare its locks, until it has done so or has lost them.
type claim struct {
	blocks bool // nobody gets a lock before it is over: the table does not know what is held
	due    time.Time
	late   bool // what it had is being given up, and may not be declared any more
	over   chan struct{}
}

// newClaims returns claims of the record's sessions, each of which has the grace.
func newClaims(record []wire.SessionID, grace time.Duration) *claims {
	c := &claims{open: make(chan struct{}), grace: grace}
	c.mu.of = map[wire.SessionID]*claim{}
	for _, id := range record {
		c.mu.of[id] = &claim{blocks: true, due: time.Now().Add(grace), over: make(chan struct{})}
	}
	if c.mu.blocking = len(c.mu.of); c.mu.blocking == 0 {
		close(c.open)
	}
	return c
}

// again lets a session, whose locks the table has, declare which of them it knows of.
func (c *claims) again(id wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.of[id] == nil {
		c.mu.of[id] = &claim{due: time.Now().Add(c.grace), over: make(chan struct{})}
	}
}

// wait waits, but not beyond a time or ctx's end, until it is known who has which locks, and
// what the session id (zero: nobody's) had before is declared or given up.
func (c *claims) wait(ctx context.Context, until time.Time, id wire.SessionID) error {
	c.mu.Lock()
	own := c.mu.of[id]
	c.mu.Unlock()
	over := c.open
	if own != nil {
		over = own.over
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for _, ch := range []chan struct{}{c.open, over} {
		select {
		case <-ch:
			continue
		default:
		}
		select {
		case <-ch:
		case <-t.C:
			return &volume.Error{Op: "lock", Errno: syscall.ETIMEDOUT, Err: errors.New("not all clients have declared the locks that they had")}
		case <-ctx.Done():
			return &volume.Error{Op: "lock", Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
	}
	return nil
}

// may fails unless the session may declare locks.
func (c *claims) may(id wire.SessionID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mayLocked(id)
}

func (c *claims) mayLocked(id wire.SessionID) error {
	if cl := c.mu.of[id]; cl == nil || cl.late {
		return volume.Errorf("reclaim locks", "", syscall.ESTALE, "they are lost: the client was away for too long")
	}
	return nil
}

// declare ends a claim with set, which sets the session's locks, if it may declare any. If that fails
// they are lost.
func (c *claims) declare(id wire.SessionID, set func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.mayLocked(id); err != nil {
		return err
	}
	if err := set(); err != nil {
		c.mu.of[id].late = true
		return err
	}
	c.doneLocked(id)
	return nil
}

func (c *claims) doneLocked(id wire.SessionID) {
	cl := c.mu.of[id]
	delete(c.mu.of, id)
	close(cl.over)
	if cl.blocks {
		if c.mu.blocking--; c.mu.blocking == 0 {
			close(c.open)
		}
	}
}

// done takes a late claim out, of which all is given up.
func (c *claims) done(id wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doneLocked(id)
}

// lose makes a session's claim late: it has said goodbye.
func (c *claims) lose(id wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.mu.of[id]; cl != nil {
		cl.late = true
	}
}

// late returns the sessions whose claims are to be given up, then done. Each has the grace
// from when it was seen last, but never more than twice the grace from the claim's beginning,
// whatever its client is busy with. Seen holds when sessions were connected last.
func (c *claims) late(now time.Time, seen map[wire.SessionID]time.Time) (ids []wire.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, cl := range c.mu.of {
		due := cl.due
		if t := seen[id].Add(c.grace); t.After(due) {
			due = t
		}
		if limit := cl.due.Add(c.grace); due.After(limit) {
			due = limit
		}
		if cl.late = cl.late || !now.Before(due); cl.late {
			ids = append(ids, id)
		}
	}
	return ids
}
