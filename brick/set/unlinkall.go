package set

import (
	"context"
	"errors"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// Names that are removed together are changes like any others, each with its number and request: they are recorded,
// recovered and answered for one by one. But they go to each backup as one message, for what a removal costs
// is mostly that (msgApplyAll).

// UnlinkAll implements volume.Remover.
func (s store) UnlinkAll(ctx context.Context, all []volume.Removal) {
	entries := make([]span, len(all))
	for i := range all {
		entries[i] = entryOf(all[i].Dir, all[i].Name, false)
	}
	entries = order(entries)
	if err := s.lock(ctx, doUnlink.String(), entries...); err != nil {
		for i := range all {
			all[i].Err = err
		}
		return
	}
	rest := s.unlinkThese(ctx, all)
	s.r.s.locks.unlock(entries...)
	for _, v := range rest {
		v.Unlink(ctx, s)
	}
}

// unlinkThese removes those names, of which the locks are held, whose objects' locks are free, and returns the others.
func (s store) unlinkThese(ctx context.Context, all []volume.Removal) (rest []*volume.Removal) {
	var (
		changes []*change
		ours    []*volume.Removal
		held    []span
	)
	for i := range all {
		v := &all[i]
		a, err := s.member().Lookup(ctx, v.Dir, v.Name)
		at := namesOf(a.ID)
		if err != nil || a.Held != 0 || a.IsDir() || !s.r.s.locks.try(at) {
			rest = append(rest, v)
			continue
		}
		c := &change{kind: doUnlink, dir: v.Dir, name: v.Name, id: a.ID, keep: s.r.mayBeOpen(a.ID)}
		s.r.prepare(v.Of, c)
		changes, ours, held = append(changes, c), append(ours, v), append(held, at)
	}
	if len(changes) == 0 {
		return rest
	}
	for i, err := range s.changeAll(ctx, changes) {
		ours[i].Err = err
		if changes[i].keep {
			s.r.keepOpen(changes[i].id)
		}
	}
	for _, at := range held {
		s.r.s.locks.unlock(at)
	}
	return rest
}

// changeAll is reign.change of several that are independent of each other, and of which what they do here is apply.
func (s store) changeAll(ctx context.Context, cs []*change) []error {
	r, errs := s.r, make([]error, len(cs))
	flights := r.takeOff(cs...)
	if flights == nil {
		return fill(errs, r.refuse(doUnlink.String()))
	}
	ctx = context.WithoutCancel(ctx)
	msg := begin(msgApplyAll, r.epoch)
	var last *flight // that goes out
	together(len(*r.s.ledger.absent.Load()) > 0, len(cs), func(i int) {
		var o Outcome
		errs[i] = r.s.keep(ctx, r.epoch, flights[i].seq, flights[i].mark, cs[i], s.here(cs[i], &o))
		r.appliedHere(flights[i])
	})
	for i, fl := range flights {
		if errs[i] == nil {
			last = fl
			msg.bytes(fl.encode(nil, cs[i]))
		} else if lame := (queueError{}); errors.As(errs[i], &lame) {
			r.depose("the queue of an absent member can't be kept: " + errs[i].Error())
		}
	}
	var sent error
	if last != nil {
		var sending delivery
		r.send(&sending, last, msg.b, nil)
		sent = sending.wait()
	}
	for i, fl := range flights {
		if lame := (queueError{}); errors.As(errs[i], &lame) {
			r.land(fl)
			errs[i] = r.refuse(doUnlink.String())
			continue
		}
		ofThis := sent
		if errs[i] != nil { // it was not sent
			ofThis = nil
		}
		errs[i] = r.conclude(ctx, fl, cs[i], errs[i], ofThis)
	}
	return errs
}

func fill(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// applyAll applies what was sent together.
func (f *follower) applyAll(ctx context.Context, epoch Epoch, r *reader) error {
	var parts []*reader
	for len(r.b) > 0 {
		part := r.bytes(len(r.b))
		if r.bad {
			return malformed("changes")
		}
		parts = append(parts, &reader{b: part})
	}
	errs := make([]error, len(parts))
	together(len(*f.s.ledger.absent.Load()) > 0, len(parts), func(i int) { errs[i] = f.apply(ctx, epoch, parts[i], nil) })
	return errors.Join(errs...)
}

// together calls f for each of n, side by side if they have something to wait for together.
func together(side bool, n int, f func(i int)) {
	if !side {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
