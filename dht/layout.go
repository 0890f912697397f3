package dht

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// hashSpace is the number of hash values.
const hashSpace = uint64(1) << 32

// A Weight says how much of the hash space a set should own, as a share of the
// sum of all weights. The unit is free; capacity in bytes is usual. 0: nothing.
type Weight struct {
	Set    volume.SetID
	Weight uint64
}

// NewLayout divides the hash space among sets by weight, in the order given,
// each share exact to within one hash value. Errors: no set has a weight, a set
// is there twice, or the sum of the weights overflows 64 bits.
func NewLayout(v volume.LayoutVersion, weights []Weight) (spec.Layout, error) {
	shares, err := sharesOf(weights)
	if err != nil {
		return spec.Layout{}, err
	}
	l := spec.Layout{Version: v}
	from := uint64(0)
	for i, w := range weights {
		if shares[i] > 0 {
			l.Ranges = append(l.Ranges, spec.Range{From: uint32(from), Set: w.Set})
			from += shares[i]
		}
	}
	return l, nil
}

// ChangeLayout returns the successor of old in which sets have the shares that
// NewLayout would give them, moving the least: each set keeps as much of what
// it owns as its new share allows, and only what is above goes to those that
// lack. A set may come to own several ranges.
func ChangeLayout(old spec.Layout, weights []Weight) (spec.Layout, error) {
	if err := CheckLayout(old); err != nil {
		return spec.Layout{}, err
	}
	shares, err := sharesOf(weights)
	if err != nil {
		return spec.Layout{}, err
	}
	keep := make(map[volume.SetID]uint64, len(weights))
	for i, w := range weights {
		keep[w.Set] = shares[i]
	}
	// First what stays: each old range keeps its beginning as far as its set's
	// share reaches; the rest is free (set 0).
	type piece struct {
		size uint64
		set  volume.SetID
	}
	var pieces []piece
	for i, r := range old.Ranges {
		size := rangeEnd(old, i) - uint64(r.From)
		stay := min(size, keep[r.Set])
		keep[r.Set] -= stay
		pieces = append(pieces, piece{stay, r.Set}, piece{size - stay, 0})
	}
	// Then the free pieces go, in order, to those that still lack.
	l := spec.Layout{Version: old.Version + 1}
	from, next := uint64(0), 0
	add := func(set volume.SetID, size uint64) {
		if n := len(l.Ranges); size > 0 && (n == 0 || l.Ranges[n-1].Set != set) {
			l.Ranges = append(l.Ranges, spec.Range{From: uint32(from), Set: set})
		}
		from += size
	}
	for _, p := range pieces {
		if p.set != 0 {
			add(p.set, p.size)
			continue
		}
		for p.size > 0 {
			for keep[weights[next].Set] == 0 {
				next++ // shares sum up to the space, so someone lacks what is free
			}
			size := min(p.size, keep[weights[next].Set])
			add(weights[next].Set, size)
			keep[weights[next].Set] -= size
			p.size -= size
		}
	}
	return l, nil
}

// OwnerOf returns the set that owns a hash value. The layout must be valid.
func OwnerOf(l *spec.Layout, hash uint32) volume.SetID {
	lo, hi := 0, len(l.Ranges) // Invariant: Ranges[lo].From ≤ hash, Ranges[hi].From > hash
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) / 2); l.Ranges[mid].From <= hash {
			lo = mid
		} else {
			hi = mid
		}
	}
	return l.Ranges[lo].Set
}

// CheckLayout says what is wrong with a layout that came from elsewhere.
func CheckLayout(l spec.Layout) error {
	if l.Version == 0 {
		return errors.New("a layout's version begins at 1")
	}
	if len(l.Ranges) == 0 {
		return errors.New("the layout has no range")
	}
	if l.Ranges[0].From != 0 {
		return fmt.Errorf("the layout begins at %d, not at 0", l.Ranges[0].From)
	}
	for i, r := range l.Ranges {
		if r.Set == 0 {
			return fmt.Errorf("range %d has no owner", i)
		}
		if i > 0 && r.From <= l.Ranges[i-1].From {
			return fmt.Errorf("range %d begins at %d, not above the one before", i, r.From)
		}
	}
	return nil
}

// Moved returns how many hash values have another owner in b than in a.
func Moved(a, b spec.Layout) uint64 {
	var moved uint64
	i, j := 0, 0
	for from := uint64(0); from < hashSpace; {
		to := min(rangeEnd(a, i), rangeEnd(b, j))
		if a.Ranges[i].Set != b.Ranges[j].Set {
			moved += to - from
		}
		if rangeEnd(a, i) == to {
			i++
		}
		if rangeEnd(b, j) == to {
			j++
		}
		from = to
	}
	return moved
}

func rangeEnd(l spec.Layout, i int) uint64 {
	if i+1 < len(l.Ranges) {
		return uint64(l.Ranges[i+1].From)
	}
	return hashSpace
}

// sharesOf returns each weight's number of hash values; they sum up to all.
func sharesOf(weights []Weight) ([]uint64, error) {
	var total uint64
	var seen []volume.SetID
	for _, w := range weights {
		if w.Set == 0 || slices.Contains(seen, w.Set) {
			return nil, fmt.Errorf("set %d is no set or is there twice", w.Set)
		}
		seen = append(seen, w.Set)
		var carry uint64
		if total, carry = bits.Add64(total, w.Weight, 0); carry != 0 {
			return nil, errors.New("the sum of the weights is too large")
		}
	}
	if total == 0 {
		return nil, errors.New("no set has a weight")
	}
	shares := make([]uint64, len(weights))
	var sum, before uint64
	for i, w := range weights {
		sum += w.Weight
		upTo := hashSpace // of everything: the quotient would overflow for sum = total only
		if sum != total {
			hi, lo := bits.Mul64(hashSpace, sum)
			upTo, _ = bits.Div64(hi, lo, total)
		}
		shares[i] = upTo - before
		before = upTo
	}
	return shares, nil
}
