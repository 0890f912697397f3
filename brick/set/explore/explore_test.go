package explore

import (
	"strings"
	"testing"
)

// TestSound explores what is not broken. Some of the searches come to an end:
// then there is no other state within that budget.
func TestSound(t *testing.T) {
	for _, c := range []struct {
		name string
		setup
	}{
		{"two: restarts, late messages", setup{members: 2, quorum: 1, budget: budget{restarts: 2, delays: 1, losses: 1, epochs: 3, requests: 2}}},
		{"two: restarts, slow swaps", setup{members: 2, quorum: 1, max: 200_000, budget: budget{restarts: 2, slow: 2, epochs: 3, requests: 1}}},
		{"two: reboots", setup{members: 2, quorum: 1, budget: budget{restarts: 1, reboots: 3, epochs: 4, requests: 2}}},
		{"two: everything", setup{members: 2, quorum: 1, budget: budget{restarts: 2, reboots: 1, delays: 2, slow: 1, twice: 1, losses: 1, epochs: 4, requests: 2}}},
		{"two, half leases", setup{members: 2, quorum: 1, lease: 2, budget: budget{restarts: 1, delays: 2, slow: 1, epochs: 3, requests: 1}}},
		{"two that are new", setup{members: 2, quorum: 1, fresh: true, budget: budget{restarts: 1, reboots: 1, slow: 1, epochs: 3, requests: 1}}},
		{"three: restarts, late messages", setup{members: 3, quorum: 2, budget: budget{restarts: 1, delays: 1, epochs: 3, requests: 1}}},
		{"three: restarts, slow swaps", setup{members: 3, quorum: 2, budget: budget{restarts: 1, slow: 1, epochs: 3, requests: 1}}},
		{"three: reboots", setup{members: 3, quorum: 2, budget: budget{reboots: 3, epochs: 3, requests: 2}}},
		{"three, quorum of one: everything", setup{members: 3, quorum: 1, budget: budget{restarts: 2, reboots: 1, delays: 1, slow: 1, epochs: 4, requests: 2}}},
		{"two and an arbiter", setup{members: 3, arbiter: true, quorum: 2, budget: budget{restarts: 1, reboots: 1, slow: 1, epochs: 3, requests: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := search(c.setup)
			t.Log(f)
			if f.violation != "" {
				t.Errorf("%s\n%s", f.violation, strings.Join(f.trace, "\n"))
			}
		})
	}
}

// TestBroken breaks the rules one at a time, and finds that out. So each
// invariant's check is shown to catch something:
//
//	(1) one serves, it is in sync, an epoch has one     no new epoch after a restart, boot ignored, arbiter serves, older epochs obeyed, old primary left out …
//	(R) none of an older epoch may serve                promises, tenures, Swaps of unknown outcome
//	(2) acknowledged or read: all in sync have it       acknowledged too early, seated too early, late heals, Resume beside a whole member …
//	(3) what was told holds                             lease not looked at
//	(7) once, and replies that match                    changes applied twice, replies of what was undone kept
//	(11) epochs never go back                           epoch not on the disk
//
// The same search of what is not broken comes to its end without finding anything.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		broken breakage
		want   string // the invariant that it breaks first
		setup  setup
	}{
		{"no new epoch after a restart", "(1) an epoch has two", setup{budget: budget{restarts: 1, epochs: 2}}},
		{"boot ignored", "(1) one serves that is not in sync", setup{budget: budget{reboots: 1, epochs: 2}}},
		{"arbiter serves", "(1) an arbiter serves", setup{members: 3, arbiter: true, quorum: 2, budget: budget{restarts: 1, epochs: 2}}},
		{"older epochs obeyed", "(1) one serves that is not in sync", setup{budget: budget{restarts: 1, epochs: 2}}},
		{"old primary left out by the new one", "(1) one serves that is not in sync", setup{budget: budget{slow: 1, restarts: 1, epochs: 3}}},

		{"promise not kept", "(R)", setup{budget: budget{epochs: 2}}},
		{"promise not counted from the start", "(R)", setup{budget: budget{restarts: 1, epochs: 2}}},
		{"promise counted from the sending", "(R)", setup{lease: 2, budget: budget{delays: 2, epochs: 2}}},
		{"tenure counted from the answer", "(R)", setup{budget: budget{delays: 1, epochs: 2}}},
		{"any process's end frees", "(R)", setup{budget: budget{restarts: 1, epochs: 3}}},
		{"state's word for having reigned", "(R)", setup{budget: budget{restarts: 2, slow: 1, epochs: 3}}},
		{"obeys while it tries", "(R)", setup{budget: budget{slow: 1, epochs: 2}}},
		{"unseated member promotes itself", "(R)", setup{budget: budget{epochs: 2}}},

		{"acknowledges before who failed is taken out", "(2) a member", setup{budget: budget{epochs: 2}}},
		{"seat not needed before it is taken", "(2) a member", setup{budget: budget{slow: 1, epochs: 2}}},
		{"unknown outcome settled by reading the same", "(2) a member", setup{budget: budget{slow: 1, epochs: 2}}},
		{"seated without being equal", "(2) a member", setup{budget: budget{epochs: 2}}},
		{"serves before the others are equal", "(2) a member", setup{members: 3, quorum: 2, budget: budget{epochs: 2}}},
		{"reads do not wait for changes", "(2) a member", setup{budget: budget{epochs: 2}}},
		{"late heals carried out", "(2) a member", setup{budget: budget{delays: 1, twice: 1, epochs: 2}}},
		{"changes begun before boots are known", "(2) a member", setup{fresh: true, budget: budget{reboots: 1, epochs: 2}}},
		{"resumes beside a whole member", "(2) a member", setup{budget: budget{reboots: 1, epochs: 2}}},
		{"presence from before the seat", "(2) a member", setup{budget: budget{reboots: 2, epochs: 3}}},
		{"quorum ignored", "(2) fewer than the quorum", setup{members: 3, quorum: 2, budget: budget{epochs: 2}}},

		{"lease not looked at", "(3)", setup{budget: budget{epochs: 2}}},

		{"changes applied twice", "(7) a request takes effect twice", setup{budget: budget{losses: 1, epochs: 2}}},
		{"replies of what was undone kept", "(7) a reply is remembered", setup{budget: budget{restarts: 2, losses: 1, epochs: 3}}},

		{"epoch not on the disk", "(11)", setup{budget: budget{restarts: 1, epochs: 2}}},
	} {
		t.Run(string(c.broken), func(t *testing.T) {
			s := c.setup
			if s.members == 0 {
				s.members, s.quorum = 2, 1
			}
			s.budget.requests = 1
			if f := search(s); f.violation != "" || !f.all {
				t.Fatalf("not broken: %v %s\n%s", f, f.violation, strings.Join(f.trace, "\n"))
			}
			s.broken = c.broken
			f := search(s)
			if !strings.HasPrefix(f.violation, c.want) {
				t.Fatalf("%v; violated is %q, want %q", f, f.violation, c.want)
			}
			t.Logf("%v: %s, by", f, f.violation)
			for i := 1; i < len(f.trace); i += 2 {
				t.Log("  " + f.trace[i])
			}
		})
	}
}
