package explore

import (
	"cmp"
	"slices"
)

// same makes states equal that differ in nothing that could ever matter.
func (r *rules) same(w *world) {
	oldest := w.m[0].known
	for i := range r.members {
		m := &w.m[i]
		oldest = min(oldest, m.known)
		if m.promised.epoch != 0 {
			m.restarted, m.young = false, 0 // the promise counts
		}
		if m.promise == 0 {
			m.promised = process{}
		}
		if m.reigns != 0 || !m.restarted && w.store.epoch > 0 {
			m.young = 0
		}
		m.restarted = m.restarted && m.young > 0
	}
	for e := range oldest {
		w.reign[e] = process{} // nobody can reign then any more
	}
	r.rankRevs(w)
	for i := range w.swaps {
		s := &w.swaps[i]
		if s.stage == sent && s.rev != w.rev {
			s.stage = refused
		}
		if s.stage != sent && !s.waiting {
			*s = swap{}
		}
	}
	slices.SortFunc(w.swaps[:], func(a, b swap) int {
		return cmp.Or(int(a.from)-int(b.from), int(a.rev)-int(b.rev), int(a.stage)-int(b.stage))
	})
	for i := range w.messages {
		m := &w.messages[i]
		to := &w.m[m.to]
		if m.kind == 0 || m.answer && (to.life != m.life || to.reigns != m.epoch) ||
			!m.answer && m.epoch < to.known && !r.broken.is("older epochs obeyed") {
			*m = message{}
		}
	}
	slices.SortFunc(w.messages[:], func(a, b message) int {
		return cmp.Or(int(a.kind)-int(b.kind), int(a.from)-int(b.from), int(a.to)-int(b.to), int(a.epoch)-int(b.epoch), int(a.has)-int(b.has), int(a.age)-int(b.age))
	})
	r.rankLives(w)
}

// rankRevs renames the revisions that occur: only their order counts.
func (r *rules) rankRevs(w *world) {
	var all [1 + size + 2*len(w.swaps)]*uint8
	revs := append(all[:0], &w.rev)
	for i := range r.members {
		revs = append(revs, &w.m[i].rev)
	}
	for i := range w.swaps {
		revs = append(revs, &w.swaps[i].rev, &w.swaps[i].made)
	}
	rank(revs)
}

// rankLives renames the lives of each member.
func (r *rules) rankLives(w *world) {
	for i := range r.members {
		var all [1 + size + len(w.messages) + len(w.reign)]*uint8
		lives := append(all[:0], &w.m[i].life)
		for j := range r.members {
			if p := &w.m[j].promised; p.epoch != 0 && int(p.member) == i {
				lives = append(lives, &p.life)
			}
		}
		for j := range w.messages {
			if m := &w.messages[j]; m.kind != 0 && int(m.from) == i && !m.answer || m.answer && int(m.to) == i {
				lives = append(lives, &m.life)
			}
		}
		for j := range w.reign {
			if p := &w.reign[j]; p.epoch != 0 && int(p.member) == i {
				lives = append(lives, &p.life)
			}
		}
		rank(lives)
	}
}

// rank makes numbers small and keeps their order. 0 stays 0.
func rank(numbers []*uint8) {
	slices.SortFunc(numbers, func(a, b *uint8) int { return int(*a) - int(*b) })
	last, rank := uint8(0), uint8(0)
	for _, n := range numbers {
		if *n != last {
			last = *n
			rank++
		}
		*n = rank
	}
}
