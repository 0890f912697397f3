package set

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume/spec"
)

// lookEvery is after what time a member without news looks again at where it stands.
const lookEvery = Lease / 2

// Run plays the member's part until ctx ends: it obeys, asks to be taken back, or
// reigns, as Next says. It waits for all that it started.
func (s *Set) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { s.checkpoints(ctx) })
	for ctx.Err() == nil {
		st, rev, err := s.read(ctx)
		if err != nil {
			s.say("the configuration store can't be asked: " + err.Error())
			s.await(ctx, now()+100*time.Millisecond)
			continue
		}
		if err := s.follow.adopt(st); err != nil {
			s.log.Error("the set's state can't be kept", "error", err)
			s.await(ctx, now()+time.Second)
			continue
		}
		if st.Epoch < s.follow.newest().Epoch && s.behind(ctx, st, rev) {
			s.await(ctx, now()+100*time.Millisecond)
			continue
		}
		v := s.obey(ctx, st)
		switch v.Act {
		case Promote, Resume:
			if s.behind(ctx, st, rev) {
				s.await(ctx, now()+100*time.Millisecond)
				continue
			}
			s.promote(ctx, st, rev, v)
		case Absent:
			s.say(v.Why)
			s.askBack(ctx, st)
			s.await(ctx, now()+lookEvery/4)
		default:
			s.say(v.Why)
			s.await(ctx, v.Until)
		}
	}
}

// checkpointEvery is how often what was changed is made durable without anybody asking.
const checkpointEvery = 30 * time.Second

// checkpoints makes durable what was changed, time and again, and once more when all ends
// well: then a reboot loses nothing, and nothing needs to be compared.
func (s *Set) checkpoints(ctx context.Context) {
	once := func(ctx context.Context) {
		if err := s.ledger.checkpoint(ctx, s.member); err != nil && ctx.Err() == nil {
			s.log.Error("what was changed can't be made durable", "error", err)
		}
	}
	for ctx.Err() == nil {
		pause(ctx, checkpointEvery)
		if ctx.Err() == nil {
			once(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.Background(), checkpointEvery)
	defer cancel()
	once(last)
}

// read reads the set's state, in bounded time.
func (s *Set) read(ctx context.Context) (spec.SetState, Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, swapTry)
	defer cancel()
	return s.cfg.Authority.Read(ctx)
}

// obey waits as long as there is nothing to do for a follower but to follow: the
// configuration store is asked again only when something else comes out.
func (s *Set) obey(ctx context.Context, st spec.SetState) Verdict {
	for {
		v := Next(s.facts(ctx, st))
		if v.Act != Follow || ctx.Err() != nil || s.follow.newest().Epoch != st.Epoch {
			return v
		}
		if _, in := st.Seat(s.cfg.Self); !in || !inSync(s.follow.newest(), s.cfg.Self) {
			return v
		}
		s.say(v.Why)
		if !s.await(ctx, v.Until) && now() < v.Until { // time passed, but nothing happened
			continue
		}
		// News, or the promise seems to have run out: if it has not been renewed, ask.
		if next := Next(s.facts(ctx, st)); next.Act != Follow || s.mapNewer(st) {
			return Verdict{Act: Wait, Until: now(), Why: next.Why}
		}
	}
}

// mapNewer reports whether the map tells another state than st of the set.
func (s *Set) mapNewer(st spec.SetState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.mu.told.Equal(st) && s.mu.told.Epoch >= st.Epoch
}

// facts gathers what Next decides by.
func (s *Set) facts(ctx context.Context, st spec.SetState) Facts {
	f := Facts{
		State: st, Self: s.cfg.Self, Boot: s.cfg.Boot, Lost: s.ledger.log.Damage() != nil || s.ledger.torn() != nil,
		Now: now(), Started: s.mu.started, Arbiters: map[string]bool{},
	}
	s.follow.mu.Lock()
	f.Seen, f.Restarted, f.Promise = s.follow.mu.sight, s.follow.mu.known, s.follow.mu.promise
	f.PrimaryGone, f.Reigned = s.follow.mu.gone, s.follow.mu.reigned
	s.follow.mu.Unlock()
	s.mu.Lock()
	for _, m := range s.mu.members {
		f.Arbiters[m.ID] = m.Arbiter
	}
	s.mu.Unlock()
	if seat, in := st.Seat(s.cfg.Self); in && Hollow(seat, f.Boot, f.Lost) {
		f.Present = s.presence(ctx)
	}
	return f
}

// word is what another member told of itself.
type word struct {
	Presence
	epoch Epoch // the newest that it has seen
}

// ask asks all other members about themselves, and returns the answers that come in time.
func (s *Set) ask(ctx context.Context) map[string]word {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	out := map[string]word{}
	for _, m := range s.others() {
		p := s.peer(m.ID)
		if p == nil {
			continue
		}
		asking.Go(func() {
			answer, err := p.Call(ctx, begin(msgWho, 0).b, nil)
			r := &reader{b: answer}
			told := word{Presence{r.text(memberMax), r.bool()}, r.u64()}
			mu.Lock()
			defer mu.Unlock()
			if err == nil && r.done() {
				out[m.ID] = told
			}
		})
	}
	asking.Wait()
	return out
}

// askMax bounds ask. A failover waits for it where a member does not answer.
const askMax = 300 * time.Millisecond

// presence is what the others told, for Next.
func (s *Set) presence(ctx context.Context) map[string]Presence {
	out := map[string]Presence{}
	for id, w := range s.ask(ctx) {
		out[id] = w.Presence
	}
	return out
}

// behind looks whether the configuration store has forgotten something of the set: it was
// restored from a backup, or recovered from a survivor. A member that has seen a newer epoch than the
// store has proves that. Then nobody takes a new epoch until all members were heard, and
// the primary of the newest epoch puts the store's record right.
func (s *Set) behind(ctx context.Context, st spec.SetState, rev Revision) bool {
	newest := s.follow.newest()
	words := s.ask(ctx)
	known := max(newest.Epoch, st.Epoch)
	for _, w := range words {
		known = max(known, w.epoch)
	}
	if known == st.Epoch {
		return false
	}
	s.say(fmt.Sprintf("the configuration knows epoch %d of the set, its members have seen %d: it goes on when all of them run", st.Epoch, known))
	if len(words) < len(s.others()) || newest.Epoch != known || newest.Primary != s.cfg.Self {
		return true
	}
	try, cancel := context.WithTimeout(ctx, swapTry)
	defer cancel()
	_, err := s.cfg.Authority.Swap(try, rev, newest)
	s.log.Warn("the configuration had forgotten the set's newest state", "knew", st.Epoch, "now", newest.Epoch, "error", err)
	return true
}

// await waits until there is news (true), or the clock shows until, or a while has passed.
func (s *Set) await(ctx context.Context, until time.Duration) (news bool) {
	d := time.Duration(lookEvery)
	if until != 0 {
		d = min(d, max(until-now(), 0)+time.Millisecond)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.kick:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

// say notes, for people, why this member does not serve.
func (s *Set) say(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.trouble != why {
		s.mu.trouble = why
		s.log.Debug("standing", "set", s.cfg.Set, "why", why)
	}
}

// askBack asks the primary to take this member, which is not in sync, back.
func (s *Set) askBack(ctx context.Context, st spec.SetState) {
	p := s.peer(st.Primary)
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	w := begin(msgJoin, st.Epoch)
	w.text(s.cfg.Self)
	if _, err := p.Call(ctx, w.b, nil); err != nil {
		s.log.Debug("the primary can't be asked to take this member back", "primary", s.nameOf(st.Primary), "error", err)
	}
}

// joined is the primary's answer to askBack.
func (s *Set) joined(r *reader) ([]byte, error) {
	id := r.text(memberMax)
	if !r.done() {
		return nil, malformed("join")
	}
	reign := s.reignNow()
	if reign == nil || reign.deposed() {
		return nil, notPrimary("join")
	}
	reign.welcome(id)
	return nil, nil
}

// promote takes a new epoch, and reigns in it if that succeeds.
func (s *Set) promote(ctx context.Context, st spec.SetState, rev Revision, v Verdict) {
	next := v.Next
	if !s.follow.try(next.Epoch) {
		return
	}
	// From here on no older primary is answered. One that was answered since the verdict was found
	// has a new promise, and may just be making this member equal: it is found anew.
	s.follow.drain()
	if again := Next(s.facts(ctx, st)); again.Act != v.Act {
		s.follow.desist()
		return
	}
	// Once: if the outcome is not known it may come about yet, and then
	// there is a newer epoch in which nobody reigns.
	try, cancel := context.WithTimeout(ctx, swapTry)
	rev, err := s.cfg.Authority.Swap(try, rev, next)
	cancel()
	st, err = s.follow.tried(next, err)
	if err != nil {
		s.log.Debug("another member, or an administrator, was faster", "error", err)
		return
	}
	s.log.Info("this member becomes the primary", "set", s.cfg.Set, "epoch", st.Epoch, "why", v.Why)
	s.say("taking over")
	s.member.NewReign()
	r := newReign(s, st, rev)
	s.mu.Lock()
	s.mu.reign = r
	s.mu.Unlock()
	r.run(ctx)
	r.window.Close()
	s.mu.Lock()
	s.mu.reign = nil
	s.mu.Unlock()
}

// try notes that this member tries to become the primary of an epoch: it obeys no older one meanwhile.
func (f *follower) try(epoch Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.state.Epoch >= epoch {
		return false
	}
	f.mu.tried = epoch
	return true
}

// drain waits until the messages that are being carried out have been.
func (f *follower) drain() {
	f.gate.Lock()
	defer f.gate.Unlock()
}

// desist ends an attempt that was not made.
func (f *follower) desist() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.tried = 0
}

// tried notes how the attempt ended, err of the swap; without an error this process reigns.
func (f *follower) tried(next spec.SetState, err error) (spec.SetState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.tried = 0
	switch {
	case err != nil:
		return next, err
	case f.mu.state.Epoch >= next.Epoch:
		return next, fmt.Errorf("epoch %d has begun meanwhile", f.mu.state.Epoch)
	}
	was := f.mu.reigned
	f.mu.reigned = next.Epoch
	if err = f.adoptLocked(next); err != nil {
		f.mu.reigned = was
	}
	return next, err
}
