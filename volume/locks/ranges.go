package locks

import (
	"cmp"
	"slices"

	"github.com/mortarfs/mortar/volume"
)

// same reports whether two locks are of one owner and one kind.
func same(a, b *volume.Lock) bool { return a.Flock == b.Flock && a.Owner == b.Owner }

// overlap reports whether two locks have a byte in common.
func overlap(a, b *volume.Lock) bool { return a.Start <= b.End && b.Start <= a.End }

// conflict reports whether a lock that is held is in another's way.
func conflict(held, l *volume.Lock) bool {
	return held.Flock == l.Flock && held.Owner != l.Owner && overlap(held, l) &&
		(held.Type == volume.ExclusiveLock || l.Type == volume.ExclusiveLock)
}

// touches reports whether two locks overlap or are next to each other.
func touches(a, b *volume.Lock) bool {
	return overlap(a, b) || a.End != volume.LockEnd && a.End+1 == b.Start || b.End != volume.LockEnd && b.End+1 == a.Start
}

// set returns what is held after l's owner has set l. Nothing is in its way.
//
// Invariant: the locks of an owner and kind are disjoint, those of one type do not touch.
func set(held []volume.Lock, l volume.Lock) []volume.Lock {
	out := make([]volume.Lock, 0, len(held)+2)
	for _, h := range held {
		switch {
		case !same(&h, &l):
			out = append(out, h)
		case h.Type == l.Type && touches(&h, &l):
			l.Start, l.End = min(l.Start, h.Start), max(l.End, h.End)
		case !overlap(&h, &l):
			out = append(out, h)
		default: // what sticks out stays
			if h.Start < l.Start {
				left := h
				left.End = l.Start - 1
				out = append(out, left)
			}
			if h.End > l.End {
				right := h
				right.Start = l.End + 1
				out = append(out, right)
			}
		}
	}
	if l.Type != volume.Unlocked {
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b volume.Lock) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// blocker returns the first lock that is in l's way, nil if none is.
func blocker(held []volume.Lock, l *volume.Lock) *volume.Lock {
	for i := range held {
		if conflict(&held[i], l) {
			return &held[i]
		}
	}
	return nil
}

// weakens reports whether setting l may let others pass: l's owner has something in its
// range that is more than l.
func weakens(held []volume.Lock, l *volume.Lock) bool {
	return slices.ContainsFunc(held, func(h volume.Lock) bool { return same(&h, l) && overlap(&h, l) && h.Type > l.Type })
}
