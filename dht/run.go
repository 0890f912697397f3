package dht

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Times of Run.
const (
	retryMin   = 20 * time.Millisecond
	retryMax   = 2 * time.Second
	spaceEvery = time.Second
	journalMax = 1 << 20 // bytes, above which the journal is rewritten when it may be
	settleMax  = 4096    // intents that wait for the next settling before it is brought forward
)

// Run finishes what operations leave: it tells decisions to sets that were away,
// makes what was replaced or removed durable and drops it for good, and
// watches the free space. It returns when ctx ends or Close is called; nothing
// goes on after it. It is called once.
func (o *Owner) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.run.Lock()
	if o.run.closed || o.run.done != nil {
		o.run.Unlock()
		return
	}
	done := make(chan struct{})
	o.run.cancel, o.run.done = cancel, done
	o.run.Unlock()
	defer close(done)

	var verifier sync.WaitGroup
	verifier.Go(func() { o.verifier(ctx) })
	defer verifier.Wait()
	defer cancel()
	v := o.view.Load()
	each(o.others(v), func(set volume.SetID) error {
		if !v.up(set) {
			return nil
		}
		if _, err := o.tell(ctx, v, set, &step{op: opStarted}); err != nil {
			return err
		}
		// What needs something there was forgotten with the last life's marks.
		_, err := o.tell(ctx, v, set, &step{op: opSettle})
		return err
	})
	settle := time.NewTicker(o.cfg.SettleEvery)
	defer settle.Stop()
	space := time.NewTicker(spaceEvery)
	defer space.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	wait := retryMin
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-space.C:
			o.measure(ctx)
			continue
		case <-settle.C:
			due = true
		case <-retry.C:
		case <-o.kick:
			wait = retryMin
		}
		if o.pass(ctx, due) {
			wait = min(2*wait, retryMax)
			retry.Reset(wait)
		} else {
			wait = retryMin
		}
	}
}

// Close ends Run and waits for it. Operations that run go on and fail as their
// store and peers do.
func (o *Owner) Close() {
	o.run.Lock()
	o.run.closed = true
	cancel, done := o.run.cancel, o.run.done
	o.run.Unlock()
	if done != nil {
		cancel()
		<-done
	}
}

// pass works through all that is open once, and reports whether some is left
// that should be tried again soon.
func (o *Owner) pass(ctx context.Context, due bool) (more bool) {
	v := o.view.Load()
	if v.single {
		return false
	}
	for _, it := range o.idle() {
		if ctx.Err() != nil {
			return false
		}
		if o.advance(ctx, v, it) {
			more = true
		}
	}
	o.mu.Lock()
	strays, ripe := o.mu.strays, len(o.mu.finished)
	o.mu.strays = false
	o.mu.Unlock()
	if strays {
		strays = o.strays(ctx, v)
		o.mu.Lock()
		o.mu.strays = o.mu.strays || strays
		o.mu.Unlock()
	}
	if o.outcomes(ctx, v) || strays {
		more = true
	}
	if (due || ripe > settleMax) && ctx.Err() == nil {
		o.settleAll(ctx, v)
		if ctx.Err() == nil {
			o.compact()
		}
	}
	return more && ctx.Err() == nil
}

// idle returns the intents that no operation works on and that wait for a set.
func (o *Owner) idle() []*intent {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*intent
	for _, it := range o.mu.active {
		if !it.live {
			list = append(list, it)
		}
	}
	for _, it := range o.mu.finished {
		if !it.live && len(it.waiting)+len(it.again) > 0 {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b *intent) int { return cmp.Compare(a.number, b.number) })
	for _, it := range list {
		for set := range it.again {
			if it.state == finished || it.state == committed {
				delete(it.acked, set)
			}
			if it.state != begun {
				it.waiting[set] = true
			}
		}
		it.again = nil
	}
	return list
}

// advance takes an intent as far as it gets and reports whether it must be
// taken up again.
func (o *Owner) advance(ctx context.Context, v *view, it *intent) (more bool) {
	ctx, cancel := context.WithTimeout(ctx, opMax)
	defer cancel()
	switch it.state {
	case begun:
		o.judge(ctx, v, it)
		return true
	case aborting:
		o.undo(ctx, v, it)
		o.mu.Lock()
		_, open := o.mu.active[it.number]
		o.mu.Unlock()
		return open
	case committed:
		if err := o.actDecided(ctx, v, partKey{o.self, it.number}, it.commit); err != nil {
			o.log.Warn("an intent can't be finished yet", "intent", it.number, "err", err)
			return true
		}
		it.aim(v)
		o.finish(ctx, v, it, true)
		return it.state != finished || len(it.waiting) > 0
	case finished:
		return o.repeat(ctx, v, it)
	}
	return false
}

// judge decides an intent that removes a directory by asking the directory's home.
func (o *Owner) judge(ctx context.Context, v *view, it *intent) {
	_, err := o.tell(ctx, v, v.home(it.victim), &step{op: opFetch, dir: it.victim})
	h := held{o: o, names: it.names}
	switch {
	case isStale(err) && !it.commit.id.IsZero():
		if o.record(ctx, it.record(recCommit)) == nil {
			it.state, it.aired = committed, true
		}
	case err == nil || isErrno(err, syscall.EAGAIN), isStale(err): // stale: what it was to do was not recorded any more
		it.names = nil
		o.giveUp(ctx, v, it, &h)
	}
}

// repeat tells sets that were away, or have started anew (true in waiting),
// what a finished intent wants of them, if the intent's own name is still as it
// left it; it is locked meanwhile, so that nothing later is undone by it.
func (o *Owner) repeat(ctx context.Context, v *view, it *intent) (more bool) {
	k := nameKey{it.commit.dir, it.commit.name}
	if it.commit.kind == actSwap && v.owner(k.dir, k.name) != o.self {
		k = nameKey{it.commit.dir2, it.commit.name2}
	}
	if o.names.lock(ctx, k, false, false) != nil {
		return true // perhaps held by an intent that waits for Run itself
	}
	defer o.names.unlock(k)
	stands, first := o.stands(ctx, it.commit)
	for _, a := range it.actions {
		if a.kind == actSwap && it.commit.kind != actSwap {
			both, _ := o.stands(ctx, a)
			stands, first = stands && both, false
		}
	}
	order := it.homes(v)
	if len(order) > 0 {
		o.mu.Lock()
		for _, set := range o.others(v) { // they may have made copies by what the home said until now
			note(it.waiting, set)
		}
		o.mu.Unlock()
	}
	for set := range it.waiting {
		if !slices.Contains(order, set) {
			order = append(order, set)
		}
	}
	for _, set := range order {
		anew := it.waiting[set]
		if set != o.self && !v.up(set) && v.has(set) {
			more = true
			continue
		}
		s := &step{op: opFinish, intent: it.number, flags: redo}
		s.actions = it.repeatable(v, set, anew, stands, first, anew && (it.commit.kind == actPlace || o.inDoubt()))
		a, err := o.tell(ctx, v, set, s)
		if err != nil && v.has(set) {
			o.log.Debug("step of a finished intent failed, to be repeated", "intent", it.number, "set", set, "err", err)
			more = true
			continue
		}
		o.mu.Lock()
		delete(it.waiting, set)
		if err == nil {
			it.acked[set] = a.epoch
		}
		o.mu.Unlock()
	}
	return more
}

// repeatable returns what can be carried out at a set once more although other
// names of the intent than the coordinator's own may have changed since.
// Directories go where their home says now; two that were exchanged go together if
// both stand. At a set that has started anew, and may have lost it, also what
// concerns the own name or says what it expects to replace.
//
// At a moved directory's home that is dangerous: it knew before the intent was
// finished, and all sets go by it. The coordinator may be the one who is behind: of
// the name of an exchange that it does not own it has a copy only. So its home is
// told again (forgot) only if it may have lost that, which a crash is not enough for
// but a loss of power, or if the one name is the coordinator's, which is locked.
func (it *intent) repeatable(v *view, set volume.SetID, anew, stands, first, forgot bool) []action {
	var list []action
	home := slices.ContainsFunc(it.moved(), func(id volume.ID) bool { return v.home(id) == set })
	place := func(id volume.ID, dir volume.ID, name string) {
		switch {
		case v.home(id) != set:
			list = append(list, action{kind: actPlace, set: set, id: id})
		case forgot && first && id == it.commit.id:
			list = append(list, action{kind: actPlace, set: set, id: id, dir: dir, name: name})
		}
	}
	for _, a := range forSet(it.actions, set) {
		switch {
		case a.kind == actGone:
			list = append(list, a)
		case a.kind == actPlace:
			place(a.id, a.dir, a.name)
		case a.kind == actSwap:
			if stands && (anew || a.oldMode == syscall.S_IFDIR) && (!home || forgot) {
				list = append(list, a)
			}
			place(a.id, a.dir, a.name) // the other name may have changed just now: the home has the last word
			if a.oldMode == syscall.S_IFDIR {
				place(a.old, a.dir2, a.name2)
			}
		case anew && stands && (a.kind != actPut || !a.old.IsZero() || a.dir == it.commit.dir && a.name == it.commit.name):
			list = append(list, a)
		}
	}
	return list
}

// stands reports whether a commit's name, or both names of a swap, are as the
// commit left them here, and whether the first is.
func (o *Owner) stands(ctx context.Context, c action) (both, first bool) {
	a, err := o.store.Lookup(ctx, c.dir, c.name)
	if c.kind == actGone || c.kind == actDiscard {
		free := isErrno(err, syscall.ENOENT) || isStale(err) || err == nil && a.ID != c.id
		return free, free
	}
	first = err == nil && a.ID == c.id && a.Held == c.held
	if c.kind != actSwap {
		return first, first
	}
	b, err := o.store.Lookup(ctx, c.dir2, c.name2)
	return first && (err == nil && b.ID == c.old || c.oldMode != syscall.S_IFDIR && isErrno(err, syscall.ENOENT)), first
}
