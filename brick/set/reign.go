package set

import (
	"context"
	"encoding/binary"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// reign is a member's time as primary, from the epoch that it took until it is deposed.
//
// Locks: Set.locks; makeup; mu; backup.mu (leaf).
type reign struct {
	s     *Set
	log   *slog.Logger
	epoch Epoch
	ctx   context.Context // done when the reign is over
	end   context.CancelFunc
	wg    sync.WaitGroup

	seq      atomic.Uint64
	fences   atomic.Uint64 // numbers them, over all members
	clock    atomic.Int64  // the last time that was given, ns of the Unix epoch
	deposing chan struct{} // closed when the authority is gone: nothing begins any more
	over     chan struct{} // closed when no answer reaches a client any more
	hide     func()        // of the service; nil: none yet

	makeup sync.Mutex // held by who changes who is in sync; over messages and swaps

	space space

	window *window.Window // of what was lent to clients; nil: it could not be had. A leaf

	since volume.Time // what was born here from then on may have no keys of its own; zero: it has

	mu struct {
		sync.Mutex
		why      string // it was deposed
		state    spec.SetState
		rev      Revision
		config   uint64
		flying   map[Seq]*flight
		local    *sync.Cond // a flight was applied here, or ended; or paused, or the reign
		paused   int        // by how many; nothing takes off then
		backups  []*backup  // in sync; replaced, never changed
		absent   map[string]*absence
		lives    map[string]string // of members, by the newest map
		opens    map[volume.ID]int
		kept     map[volume.ID]bool // without a name, kept on all members because open here
		waiting  bool               // clients of an earlier primary may still come back; see opens.go
		born     map[volume.ID]bool // while waiting: made in this reign
		discards map[volume.Key]volume.ID
		healed   map[string]healProgress // of members that were healed last
		checks   map[string]*healer      // of members in sync: everything is being compared
		asked    bool                    // an administrator has asked for healing
		own      bool                    // what this member had under way is settled: its state holds
	}
}

// flight is a change under way.
type flight struct {
	seq     Seq
	config  uint64
	mark    Seq // when it took off
	keys    []Key
	backups []*backup
	applied bool // here; guarded by reign.mu
	orphan  bool // its caller has given up; likewise
}

// backup is a member in sync, as its primary sees it.
type backup struct {
	id      string
	arbiter bool // it takes no contents
	peer    func() Peer

	fence    atomic.Uint64 // the last it was sent
	numbered atomic.Uint64 // messages to it that must not be carried out twice
	answered atomic.Int64  // when the message was sent that was answered last, on now's clock

	mu struct {
		sync.Mutex
		failed  bool            // it does not do what it should: someone sees to it
		settled chan struct{}   // closed when that someone is done
		covered Seq             // changes up to this one it has, by alignment
		out     bool            // it is not in sync any more
		life    context.Context // of the calls to it, until it fails; nil: none yet
		kill    context.CancelFunc
	}
}

// absence is a member out of sync.
type absence struct {
	id     string
	job    *healing // nil: it has not come back yet
	reason string
}

func newReign(s *Set, st spec.SetState, rev Revision) *reign {
	r := &reign{
		s: s, log: s.log.With("epoch", st.Epoch), epoch: st.Epoch,
		deposing: make(chan struct{}), over: make(chan struct{}),
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	r.openWindow()
	r.mu.state, r.mu.rev, r.mu.config = st, rev, 1
	r.mu.flying = map[Seq]*flight{}
	r.mu.local = sync.NewCond(&r.mu)
	r.mu.absent = map[string]*absence{}
	r.mu.lives = map[string]string{}
	r.mu.opens = map[volume.ID]int{}
	r.mu.kept = map[volume.ID]bool{}
	r.mu.waiting, r.mu.born = st.Epoch > 1, map[volume.ID]bool{}
	r.mu.discards = map[volume.Key]volume.ID{}
	r.mu.checks = map[string]*healer{}
	r.mu.healed = map[string]healProgress{}
	for _, m := range s.others() {
		r.mu.lives[m.ID] = m.Life
		if inSync(st, m.ID) {
			b := r.newBackup(m.ID) // that nobody knows anything of, until levelOthers has seen to it
			b.mu.failed, b.mu.settled = true, make(chan struct{})
			r.mu.backups = append(r.mu.backups, b)
		} else {
			r.mu.absent[m.ID] = &absence{id: m.ID}
		}
	}
	r.extendLocked() // without any backup none answers
	return r
}

func (r *reign) newBackup(id string) *backup {
	m := r.s.memberOf(id)
	b := &backup{id: id, arbiter: m != nil && m.Arbiter, peer: func() Peer { return r.s.peer(id) }}
	b.answered.Store(int64(-Forever / 2)) // nothing yet, in this epoch
	return b
}

// update takes what is new in the map: members that were put in others' place,
// and processes that have ended.
func (r *reign) update(t *spec.Set) {
	var ended []*backup
	news := false
	r.mu.Lock()
	for _, m := range t.Members {
		if m.ID == r.s.cfg.Self {
			continue
		}
		was, known := r.mu.lives[m.ID]
		r.mu.lives[m.ID] = m.Life
		b := r.backupLocked(m.ID)
		switch {
		case b != nil && known && was != "" && was != m.Life:
			ended = append(ended, b)
		case b == nil && r.mu.absent[m.ID] == nil:
			r.mu.absent[m.ID] = &absence{id: m.ID, reason: "new"}
			news = true
			r.s.setFullHeal(m.ID)
		}
	}
	for id := range maps.Clone(r.mu.absent) {
		if t.Member(id) == nil {
			delete(r.mu.absent, id)
			news = true
		}
	}
	if news && r.mu.why == "" {
		r.wg.Go(r.announce)
	}
	r.mu.Unlock()
	for _, b := range ended {
		r.fail(b, "its process has ended")
	}
}

func (r *reign) backupLocked(id string) *backup {
	for _, b := range r.mu.backups {
		if b.id == id {
			return b
		}
	}
	return nil
}

func (s *Set) setFullHeal(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.fullHeal[id] = true
}

// depose ends the reign's authority: nothing begins any more, and what waits
// ends without its answer reaching anybody. It does not wait for that, see drained.
func (r *reign) depose(why string) {
	r.mu.Lock()
	if r.mu.why != "" {
		r.mu.Unlock()
		return
	}
	r.mu.why = why
	r.window.Shut() // before anything is taken for landed that is not everywhere
	hide := r.hide
	close(r.deposing)
	r.mu.Unlock()
	r.log.Info("this member is the primary no more", "why", why)
	if hide != nil {
		hide()
	}
	close(r.over)
	r.end()
	r.mu.Lock()
	r.landOrphansLocked(1<<64 - 1) // nobody waits for them
	r.mu.Unlock()
	r.s.wake()
}

// drained waits until nothing of the reign is under way.
func (r *reign) drained() {
	<-r.over
	r.mu.Lock()
	for len(r.mu.flying) > 0 {
		r.mu.local.Wait()
	}
	r.mu.Unlock()
}

// serving puts the service up, unless the reign is over already.
func (r *reign) serving(hide func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hide = hide
	return r.mu.why == ""
}

func (r *reign) deposed() bool {
	select {
	case <-r.deposing:
		return true
	default:
		return false
	}
}

// refuse is what a request gets whose reign is over, once that does no harm:
// its client has been cut off, and asks the next primary.
func (r *reign) refuse(op string) error {
	<-r.over
	return notPrimary(op)
}

// tenureUntil is when the lease ends if no backup answers any more.
func (r *reign) tenureUntil() time.Duration {
	r.mu.Lock()
	backups := r.mu.backups
	r.mu.Unlock()
	return tenureOf(backups)
}

// lease waits until the lease holds; it fails with the reign, or with ctx.
func (r *reign) lease(ctx context.Context, op string) error {
	for {
		if r.deposed() {
			return r.refuse(op)
		}
		if now() < r.tenureUntil() {
			return nil
		}
		select {
		case <-r.deposing:
		case <-ctx.Done():
			return unavailable(op, "the set's other members in sync do not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// orders are what backups must know of the set's make-up; r.mu is held.
func (r *reign) ordersLocked() orders {
	return orders{state: r.mu.state, config: r.mu.config, absent: slices.Sorted(maps.Keys(r.mu.absent))}
}

// finishedLocked is the mark below which all in-sync members have everything.
func (r *reign) finishedLocked() Seq {
	mark := r.seq.Load()
	for n := range r.mu.flying {
		mark = min(mark, n-1)
	}
	return mark
}

// call carries a message to a backup, and notes its answer for the lease.
func (b *backup) call(ctx context.Context, msg, data []byte) ([]byte, error) {
	return b.callBehind(ctx, b.fence.Load(), msg, data)
}

// callBehind carries a message, which has room for it, with the number of a fence.
func (b *backup) callBehind(ctx context.Context, fence uint64, msg, data []byte) ([]byte, error) {
	p := b.peer()
	if p == nil {
		return nil, unavailable("member", "member %s is not in the map", b.id)
	}
	sent := now()
	answer, err := p.Call(ctx, b.behind(fence, msg), data)
	if err == nil {
		b.noteAnswer(sent)
	}
	return answer, err
}

// behind returns a copy of a message, others being sent the same, with the number of a fence and its own.
func (b *backup) behind(fence uint64, msg []byte) []byte {
	own := append(make([]byte, 0, len(msg)), msg...)
	binary.LittleEndian.PutUint64(own, fence)
	if message(own[frontSize]).once() {
		binary.LittleEndian.PutUint64(own[8:], b.numbered.Add(1))
	}
	return own
}

// noteAnswer notes when a message was sent that has been answered.
func (b *backup) noteAnswer(sent time.Duration) {
	for {
		old := b.answered.Load()
		if old >= int64(sent) || b.answered.CompareAndSwap(old, int64(sent)) {
			return
		}
	}
}

// start begins to carry a message to the backup. Nil: its Peer can't do that.
func (b *backup) start(ctx context.Context, msg, data []byte) (wait func() error, err error) {
	p, ok := b.peer().(Starter)
	if !ok {
		return nil, nil
	}
	sent := now()
	answered, err := p.Start(ctx, b.behind(b.fence.Load(), msg), data)
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := answered()
		if err == nil {
			b.noteAnswer(sent)
		}
		return err
	}, nil
}

// silence is how long a backup may fail to answer before it is taken for gone.
const silence = Lease / 2

// beatEvery is how often a backup is asked for a sign of life.
const beatEvery = Lease / 8

// beats keeps the lease and notices backups that are gone, until the reign ends.
func (r *reign) beats() {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		r.mu.Lock()
		backups, mark, serving := r.mu.backups, r.finishedLocked(), r.hide != nil
		r.mu.Unlock()
		for _, b := range backups {
			r.wg.Go(func() { r.beat(b, mark) })
		}
		if serving && now()-Lease/3 > r.tenureUntil() {
			// Its clients had better look for another one.
			r.depose("members in sync do not answer")
			return
		}
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (r *reign) beat(b *backup, mark Seq) {
	if b.down() {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, silence)
	defer cancel()
	w := begin(msgBeat, r.epoch)
	w.u64(mark)
	answer, err := b.call(ctx, w.b, nil)
	switch {
	case err == nil:
		r.space.hear(b.id, answer)
		r.mu.Lock()
		r.extendLocked()
		r.mu.Unlock()
	case r.judge(err):
	case now()-time.Duration(b.answered.Load()) > silence:
		r.fail(b, "it does not answer: "+err.Error())
	case ctx.Err() == nil:
		r.fail(b, err.Error())
	}
}

// judge looks whether a backup's refusal says that the reign is over.
func (r *reign) judge(err error) bool {
	if r.deposed() {
		return true
	}
	if volume.ReasonOf(err) != volume.Outdated {
		return false
	}
	r.depose(err.Error())
	return true
}
