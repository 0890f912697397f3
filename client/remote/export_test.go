package remote

import (
	"context"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// SpeaksVersion has the Remote believe, until it connects again, that its brick speaks that version.
func (r *Remote) SpeaksVersion(version uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.version = version
}

// Debts returns how many owners the brick has still to be told of that are to have no locks.
func Debts(r *Remote) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.debts)
}

// OpenLate opens a file like Remote.Open, and has between happen when the answer has been received, and not been looked at yet.
func OpenLate(ctx context.Context, r *Remote, id volume.ID, f volume.Flags, between func()) (volume.File, error) {
	c := r.newCall(ctx, wire.OpOpen)
	c.id, c.flags = id, f
	c.frame = (&wire.OpenArgs{ID: id, Flags: f, Handle: c.number}).Append(c.frame)
	t, err := r.start(ctx, c)
	if err != nil {
		return nil, err
	}
	err = t.ln.receive(c)
	between()
	if answered, _ := r.settle(t.l, t.ln, c, err); !answered {
		if t.l, t.ln = r.seize(ctx, c); t.ln != nil {
			t.err = t.ln.send(c)
		}
		if _, err := r.await(ctx, c, t); err != nil {
			return nil, err
		}
	}
	return c.opened, nil
}
