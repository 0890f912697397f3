package set

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// healing is the taking back of a member that is not in sync.
type healing struct {
	healer *healer
	began  time.Time
	full   bool
}

// welcome begins to take a member back that asks for it.
func (r *reign) welcome(id string) {
	r.s.mu.Lock()
	heals := r.s.mu.heals
	r.s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !heals && !r.mu.asked {
		return
	}
	a := r.mu.absent[id]
	if a == nil || a.job != nil || r.mu.why != "" || r.backupLocked(id) != nil || !r.mu.own {
		return
	}
	a.job = &healing{began: time.Now()}
	r.wg.Go(func() { r.takeBack(a) })
}

// takeBack heals a member and gives it its seat. It gives up when that fails; the member asks again.
func (r *reign) takeBack(a *absence) {
	err := r.tryTakeBack(r.ctx, a)
	r.mu.Lock()
	if a.job.healer != nil {
		r.mu.healed[a.id] = a.job.healer.Progress()
	}
	a.job = nil
	if err != nil {
		a.reason = err.Error()
	}
	r.mu.Unlock()
	if err != nil && !r.judge(err) {
		r.log.Warn("a member could not be taken back, and is tried again", "member", r.s.nameOf(a.id), "error", err)
	}
}

func (r *reign) tryTakeBack(ctx context.Context, a *absence) error {
	b := r.newBackup(a.id)
	r.mu.Lock()
	o := r.ordersLocked()
	r.mu.Unlock()
	t, err := r.introduce(ctx, b, o)
	if err != nil {
		return err
	}
	queue, err := r.s.ledger.queueOf(a.id)
	if err != nil {
		return err
	}
	unnamed, err := r.unnamed(ctx, t.since)
	if err != nil {
		return err
	}
	keys := slices.Concat(t.keys, unnamed)
	if r.s.wantsFullHeal(a.id) || t.lost {
		keys = []Key{{Kind: FullKey}}
	}
	if err := r.s.ledger.queued(ctx, a.id, keys); err != nil {
		return err
	}
	source := &queueKeys{KeySet: queue, out: map[Key]oplog.Taken{}}
	defer source.back()
	h, held := r.healer(b, source, t.since)
	r.mu.Lock()
	a.job.healer, a.job.full = h, queue.Has(oplog.Full)
	r.mu.Unlock()
	r.log.Info("a member is being healed", "member", r.s.nameOf(a.id), "keys", queue.Len())
	for tries := 0; ; tries++ {
		left, err := h.Drain(ctx)
		if err != nil {
			return err
		}
		// What is left changes all the time. It is not much, or it does not get less.
		if left > lastKeys && tries < 16 {
			continue
		}
		done, err := r.seat(ctx, b, h, held, t)
		if err != nil || done {
			return err
		}
	}
}

// healer makes a healer of a member from this one; held is to be set while nothing changes.
// What was born since may have no keys of its own, if that is not zero.
func (r *reign) healer(b *backup, keys healKeys, since volume.Time) (h *healer, held *atomic.Bool) {
	l := &healLocks{locks: r.s.locks}
	m := r.s.memberOf(b.id)
	return newHealer(healConfig{
		source: r.s.member, keys: keys, lock: l.lock, rate: &r.s.rate, arbiter: m != nil && m.Arbiter, mending: r.mending,
		since:  earlier(since, r.since),
		target: r.side(b),
	}), &l.held
}

// side is a member as the other side of a heal.
func (r *reign) side(b *backup) distant {
	return distant{peer: caller{b}, epoch: func() Epoch { return r.epoch }}
}

// earlier returns the earlier of two times, of which zero is none.
func earlier(a, b volume.Time) volume.Time {
	if a == (volume.Time{}) || b != (volume.Time{}) && b.Before(a) {
		return b
	}
	return a
}

// caller is a backup as a Peer, whose answers count for the lease.
type caller struct{ b *backup }

func (c caller) Call(ctx context.Context, msg, data []byte) ([]byte, error) {
	return c.b.call(ctx, append(make([]byte, frontSize, frontSize+len(msg)), msg...), data)
}

func (c caller) Up() bool {
	p := c.b.peer()
	return p != nil && p.Up()
}

// level makes a member equal to this one in some keys, at once. With quiet nothing
// changes in them meanwhile; otherwise they are locked one by one.
func (r *reign) level(ctx context.Context, b *backup, keys []Key, since volume.Time, quiet bool) error {
	if len(keys) == 0 {
		return nil
	}
	list := newListKeys(keys)
	h, held := r.healer(b, list, since)
	h.partial = true
	held.Store(quiet)
	for range 4 {
		left, err := h.Drain(ctx)
		if err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
	}
	return unavailable("heal", "%d keys can't be made equal at %s", list.Len(), r.s.nameOf(b.id))
}

// lastKeys is how many keys may be left to heal while changes are held up.
const lastKeys = 256

// seat gives a member that has been healed its seat. Not done: too much has changed again.
func (r *reign) seat(ctx context.Context, b *backup, h *healer, held *atomic.Bool, t tail) (done bool, err error) {
	if err := r.reread(ctx); err != nil { // without the configuration store there is no point in holding anything up
		return false, err
	}
	done, err = r.levelLast(ctx, b, h, held, t)
	if !done || err != nil {
		return false, err
	}
	// It has everything, and gets everything. As soon as its seat may be noted, it has to answer.
	r.makeup.Lock()
	defer r.makeup.Unlock()
	ok, err := r.swapFor(ctx, b, t.boot)
	if !ok || err != nil {
		r.mu.Lock()
		r.mu.backups = without(r.mu.backups, b)
		r.mu.Unlock()
		b.settle(true, 0)
		return false, errors.Join(err, errors.New("its place could not be noted"))
	}
	r.mu.Lock()
	delete(r.mu.absent, b.id)
	r.mu.config++
	o, backups := r.ordersLocked(), r.mu.backups
	r.mu.Unlock()
	r.tellConfig(backups, o, "", nil)
	r.s.clearFullHeal(b.id)
	r.log.Info("a member is in sync again", "member", r.s.nameOf(b.id), "healed", h.Progress().Keys)
	return true, r.s.ledger.keepQueues(o.absent)
}

// swapFor notes the member's seat in the configuration store.
func (r *reign) swapFor(ctx context.Context, b *backup, boot string) (bool, error) {
	seated := func(st spec.SetState) bool { seat, in := st.Seat(b.id); return in && seat.Boot == boot }
	for {
		ok, err := r.swap(ctx, func(st spec.SetState) (spec.SetState, bool) {
			return With(st, b.id, boot), r.s.memberOf(b.id) != nil
		}, seated)
		if err == nil || r.deposed() {
			return ok, err
		}
		pause(ctx, 50*time.Millisecond) // it may have happened: nothing else can be done before that is known
	}
}

// levelLast heals what is left while nothing changes, and makes the member a backup.
func (r *reign) levelLast(ctx context.Context, b *backup, h *healer, held *atomic.Bool, t tail) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, Lease)
	defer cancel()
	defer r.hold()()
	keys, o, covered := r.flown()
	if err := h.keys.Add(keys); err != nil {
		return false, err
	}
	if err := r.tear(ctx, b, keys); err != nil { // what is under way may be undone, if this member is lost
		return false, err
	}
	held.Store(true)
	defer held.Store(false)
	left, err := h.Drain(ctx)
	if err != nil || left > 0 {
		return false, err
	}
	if err := r.handOver(ctx, b, o, covered, t.requests); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.backups = append(slices.Clone(r.mu.backups), b)
	r.extendLocked() // its promise may be the first to run out: nobody reads by an older word when its seat is noted
	return true, nil
}

func (s *Set) wantsFullHeal(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.fullHeal[id]
}

func (s *Set) clearFullHeal(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.fullHeal, id)
}
