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
		v := s.obey(ctx, st)
		switch v.Act {
		case Promote, Resume:
			s.promote(ctx, rev, v)
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
		State: st, Self: s.cfg.Self, Boot: s.cfg.Boot, Lost: s.ledger.log.Damage() != nil,
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
		f.Present = s.presence(ctx, st)
	}
	return f
}

// presence asks the others in sync about themselves.
func (s *Set) presence(ctx context.Context, st spec.SetState) map[string]Presence {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	out := map[string]Presence{}
	for _, seat := range st.InSync {
		p := s.peer(seat.Member)
		if p == nil {
			continue
		}
		answer, err := p.Call(ctx, begin(msgWho, st.Epoch).b, nil)
		r := &reader{b: answer}
		if told := (Presence{r.text(memberMax), r.bool()}); err == nil && r.done() {
			out[seat.Member] = told
		}
	}
	return out
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
func (s *Set) promote(ctx context.Context, rev Revision, v Verdict) {
	next := v.Next
	if !s.follow.try(next.Epoch) {
		return
	}
	// Once: if the outcome is not known it may come about yet, and then
	// there is a newer epoch in which nobody reigns.
	try, cancel := context.WithTimeout(ctx, swapTry)
	rev, err := s.cfg.Authority.Swap(try, rev, next)
	cancel()
	st, err := s.follow.tried(next, err)
	if err != nil {
		s.log.Debug("another member, or an administrator, was faster", "error", err)
		return
	}
	s.log.Info("this member becomes the primary", "set", s.cfg.Set, "epoch", st.Epoch, "why", v.Why)
	s.say("taking over")
	r := newReign(s, st, rev)
	s.mu.Lock()
	s.mu.reign = r
	s.mu.Unlock()
	r.run(ctx)
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
