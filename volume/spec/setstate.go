package spec

import (
	"slices"
	"strings"
)

// SetState says who serves a set of several members and who has all that was
// acknowledged. It is a record of the configuration store, changed by
// compare-and-swap only, by the set's own members (package brick/set has the
// rules), and by an administrator's operations that put one brick in another's place.
//
// Invariant: Epoch and Power never go down. Primary is in InSync, or "" before the first
// and after an administrator took the primary's brick away, which raises the Epoch too.
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

// CheckSwap says what is wrong with next in the place of now, in a set of these
// members: nil, or an Invalid. It knows no more than the invariants: whether a
// member may do what it asks for is the set's own affair.
func CheckSwap(now, next SetState, members []string) error {
	switch {
	case next.Epoch < now.Epoch:
		return invalidf("the epoch of a set never goes down: %d after %d", next.Epoch, now.Epoch)
	case next.Power < now.Power:
		return invalidf("the power of a set never goes down: %d after %d", next.Power, now.Power)
	case len(next.InSync) == 0:
		return Invalid("a set without a member in sync has lost what was acknowledged")
	case next.Primary == "" && (now.Primary != "" || next.Epoch != now.Epoch):
		return Invalid("a set that has a primary has one always")
	case next.Primary != now.Primary && next.Epoch == now.Epoch:
		return invalidf("another primary needs another epoch than %d", now.Epoch)
	}
	for i, seat := range next.InSync {
		if !slices.Contains(members, seat.Member) {
			return invalidf("%s is not a member of the set", printable(seat.Member))
		}
		if i > 0 && next.InSync[i-1].Member >= seat.Member {
			return Invalid("the members in sync are not in order, or one is there twice")
		}
		if len(seat.Boot) > bootMax {
			return invalidf("the boot ID of %s has more than %d bytes", seat.Member, bootMax)
		}
	}
	if _, in := next.Seat(next.Primary); !in && next.Primary != "" {
		return invalidf("the primary %s is not in sync", printable(next.Primary))
	}
	return nil
}

// bootMax is the length of the longest Seat.Boot, in bytes.
const bootMax = 128

// NewSetState is the state of a set that nobody has used: all members are in sync.
func NewSetState(members []string) SetState {
	var s SetState
	for _, m := range members {
		s.InSync = append(s.InSync, Seat{Member: m})
	}
	slices.SortFunc(s.InSync, func(a, b Seat) int { return strings.Compare(a.Member, b.Member) })
	return s
}

// Without returns s after an administrator took the member's brick away. Who was
// the primary is that no more, and the others choose the next by a new epoch. It
// is the caller's to see that somebody is left in sync.
func (s SetState) Without(member string) SetState {
	s.InSync = slices.DeleteFunc(slices.Clone(s.InSync), func(seat Seat) bool { return seat.Member == member })
	if s.Primary == member {
		s.Primary, s.Epoch = "", s.Epoch+1
	}
	return s
}
