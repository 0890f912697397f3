package explore

import (
	"fmt"
	"time"

	"github.com/mortarfs/mortar/brick/set"
	"github.com/mortarfs/mortar/volume/spec"
)

// rules is the way to the functions of package set. They are pure, so what they
// answered is kept.
type rules struct {
	setup
	verdicts map[facts]verdict
	needs    map[[3]mask]mask
	tenures  map[tenure]bool
	vacant   map[vacancy]bool
}

type facts struct {
	self      int8
	store     seats
	boots     [size]uint8
	restarted bool
	young     uint8
	promised  process
	promise   uint8
	gone      bool
	reigned   uint8
}

type verdict struct {
	act  set.Act
	next seats
}

type tenure struct {
	needed mask
	left   [size]uint8
}

type vacancy struct {
	state seats
	told  [size]uint8
}

func keep[K comparable, V any](m map[K]V, k K, f func() V) V {
	v, ok := m[k]
	if !ok {
		v = f()
		m[k] = v
	}
	return v
}

func name(i int8) string {
	if i < 0 {
		return ""
	}
	return names[i]
}

func index(name string) int8 {
	for i, n := range names {
		if n == name {
			return int8(i)
		}
	}
	return -1
}

func bootName(n uint8) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint("boot", n)
}

func (s seats) spec() spec.SetState {
	t := spec.SetState{Epoch: uint64(s.epoch), Power: uint64(s.power), Primary: name(s.primary)}
	for i := range size {
		if s.in.has(i) {
			t.InSync = append(t.InSync, spec.Seat{Member: names[i], Boot: bootName(s.boot[i])})
		}
	}
	return t
}

func seatsOf(t spec.SetState) seats {
	s := seats{epoch: uint8(t.Epoch), power: uint8(t.Power), primary: index(t.Primary)}
	for _, seat := range t.InSync {
		i := int(index(seat.Member))
		s.in = s.in.with(i)
		if seat.Boot != "" {
			fmt.Sscanf(seat.Boot, "boot%d", &s.boot[i])
		}
	}
	return s
}

// now is any time that lets a lease have passed before it.
const now = time.Hour

// next asks set.Next for the member. It sees what it can see at best: who answers and who has
// ended. That it sees less is the same as that it waits.
func (r *rules) next(w *world, self int) verdict {
	m := &w.m[self]
	f := facts{
		self: int8(self), store: w.store, restarted: m.restarted, young: m.young,
		promised: m.promised, promise: m.promise, reigned: m.reigned,
	}
	for i := range r.members {
		f.boots[i] = w.m[i].boot
	}
	if p := m.promised; p.epoch != 0 {
		f.gone = w.m[p.member].life != p.life
	}
	r.breakFacts(w, &f)
	return keep(r.verdicts, f, func() verdict {
		tick := set.Obey / time.Duration(r.lease)
		facts := set.Facts{
			State: f.store.spec(), Self: names[self], Boot: bootName(f.boots[self]),
			Now: now, Started: now - set.Obey + time.Duration(f.young)*tick, Seen: now - set.Obey,
			Restarted: f.restarted, PrimaryGone: f.gone, Reigned: uint64(f.reigned),
			Present: map[string]set.Presence{}, Arbiters: map[string]bool{},
		}
		if f.promised.epoch != 0 {
			facts.Promise = set.Promise{
				To:    set.Process{Member: name(f.promised.member), Life: fmt.Sprint(f.promised.life), Epoch: uint64(f.promised.epoch)},
				Until: now + time.Duration(f.promise)*tick,
			}
		}
		for i := range r.members {
			if i != self {
				facts.Present[names[i]] = set.Presence{Boot: bootName(f.boots[i])}
			}
			if r.arbiter && i == r.members-1 && !r.broken.is("arbiter serves") {
				facts.Arbiters[names[i]] = true
			}
		}
		v := set.Next(facts)
		return verdict{v.Act, seatsOf(v.Next)}
	})
}

// breakFacts makes the member see what is not so, for the tests that break something.
func (r *rules) breakFacts(w *world, f *facts) {
	self := int(f.self)
	switch {
	case r.broken.is("promise not counted from the start"):
		f.restarted = false
	case r.broken.is("state's word for having reigned") && f.store.primary == f.self:
		f.reigned = f.store.epoch
	case r.broken.is("boot ignored"):
		f.boots = f.store.boot
		f.boots[self] = max(1, f.boots[self])
	case r.broken.is("unseated member promotes itself") && f.store.epoch > 0:
		f.store.in = f.store.in.with(self)
		f.store.boot[self] = w.m[self].boot
	case r.broken.is("any process's end frees") && f.promised.epoch != 0:
		f.gone = w.left.restarts < r.budget.restarts
	case r.broken.is("promise not kept"):
		f.promise = 0
	case r.broken.is("presence from before the seat"):
		for i := range r.members {
			if i != self {
				f.boots[i] = max(2, f.boots[i]) - 1
			}
		}
	case r.broken.is("resumes beside a whole member") && f.boots[self] != f.store.boot[self]:
		for i := range r.members {
			f.boots[i] = f.store.boot[i] + 1
		}
		f.boots[self] = w.m[self].boot
	}
}

// swapOf returns what a Swap of the member that has not settled, as far as it knows, would make.
func swapOf(w *world, self int) (s *swap, waiting bool) {
	for i := range w.swaps {
		if s := &w.swaps[i]; s.stage != noSwap && s.waiting && int(s.from) == self {
			return s, true
		}
	}
	return nil, false
}

// coming returns the states that a reigning member has to reckon with.
func (r *rules) coming(w *world, self int) [2]seats {
	m := &w.m[self]
	states := [2]seats{m.state, m.state}
	if s, waiting := swapOf(w, self); waiting {
		states[1] = s.next
	} else if m.pending.epoch != 0 {
		states[1] = m.pending
	}
	if r.broken.is("seat not needed before it is taken") {
		states[1].in &= m.state.in
	}
	return states
}

// needed returns who has to answer a reigning member.
func (r *rules) needed(w *world, self int) mask {
	states := r.coming(w, self)
	needed := keep(r.needs, [3]mask{mask(self), states[0].in, states[1].in}, func() mask {
		var needed mask
		for _, m := range set.Needed(names[self], states[0].spec(), states[1].spec()) {
			needed = needed.with(int(index(m)))
		}
		return needed
	})
	return needed &^ w.m[self].skipping
}

// mayServe asks set.Tenure.
func (r *rules) mayServe(w *world, self int) bool {
	m := &w.m[self]
	return keep(r.tenures, tenure{r.needed(w, self), m.tenure}, func() bool {
		var t set.Tenure
		var needed []string
		for i := range r.members {
			if r.needed(w, self).has(i) {
				needed = append(needed, names[i])
			}
			if m.tenure[i] > 0 {
				age := time.Duration(r.lease - m.tenure[i])
				t.Answered(names[i], now-age*set.Lease/time.Duration(r.lease))
			}
		}
		t.Need(needed)
		return t.MayServe(now)
	})
}

// whole reports whether all whom a reigning member needs have everything that it
// has, in the boots that their seats name.
func (r *rules) whole(w *world, self int) bool {
	m := &w.m[self]
	needed := r.needed(w, self)
	length := uint8(m.contents.len())
	for i := range r.members {
		if needed.has(i) && m.has[i] != length {
			return false
		}
	}
	return r.noVacancy(w, self)
}

// noVacancy reports whether set.Vacant finds nobody in all states that may be.
func (r *rules) noVacancy(w *world, self int) bool {
	if r.broken.is("boot ignored") || r.broken.is("changes begun before boots are known") {
		return true
	}
	m := &w.m[self]
	told := m.told
	told[self] = m.boot
	for _, s := range r.coming(w, self) {
		s.in &^= m.skipping
		vacant := keep(r.vacant, vacancy{s, told}, func() bool {
			boots := map[string]string{}
			for i, boot := range told {
				boots[names[i]] = bootName(boot)
			}
			return len(set.Vacant(s.spec(), boots)) > 0
		})
		if vacant {
			return false
		}
	}
	return true
}
