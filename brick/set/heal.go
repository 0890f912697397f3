package set

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// # Heal
//
// A healer makes the target, a member that serves nobody, equal to the source,
// the primary's own member, key by key. What the source says of a key while the
// engine holds its lock is right; what is at the target without a reason goes. It is made such that
//
//   - an object that is here already is never copied for its name's sake: what loses its
//     last name becomes nameless (it is parked) until its new name is healed. What is nameless
//     at the target when all is done, and not at the source, is released.
//   - a file is placed once its contents are complete. So an object with a name is whole, but for the
//     keys that are queued; a nameless one is only if this healer knows so (whole),
//     and is compared block by block otherwise.
//   - of a file only the blocks that differ are copied, and zeros become holes.
//   - a key is done when it, and the directories that it touched, are durable at the target.
//     A crash anywhere leaves keys, never a difference without one.
//
// Order of locks: own (entries, then objects), the engine's locks, healer.mu. Nothing is owned,
// or locked, while a directory above is healed or the limiter is waited for.

// healKeys are the keys in which the target may differ.
type healKeys interface {
	// Take returns up to n keys, the oldest first. They stay until Done.
	Take(n int) []queuedKey
	// Done takes keys out, but for those that were added again since Take.
	Done(keys []queuedKey) error
	// Add adds keys, durably.
	Add(keys []Key) error
	Len() int
}

// queuedKey is a key and the number of its last addition.
type queuedKey struct {
	Key
	gen uint64
}

// healConfig says what a healer works with.
type healConfig struct {
	source volume.Member
	target side
	keys   healKeys

	// lock takes the locks of keys, all at once: as long as they are held,
	// nothing that the keys tell of changes at the source.
	lock func(ctx context.Context, keys ...Key) (unlock func(), err error)

	// mending is called before the contents of an object at the source are changed, which is locked, and what it returns
	// afterwards; nil: nobody needs to know.
	mending func(id volume.ID) (mended func())

	// since: with a key of a directory's entries that has no name, directories that were
	// born from then on, at either side, are compared with all that is in them; older ones are
	// not. FullKey compares all.
	since volume.Time

	rate    *healRate // nil: no limit
	arbiter bool      // the target keeps no contents
	workers int       // how many keys are healed at a time; 0: healWorkers

	// partial says that the target is in sync, and that changes of which the keys do not
	// tell are applied to both members meanwhile. So nothing is looked at but what the
	// keys are about, and the target is not made durable. FullKey compares such a member
	// if lock takes locks.
	partial bool

	// mutual says, of a partial one, that both members are equal in whatever is locked, so that where
	// they differ somebody has changed one of them behind Mortar's back, which may be the source (compare_back.go).
	// It is not so of what was under way when a primary died, or may be lost with a machine's power: there the
	// source has what was acknowledged, and what it gives to one member the others have or get.
	mutual bool
}

const (
	healWorkers = 8
	healBatch   = 1024 // keys between two times that the target is made durable
	healFailed  = 64   // keys that may fail before a Drain ends
)

// healer heals one member. Drain and its like are called by one goroutine at a time.
type healer struct {
	healConfig
	from near
	to   side
	done healCounters

	mu struct {
		sync.Mutex
		busy    map[Key]chan struct{}  // what a worker owns; closed when it is free
		whole   map[volume.ID]struct{} // nameless files whose contents are complete
		scope   map[volume.ID]struct{} // objects of which the keys since the begin of Drain tell, and those they took names from
		entries map[Key]struct{}       // and their entries
		born    map[volume.ID]struct{} // made since the keys of this batch were taken, which say nothing more of them
		touched map[volume.ID]struct{} // directories whose times changed since the last flush
		walk    *walk                  // nil: no tree is being compared
		walked  map[Key]uint64         // wide keys whose walk has ended, by the generation
		repairs []string               // what a walk has mended, for people
	}
}

func newHealer(c healConfig) *healer {
	if c.workers == 0 {
		c.workers = healWorkers
	}
	h := &healer{healConfig: c, from: near{m: c.source}, to: c.target}
	h.mu.busy = map[Key]chan struct{}{}
	h.mu.whole, h.mu.touched, h.mu.born = map[volume.ID]struct{}{}, map[volume.ID]struct{}{}, map[volume.ID]struct{}{}
	h.mu.walked = map[Key]uint64{}
	h.mu.scope, h.mu.entries = map[volume.ID]struct{}{}, map[Key]struct{}{}
	return h
}

// Drain heals what is queued, and returns how many keys are left: those that
// were added meanwhile, and those of which healing failed, of which err is the first
// failure. While nothing changes at the source (lock may then do nothing) it comes to
// 0 and both members are equal. Errors with Reason Unavailable are the target's connection's, with Outdated the target's refusals.
func (h *healer) Drain(ctx context.Context) (left int, err error) {
	h.done.started.CompareAndSwap(0, time.Now().UnixNano())
	var before []volume.ID
	if h.mu.Lock(); h.partial {
		clear(h.mu.scope)
		clear(h.mu.entries)
	}
	h.mu.Unlock()
	if !h.byKeys() {
		if before, err = allNameless(ctx, h.to); err != nil {
			return h.keys.Len(), err
		}
	}
	failed := map[Key]error{}
	discards := false // are equal
	const passes = 4  // the end of one may queue what the next heals
	for range passes {
		if err := h.round(ctx, failed); err != nil {
			return h.keys.Len(), err
		}
		if h.keys.Len() > h.wideDone()+len(failed) {
			break // changes go on
		}
		more, err := h.discards(ctx)
		if err != nil {
			return h.keys.Len(), err
		}
		if discards = !more; discards {
			break
		}
	}
	if len(failed) == 0 {
		if err := h.clear(ctx, before, discards); err != nil {
			return h.keys.Len(), err
		}
		err = h.endWalk()
	}
	for _, e := range failed {
		err = e
	}
	return h.keys.Len(), err
}

// byKeys reports whether the keys tell all in which the members may differ. What was born when
// a machine lost its power they do not tell of: that may lie there without a name.
func (h *healer) byKeys() bool { return h.partial && h.since == volume.Time{} }

// round heals as many keys as there are now.
func (h *healer) round(ctx context.Context, failed map[Key]error) error {
	for budget := h.keys.Len(); budget > 0; {
		batch := h.take(failed)
		if len(batch) == 0 {
			return nil
		}
		budget -= len(batch)
		if err := h.batch(ctx, batch, failed); err != nil {
			return err
		}
		if len(failed) >= healFailed {
			return nil
		}
	}
	return nil
}

// take returns the next keys, without those that failed, and those whose walk is over.
func (h *healer) take(failed map[Key]error) []queuedKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.mu.born)
	var batch []queuedKey
	defer func() {
		for _, k := range batch {
			h.inScope(k.Key)
		}
	}()
	for _, k := range h.keys.Take(healBatch + len(failed) + len(h.mu.walked)) {
		gen, walked := h.mu.walked[k.Key]
		if failed[k.Key] == nil && !(walked && gen == k.gen) {
			batch = append(batch, k)
		}
	}
	return batch
}

// inScope notes what a key is about; h.mu is locked.
func (h *healer) inScope(k Key) {
	switch {
	case !h.partial:
	case k.Kind == EntryKey:
		h.mu.entries[k] = struct{}{}
	default:
		h.mu.scope[k.ID] = struct{}{}
	}
}

// wide reports whether a key is about a whole tree.
func wide(k Key) bool { return k.Kind == FullKey || k.Kind == EntryKey && k.Name == "" }

// batch heals keys: entries first, so that what is born has its name at once,
// whole trees last. Then it makes that durable, and the keys are done.
func (h *healer) batch(ctx context.Context, keys []queuedKey, failed map[Key]error) error {
	var order [3][]queuedKey
	for _, k := range keys {
		switch {
		case wide(k.Key):
			order[2] = append(order[2], k)
		case k.Kind == EntryKey:
			order[0] = append(order[0], k)
		default:
			order[1] = append(order[1], k)
		}
	}
	var healed []queuedKey
	for _, part := range order[:2] {
		ok, err := h.each(ctx, part, failed)
		if err != nil {
			return err
		}
		healed = append(healed, ok...)
	}
	if err := h.walkAll(ctx, order[2], failed); err != nil {
		return err
	}
	if err := h.flush(ctx); err != nil {
		return err
	}
	if len(healed) == 0 {
		return nil
	}
	if !h.partial {
		if err := h.to.settle(ctx); err != nil {
			return err
		}
	}
	h.done.keys.Add(int64(len(healed)))
	return h.keys.Done(healed)
}

// each heals keys side by side and returns those that were. An error ends it.
func (h *healer) each(ctx context.Context, keys []queuedKey, failed map[Key]error) (healed []queuedKey, err error) {
	var mu sync.Mutex
	err = h.parallel(ctx, len(keys), func(ctx context.Context, i int) error {
		err := h.rate.wait(ctx)
		if err == nil {
			err = h.one(ctx, keys[i].Key)
		}
		if fatal(ctx, err) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed[keys[i].Key] = err
			return nil
		}
		healed = append(healed, keys[i])
		return nil
	})
	return healed, err
}

// fatal reports whether after err nothing else can be expected to work either.
func fatal(ctx context.Context, err error) bool {
	reason := volume.ReasonOf(err)
	return err != nil && (ctx.Err() != nil || reason == volume.Unavailable || reason == volume.Outdated || volume.ErrnoOf(err) == syscall.ENOSPC)
}

// parallel calls f for 0 … n-1, several at a time, and waits for them. After
// an error, which it returns, no more are begun.
func (h *healer) parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for range min(h.workers, n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f(ctx, int(i)); err != nil {
					once.Do(func() { first = err })
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	if first == nil && ctx.Err() != nil {
		first = ctx.Err()
	}
	return first
}

// one heals one key.
func (h *healer) one(ctx context.Context, k Key) error {
	switch k.Kind {
	case EntryKey:
		h.touch(k.ID) // that the entry is equal does not say that it always was
		_, err := h.entry(ctx, k.ID, k.Name)
		return err
	case ObjectKey:
		return h.object(ctx, k.ID)
	case ExtentKey:
		return h.extent(ctx, k)
	case JournalKey:
		return h.journal(ctx)
	}
	return volume.Errorf("heal", "", syscall.EINVAL, "a key of kind %d", k.Kind)
}

// isStale reports whether an error says that an object is not there. One with a reason is of who could not tell.
func isStale(err error) bool {
	return volume.ErrnoOf(err) == syscall.ESTALE && volume.ReasonOf(err) == volume.Plain
}
