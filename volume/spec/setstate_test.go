package spec

import (
	"strings"
	"testing"
)

// state reads "EPOCH PRIMARY MEMBER…"; "-" is no primary.
func state(s string) SetState {
	words := strings.Fields(s)
	out := SetState{Epoch: uint64(words[0][0] - '0'), Primary: strings.Trim(words[1], "-")}
	for _, m := range words[2:] {
		out.InSync = append(out.InSync, Seat{Member: m})
	}
	return out
}

func TestCheckSwap(t *testing.T) {
	members := []string{"c", "a", "b"}
	for _, c := range []struct{ now, next, want string }{
		{"0 - a b c", "1 a a b c", ""},
		{"0 - a b c", "0 - a b", ""},
		{"1 a a b c", "1 a a", ""},
		{"1 a a", "1 a a b", ""},
		{"1 a a b", "2 b b", ""},
		{"1 a a b", "2 a a b", ""},
		{"3 - a b", "4 b a b", ""},
		{"2 a a b", "1 a a b", "the epoch of a set never goes down: 1 after 2"},
		{"1 a a b", "1 b a b", "another primary needs another epoch than 1"},
		{"0 - a b", "0 a a b", "another primary needs another epoch than 0"},
		{"1 a a b", "1 a", "a set without a member in sync has lost what was acknowledged"},
		{"1 a a b", "2 a b", "the primary a is not in sync"},
		{"1 a a b", "2 - b", "a set that has a primary has one always"},
		{"0 - a b", "1 - a b", "a set that has a primary has one always"},
		{"1 a a b", "1 a a b d", "d is not a member of the set"},
		{"1 a a b", "1 a b a", "the members in sync are not in order, or one is there twice"},
		{"1 a a b", "1 a a a", "the members in sync are not in order, or one is there twice"},
	} {
		says(t, c.now+" → "+c.next, CheckSwap(state(c.now), state(c.next), members), c.want)
	}
	raised := state("1 a a b")
	raised.Power = 2
	says(t, "power", CheckSwap(raised, state("1 a a b"), members), "the power of a set never goes down: 0 after 2")
	long := state("1 a a b")
	long.InSync[0].Boot = strings.Repeat("x", bootMax+1)
	says(t, "boot", CheckSwap(state("1 a a b"), long, members), "the boot ID of a has more than 128 bytes")
}

func TestWithout(t *testing.T) {
	for _, c := range []struct{ now, member, want string }{
		{"4 a a b c", "a", "5 - b c"},
		{"4 a a b c", "b", "4 a a c"},
		{"4 a a b", "c", "4 a a b"},
		{"0 - a b", "a", "0 - b"},
	} {
		now := state(c.now)
		if got := now.Without(c.member); !got.Equal(state(c.want)) || !now.Equal(state(c.now)) {
			t.Errorf("%s without %s: %+v", c.now, c.member, got)
		}
	}
	if s := NewSetState([]string{"b", "a"}); !s.Equal(state("0 - a b")) {
		t.Errorf("a new set: %+v", s)
	}
}
