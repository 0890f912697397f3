package set

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

// What is open. Members keep an object that loses its last name while somebody has it
// open, which only the primary knows: a change that takes a name away says so (change.keep), and
// a change of its own lets the object go, after its last handle was closed. The primary's own
// member keeps it in the same way, for the handles there are closed too when another becomes the primary.
//
// After a failover clients open again at the new primary what they had open at the
// old one. Until store.Orphans is called nobody knows which have not done so yet, so
// everything that was there before is kept as if it were open.

// opened enters a file that was opened.
func (s store) opened(local volume.File, id volume.ID, f volume.Flags) *file {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.mu.opens[id]++
	return &file{store: s, id: id, local: local, flags: f}
}

// isOpen reports whether somebody has the object open.
func (r *reign) isOpen(id volume.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !id.IsZero() && r.mu.opens[id] > 0
}

// mayBeOpen reports whether somebody has the object open, or had it at an earlier
// primary and may come back for it.
func (r *reign) mayBeOpen(id volume.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !id.IsZero() && (r.mu.opens[id] > 0 || r.awaitedLocked(id))
}

// awaitedLocked reports whether a client of an earlier primary may come back for an object.
func (r *reign) awaitedLocked(id volume.ID) bool { return r.mu.waiting && !r.mu.born[id] }

// noteBorn notes an object that was made in this reign: nobody can have had it open before.
func (r *reign) noteBorn(id volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.waiting {
		r.mu.born[id] = true
	}
}

// keepOpen notes that all members were told to keep an object, if it has lost its last
// name, until its last handle is closed, or who may come back for it has not.
func (r *reign) keepOpen(id volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.opens[id] > 0 || r.awaitedLocked(id) {
		r.mu.kept[id] = true
	} else {
		r.releaseLocked(id)
	}
}

// nobodys reports whether a file that could be opened here has no name and is kept for nobody: then it is still here because this member has
// it open for its own sake, to apply changes to it as a backup or to heal, and the others need not have it any more. Nothing changes its names meanwhile.
func (r *reign) nobodys(ctx context.Context, f volume.File) (bool, error) {
	a, err := f.Getattr(ctx)
	if err != nil || a.Nlink > 0 {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.opens[a.ID] == 0 && !r.mu.kept[a.ID], nil
}

// releaseLocked lets an object go soon that is kept and not open any more. That waits for what is under
// way with it, as long as the reign lasts: nobody waits for that.
func (r *reign) releaseLocked(id volume.ID) {
	r.mu.kept[id] = true // if somebody opens it before that, it goes with his handle
	if r.mu.why != "" {
		return
	}
	r.wg.Go(func() {
		at := whole(id, false)
		err := r.s.locks.lock(r.ctx, at)
		if err == nil {
			err = r.release(r.ctx, id)
			r.s.locks.unlock(at)
		}
		if err != nil && !r.deposed() {
			r.log.Warn("a file without a name could not be removed", "id", id, "error", err)
		}
	})
}

// release lets an object go, on all members, that has no name, unless it is open. All of it is locked.
func (r *reign) release(ctx context.Context, id volume.ID) error {
	if r.isOpen(id) {
		return nil
	}
	c := &change{kind: doRelease, id: id}
	var o Outcome
	if err := r.change(ctx, c, store{r}.here(c, &o)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.kept, id)
	return nil
}

// Orphans implements volume.Store: the time to come back is over. What has no name and is not
// open here goes, on all members. What can't go now does so later, in this reign or the next.
func (s store) Orphans(ctx context.Context) error {
	s.r.mu.Lock()
	s.r.mu.waiting, s.r.mu.born = false, nil // before the look: what is kept for somebody's sake from now on goes with his handle
	s.r.mu.Unlock()
	ids, err := s.member().Nameless(ctx)
	if err != nil {
		return err
	}
	s.r.mu.Lock()
	for _, id := range ids {
		s.r.mu.kept[id] = true // if it is open it goes when it is closed
	}
	s.r.mu.Unlock()
	for i, id := range ids {
		at := whole(id, false)
		if err = s.lock(ctx, "release", at); err == nil {
			err = s.r.release(ctx, id)
			s.r.s.locks.unlock(at)
		}
		if err != nil {
			s.r.releaseAll(ids[i:])
			return err
		}
	}
	return nil
}

// releaseAll lets objects go soon that are kept and not open.
func (r *reign) releaseAll(ids []volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if r.mu.opens[id] == 0 {
			r.releaseLocked(id)
		}
	}
}

// Close implements volume.File. With the last handle of what has no name any more
// that goes: here at once, on the other members a moment later.
func (f *file) Close() (err error) {
	f.closed.Do(func() {
		err = f.local.Close()
		r := f.r
		r.mu.Lock()
		if f.lent {
			r.window.Give(f.id)
		}
		r.mu.opens[f.id]--
		last := r.mu.opens[f.id] == 0
		if last {
			delete(r.mu.opens, f.id)
		}
		goes := last && r.mu.kept[f.id] && !r.awaitedLocked(f.id)
		r.mu.Unlock()
		if goes {
			r.letGo(f.id)
		}
	})
	return err
}

// letGo lets an object go that is kept and not open any more. Nobody who asks for it by its ID
// finds it from now on, unless something is under way with it just now. What a crash leaves at the others
// between this and the change that follows goes when they are aligned, and what another primary's clients
// have open comes back to this member then (reign.strays).
func (r *reign) letGo(id volume.ID) {
	if at := whole(id, false); r.s.locks.try(at) {
		if !r.isOpen(id) && !r.deposed() {
			_ = r.s.member.Release(context.Background(), id) // the change that follows tells of what fails
		}
		r.s.locks.unlock(at)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(id)
}
