package set

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mortarfs/mortar/brick/set/oplog"
)

// queueKeys is an absent member's queue as its healer sees it.
type queueKeys struct {
	*oplog.KeySet
	out map[Key]oplog.Taken // not done yet; used by the healer's goroutine
}

var _ healKeys = &queueKeys{}

// Take returns the keys that were taken and are not done, and others up to n.
func (q *queueKeys) Take(n int) []queuedKey {
	for _, t := range q.KeySet.Take(max(n-len(q.out), 0)) {
		q.out[t.Key] = t
	}
	list := make([]queuedKey, 0, len(q.out))
	for _, t := range q.out {
		list = append(list, queuedKey{t.Key, t.Gen})
	}
	return list
}

func (q *queueKeys) Done(keys []queuedKey) error {
	ts := make([]oplog.Taken, len(keys))
	for i, k := range keys {
		ts[i] = oplog.Taken{Key: k.Key, Gen: k.gen}
		delete(q.out, k.Key)
	}
	q.KeySet.Done(ts...)
	return nil
}

func (q *queueKeys) Add(keys []Key) error {
	return q.KeySet.Sync(context.Background(), q.KeySet.Add(keys...))
}

// back gives all back that is not done: the healer has ended.
func (q *queueKeys) back() {
	for k, t := range q.out {
		q.KeySet.Back(t)
		delete(q.out, k)
	}
}

// listKeys are keys that are healed at once, and forgotten if that fails.
type listKeys struct {
	mu struct {
		sync.Mutex
		gens  map[Key]uint64
		order []Key // as they were added
		gen   uint64
	}
}

func newListKeys(keys []Key) *listKeys {
	l := &listKeys{}
	l.mu.gens = map[Key]uint64{}
	_ = l.Add(keys)
	return l
}

func (l *listKeys) Take(n int) []queuedKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []queuedKey
	for _, k := range l.mu.order[:min(n, len(l.mu.order))] {
		list = append(list, queuedKey{k, l.mu.gens[k]})
	}
	return list
}

func (l *listKeys) Done(keys []queuedKey) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if l.mu.gens[k.Key] == k.gen {
			delete(l.mu.gens, k.Key)
		}
	}
	l.mu.order = slices.DeleteFunc(l.mu.order, func(k Key) bool { return l.mu.gens[k] == 0 })
	return nil
}

func (l *listKeys) Add(keys []Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		l.mu.gen++
		if l.mu.gens[k] == 0 {
			l.mu.order = append(l.mu.order, k)
		}
		l.mu.gens[k] = l.mu.gen
	}
	return nil
}

func (l *listKeys) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.gens)
}

// healLocks takes the set's locks for a healer; while held is set, nothing changes anyway.
type healLocks struct {
	locks *locks
	held  atomic.Bool
}

func (l *healLocks) lock(ctx context.Context, keys ...Key) (unlock func(), err error) {
	if l.held.Load() {
		return func() {}, nil
	}
	spans := make([]span, 0, len(keys))
	for _, k := range keys {
		switch k.Kind {
		case EntryKey:
			spans = append(spans, entryOf(k.ID, k.Name, false))
		case ObjectKey:
			spans = append(spans, whole(k.ID, false))
		case ExtentKey:
			s := contentsOf(k.ID, k.Off, k.Len, false)
			if k.Len == 0 {
				s.to = namesAt
			}
			spans = append(spans, s)
		case JournalKey:
			spans = append(spans, whole(journalID, false))
		}
	}
	spans = order(spans)
	if err := l.locks.lock(ctx, spans...); err != nil {
		return nil, err
	}
	return func() { l.locks.unlock(spans...) }, nil
}
