package locks

import (
	"context"
	"slices"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Max bounds the locks of a table, those that are waited for included.
const Max = 1 << 20

// Table holds the locks of many files. The zero Table is empty and ready.
type Table struct {
	mu struct {
		sync.Mutex
		files map[volume.ID]*file
		waits map[volume.LockOwner][]*Waiter // for other than flocks
		count int                            // of locks and waits
	}
}

type file struct {
	held  []volume.Lock
	queue []*Waiter
}

// Waiter is a request in the queue.
type Waiter struct {
	id      volume.ID
	lock    volume.Lock
	granted chan struct{} // closed when it has the lock
}

// Granted is closed when the lock was got.
func (w *Waiter) Granted() <-chan struct{} { return w.granted }

func fail(op string, id volume.ID, errno syscall.Errno) error {
	return &volume.Error{Op: op, Where: id.String(), Errno: errno}
}

// Set sets a lock or fails with EAGAIN, ENOLCK or EINVAL.
func (t *Table) Set(id volume.ID, l volume.Lock) error {
	w, err := t.ask(id, l, false)
	if w != nil {
		panic("locks: it waits")
	}
	return err
}

// Enqueue sets a lock, or enters it into the queue: then it returns the Waiter,
// which is to be withdrawn some time. Errors: EDEADLK, ENOLCK, EINVAL.
func (t *Table) Enqueue(id volume.ID, l volume.Lock) (*Waiter, error) { return t.ask(id, l, true) }

// Wait is Enqueue, and waits for the lock: volume.File's Lock.
func (t *Table) Wait(ctx context.Context, id volume.ID, l volume.Lock) error {
	w, err := t.Enqueue(id, l)
	if w == nil {
		return err
	}
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	if t.Withdraw(w) {
		return nil
	}
	return &volume.Error{Op: "lock", Where: id.String(), Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
}

func (t *Table) ask(id volume.ID, l volume.Lock, wait bool) (*Waiter, error) {
	if !l.Valid() {
		return nil, fail("lock", id, syscall.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.mu.files[id]
	if f == nil {
		if l.Type == volume.Unlocked {
			return nil, nil
		}
		f = &file{}
	}
	if t.mu.count+2 > Max && l.Type != volume.Unlocked {
		return nil, fail("lock", id, syscall.ENOLCK)
	}
	if l.Flock && slices.ContainsFunc(f.held, func(h volume.Lock) bool { return same(&h, &l) && h.Type != l.Type }) {
		t.setLocked(id, f, volume.Lock{Owner: l.Owner, Flock: true, End: volume.LockEnd})
	}
	if l.Type == volume.Unlocked || blocker(f.held, &l) == nil {
		t.setLocked(id, f, l)
		return nil, nil
	}
	if !wait {
		return nil, fail("lock", id, syscall.EAGAIN)
	}
	if !l.Flock && t.ringLocked(l.Owner, f, &l, map[volume.LockOwner]bool{}) {
		return nil, fail("lock", id, syscall.EDEADLK)
	}
	w := &Waiter{id: id, lock: l, granted: make(chan struct{})}
	f.queue = append(f.queue, w)
	t.mu.count++
	if !l.Flock {
		if t.mu.waits == nil {
			t.mu.waits = map[volume.LockOwner][]*Waiter{}
		}
		t.mu.waits[l.Owner] = append(t.mu.waits[l.Owner], w)
	}
	return w, nil
}

// ringLocked reports whether whoever is in l's way waits for owner. Seen are owners looked at already.
func (t *Table) ringLocked(owner volume.LockOwner, f *file, l *volume.Lock, seen map[volume.LockOwner]bool) bool {
	for i := range f.held {
		h := &f.held[i]
		if !conflict(h, l) || seen[h.Owner] {
			continue
		}
		if h.Owner == owner {
			return true
		}
		seen[h.Owner] = true
		for _, w := range t.mu.waits[h.Owner] {
			next := t.mu.files[w.id]
			for j := range next.held {
				if next.held[j].Owner == owner && conflict(&next.held[j], &w.lock) {
					return true
				}
			}
			if t.ringLocked(owner, next, &w.lock, seen) {
				return true
			}
		}
	}
	return false
}

// setLocked sets a lock that nothing is in the way of, and lets those who wait for
// what it frees have theirs.
func (t *Table) setLocked(id volume.ID, f *file, l volume.Lock) {
	if t.putLocked(f, l) {
		t.passLocked(f)
	}
	t.keepLocked(id, f)
}

// passLocked lets those who wait have their locks if nothing is in their way any more.
func (t *Table) passLocked(f *file) {
	for i := 0; i < len(f.queue); i++ {
		w := f.queue[i]
		if blocker(f.held, &w.lock) != nil {
			continue
		}
		t.dequeueLocked(f, w)
		close(w.granted)
		t.putLocked(f, w.lock)
		i = -1 // it may have freed something for those before
	}
}

// putLocked sets a lock and reports whether that may let others pass.
func (t *Table) putLocked(f *file, l volume.Lock) (freed bool) {
	freed = weakens(f.held, &l)
	was := len(f.held)
	f.held = set(f.held, l)
	t.mu.count += len(f.held) - was
	return freed
}

// dequeueLocked takes a waiter out of the queue.
func (t *Table) dequeueLocked(f *file, w *Waiter) {
	f.queue = slices.DeleteFunc(f.queue, func(o *Waiter) bool { return o == w })
	t.mu.count--
	if w.lock.Flock {
		return
	}
	if left := slices.DeleteFunc(t.mu.waits[w.lock.Owner], func(o *Waiter) bool { return o == w }); len(left) > 0 {
		t.mu.waits[w.lock.Owner] = left
	} else {
		delete(t.mu.waits, w.lock.Owner)
	}
}

// keepLocked keeps a file in the table as long as there is something to keep.
func (t *Table) keepLocked(id volume.ID, f *file) {
	if len(f.held)+len(f.queue) == 0 {
		delete(t.mu.files, id)
		return
	}
	if t.mu.files == nil {
		t.mu.files = map[volume.ID]*file{}
	}
	t.mu.files[id] = f
}

// Withdraw ends a wait. True: it was over already, with the lock.
func (t *Table) Withdraw(w *Waiter) (granted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.granted:
		return true
	default:
	}
	if f := t.mu.files[w.id]; f != nil && slices.Contains(f.queue, w) {
		t.dequeueLocked(f, w)
		t.keepLocked(w.id, f)
	}
	return false
}

// Test returns a lock that is in l's way, or one that is Unlocked.
func (t *Table) Test(id volume.ID, l volume.Lock) (volume.Lock, error) {
	if !l.Valid() {
		return volume.Lock{}, fail("test lock", id, syscall.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.mu.files[id]; f != nil {
		if b := blocker(f.held, &l); b != nil {
			return *b, nil
		}
	}
	l.Type = volume.Unlocked
	return l, nil
}

// Drop takes everything from the owners that whose reports: their locks, and
// their places in queues.
func (t *Table) Drop(whose func(volume.LockOwner) bool) { _ = t.Restore(whose, nil) }

// Restore makes held all that the owners have that whose reports, in one step: what else
// they had, their places in queues included, is given up. If something of others is in the way of any
// it fails with EAGAIN, with EINVAL or ENOLCK likewise, and they have nothing.
func (t *Table) Restore(whose func(volume.LockOwner) bool, held []Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := map[volume.ID]*file{}
	t.stripLocked(whose, changed)
	err := t.restoreLocked(whose, held, changed)
	if err != nil {
		t.stripLocked(whose, changed)
	}
	for id, f := range changed {
		t.passLocked(f)
		t.keepLocked(id, f)
	}
	return err
}

// stripLocked takes everything from owners, and notes of which files. Others do not pass yet.
func (t *Table) stripLocked(whose func(volume.LockOwner) bool, changed map[volume.ID]*file) {
	for id, f := range t.mu.files {
		for _, w := range slices.Clone(f.queue) {
			if whose(w.lock.Owner) {
				t.dequeueLocked(f, w)
				changed[id] = f
			}
		}
		for _, h := range slices.Clone(f.held) {
			if whose(h.Owner) {
				h.Type = volume.Unlocked
				t.putLocked(f, h)
				changed[id] = f
			}
		}
	}
}

func (t *Table) restoreLocked(whose func(volume.LockOwner) bool, held []Entry, changed map[volume.ID]*file) error {
	for _, e := range held {
		f := t.mu.files[e.ID]
		if f == nil {
			f = &file{}
		}
		switch {
		case !e.Lock.Valid() || e.Lock.Type == volume.Unlocked || !whose(e.Lock.Owner):
			return fail("restore locks", e.ID, syscall.EINVAL)
		case blocker(f.held, &e.Lock) != nil:
			return fail("restore locks", e.ID, syscall.EAGAIN)
		case t.mu.count+2 > Max:
			return fail("restore locks", e.ID, syscall.ENOLCK)
		}
		t.putLocked(f, e.Lock)
		t.keepLocked(e.ID, f)
		changed[e.ID] = f
	}
	return nil
}

// Len returns how many locks are held, and how many are waited for.
func (t *Table) Len() (held, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.mu.files {
		held, waiting = held+len(f.held), waiting+len(f.queue)
	}
	return held, waiting
}
