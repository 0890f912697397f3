package explore

import "github.com/mortarfs/mortar/brick/set"

// swap hands on what can come of a Swap that is sent: it succeeds, or it is under way.
func (r *rules) swap(w *world, try try, from int, next seats, rev uint8, what string, n int) bool {
	return try(step{what, from, -1, n}, func(w *world) (bool, string) {
		if rev != w.rev {
			return false, ""
		}
		w.store = next
		w.rev++
		return true, r.succeed(w, from, next, w.rev)
	}) && try(step{"(slowly) " + what, from, -1, n}, func(w *world) (bool, string) {
		for i := range w.swaps {
			if w.swaps[i].stage == noSwap {
				w.swaps[i] = swap{stage: sent, waiting: true, from: int8(from), rev: rev, next: next}
				return spend(&w.left.slow), ""
			}
		}
		return false, ""
	})
}

// succeed tells the sender of a Swap that it has made next the state.
func (r *rules) succeed(w *world, from int, next seats, rev uint8) string {
	m := &w.m[from]
	if m.reigns == 0 || next.epoch != m.reigns {
		return r.reign(w, from, next, rev)
	}
	m.state, m.rev, m.pending = next, rev, seats{}
	m.skipping &= next.in
	m.ready = m.ready || r.whole(w, from)
	return ""
}

// settling: what becomes of Swaps that are under way.
func (r *rules) settling(w *world, try try) bool {
	for i := range w.swaps {
		s := w.swaps[i]
		if s.stage == noSwap {
			continue
		}
		from := int(s.from)
		ok := s.stage != sent || try(step{"'s slow swap takes effect, or none", from, -1, 0}, func(w *world) (bool, string) {
			t := &w.swaps[i]
			t.stage = refused
			if w.rev == s.rev {
				w.rev++
				w.store, t.stage, t.made = s.next, done, w.rev
			}
			if !s.waiting {
				*t = swap{}
			}
			return true, ""
		})
		if !ok {
			return false
		}
		if !s.waiting {
			continue
		}
		if s.stage != sent && !try(step{"hears of its slow swap", from, -1, 0}, func(w *world) (bool, string) {
			w.swaps[i] = swap{}
			if s.stage == done {
				return true, r.succeed(w, from, s.next, s.made)
			}
			r.learn(w, from)
			return true, ""
		}) {
			return false
		}
		if !try(step{"gives its slow swap up", from, -1, 0}, func(w *world) (bool, string) {
			m := &w.m[from]
			if m.reigns != 0 && s.next.epoch == m.reigns {
				m.pending = s.next
			}
			if w.swaps[i].waiting = false; s.stage != sent {
				w.swaps[i] = swap{}
			}
			return true, ""
		}) {
			return false
		}
	}
	return true
}

// learn lets a member read the store's state.
func (r *rules) learn(w *world, i int) {
	m := &w.m[i]
	switch {
	case w.store.epoch > m.known:
		stepDown(m, w.store.epoch, w.store.primary)
	case m.reigns == w.store.epoch && m.rev != w.rev:
		m.state, m.rev, m.pending = w.store, w.rev, seats{}
		m.ready = m.ready || r.whole(w, i)
	case r.broken.is("unknown outcome settled by reading the same") && m.reigns != 0:
		m.pending = seats{}
	}
}

// seating: primaries take members out of the list and back, and look at the state.
func (r *rules) seating(w *world, try try) bool {
	for q := range r.members {
		m := &w.m[q]
		if m.reigns == 0 {
			continue
		}
		if !try(step{"reads the state", q, -1, 0}, func(w *world) (bool, string) { r.learn(w, q); return true, "" }) {
			return false
		}
		if _, waiting := swapOf(w, q); waiting {
			continue
		}
		if m.pending.epoch != 0 {
			if !r.swap(w, try, q, m.pending, m.rev, "tries its swap again", 0) {
				return false
			}
			continue
		}
		for i := range r.members {
			if i == q {
				continue
			}
			if next, ok := r.without(m, q, i); ok && !r.swap(w, try, q, next, m.rev, "takes out "+names[i], 0) {
				return false
			}
			if r.maySeat(w, q, i) {
				next := seatsOf(set.With(m.state.spec(), names[i], bootName(m.told[i])))
				if !r.swap(w, try, q, next, m.rev, "seats "+names[i], 0) {
					return false
				}
			}
		}
	}
	return true
}

func (r *rules) without(m *member, q, i int) (seats, bool) {
	if !m.state.in.has(i) {
		return seats{}, false
	}
	quorum := r.quorum
	if r.broken.is("quorum ignored") {
		quorum = 0
	}
	next, ok := set.Without(m.state.spec(), names[q], names[i], quorum)
	return seatsOf(next), ok
}

// maySeat reports whether i may take a seat, or one with its present boot:
// it is equal to the primary and nothing is under way.
func (r *rules) maySeat(w *world, q, i int) bool {
	m := &w.m[q]
	if m.told[i] == 0 || m.open != 0 || m.state.in.has(i) && m.state.boot[i] == m.told[i] {
		return false
	}
	return m.has[i] == uint8(m.contents.len()) || r.broken.is("seated without being equal")
}
