package set

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume/spec"
)

// ErrConflict is Authority.Swap's for a state that has changed meanwhile.
var ErrConflict = errors.New("the set's state has changed meanwhile")

// swapTry bounds one attempt to read or change the configuration store.
const swapTry = 2 * time.Second

// ready waits while somebody sees to a backup that failed, finishMax at most. done: it has the
// change n (if not 0) otherwise, or is not in sync any more.
func (b *backup) ready(ctx context.Context, r *reign, n Seq) (done bool, err error) {
	var late <-chan time.Time
	for {
		b.mu.Lock()
		failed, settled := b.mu.failed, b.mu.settled
		done := b.mu.out || n != 0 && n <= b.mu.covered
		b.mu.Unlock()
		if done || !failed {
			return done, nil
		}
		if late == nil {
			t := time.NewTimer(finishMax)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-settled:
		case <-r.deposing:
			return false, errDeposed
		case <-ctx.Done():
			return false, ctx.Err()
		case <-late:
			return false, errLate
		}
	}
}

var errLate = errors.New("a member in sync does not answer, and can't be done without")

var errDeposed = errors.New("another member is the primary")

// down reports whether somebody sees to the backup.
func (b *backup) down() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.failed || b.mu.out
}

// alive returns a context for calls to the backup, which ends with the reign, and when it is
// found to have failed.
func (b *backup) alive(r *reign) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.life == nil {
		b.mu.life, b.mu.kill = context.WithCancel(r.ctx)
	}
	return b.mu.life
}

// fail has somebody see to a backup that does not do what it should.
func (r *reign) fail(b *backup, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.failed || b.mu.out || r.mu.why != "" {
		return
	}
	b.mu.failed, b.mu.settled = true, make(chan struct{})
	if b.mu.kill != nil {
		b.mu.kill()
		b.mu.life, b.mu.kill = nil, nil
	}
	r.log.Warn("a member in sync has failed", "member", r.s.nameOf(b.id), "why", why)
	r.wg.Go(func() { r.mend(b, 0, nil) })
}

// settle ends the seeing to a backup.
func (b *backup) settle(out bool, covered Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.out, b.mu.covered = out, max(covered, b.mu.covered)
	if out {
		b.mu.covered = 1<<64 - 1
	}
	if b.mu.failed {
		b.mu.failed = false
		close(b.mu.settled)
	}
}

// mend makes a failed backup equal again while patience lasts, and as long as the quorum
// needs it; otherwise it takes it out of the list of those in sync.
func (r *reign) mend(b *backup, patience time.Duration, own []Key) {
	until := now() + patience
	waits := false
	for !r.deposed() {
		out, needed, err := r.mendOnce(b, now() >= until, own)
		if needed && !waits {
			waits = true
			r.log.Error("the set waits for a member: without it too few would be in sync", "member", r.s.nameOf(b.id))
		}
		switch {
		case err == nil:
			if waits && !out {
				r.log.Info("the member is in step again", "member", r.s.nameOf(b.id))
			}
			return
		case r.judge(err):
			return
		}
		r.log.Debug("a failed member can't be seen to yet", "member", b.id, "error", err)
		pause(r.ctx, 20*time.Millisecond)
	}
}

// mendOnce tries it once. needed: the quorum forbids to take the member out.
func (r *reign) mendOnce(b *backup, may bool, own []Key) (out, needed bool, err error) {
	r.makeup.Lock()
	defer r.makeup.Unlock()
	if may {
		out, err = r.drop(b, own)
		needed = !out && err == nil
	}
	covered := Seq(1<<64 - 1)
	if !out && err == nil {
		covered, err = r.align(r.ctx, b, own)
	}
	if err != nil {
		return out, needed, err
	}
	b.settle(out, covered)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.landOrphansLocked(covered)
	return out, needed, nil
}

// landOrphansLocked takes changes out whose callers have given up: all members
// in sync have them now, up to the number covered.
func (r *reign) landOrphansLocked(covered Seq) {
	for n, fl := range r.mu.flying {
		if fl.orphan && n <= covered {
			r.landLocked(fl)
		}
	}
	r.mu.local.Broadcast()
}

// drop takes a backup out of the list of those in sync; own are keys in which it may differ,
// beside those of what is in flight. Neither out nor an
// error: the quorum forbids it. r.makeup is held.
func (r *reign) drop(b *backup, own []Key) (out bool, err error) {
	r.s.mu.Lock()
	quorum := r.s.mu.quorum
	r.s.mu.Unlock()
	r.mu.Lock()
	_, ok := Without(r.mu.state, r.s.cfg.Self, b.id, quorum)
	first := r.mu.absent[b.id] == nil
	r.mu.Unlock()
	if !ok {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, finishMax)
	defer cancel()
	if first { // it was in sync: its queue begins empty
		err = r.s.ledger.begin(ctx, b.id, nil)
	}
	r.mu.Lock()
	keys := r.toQueue(own)
	for _, fl := range r.mu.flying {
		keys = append(keys, fl.keys...)
	}
	// From here on changes are queued for it; those of before are in keys. But it has
	// to answer, as long as the configuration has it in sync.
	if first && err == nil {
		r.mu.config++
		r.mu.absent[b.id] = &absence{id: b.id}
		err = r.s.ledger.setAbsent(slices.Collect(maps.Keys(r.mu.absent)))
	}
	o := r.ordersLocked()
	rest := without(r.mu.backups, b)
	r.mu.Unlock()
	if err == nil {
		err = r.s.ledger.queued(ctx, b.id, keys)
	}
	if err != nil {
		r.depose("the queue of an absent member can't be kept: " + err.Error())
		return false, err
	}
	if len(keys) > configKeys {
		keys = []Key{oplog.Full}
	}
	r.tellConfig(rest, o, b.id, keys)
	out, err = r.swap(ctx, func(st spec.SetState) (spec.SetState, bool) { return Without(st, r.s.cfg.Self, b.id, quorum) },
		func(st spec.SetState) bool { return !inSync(st, b.id) })
	if out {
		r.mu.Lock()
		r.mu.backups = without(r.mu.backups, b)
		r.extendLocked()
		r.mu.Unlock()
		r.log.Info("a member is out of sync", "member", r.s.nameOf(b.id))
	}
	return out, err
}

func without(list []*backup, b *backup) []*backup {
	return slices.DeleteFunc(slices.Clone(list), func(o *backup) bool { return o == b })
}

// configKeys is how many keys fit into a message with the set's make-up.
const configKeys = 400

// announce tells the backups of members that are absent though they never were in sync.
func (r *reign) announce() {
	r.makeup.Lock()
	defer r.makeup.Unlock()
	r.mu.Lock()
	r.mu.config++
	err := r.s.ledger.setAbsent(slices.Collect(maps.Keys(r.mu.absent)))
	o, backups := r.ordersLocked(), r.mu.backups
	r.mu.Unlock()
	if err != nil {
		r.depose("the queue of an absent member can't be kept: " + err.Error())
		return
	}
	r.tellConfig(backups, o, "", nil)
}

// tellConfig tells backups how the set is made up, and which keys a member may
// lack that has just left.
func (r *reign) tellConfig(backups []*backup, o orders, who string, keys []Key) {
	w := begin(msgConfig, r.epoch)
	w.orders(o)
	w.text(who)
	w.keys(keys)
	r.tell(backups, w.b)
}

// tell brings a message about the make-up to backups. One that fails is seen to
// later: until then nothing is acknowledged, and then it is aligned, or out.
func (r *reign) tell(backups []*backup, msg []byte) {
	for _, b := range backups {
		if b.down() {
			continue
		}
		_, err := b.call(b.alive(r), msg, nil)
		if err != nil && !r.judge(err) {
			r.fail(b, err.Error())
		}
	}
}

// swap changes the set's state in the configuration store to what change makes
// of the present one, until that, or somebody else, has brought about what is wanted. r.makeup is held.
func (r *reign) swap(ctx context.Context, change func(spec.SetState) (spec.SetState, bool), wanted func(spec.SetState) bool) (bool, error) {
	for {
		if r.deposed() {
			return false, errDeposed
		}
		r.mu.Lock()
		st, rev := r.mu.state, r.mu.rev
		r.mu.Unlock()
		next, ok := change(st)
		if !ok {
			return false, nil
		}
		try, cancel := context.WithTimeout(ctx, swapTry)
		newRev, err := r.s.cfg.Authority.Swap(try, rev, next)
		cancel()
		if err == nil {
			return true, r.adopt(next, newRev)
		}
		// It failed, or may have happened: what is there now tells.
		if err := r.reread(ctx); err != nil {
			return false, err
		}
		r.mu.Lock()
		now := r.mu.state
		r.mu.Unlock()
		if wanted(now) {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// reread learns the set's state from the configuration store.
func (r *reign) reread(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, swapTry)
	defer cancel()
	st, rev, err := r.s.cfg.Authority.Read(try)
	if err != nil {
		return err
	}
	if st.Epoch != r.epoch || st.Primary != r.s.cfg.Self || !inSync(st, r.s.cfg.Self) {
		r.depose("the configuration names another primary")
		return errDeposed
	}
	return r.adopt(st, rev)
}

// adopt takes a state of this epoch that the configuration store has.
func (r *reign) adopt(st spec.SetState, rev Revision) error {
	if err := r.s.follow.adopt(st); err != nil {
		r.depose("the set's state can't be kept: " + err.Error())
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.state, r.mu.rev = st, rev
	return nil
}

// nameOf is a member's brick, for people.
func (s *Set) nameOf(id string) string {
	if m := s.memberOf(id); m != nil {
		return m.Brick
	}
	return id
}
