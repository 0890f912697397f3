package dht

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// nameKey is a name: what is locked and reserved.
type nameKey struct {
	dir  volume.ID
	name string
}

// before is the canonical order in which names are locked, over all sets.
func (k nameKey) before(l nameKey) bool {
	if k.dir != l.dir {
		return string(k.dir[:]) < string(l.dir[:])
	}
	return k.name < l.name
}

// A lockTable has a lock for each name while it is wanted. Whoever changes what
// a name leads to holds its lock. Readers do not take it; they only wait while
// its holder hides the name, which an operation over several sets does between
// its decision being possible and its being carried out here.
//
// Waiters are served in order of arrival, each until its context ends.
type lockTable struct {
	hidden atomic.Int64 // hidden names; readers look no further while it is 0
	shards [64]lockShard
}

type lockShard struct {
	mu struct {
		sync.Mutex
		locks map[nameKey]*nameLock
	}
	_ [64]byte // shards do not share cache lines
}

type nameLock struct {
	hidden  bool
	shares  int             // further holders, see share
	waiters []chan struct{} // closed when the lock is handed over
	readers []chan struct{} // closed when the name is shown
}

var lockPool = sync.Pool{New: func() any { return new(nameLock) }}

func (t *lockTable) shard(k nameKey) *lockShard {
	h := cacheHash(k.dir)
	for i := 0; i < len(k.name); i++ {
		h = (h ^ uint32(k.name[i])) * 16777619
	}
	return &t.shards[(h^h>>16)%uint32(len(t.shards))]
}

// lock takes the lock of k. With hide readers wait from now on. With !wait a
// lock that is taken is EBUSY; otherwise a context that ends is its own error.
func (t *lockTable) lock(ctx context.Context, k nameKey, hide, wait bool) error {
	s := t.shard(k)
	s.mu.Lock()
	l := s.mu.locks[k]
	if l == nil {
		if s.mu.locks == nil {
			s.mu.locks = map[nameKey]*nameLock{}
		}
		l = lockPool.Get().(*nameLock)
		s.mu.locks[k] = l
		t.setHidden(l, hide)
		s.mu.Unlock()
		return nil
	}
	if !wait {
		s.mu.Unlock()
		return &volume.Error{Op: "lock", Where: k.name, Errno: syscall.EBUSY}
	}
	ch := make(chan struct{})
	l.waiters = append(l.waiters, ch)
	s.mu.Unlock()
	ctx, cancel := bounded(ctx)
	defer cancel()
	select {
	case <-ch:
	case <-ctx.Done():
		if t.giveUp(s, l, ch) {
			return &volume.Error{Op: "lock", Where: k.name, Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
		<-ch // handed over in the meantime
	}
	if hide {
		s.mu.Lock()
		t.setHidden(l, true)
		s.mu.Unlock()
	}
	return nil
}

// giveUp takes ch from l's waiters and reports whether it was still there.
func (t *lockTable) giveUp(s *lockShard, l *nameLock, ch chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range l.waiters {
		if w == ch {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			return true
		}
	}
	return false
}

// setHidden is called with the shard locked.
func (t *lockTable) setHidden(l *nameLock, hide bool) {
	if l.hidden == hide {
		return
	}
	l.hidden = hide
	if hide {
		t.hidden.Add(1)
		return
	}
	t.hidden.Add(-1)
	for _, ch := range l.readers {
		close(ch)
	}
	l.readers = nil
}

// show lets readers of k go on; the lock stays.
func (t *lockTable) show(k nameKey) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.setHidden(s.mu.locks[k], false)
}

// share takes the lock of k, or a share in it if somebody has it: it is free when
// all have unlocked it. That is for the start of a life, before anything waits: of
// several intents of the last one that are about a name it is not known which had
// it, and none may be without it.
func (t *lockTable) share(k nameKey, hide bool) {
	if t.lock(context.Background(), k, hide, false) == nil {
		return
	}
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.mu.locks[k]
	l.shares++
	t.setHidden(l, l.hidden || hide)
}

// unlock shows k and gives its lock up, or to the next.
func (t *lockTable) unlock(k nameKey) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.mu.locks[k]
	if l.shares > 0 {
		l.shares--
		return
	}
	t.setHidden(l, false)
	if len(l.waiters) > 0 {
		ch := l.waiters[0]
		l.waiters = append(l.waiters[:0], l.waiters[1:]...)
		close(ch)
		return
	}
	delete(s.mu.locks, k)
	l.waiters = l.waiters[:0]
	lockPool.Put(l)
}

// lockTwo takes the locks of two different names in canonical order.
func (t *lockTable) lockTwo(ctx context.Context, a, b nameKey, hide bool) error {
	if b.before(a) {
		a, b = b, a
	}
	if err := t.lock(ctx, a, hide, true); err != nil {
		return err
	}
	err := t.lock(ctx, b, hide, true)
	if err != nil {
		t.unlock(a)
	}
	return err
}

// visible waits until k is not hidden.
func (t *lockTable) visible(ctx context.Context, k nameKey) error {
	if t.hidden.Load() == 0 {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for {
		s := t.shard(k)
		s.mu.Lock()
		l := s.mu.locks[k]
		if l == nil || !l.hidden {
			s.mu.Unlock()
			return nil
		}
		ch := make(chan struct{})
		l.readers = append(l.readers, ch)
		s.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return &volume.Error{Op: "lookup", Where: k.name, Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
	}
}

// waitMax bounds every wait that comes without a deadline.
const waitMax = 10 * time.Second

// bounded returns ctx with a deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, waitMax)
}

// hide makes readers of k wait from now on; the caller has its lock.
func (t *lockTable) hide(k nameKey) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.setHidden(s.mu.locks[k], true)
}
