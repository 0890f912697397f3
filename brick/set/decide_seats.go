package set

import (
	"slices"
	"strings"

	"github.com/mortarfs/mortar/volume/spec"
)

// Hollow reports whether the member of a seat, whose machine has this boot ID
// now, may lack what was acknowledged and not synced.
//
// Invariant: a hollow seat keeps its place in the list (below the quorum nobody is
// taken out), but its member never promotes itself, and nothing is acknowledged on its answers.
//
// A seat without a boot ID is of a member that never started, and not hollow: nothing was
// acknowledged yet (see Vacant).
func Hollow(seat spec.Seat, boot string, lost bool) bool {
	return lost || seat.Boot != "" && seat.Boot != boot
}

// Vacant returns the members in sync whose seat does not name the boot that they
// told, those that told nothing included. The primary begins no change before
// there is none: it makes each equal to itself and seats it (With), or takes it out (Without). boots has
// the primary's own too.
//
// Invariant: nothing is acknowledged while a seat has no boot ID; otherwise its
// member could lose it by a boot that nobody sees.
func Vacant(s spec.SetState, boots map[string]string) []string {
	var vacant []string
	for _, seat := range s.InSync {
		if boot := boots[seat.Member]; boot == "" || boot != seat.Boot {
			vacant = append(vacant, seat.Member)
		}
	}
	return vacant
}

// Without returns the state after the primary self has taken a member out of the
// list; false if that may not be: it would leave fewer than quorum, the member
// is self or not in the list, or self is not the primary.
//
// Invariant: nothing that the member did not answer is acknowledged before the
// Swap is known to have happened.
func Without(s spec.SetState, self, member string, quorum int) (spec.SetState, bool) {
	if _, in := s.Seat(member); !in || member == self || s.Primary != self || len(s.InSync)-1 < quorum {
		return s, false
	}
	s.InSync = slices.DeleteFunc(slices.Clone(s.InSync), func(seat spec.Seat) bool { return seat.Member == member })
	return s, true
}

// With returns the state after a member has taken a seat, or another one with
// the present boot of its machine. The primary makes it so after the member has become
// equal to it, and while nothing is under way.
//
// Invariant: the member is Needed from before the Swap is sent until it is
// known not to have happened.
func With(s spec.SetState, member, boot string) spec.SetState {
	s.InSync = slices.Clone(s.InSync)
	i, in := slices.BinarySearchFunc(s.InSync, member, func(seat spec.Seat, m string) int { return strings.Compare(seat.Member, m) })
	if !in {
		s.InSync = slices.Insert(s.InSync, i, spec.Seat{Member: member})
	}
	s.InSync[i].Boot = boot
	return s
}

// Needed returns who, beside self, has to answer messages and changes: everyone in
// sync by one of the states, in order. The states are the newest that is known, and the one that a Swap
// under way would make.
//
// A Swap that failed without ErrConflict is under way until a state of a
// higher revision is known. Reading the same revision again proves nothing: the request
// may still be on its way to a voter. So the same Swap is tried again, which ends in
// success or ErrConflict, and ErrConflict in a state to read.
func Needed(self string, states ...spec.SetState) []string {
	var needed []string
	for _, s := range states {
		for _, seat := range s.InSync {
			if seat.Member != self && !slices.Contains(needed, seat.Member) {
				needed = append(needed, seat.Member)
			}
		}
	}
	slices.Sort(needed)
	return needed
}
