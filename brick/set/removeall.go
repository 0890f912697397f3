package set

import (
	"context"
	"errors"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// Names that are removed together are changes like any others, each with its number and request: they are recorded,
// recovered and answered for one by one. But they go to each backup as one message, for what a removal costs
// is mostly that (msgApplyAll). A directory may be removed together with what is in it, each member keeping the order: one that is stopped in between
// has done some of the first, as if each had come by itself.

// RemoveAll implements volume.Remover.
func (s store) RemoveAll(ctx context.Context, all []volume.Removal) {
	var spans []span
	for i := range all {
		v := &all[i]
		spans = append(spans, entryOf(v.Dir, v.Name, false))
		if !v.Object.IsZero() { // all of a directory, as Rmdir has it
			spans = append(spans, whole(v.Object, false))
		}
	}
	spans = order(spans)
	if err := s.lock(ctx, doUnlink.String(), spans...); err != nil {
		for i := range all {
			all[i].Err = err
		}
		return
	}
	rest := s.removeThese(ctx, all)
	s.r.s.locks.unlock(spans...)
	for _, v := range rest {
		v.Remove(ctx, s)
	}
}

// removeThese removes those names, of which the locks are held, whose objects' locks are free, and returns the others: a directory
// is among these if something in it is.
func (s store) removeThese(ctx context.Context, all []volume.Removal) (rest []*volume.Removal) {
	var (
		changes []*change
		ours    []*volume.Removal
		held    []span
	)
	left := map[volume.ID]bool{} // directories in which names are left to rest
	for i := range all {
		v := &all[i]
		c, at := s.removal(ctx, v)
		if c == nil || left[v.Object] || !s.r.s.locks.try(at...) {
			rest, left[v.Dir] = append(rest, v), true
			continue
		}
		s.r.prepare(v.Of, c)
		changes, ours, held = append(changes, c), append(ours, v), append(held, at...)
	}
	if len(changes) == 0 {
		return rest
	}
	for i, err := range s.changeAll(ctx, changes, ours) {
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

// removal returns the change that removes a name, and what it needs beside what RemoveAll has locked; nil: it is to be removed by itself.
func (s store) removal(ctx context.Context, v *volume.Removal) (c *change, at []span) {
	a, err := s.member().Lookup(ctx, v.Dir, v.Name)
	switch {
	case err != nil || a.Held != 0:
		return nil, nil
	case a.IsDir():
		if a.ID != v.Object {
			return nil, nil
		}
		return &change{kind: doRmdir, dir: v.Dir, name: v.Name, id: a.ID}, nil
	case !v.Object.IsZero():
		return nil, nil
	}
	return &change{kind: doUnlink, dir: v.Dir, name: v.Name, id: a.ID, keep: s.r.mayBeOpen(a.ID)}, []span{namesOf(a.ID)}
}

// changeAll is reign.change of several removals, of which what they do here is apply.
func (s store) changeAll(ctx context.Context, cs []*change, of []*volume.Removal) []error {
	r, errs := s.r, make([]error, len(cs))
	flights := r.takeOff(cs...)
	if flights == nil {
		return fill(errs, r.refuse(doUnlink.String()))
	}
	ctx = context.WithoutCancel(ctx)
	msg := begin(msgApplyAll, r.epoch)
	var last *flight // that goes out
	together(len(*r.s.ledger.absent.Load()) > 0, cs, func(i int) {
		var o Outcome
		here := s.here(cs[i], &o)
		errs[i] = r.s.keep(ctx, r.epoch, flights[i].seq, flights[i].mark, cs[i], func(ctx context.Context) (o Outcome, err error) {
			of[i].Here(func() { o, err = here(ctx) })
			return o, err
		})
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
	var (
		parts []*part
		cs    []*change
	)
	for len(r.b) > 0 {
		one := &reader{b: r.bytes(len(r.b))}
		p, err := parsePart(one)
		if r.bad || err != nil {
			return malformed("changes")
		}
		parts, cs = append(parts, p), append(cs, &p.change)
	}
	errs := make([]error, len(parts))
	together(len(*f.s.ledger.absent.Load()) > 0, cs, func(i int) { errs[i] = f.applyPart(ctx, epoch, parts[i], nil) })
	return errors.Join(errs...)
}

// together calls f for each of several removals, in their order; or side by side, if they have something to wait for together, but a directory's
// after those of what is in it.
func together(side bool, cs []*change, f func(i int)) {
	if !side {
		for i := range cs {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	under := map[volume.ID]bool{} // directories in which something may be under way
	for i, c := range cs {
		if c.kind == doRmdir && under[c.id] {
			wg.Wait()
			clear(under)
		}
		under[c.dir] = true
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
