package set

import (
	"context"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// follower is a member as its primary sees it: it obeys the newest epoch's,
// and keeps what it has promised.
//
// Locks: gate, before mu.
type follower struct {
	s     *Set
	files *files

	// gate is held for reading by who carries out a message of the present
	// epoch, for writing by a fence: so it waits for what is under way.
	gate sync.RWMutex

	mu struct {
		sync.Mutex
		state    spec.SetState // the newest seen; on disk
		admitted bool          // to apply changes: aligned with the epoch's primary
		config   uint64
		finished Seq
		seen     map[Seq]*applied // above finished
		promise  Promise
		fence    uint64        // number of the last fence of this epoch
		heard    heard         // behind it
		gone     bool          // the process promised to has ended
		tried    Epoch         // of a swap under way that would make this member the primary
		reigned  Epoch         // the newest in which this brick reigned; on disk
		sight    time.Duration // when the newest epoch was seen first
		known    bool          // an epoch was on the disk when this process began
		news     chan struct{} // closed, and made anew, when config changes
	}
}

// applied is a change that came, perhaps more than once.
type applied struct {
	done chan struct{}
	err  error
}

func (f *follower) init(s *Set) {
	f.s, f.files = s, newFiles()
	f.mu.state, f.mu.reigned = s.ledger.state()
	f.mu.known = f.mu.state.Epoch != 0
	f.mu.sight = s.mu.started
	f.mu.seen = map[Seq]*applied{}
	f.mu.news = make(chan struct{})
}

// madeUpLocked notes the number of the set's make-up that is known now.
func (f *follower) madeUpLocked(config uint64) {
	f.mu.config = config
	close(f.mu.news)
	f.mu.news = make(chan struct{})
}

// awaitMakeUp waits until a make-up is known that a change was made under: the
// message that tells of it is on its way.
func (f *follower) awaitMakeUp(ctx context.Context, epoch Epoch, config uint64) error {
	var late *time.Timer
	for {
		f.mu.Lock()
		known, same, news := f.mu.config, f.mu.state.Epoch == epoch, f.mu.news
		f.mu.Unlock()
		switch {
		case !same:
			return outdated(epoch, epoch+1)
		case known >= config:
			return nil
		}
		if late == nil {
			late = time.NewTimer(silence)
			defer late.Stop()
		}
		select {
		case <-news:
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		return unavailable("member", "the set's make-up %d is not known here", config)
	}
}

func (f *follower) close() { f.files.close() }

// hear takes from the map whether the process that was promised to has ended.
func (f *follower) hear(t *spec.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// That the map knows another process, or none, proves nothing: only that its daemon saw it end.
	to := f.mu.promise.To
	if m := t.Member(to.Member); m != nil && to.Life != "" && m.Ended == to.Life {
		f.mu.gone = true
	}
}

// newest returns the newest state that was seen.
func (f *follower) newest() spec.SetState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.state
}

// adopt makes a state the newest, on disk first, if it is newer; of an epoch there
// is one primary, but its list of who is in sync changes.
func (f *follower) adopt(st spec.SetState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.adoptLocked(st)
}

func (f *follower) adoptLocked(st spec.SetState) error {
	if st.Epoch < f.mu.state.Epoch || st.Equal(f.mu.state) {
		return nil
	}
	if err := f.s.ledger.keepState(st, f.mu.reigned); err != nil {
		return err
	}
	if st.Epoch > f.mu.state.Epoch {
		f.mu.sight = now()
		f.mu.admitted, f.mu.config, f.mu.finished = false, 0, 0
		f.mu.seen = map[Seq]*applied{}
	}
	f.mu.state = st
	return nil
}

// enter checks that a message is of the present epoch and renews the promise to
// its sender. Changes may come only after an alignment, and some messages only once.
func (f *follower) enter(fence, number uint64, m message, epoch Epoch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case epoch < f.mu.state.Epoch, epoch < f.mu.tried:
		return outdated(epoch, max(f.mu.state.Epoch, f.mu.tried))
	case epoch > f.mu.state.Epoch || f.mu.promise.To.Epoch != epoch:
		return unavailable("member", "the primary of epoch %d has not introduced itself", epoch)
	case fence != f.mu.fence:
		return unavailable("member", "it was sent before this member was fenced")
	case (m == msgApply || m == msgApplyAll || m == msgConfig) && !f.mu.admitted:
		return unavailable("member", "not aligned with the primary of epoch %d", epoch)
	case m.once() && !f.mu.heard.first(number):
		return unavailable("member", "it has come before")
	}
	f.mu.promise = f.mu.promise.Give(f.mu.promise.To, now())
	return nil
}

// Handle carries a message of another member out and returns the answer. It is
// the server's for member calls; data are its until Handle returns.
func (s *Set) Handle(ctx context.Context, msg, data []byte) ([]byte, error) {
	r := &reader{b: msg}
	fence, number, m, epoch := r.u64(), r.u64(), message(r.u8()), r.u64()
	f := &s.follow
	switch {
	case r.bad:
		return nil, malformed("message")
	case m == msgFence:
		return f.obey(fence, epoch, r)
	case m == msgJoin:
		return s.joined(r)
	case m == msgWho:
		w := &writer{}
		w.text(s.cfg.Boot)
		w.bool(s.ledger.log.Damage() != nil || s.ledger.torn() != nil)
		w.u64(f.newest().Epoch)
		return w.b, nil
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	if err := f.enter(fence, number, m, epoch); err != nil {
		return nil, err
	}
	switch {
	case m == msgApply:
		return nil, f.apply(ctx, epoch, r, data)
	case m == msgApplyAll:
		return nil, f.applyAll(ctx, epoch, r)
	case m == msgBeat:
		f.finish(r.u64())
		return f.fill(ctx), nil
	case m == msgSettle:
		return nil, f.settle(r, data)
	case m == msgConfig:
		return nil, f.configure(ctx, r)
	case m == msgQueue:
		return nil, f.takeQueue(ctx, r)
	case m == msgTorn:
		return nil, f.tear(r)
	case m == msgLockers:
		return nil, s.lockers.take(epoch, r)
	case m >= msgHealFrom:
		return serveDistant(ctx, f.side(), msg[frontSize:], data)
	}
	return nil, malformed("message")
}

// obey obeys a new primary, or the same one anew, from a fence on: what is under way here ends
// before it answers, and nothing of before is carried out from then on.
func (f *follower) obey(fence uint64, epoch Epoch, r *reader) ([]byte, error) {
	life, o := r.text(memberMax), r.orders()
	if !r.done() || o.state.Epoch != epoch {
		return nil, malformed("fence")
	}
	if err := f.admits(epoch, o.state.Primary); err != nil {
		return nil, err
	}
	if old := f.s.reignNow(); old != nil {
		if old.epoch >= epoch {
			return nil, outdated(epoch, old.epoch)
		}
		old.depose("another member has become the primary")
		old.drained()
	}
	f.gate.Lock()
	defer f.gate.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.admitsLocked(epoch, o.state.Primary); err != nil {
		return nil, err
	}
	if f.mu.promise.To.Epoch == epoch && fence <= f.mu.fence {
		return nil, unavailable("member", "a later fence has come before")
	}
	if err := f.adoptLocked(o.state); err != nil {
		return nil, err
	}
	f.mu.fence, f.mu.admitted, f.mu.config = fence, false, o.config
	f.mu.finished, f.mu.seen, f.mu.heard = 0, map[Seq]*applied{}, heard{}
	f.mu.promise = f.mu.promise.Give(Process{o.state.Primary, life, epoch}, now())
	f.mu.gone = false
	f.files.close()
	f.s.member.NewReign()
	t, err := f.s.ledger.tail(f.s.cfg.Boot)
	if err != nil {
		return nil, err
	}
	t.life = f.s.cfg.Life
	w := &writer{}
	w.tail(t)
	return w.b, nil
}

// admits refuses a primary that may not be obeyed.
func (f *follower) admits(epoch Epoch, primary string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.admitsLocked(epoch, primary)
}

func (f *follower) admitsLocked(epoch Epoch, primary string) error {
	if Accepts(f.mu.state.Epoch, f.mu.state.Primary, f.mu.tried, epoch, primary) == Refuse {
		return outdated(epoch, max(f.mu.state.Epoch, f.mu.tried))
	}
	return nil
}

// settle ends an alignment: this member is equal to the primary now.
func (f *follower) settle(r *reader, data []byte) error {
	o, covered, last := r.orders(), r.u64(), r.bool()
	forget := r.requests()
	if !r.done() {
		return malformed("settle")
	}
	if err := f.s.ledger.forget(forget); err != nil {
		return err
	}
	for _, q := range forget {
		f.s.replies.forget(q)
	}
	var doubted []volume.Request
	for d := (&reader{b: data}); len(d.b) > 0 && !d.bad; {
		if q, rep := d.reply(); !d.bad {
			f.s.replies.note(q, rep.effect, rep.sure)
			if err := f.s.ledger.hand(q, rep); err != nil {
				return err
			}
			if !rep.sure {
				doubted = append(doubted, q)
			}
		}
	}
	if err := f.s.ledger.doubt(doubted); err != nil {
		return err
	}
	if !last {
		return nil
	}
	if err := f.s.ledger.aligned(o.state.Epoch, covered, f.s.cfg.Boot, false); err != nil {
		return err
	}
	if err := f.s.ledger.keepQueues(o.absent); err != nil {
		return err
	}
	f.s.replies.complete()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.adoptLocked(o.state); err != nil {
		return err
	}
	// What comes of before, late, is not carried out any more.
	f.mu.finished, f.mu.admitted = covered, true
	f.madeUpLocked(o.config)
	return nil
}

// configure takes note of a changed make-up of the set.
func (f *follower) configure(ctx context.Context, r *reader) error {
	o, who, keys := r.orders(), r.text(memberMax), r.keys()
	if !r.done() {
		return malformed("config")
	}
	f.mu.Lock()
	old := f.mu.config >= o.config
	f.mu.Unlock()
	if old {
		return nil
	}
	if who != "" {
		if err := f.s.ledger.begin(ctx, who, keys); err != nil {
			return err
		}
	}
	if err := f.s.ledger.keepQueues(o.absent); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.adoptLocked(o.state); err != nil {
		return err
	}
	f.madeUpLocked(max(f.mu.config, o.config))
	return nil
}

// takeQueue takes over the queue of a third member, which is absent.
func (f *follower) takeQueue(ctx context.Context, r *reader) error {
	who, first, keys := r.text(memberMax), r.bool(), r.keys()
	if !r.done() || who == "" || who == f.s.cfg.Self {
		return malformed("queue")
	}
	if first {
		return f.s.ledger.begin(ctx, who, keys)
	}
	return f.s.ledger.queued(ctx, who, keys)
}

// finish notes the mark below which all members have everything.
func (f *follower) finish(mark Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if mark <= f.mu.finished {
		return
	}
	if mark-f.mu.finished < uint64(len(f.mu.seen)) {
		for n := f.mu.finished + 1; n <= mark; n++ {
			delete(f.mu.seen, n)
		}
	} else {
		maps.DeleteFunc(f.mu.seen, func(n Seq, _ *applied) bool { return n <= mark })
	}
	f.mu.finished = mark
	f.s.ledger.finished(f.mu.state.Epoch, mark)
}

// claim enters a change that has come. Not nil: it came before.
func (f *follower) claim(n Seq) (mine, before *applied) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n <= f.mu.finished {
		done := &applied{done: make(chan struct{})}
		close(done.done)
		return nil, done
	}
	if a := f.mu.seen[n]; a != nil {
		return nil, a
	}
	a := &applied{done: make(chan struct{})}
	f.mu.seen[n] = a
	return a, nil
}

// apply applies a change.
func (f *follower) apply(ctx context.Context, epoch Epoch, r *reader, data []byte) error {
	p, err := parsePart(r)
	if err != nil {
		return err
	}
	return f.applyPart(ctx, epoch, p, data)
}

func (f *follower) applyPart(ctx context.Context, epoch Epoch, p *part, data []byte) error {
	if err := f.awaitMakeUp(ctx, epoch, p.config); err != nil {
		return err
	}
	c, n, finished := &p.change, p.n, p.finished
	c.data = data
	if c.kind == doMake && int64(len(data)) != c.len && !f.s.isArbiter() {
		return malformed("apply")
	}
	f.finish(finished)
	if !c.kind.numbered() {
		_, err := apply(ctx, f.s.member, f.files, c)
		if volume.ErrnoOf(err) == estale {
			return nil // it has been removed meanwhile: the primary says so to who asks
		}
		return err
	}
	mine, before := f.claim(n)
	if before != nil {
		select {
		case <-before.done:
			return before.err
		case <-ctx.Done():
			return &volume.Error{Op: "member", Errno: syscall.ETIMEDOUT, Err: ctx.Err()}
		}
	}
	limited := inTime(ctx, applyMax)
	defer limited.end()
	do := apply
	if c.hasContents() && f.s.isArbiter() {
		do = applyHollow
	}
	mine.err = f.s.keep(limited, epoch, n, finished, c, func(ctx context.Context) (Outcome, error) {
		return do(ctx, f.s.member, f.files, c)
	})
	close(mine.done)
	return mine.err
}

// applyMax bounds the application of one change, disk included.
const applyMax = time.Minute

// inSync reports whether a member is in the list.
func inSync(st spec.SetState, id string) bool {
	return slices.ContainsFunc(st.InSync, func(s spec.Seat) bool { return s.Member == id })
}
