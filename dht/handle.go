package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Step implements volume.Set.
func (o *Owner) Step(ctx context.Context, b []byte) ([]byte, error) {
	s, err := decodeStep(b)
	if err != nil {
		return nil, malformed("step", err)
	}
	a, err := o.handle(quiet(ctx), s)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// handle carries out a step, another set's or this one's own.
func (o *Owner) handle(ctx context.Context, s *step) (*answer, error) {
	if s.from != 0 { // 0: a client's question
		if err := o.meet(s); err != nil {
			return nil, err
		}
	}
	a, err := o.dispatch(ctx, o.view.Load(), s)
	if err != nil {
		return nil, err
	}
	a.epoch = o.epoch
	return a, nil
}

func (o *Owner) dispatch(ctx context.Context, v *view, s *step) (*answer, error) {
	if s.op <= opPurge && (s.intent == 0 && s.op != opPurge || s.from == 0) {
		return nil, fail("step", s.name, syscall.EINVAL)
	}
	switch s.op {
	case opReserve:
		return o.reserve(ctx, v, s)
	case opApply:
		return o.applyLinks(ctx, v, s)
	case opBirth:
		return o.birth(ctx, v, s)
	case opFinish:
		return o.finishPart(ctx, v, s)
	case opAbort:
		return &answer{}, o.abortStep(ctx, s)
	case opDying:
		return o.markDying(ctx, v, s)
	case opGone:
		return o.goneStep(ctx, v, s)
	case opPurge:
		return &answer{}, o.purge(ctx, s)
	case opEmpty:
		return &answer{}, o.empty(ctx, v, s.dir)
	case opOutcome:
		return &answer{outcome: o.outcomeOf(s)}, nil
	case opSettle:
		return &answer{}, o.settle(ctx)
	case opSync:
		return &answer{}, o.syncDirs(ctx, s.dirs)
	case opCalm:
		return &answer{}, o.calm(s)
	case opVerify:
		if s.flags&redo != 0 {
			o.mu.Lock()
			delete(o.mu.doubt.verified, s.from)
			o.mu.Unlock()
		}
		if !o.suspect(s.from, s.epoch) {
			return nil, fail("verify", "", syscall.EAGAIN)
		}
		return &answer{}, nil
	case opHeld:
		return &answer{}, o.heldHere(ctx, s)
	case opClaim:
		return &answer{}, o.claim(ctx, v, s)
	case opDrop:
		return &answer{}, o.drop(ctx, v, s)
	case opPlace:
		return &answer{}, o.place(ctx, v, s.id, volume.ID{}, "")
	case opAdopt:
		return &answer{}, o.adopt(ctx, v, s)
	case opStarted:
		o.wake()
		return &answer{}, nil
	case opFetch:
		return o.fetch(ctx, v, s.dir)
	case opCopy:
		return o.copyStep(ctx, v, s)
	case opRefresh:
		return o.refreshStep(ctx, s)
	case opWhere:
		a, err := o.store.Getattr(ctx, s.id)
		if err == nil && a.Nlink == 0 {
			err = fail("where", s.id.String(), syscall.ENOENT)
		}
		return &answer{id: a.ID, mode: a.Type()}, err
	case opFind:
		return o.findStep(ctx, s)
	case opLoop:
		return &answer{}, o.below(ctx, s.dir, s.id)
	}
	return nil, fail("step", s.name, syscall.EINVAL)
}

// fetch answers what another set needs for a copy of a directory.
func (o *Owner) fetch(ctx context.Context, v *view, dir volume.ID) (*answer, error) {
	if v.home(dir) != o.self {
		return nil, fail("fetch", dir.String(), syscall.EINVAL)
	}
	c, err := o.store.Copy(ctx, dir)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	_, dying := o.mu.dying[dir]
	o.mu.Unlock()
	if dying {
		return nil, fail("fetch", dir.String(), syscall.EAGAIN)
	}
	c.Home = o.self
	a := &answer{copy: &c}
	if dir != volume.Root {
		a.dir, a.name, err = o.store.Path(ctx, dir)
	}
	return a, err
}

// copyStep makes a copy that the directory's maker hands out. It takes the
// directory's lock for the reason that ensure does.
func (o *Owner) copyStep(ctx context.Context, v *view, s *step) (*answer, error) {
	if s.copy == nil || s.copy.ID.IsZero() || s.name == "" {
		return nil, fail("copy", s.name, syscall.EINVAL)
	}
	if v.home(s.dir) == o.self {
		if _, _, err := o.store.Path(ctx, s.dir); isStale(err) {
			return nil, fail("copy", s.name, syscall.ESTALE)
		}
	}
	k := nameKey{dir: s.copy.ID}
	if err := o.dirs.lock(ctx, k, false, true); err != nil {
		return nil, err
	}
	defer o.dirs.unlock(k)
	if err := o.makeCopy(ctx, v, s.dir, s.name, *s.copy, 0, false); err != nil || s.from != s.copy.Home {
		return &answer{}, err
	}
	return &answer{}, o.outlived(ctx, v, s.copy.ID, s.from, s.epoch)
}

func (o *Owner) refreshStep(ctx context.Context, s *step) (*answer, error) {
	if s.copy == nil {
		return nil, fail("refresh", s.name, syscall.EINVAL)
	}
	err := o.store.RefreshCopy(ctx, *s.copy)
	if err == nil && s.change != nil && s.change.Mask != 0 {
		c := volume.Change{Mask: s.change.Mask & (volume.SetAtime | volume.SetMtime), Atime: s.change.Atime, Mtime: s.change.Mtime}
		_, err = o.store.Setattr(ctx, s.copy.ID, c)
	}
	if isStale(err) {
		err = nil // no copy here: it will be made with what the home says then
	}
	return &answer{}, err
}

// settle makes everything here durable, the journal first: what is in the tree
// must not be taken for undecided after a loss of power.
func (o *Owner) settle(ctx context.Context) error {
	if err := o.store.Journal().Sync(ctx); err != nil {
		return err
	}
	return o.store.Settle(ctx)
}

// outcomeOf answers a set that has something of one of this set's intents and
// has heard nothing. Unless it merely asks (noWait) the decision will be told it again.
func (o *Owner) outcomeOf(s *step) outcome {
	n := s.intent
	o.book.Lock()
	defer o.book.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	it := o.mu.active[n]
	if it == nil {
		it = o.mu.finished[n]
	}
	if it != nil {
		if s.flags&noWait == 0 && !it.live {
			if it.again == nil {
				it.again = map[volume.SetID]bool{}
			}
			it.again[s.from] = true
			if o.mu.finished[n] != nil { // the others are being told anyway
				o.wake()
			}
		}
		return outcomeOpen
	}
	epoch := uint32(n >> 32)
	reached, known := o.mu.reached[epoch]
	switch {
	case epoch == o.epoch && uint32(n) <= o.book.counter, epoch < o.epoch && (!known || n <= reached):
		return outcomeUnknown
	}
	return outcomeLost
}

// purge drops discards of the sender's intents: numbers are pairs of an intent
// and the set of its parts, bit by bit.
func (o *Owner) purge(ctx context.Context, s *step) error {
	for i := 0; i+1 < len(s.numbers); i += 2 {
		for part := uint8(0); part < 64; part++ {
			if s.numbers[i+1]&(1<<part) == 0 {
				continue
			}
			if err := o.store.Purge(ctx, volume.Key{Set: s.from, Intent: s.numbers[i], Part: part}); err != nil {
				return err
			}
		}
	}
	return nil
}
