package spec

import "slices"

// SetState says who serves a set of several members and who has all that was
// acknowledged. It is a record of the configuration store, changed by
// compare-and-swap only, by the set's own members (package brick/set has the
// rules), and by an administrator's operations that put one brick in another's place.
//
// Invariant: Epoch and Power never go down. Primary is in InSync, or "" before the first.
type SetState struct {
	Epoch   uint64 // of the primary's reign: each primary has one of its own; 0: there was none yet
	Primary string // the member's ID
	InSync  []Seat // members that have everything that was acknowledged, in order of their ID
	Power   uint64 // how often the set went on after all its members had lost what was not synced
}

// Seat is a member's place among those in sync.
type Seat struct {
	Member string // ID
	Boot   string // of its machine, when it took the seat; "": it has not started yet
}

// Seat returns the member's seat, and whether it is in sync.
func (s SetState) Seat(member string) (Seat, bool) {
	for _, seat := range s.InSync {
		if seat.Member == member {
			return seat, true
		}
	}
	return Seat{}, false
}

// Equal reports whether both say the same.
func (s SetState) Equal(t SetState) bool {
	return s.Epoch == t.Epoch && s.Primary == t.Primary && s.Power == t.Power && slices.Equal(s.InSync, t.InSync)
}
