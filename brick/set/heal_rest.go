package set

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// flush makes the directories whose entries were healed equal again: an entry's change
// sets their times.
func (h *healer) flush(ctx context.Context) error {
	h.mu.Lock()
	dirs := make([]volume.ID, 0, len(h.mu.touched))
	for id := range h.mu.touched {
		dirs = append(dirs, id)
	}
	clear(h.mu.touched)
	h.mu.Unlock()
	err := h.parallel(ctx, len(dirs), func(ctx context.Context, i int) error {
		free, err := h.ownObject(ctx, dirs[i])
		if err != nil {
			return err
		}
		defer free()
		if _, err := h.to.describe(ctx, dirs[i]); err != nil {
			if isStale(err) {
				err = nil
			}
			return err
		}
		_, err = h.attributes(ctx, dirs[i])
		return err
	})
	if err != nil {
		h.touch(dirs...)
	}
	return err
}

// journal makes the owner's journal equal: what the target lacks at its end is
// appended, if the rest is the same.
func (h *healer) journal(ctx context.Context) error {
	unlock, err := h.lock(ctx, Key{Kind: JournalKey})
	if err != nil {
		return err
	}
	defer unlock()
	var recs [][]byte
	err = h.from.m.Journal().Replay(func(rec []byte) error {
		recs = append(recs, slices.Clone(rec))
		return nil
	})
	if err != nil {
		return err
	}
	have, sum, err := h.to.journal(ctx, len(recs))
	if err != nil {
		return err
	}
	_, want, err := h.from.journal(ctx, have)
	if err != nil {
		return err
	}
	anew := have > len(recs) || sum != want
	if !anew {
		recs = recs[have:]
	}
	for anew || len(recs) > 0 {
		n, bytes := 0, 0
		for n < len(recs) && bytes+len(recs[n])+4 <= volume.IOMax {
			bytes += len(recs[n]) + 4
			n++
		}
		if err := h.to.setJournal(ctx, recs[:n], anew); err != nil {
			return err
		}
		h.copiedBytes(int64(bytes))
		anew, recs = false, recs[n:]
	}
	return nil
}

// healRate limits how many bytes a second are sent. A nil one does not.
type healRate struct {
	mu struct {
		sync.Mutex
		rate  int64 // bytes a second; 0: no limit
		debt  float64
		since time.Time
	}
}

// set changes the rate, in bytes a second; 0: no limit.
func (r *healRate) set(rate int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pay()
	r.mu.rate = rate
}

// pay takes off the debt what time has paid; it is locked.
func (r *healRate) pay() {
	now := time.Now()
	if r.mu.rate == 0 {
		r.mu.debt = 0
	}
	r.mu.debt = max(0, r.mu.debt-now.Sub(r.mu.since).Seconds()*float64(r.mu.rate))
	r.mu.since = now
}

// charge notes that n bytes are sent.
func (r *healRate) charge(n int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pay()
	r.mu.debt += float64(n)
}

// wait waits until what was sent is paid for. Nothing may be locked.
func (r *healRate) wait(ctx context.Context) error {
	const look = 100 * time.Millisecond // so that a new rate is noticed
	for r != nil {
		r.mu.Lock()
		r.pay()
		var d time.Duration
		if r.mu.rate > 0 {
			d = time.Duration(r.mu.debt / float64(r.mu.rate) * float64(time.Second))
		}
		r.mu.Unlock()
		if d <= 0 {
			break
		}
		t := time.NewTimer(min(d, look))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return ctx.Err()
}
