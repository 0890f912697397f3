package explore

import "math/bits"

// forget takes back what clients may rely on when nobody is left who has it:
// all in sync have lost what was not synced.
func (r *rules) forget(w *world) {
	for i := range r.data() {
		if w.store.in.has(i) && wholeSeat(w, i) {
			return
		}
	}
	w.truth = 0
}

func wholeSeat(w *world, i int) bool {
	return w.store.boot[i] == 0 || w.store.boot[i] == w.m[i].boot
}

// data is the number of members with contents; they are the first.
func (r *rules) data() int {
	if r.arbiter {
		return r.members - 1
	}
	return r.members
}

// check looks whether the invariants hold after a step. Their numbers are those of the design.
func (r *rules) check(before, w *world) string {
	serving := 0
	for i := range r.members {
		m := &w.m[i]
		if m.known < before.m[i].known || w.store.epoch < before.store.epoch {
			return "(11) an epoch goes back"
		}
		if m.contents.twice() {
			return "(7) a request takes effect twice"
		}
		if w.store.in.has(i) && wholeSeat(w, i) && !m.contents.startsWith(w.truth) {
			return "(2) a member in sync has not what was acknowledged or read"
		}
		if m.reigns == 0 || !r.mayServe(w, i) {
			continue
		}
		for j := range r.members {
			if w.m[j].reigns > m.reigns {
				return "(R) one reigns while one of an older epoch may serve"
			}
		}
		if !m.ready {
			continue
		}
		if serving++; serving > 1 {
			return "(1) two serve"
		}
		if !w.store.in.has(i) || !wholeSeat(w, i) {
			return "(1) one serves that is not in sync"
		}
		if i >= r.data() {
			return "(1) an arbiter serves"
		}
	}
	if bits.OnesCount8(uint8(w.store.in)) < r.quorum {
		return "(2) fewer than the quorum are in sync"
	}
	return ""
}
