package set

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// patience is how long a new primary waits for a member in sync, before it
// goes on without it.
const patience = 500 * time.Millisecond

// run takes over and reigns, until ctx ends or another member takes over.
func (r *reign) run(ctx context.Context) {
	defer r.wg.Wait()
	defer r.depose("this process ends")
	stop := context.AfterFunc(ctx, func() { r.depose("this process ends") })
	defer stop()
	r.hush(func() { r.wg.Go(r.beats) })
	r.mu.Lock()
	absent := slices.Collect(maps.Keys(r.mu.absent))
	r.mu.Unlock()
	if err := r.s.ledger.keepQueues(absent); err != nil {
		r.depose("the queues of absent members can't be kept: " + err.Error())
		return
	}
	own, err := r.settleOwn(r.ctx)
	if err != nil {
		r.depose("what this member had under way can't be settled: " + err.Error())
		return
	}
	for _, id := range absent { // a change may have been applied, and not have come into their queues
		if err := r.s.ledger.queued(r.ctx, id, r.toQueue(own)); err != nil {
			r.depose("the queue of an absent member can't be kept: " + err.Error())
			return
		}
	}
	r.mu.Lock()
	r.mu.own = true
	r.mu.Unlock()
	if !r.levelOthers(own) {
		return
	}
	if err := r.s.ledger.aligned(r.epoch, 0, r.s.cfg.Boot, true); err != nil {
		r.depose("the log can't be cleared: " + err.Error())
		return
	}
	if err := r.remember(r.ctx); err != nil {
		r.depose("what this member holds can't be listed: " + err.Error())
		return
	}
	service, err := r.s.cfg.Serve(Reign{Store: r.store(), Epoch: r.epoch, Lockers: LockerRecord{r}, Boot: fmt.Sprintf("power %d", r.stateNow().Power)})
	if err != nil {
		r.depose("the set can't be served: " + err.Error())
		pause(ctx, time.Second)
		return
	}
	if !r.serving(service.Hide) {
		service.Hide()
	}
	r.s.say("")
	r.log.Info("the set is served")
	<-r.over
	service.Stop()
}

// toQueue returns what a queue gets of the keys in which this member may differ from others. Of a dirty
// list they tell only together with its time, which a queue has not: so everything is compared.
func (r *reign) toQueue(own []Key) []Key {
	if len(own) > 0 && r.since != (volume.Time{}) {
		return []Key{oplog.Full}
	}
	return slices.Clone(own)
}

// hush calls f, which starts goroutines, unless the reign is over.
func (r *reign) hush(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why == "" {
		f()
	}
}

func (r *reign) stateNow() spec.SetState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.state
}

// levelOthers makes the others in sync equal to this member, or takes them out.
// False: the reign is over.
func (r *reign) levelOthers(own []Key) bool {
	r.mu.Lock()
	backups := r.mu.backups
	for _, b := range backups {
		wait := patience
		if r.mu.lives[b.id] == "" {
			wait = 0 // it does not run
		}
		r.wg.Go(func() { r.mend(b, wait, own) })
	}
	r.mu.Unlock()
	for _, b := range backups {
		if _, err := b.ready(r.ctx, r, 0); err != nil {
			return false
		}
	}
	return !r.deposed()
}

// remember lists what a primary knows of its set beside its store.
func (r *reign) remember(ctx context.Context) error {
	list, err := r.s.member.Discards(ctx)
	if err != nil {
		return err
	}
	nameless, err := r.s.member.Nameless(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range list {
		if d.Pointer.Held == 0 {
			r.mu.discards[d.Key] = d.Pointer.ID
		}
	}
	for _, id := range nameless { // clients may open them again; see store.Orphans
		r.mu.kept[id] = true
	}
	return nil
}

// settleOwn finds out what became of the changes that this member's last
// process had under way, and returns the keys in which it may differ from others.
func (r *reign) settleOwn(ctx context.Context) ([]Key, error) {
	end, err := r.s.ledger.unfinished(r.s.cfg.Boot)
	if err != nil {
		return nil, err
	}
	var undone, doubted []volume.Request
	if r.s.ledger.rebooted(r.s.cfg.Boot) {
		r.since = volume.TimeOf(r.s.ledger.dirty.Since())
		doubted = end.requests
	}
	for i, rec := range end.changes {
		q := rec.change.request
		if rec.followed(end.changes[i+1:]) { // a later change of the same could begin only when it was finished
			r.s.replies.note(q, rec.change.effect(), true)
			continue
		}
		if rec.change.kind == 0 {
			if !rec.failed && q != (volume.Request{}) {
				doubted = append(doubted, q)
			}
			continue
		}
		done, err := r.tookEffect(ctx, &rec.change)
		switch {
		case err != nil:
			return nil, err
		case done:
			r.s.replies.note(q, rec.change.effect(), true)
		default:
			r.s.replies.forget(q)
			undone = append(undone, q)
		}
	}
	// The mark is about to pass all that, and what it has passed a start of this process takes for done.
	undone = slices.DeleteFunc(undone, func(q volume.Request) bool { _, again, _ := r.s.replies.find(q); return again })
	if err := errors.Join(r.s.ledger.forget(undone), r.s.ledger.doubt(doubted)); err != nil {
		return nil, err
	}
	return end.keys, nil
}

// tookEffect tells from what lies in the store whether a change that was
// recorded was applied: a process that dies can leave it either way. What was under
// way at a time concerned different things, so nothing else has changed them since.
func (r *reign) tookEffect(ctx context.Context, c *change) (done bool, err error) {
	m := r.s.member
	leads := func(dir volume.ID, name string) (volume.Attr, error) {
		a, err := m.Lookup(ctx, dir, name)
		switch volume.ErrnoOf(err) {
		case 0, enoent, estale, enotdir:
			return a, nil
		}
		return a, err
	}
	switch c.kind {
	case doMake:
		a, err := leads(c.dir, c.name)
		return err == nil && a.ID == c.node.ID, err
	case doLink:
		a, err := leads(c.dir, c.name)
		return err == nil && a.ID == c.id, err
	case doUnlink, doRmdir:
		a, err := leads(c.dir, c.name)
		return err == nil && a.ID != c.id, err
	case doRename:
		a, err := leads(c.dir2, c.name2)
		return err == nil && a.ID == c.id && !c.id.IsZero(), err // zero: there was nothing to rename
	case doSetxattr, doRemovexattr:
		return r.hasXattr(ctx, c)
	case doSetattr: // a cut
		a, err := m.Getattr(ctx, c.id)
		if volume.ErrnoOf(err) == estale {
			return false, nil
		}
		return err == nil && a.Size == 0 && a.Mtime == c.now, err
	case doWrite:
		if !c.appends {
			return r.isWritten(ctx, c)
		}
		// It is whole if the file reaches to its end; a part of it is cut off.
		a, err := m.Getattr(ctx, c.id)
		if volume.ErrnoOf(err) == estale {
			return false, nil
		}
		if err != nil || a.Size >= c.off+c.len {
			return err == nil, err
		}
		if a.Size > c.off {
			err = near{m: m, noting: r.s.ledger.dirtied}.changing(ctx, func() error {
				_, err := m.Setattr(ctx, c.id, volume.Change{Mask: volume.SetSize, Size: c.off})
				return err
			}, objectKeys(c.id)...)
		}
		return false, err
	}
	return false, nil // the client may repeat it
}

// hasXattr reports whether an extended attribute is as a change of it leaves it. That it
// was not so before, where it matters, was seen before the change was recorded (store.refuseXattr).
func (r *reign) hasXattr(ctx context.Context, c *change) (bool, error) {
	v, err := r.s.member.Getxattr(ctx, c.id, c.name)
	switch volume.ErrnoOf(err) {
	case 0:
		return c.kind == doSetxattr && bytes.Equal(v, c.value), nil
	case syscall.ENODATA:
		return c.kind == doRemovexattr, nil
	case estale:
		return false, nil
	}
	return false, err
}

// isWritten reports whether the data of a write are where it has put them.
func (r *reign) isWritten(ctx context.Context, c *change) (bool, error) {
	f, err := r.s.member.Open(ctx, c.id, volume.Read)
	if volume.ErrnoOf(err) == estale {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, min(c.len, volume.IOMax))
	n, err := f.ReadAt(ctx, b, c.off)
	return err == nil && int64(n) == c.len && xxhash.Sum64(b[:n]) == c.sum, err
}
