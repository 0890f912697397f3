package fuse

import "sync"

// lockKey is whose locks they are, as the kernel says (see lock.go).
type lockKey struct {
	owner uint64
	flock bool
}

// grants are the locks that were got on a file, by owner and by handle: an owner that is a process may have
// some through several handles, all others have one handle.
type grants struct {
	mu struct {
		sync.Mutex
		by      map[*openFile][]*grant
		gone    uint64        // counts what was given up
		closes  uint64        // counts FLUSHes
		changed chan struct{} // closed, and replaced, when one begins or ends to be given up; nil: nobody waits
	}
}

// grant is what an owner has through a handle: one lock or more.
type grant struct {
	of    lockKey
	mute  bool // closes of the handle are not told
	near  bool // it may be closed by now: a descriptor was closed since the lock was got, or closes are not told
	going bool // it is being given up
}

func allGrants(*grant) bool { return true }

// flocks chooses flocks.
func flocks(g *grant) bool { return g.of.flock }

// ofOwner chooses what an owner has.
func ofOwner(k lockKey) func(*grant) bool { return func(g *grant) bool { return g.of == k } }

// grantView is how others' grants on a file stand.
type grantView struct {
	any          bool // there are some
	near, going  bool // as of any of them
	gone, closes uint64
	changed      <-chan struct{}
}

// took notes that an owner has got a lock through a handle, or may have.
func (s *grants) took(o *openFile, k lockKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.mu.by[o] {
		if g.of == k {
			g.near = g.mute
			return
		}
	}
	if s.mu.by == nil {
		s.mu.by = map[*openFile][]*grant{}
	}
	s.mu.by[o] = append(s.mu.by[o], &grant{of: k, mute: o.mute, near: o.mute})
}

// flushed notes that a process has closed a descriptor of a handle: its own locks are over, by whatever handles it has got them.
func (s *grants) flushed(o *openFile, process uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closes++
	for _, g := range s.mu.by[o] {
		g.near = true
	}
	for other := range s.mu.by {
		s.dropLocked(other, func(g *grant) bool { return g.of == lockKey{owner: process} && !g.going })
	}
}

// dropLocked forgets the chosen grants of a handle.
func (s *grants) dropLocked(o *openFile, chosen func(*grant) bool) {
	kept := s.mu.by[o][:0]
	for _, g := range s.mu.by[o] {
		if !chosen(g) {
			kept = append(kept, g)
		}
	}
	if s.mu.by[o] = kept; len(kept) == 0 {
		delete(s.mu.by, o)
	}
}

// gives notes that the chosen grants of a handle are being given up, and returns whose they are; over is to be
// called when that is done.
func (s *grants) gives(o *openFile, chosen func(*grant) bool) (whose []lockKey, over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaving := map[*grant]bool{}
	for _, g := range s.mu.by[o] {
		if chosen(g) && !g.going {
			g.going, leaving[g] = true, true
			whose = append(whose, g.of)
		}
	}
	if len(whose) == 0 {
		return nil, func() {}
	}
	s.broadcastLocked()
	return whose, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropLocked(o, func(g *grant) bool { return leaving[g] })
		s.mu.gone++
		s.broadcastLocked()
	}
}

func (s *grants) broadcastLocked() {
	if s.mu.changed != nil {
		close(s.mu.changed)
		s.mu.changed = nil
	}
}

// look returns how the chosen grants of handles other than o stand.
func (s *grants) look(o *openFile, chosen func(*grant) bool) grantView {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.changed == nil {
		s.mu.changed = make(chan struct{})
	}
	v := grantView{gone: s.mu.gone, closes: s.mu.closes, changed: s.mu.changed}
	for other, all := range s.mu.by {
		for _, g := range all {
			if other != o && chosen(g) {
				v.any = true
				v.near, v.going = v.near || g.near, v.going || g.going
			}
		}
	}
	return v
}

// held notes that the chosen grants of handles other than o were held still after so many closes. It reports false if more
// was closed or given up than the view knows of.
func (s *grants) held(o *openFile, chosen func(*grant) bool, v *grantView) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gone != v.gone || s.mu.closes != v.closes {
		return false
	}
	for other, all := range s.mu.by {
		for _, g := range all {
			if other == o || !chosen(g) {
				continue
			}
			if g.going {
				return false
			}
			g.near = g.mute
		}
	}
	return true
}

// alone reports whether what an owner has is the handle's, which is being released, to give up: nobody else
// has locks under the same number. A process that has some through another one has closed this, so they go too; but
// who is no process has only one handle, and another one's is another's (see flock.go).
func (s *grants) alone(o *openFile, k lockKey) bool {
	if o.mute && !k.flock {
		return true
	}
	v := s.look(o, ofOwner(k))
	return !v.any
}
