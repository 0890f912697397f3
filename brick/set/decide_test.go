package set_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/set"
	"github.com/mortarfs/mortar/volume/spec"
)

// state makes a set's state: its primary, and members with their boots, as in "a/1 b/ c/2".
func state(epoch uint64, primary, seats string) spec.SetState {
	s := spec.SetState{Epoch: epoch, Primary: primary}
	for _, f := range strings.Fields(seats) {
		m, boot, _ := strings.Cut(f, "/")
		s.InSync = append(s.InSync, spec.Seat{Member: m, Boot: boot})
	}
	return s
}

func show(s spec.SetState) string {
	var b strings.Builder
	b.WriteString(s.Primary + ":")
	for _, seat := range s.InSync {
		b.WriteString(" " + seat.Member + "/" + seat.Boot)
	}
	return b.String()
}

// TestNext has a member b whose machine is in boot 1 at 100 s, in a set in epoch 5.
func TestNext(t *testing.T) {
	const now = 100 * time.Second
	const all = "a/1 b/1 c/1"
	promise := func(member string, epoch uint64, left time.Duration) set.Promise {
		return set.Promise{To: set.Process{Member: member, Life: "x", Epoch: epoch}, Until: now + left}
	}
	boots := func(told string) map[string]set.Presence {
		p := map[string]set.Presence{}
		for _, seat := range state(0, "", told).InSync {
			p[seat.Member] = set.Presence{Boot: seat.Boot}
		}
		return p
	}
	for _, c := range []struct {
		name  string
		state spec.SetState
		facts set.Facts // Self, Boot, Now are set unless they are given
		act   set.Act
		until time.Duration
		next  string
	}{
		{name: "reigns", state: state(5, "b", all), facts: set.Facts{Reigns: 5, Reigned: 5}, act: set.Serve},
		{name: "reigned in an epoch that is over", state: state(5, "a", all), facts: set.Facts{Reigns: 4, Reigned: 4}, act: set.Promote, next: "b: a/1 b/1 c/1"},
		{name: "reigns, but has lost something", state: state(5, "b", all), facts: set.Facts{Reigns: 5, Lost: true, Present: boots("a/1")}, act: set.Wait},
		{name: "not in sync", state: state(5, "a", "a/1 c/1"), act: set.Absent},
		{name: "not in sync in a new set", state: state(0, "", "a/ c/"), act: set.Wait},

		{name: "promise lasts", state: state(5, "a", all), facts: set.Facts{Promise: promise("a", 5, 1)}, act: set.Follow, until: now + 1},
		{name: "promise is over", state: state(5, "a", all), facts: set.Facts{Promise: promise("a", 5, 0)}, act: set.Promote, next: "b: a/1 b/1 c/1"},
		{name: "promised to a process that has ended", state: state(5, "a", all), facts: set.Facts{Promise: promise("a", 5, time.Second), PrimaryGone: true}, act: set.Promote, next: "b: a/1 b/1 c/1"},
		{name: "and to one of an older epoch", state: state(5, "a", all), facts: set.Facts{Promise: promise("c", 4, time.Second), PrimaryGone: true, Seen: now - time.Second}, act: set.Follow, until: now - time.Second + set.Obey},
		{name: "promised to an older primary", state: state(5, "a", all), facts: set.Facts{Promise: promise("c", 4, time.Second)}, act: set.Follow, until: now + time.Second},
		{name: "a new primary gets time", state: state(5, "a", all), facts: set.Facts{Seen: now}, act: set.Follow, until: now + set.Obey},

		{name: "restarted", state: state(5, "a", all), facts: set.Facts{Restarted: true, Started: now - time.Second}, act: set.Follow, until: now - time.Second + set.Obey},
		{name: "restarted; a process has ended, who knows which", state: state(5, "a", all), facts: set.Facts{Restarted: true, Started: now - time.Second, PrimaryGone: true}, act: set.Follow, until: now - time.Second + set.Obey},
		{name: "restarted long ago", state: state(5, "a", all), facts: set.Facts{Restarted: true, Started: now - set.Obey}, act: set.Promote, next: "b: a/1 b/1 c/1"},
		{name: "restarted primary", state: state(5, "b", all), facts: set.Facts{Restarted: true, Started: now, Reigned: 5}, act: set.Promote, next: "b: a/1 b/1 c/1"},
		{name: "restarted, named by the state without having reigned", state: state(5, "b", all), facts: set.Facts{Restarted: true, Started: now, Reigned: 4}, act: set.Follow, until: now + set.Obey},
		{name: "named by the state, having promised", state: state(5, "b", all), facts: set.Facts{Promise: promise("a", 4, 1)}, act: set.Follow, until: now + 1},

		{name: "booted", state: state(5, "a", all), facts: set.Facts{Boot: "2", Present: boots("a/1")}, act: set.Absent},
		{name: "booted, was the primary", state: state(5, "b", all), facts: set.Facts{Boot: "2", Reigned: 5, Present: boots("a/1 c/1")}, act: set.Wait},
		{name: "all booted, one is missing", state: state(5, "b", all), facts: set.Facts{Boot: "2", Present: boots("a/2")}, act: set.Wait},
		{name: "all booted, the primary is chosen", state: state(5, "b", all), facts: set.Facts{Boot: "2", Restarted: true, Started: now, Present: boots("a/2 c/2")}, act: set.Resume, next: "b: a/1 b/2 c/1"},
		{name: "all booted, another is chosen", state: state(5, "a", all), facts: set.Facts{Boot: "2", Present: boots("a/2 c/2")}, act: set.Absent},
		{name: "all but one that never started", state: state(5, "b", "a/ b/1"), facts: set.Facts{Boot: "2", Present: boots("a/2")}, act: set.Wait},
		{name: "alone, booted", state: state(5, "b", "b/1"), facts: set.Facts{Boot: "2"}, act: set.Resume, next: "b: b/2"},
		{name: "the arbiter is whole, who has contents is not", state: state(5, "b", "b/1 c/1"), facts: set.Facts{Boot: "2", Arbiters: map[string]bool{"c": true}}, act: set.Resume, next: "b: b/2 c/1"},
		{name: "lost otherwise", state: state(5, "a", all), facts: set.Facts{Lost: true, Present: boots("a/1")}, act: set.Absent},

		{name: "arbiter", state: state(5, "a", all), facts: set.Facts{Arbiters: map[string]bool{"b": true}}, act: set.Follow},
		{name: "arbiter alone", state: state(5, "a", "b/1"), facts: set.Facts{Arbiters: map[string]bool{"b": true}, Boot: "2"}, act: set.Absent},

		{name: "new set, not its first", state: state(0, "", "a/ b/ c/"), facts: set.Facts{Started: now}, act: set.Wait, until: now + set.Grace},
		{name: "new set, the first does not come", state: state(0, "", "a/ b/ c/"), facts: set.Facts{Started: now - set.Grace}, act: set.Promote, next: "b: a/ b/1 c/"},
		{name: "new set, the first is an arbiter", state: state(0, "", "a/ b/ c/"), facts: set.Facts{Started: now, Arbiters: map[string]bool{"a": true}}, act: set.Promote, next: "b: a/ b/1 c/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.facts
			f.State, f.Self, f.Now = c.state, "b", now
			if f.Boot == "" {
				f.Boot = "1"
			}
			before := show(c.state)
			v := set.Next(f)
			if v.Act != c.act || v.Until != c.until || v.Why == "" {
				t.Errorf("act %d until %v (%s), want %d until %v", v.Act, v.Until, v.Why, c.act, c.until)
			}
			if c.next != "" {
				power := c.state.Power
				if c.act == set.Resume {
					power++
				}
				if show(v.Next) != c.next || v.Next.Epoch != c.state.Epoch+1 || v.Next.Power != power {
					t.Errorf("next is %s in epoch %d, power %d; want %s", show(v.Next), v.Next.Epoch, v.Next.Power, c.next)
				}
			}
			if show(c.state) != before {
				t.Error("the state that was given has changed")
			}
		})
	}
}

func TestSeats(t *testing.T) {
	s := state(5, "b", "b/1 c/1 d/1")
	for _, c := range []struct {
		self, member string
		quorum       int
		want         string
	}{
		{"b", "c", 2, "b: b/1 d/1"},
		{"b", "c", 3, ""},
		{"b", "b", 1, ""},
		{"b", "a", 1, ""},
		{"c", "d", 1, ""},
	} {
		next, ok := set.Without(s, c.self, c.member, c.quorum)
		if ok != (c.want != "") || ok && (show(next) != c.want || next.Epoch != 5) {
			t.Errorf("%s without %s, quorum %d: %s, %v", c.self, c.member, c.quorum, show(next), ok)
		}
	}
	for member, want := range map[string]string{
		"a": "b: a/2 b/1 c/1 d/1",
		"c": "b: b/1 c/2 d/1",
		"e": "b: b/1 c/1 d/1 e/2",
	} {
		if next := set.With(s, member, "2"); show(next) != want {
			t.Errorf("with %s: %s", member, show(next))
		}
	}
	if got := show(s); got != "b: b/1 c/1 d/1" {
		t.Errorf("the state that was given has changed: %s", got)
	}
	if got := set.Needed("b", s, set.With(s, "a", "1")); !slices.Equal(got, []string{"a", "c", "d"}) {
		t.Errorf("needed: %v", got)
	}
	vacant := set.Vacant(state(5, "a", "a/1 b/1 c/ d/1"), map[string]string{"a": "1", "b": "2", "c": "1"})
	if !slices.Equal(vacant, []string{"b", "c", "d"}) {
		t.Errorf("vacant: %v", vacant)
	}
	for _, c := range []struct {
		seat, boot string
		lost       bool
		hollow     bool
	}{{"1", "1", false, false}, {"1", "2", false, true}, {"", "2", false, false}, {"1", "1", true, true}} {
		if set.Hollow(spec.Seat{Member: "a", Boot: c.seat}, c.boot, c.lost) != c.hollow {
			t.Errorf("seat of boot %q in boot %q, lost %v: hollow is not %v", c.seat, c.boot, c.lost, c.hollow)
		}
	}
}

func TestTenure(t *testing.T) {
	var tenure set.Tenure
	if tenure.Until() != set.Forever {
		t.Error("who needs nobody's answer does not serve for ever")
	}
	tenure.Need([]string{"b", "c"})
	tenure.Answered("b", 10*time.Second)
	if tenure.MayServe(10 * time.Second) {
		t.Error("serves without an answer of c")
	}
	tenure.Answered("c", 12*time.Second)
	tenure.Answered("b", 9*time.Second) // late
	if got, want := tenure.Until(), 10*time.Second+set.Lease; got != want {
		t.Errorf("until %v, want %v", got, want)
	}
	if end := 10*time.Second + set.Lease; !tenure.MayServe(end-1) || tenure.MayServe(end) {
		t.Error("the end of the tenure is not its end")
	}
	tenure.Need([]string{"c"})
	if !tenure.MayServe(12*time.Second + set.Lease - 1) {
		t.Error("who is not needed still counts")
	}
	tenure.Need([]string{"b", "c"})
	if tenure.MayServe(10*time.Second + set.Lease) {
		t.Error("what b answered is not remembered")
	}
}

// TestObey: a message is sent, received, answered; the backup's promise ends after
// the tenure, by clocks that differ by what Obey allows for.
func TestObey(t *testing.T) {
	const fast = 1.0199 // of the backup's clock
	for _, transit := range []time.Duration{0, time.Millisecond, 2 * time.Second} {
		sent := 50 * time.Second // by the primary's clock; the backup's showed 0 at its 0
		var tenure set.Tenure
		tenure.Need([]string{"b"})
		tenure.Answered("b", sent)
		received := time.Duration(float64(sent+transit) * fast)
		p := set.Promise{}.Give(set.Process{Member: "a", Life: "x", Epoch: 1}, received)
		if free := time.Duration(float64(p.Until) / fast); free < tenure.Until() {
			t.Errorf("transit %v: the backup is free at %v, the primary serves until %v", transit, free, tenure.Until())
		}
	}
	p := set.Promise{}.Give(set.Process{Epoch: 1}, 10*time.Second)
	if q := p.Give(set.Process{Epoch: 2}, 9*time.Second); q.Until != p.Until || q.To.Epoch != 2 {
		t.Errorf("a later promise ends earlier: %v", q)
	}
}

func TestAccepts(t *testing.T) {
	for _, c := range []struct {
		known, tried, epoch uint64
		primary             string
		want                set.Acceptance
	}{
		{5, 0, 5, "a", set.Accept},
		{5, 0, 4, "a", set.Refuse},
		{5, 0, 5, "c", set.Refuse},
		{5, 0, 6, "c", set.Adopt},
		{5, 6, 5, "a", set.Refuse},
		{5, 6, 6, "c", set.Adopt},
		{5, 6, 7, "a", set.Adopt},
		{0, 0, 0, "", set.Refuse},
		{0, 0, 1, "a", set.Adopt},
	} {
		if got := set.Accepts(c.known, "a", c.tried, c.epoch, c.primary); got != c.want {
			t.Errorf("known %d of a, tried %d, message of %d of %s: %d, want %d", c.known, c.tried, c.epoch, c.primary, got, c.want)
		}
	}
}
