package set

import (
	"context"
	"slices"
	"sync"
	"syscall"
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

// allDiscards lists the discards of a side.
func allDiscards(ctx context.Context, s side) (all []volume.Discarded, err error) {
	for {
		var after volume.Key
		if len(all) > 0 {
			after = all[len(all)-1].Key
		}
		some, err := s.discards(ctx, after)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < discardsMax {
			return all, nil
		}
	}
}

// discards makes what the owner's intents have discarded equal. more: that
// has queued keys. The keys of entries are healed before it, so what a discard at
// the target kept that has come back has its name again.
func (h *healer) discards(ctx context.Context) (more bool, err error) {
	want, err := allDiscards(ctx, h.from)
	if err != nil {
		return false, err
	}
	have, err := allDiscards(ctx, h.to)
	if err != nil {
		return false, err
	}
	same := func(a, b volume.Discarded) bool {
		a.Pointer.Mode, b.Pointer.Mode = 0, 0 // not told by all
		return a == b
	}
	var missing []volume.Discarded
	var keys []Key
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(want) > 0 && len(have) > 0 && same(want[0], have[0]):
			want, have = want[1:], have[1:]
		case len(have) == 0 || len(want) > 0 && compareKeys(want[0].Key, have[0].Key) < 0:
			missing = append(missing, want[0])
			keys = append(keys, Key{Kind: EntryKey, ID: want[0].Dir, Name: want[0].Name})
			want = want[1:]
		default:
			if err := h.to.purge(ctx, have[0].Key); err != nil {
				return false, err
			}
			have = have[1:]
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	// The names are used on the way: a crash in that must leave their keys.
	if err := h.keys.Add(keys); err != nil {
		return false, err
	}
	err = h.parallel(ctx, len(missing), func(ctx context.Context, i int) error { return h.discard(ctx, missing[i]) })
	return true, err
}

// discard makes a discard at the target: what was discarded gets its name once
// more and is discarded from there.
func (h *healer) discard(ctx context.Context, d volume.Discarded) error {
	for {
		id := local(d.Pointer)
		free, err := h.own(ctx, entryKeys(d.Dir, d.Name, id)...)
		if err != nil {
			return err
		}
		there, err := h.to.look(ctx, d.Dir, d.Name, id)
		if err != nil || there.dir {
			if err == nil {
				err = h.ownedDiscard(ctx, d, there)
			}
			free()
			return err
		}
		free()
		if again, _, err := h.ensure(ctx, d.Dir); err != nil || !again {
			return err // its directory is gone, at the source too: nothing can come back to it
		}
	}
}

func (h *healer) ownedDiscard(ctx context.Context, d volume.Discarded, there sight) error {
	p := d.Pointer
	if p.Held == 0 {
		o, err := h.from.m.Describe(ctx, p.ID) // of directories too
		if isStale(err) {
			return nil // purged meanwhile
		}
		switch {
		case err != nil:
			return err
		case o.Attr.IsDir() && !there.known:
			err = h.to.install(ctx, o)
		case !there.known || there.nameless && !h.isWhole(p.ID):
			_, err = h.fill(ctx, p.ID, there.known)
		}
		if err != nil {
			return err
		}
		if p.Mode = o.Attr.Type(); p.Mode == syscall.S_IFDIR {
			if err := h.empty(ctx, p.ID); err != nil {
				return err
			}
		}
	}
	h.touch(d.Dir)
	if err := h.to.place(ctx, d.Dir, d.Name, p); err != nil {
		return err
	}
	if err := h.to.discard(ctx, d.Dir, d.Name, p.ID, d.Key); err != nil {
		return err
	}
	if there.entry.ID.IsZero() || there.entry.ID == p.ID {
		return nil // its key sees to the rest
	}
	return h.to.place(ctx, d.Dir, d.Name, there.entry)
}

// empty takes all names out of a directory at the target that is empty at the source.
func (h *healer) empty(ctx context.Context, dir volume.ID) error {
	for {
		entries, end, err := h.to.list(ctx, dir, volume.CookieStart, listMax)
		if err != nil {
			return err
		}
		for _, e := range entries {
			h.placed(dir, volume.Pointer{}, sight{entry: volume.Pointer{ID: e.ID, Mode: e.Mode, Held: e.Held}})
			if err := h.to.place(ctx, dir, e.Name, volume.Pointer{}); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
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
