package quorum

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// world is a pool in few words. Servers are A, B, C …, in order of joining:
//
//	A   a voter that answers        a  a voter that does not (yet dead)
//	X!  (after a letter) dead       ~  a learner that has caught up, ^ one that has not
//	.   a server without a member   -  the same, and it is down
//	(x) a member of no server
//
// as in "A B a! .": the third is a dead voter, the fourth a client.
func world(text string) (servers []Server, members []Member) {
	for i, f := range strings.Fields(text) {
		name := string(rune('A' + i))
		s := Server{ID: name, Peer: "http://" + name, Up: f != "-" && f != "a!"}
		m := Member{ID: uint64(i + 1), Name: name, Peer: s.Peer, Answers: true}
		stranger := strings.HasPrefix(f, "(")
		switch strings.Trim(f, "()") {
		case "A":
		case "a":
			m.Answers = false
		case "a!":
			m.Answers, m.Dead = false, true
		case "~":
			m.Learner, m.Ready = true, true
		case "^":
			m.Learner = true
		case "0": // added, has never run
			m.Learner, m.Answers, m.Name = true, false, ""
		case "0-":
			m.Learner, m.Answers, m.Name, s.Up = true, false, "", false
		case ".", "-":
			servers = append(servers, s)
			continue
		default:
			panic(f)
		}
		if !stranger {
			servers = append(servers, s)
		}
		members = append(members, m)
	}
	return servers, members
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pool string
		most int
		want string // the kind, and whom
	}{
		{"A", 3, "none"},
		{"A .", 3, "none"},
		{"A . .", 3, "add B"},
		{"A . .", 1, "none"},
		{"A 0 .", 3, "wait B"},
		{"A ~ .", 3, "add C"},
		{"A ~ 0", 3, "wait C"},
		{"A ~ ^", 3, "wait C"},
		{"A ~ ~", 3, "promote B"},
		{"A A ~", 3, "promote C"},
		{"A A A", 3, "none"},
		{"A A A .", 3, "none"},
		{"A A A . .", 3, "none"},
		{"A A A . .", 5, "add D"},
		{"A A A ~ ~", 5, "promote D"},
		{"A A A A A", 5, "none"},
		{"A A A A A", 3, "remove D"},
		{"A A A A", 5, "remove D"},
		{"A . -", 3, "none"},             // two are up: one voter is better than two
		{"A 0 -", 3, "remove B"},         // the third is gone meanwhile
		{"A 0- .", 3, "remove B"},        // the learner is gone
		{"A A -", 3, "remove B"},         // an even number is no rest
		{"A A a! .", 3, "add D"},         // a dead voter is replaced,
		{"A A a! ^", 3, "wait D"},        //
		{"A A a! ~", 3, "remove C"},      //
		{"A A - ~", 3, "promote D"},      //
		{"A A a! -", 3, "none"},          // or kept
		{"A A a .", 3, "none"},           // it may come back
		{"A a! a! . .", 3, "none"},       // no majority
		{"A a", 3, "none"},               // no majority
		{"A A A (A)", 3, "remove D"},     // a server that leaves
		{"(A) A A .", 3, "add D"},        // a voter that leaves is replaced first
		{"(A) A A ~", 3, "promote D"},    //
		{"(A) A A A", 3, "remove A"},     //
		{"(A) .", 3, "add B"},            // the only voter leaves
		{"(A) ~", 3, "promote B"},        //
		{"(A) A", 3, "remove A"},         //
		{"A A (a!)", 3, "remove C"},      // two servers, one voter
		{"A A", 3, "remove B"},           //
		{"A (~)", 3, "remove B"},         //
		{"A A a! a! A .", 5, "add F"},    //
		{"A A a! a! A ~", 5, "remove D"}, //
		{"A A a! A ~", 5, "promote E"},
		{"a A A (A)", 3, "remove D"},
		{"a A A A .", 3, "remove A"}, // too many: the silent one goes
	} {
		servers, members := world(c.pool)
		got := Plan(servers, members, c.most)
		text := [...]string{"none", "wait", "add", "promote", "remove"}[got.Kind]
		if got.Kind != StepNone {
			text += " " + strings.TrimPrefix(got.Peer, "http://")
		}
		if text != c.want {
			t.Errorf("%q with at most %d: %v, want %s", c.pool, c.most, got, c.want)
		}
	}
}

// TestPlanEverywhere visits all pools of up to five servers: each as client,
// learner or voter, up or down or dead, or about to leave. From each in which a
// majority answers, steps lead to a rest; none loses the majority or removes what
// it must not; at the rest there are as many voters as there should be.
func TestPlanEverywhere(t *testing.T) {
	t.Parallel()
	kinds := []string{"A", "a!", "~", ".", "-", "(A)", "a", "(a!)", "0", "0-", "(~)"}
	const common = 7 // of the fifth server
	worlds := 0
	var visit func(prefix []string)
	visit = func(prefix []string) {
		if n := len(prefix); n > 0 {
			for _, most := range []int{1, 3, 5} {
				explore(t, strings.Join(prefix, " "), most)
				worlds++
			}
			if n == 5 || t.Failed() {
				return
			}
		}
		for i, k := range kinds {
			if len(prefix) == 4 && i >= common {
				break
			}
			visit(append(slices.Clone(prefix), k))
		}
	}
	visit(nil)
	t.Logf("%d pools", worlds)
}

func explore(t *testing.T, text string, most int) {
	servers, members := world(text)
	voters, answer := count(members)
	if voters == 0 || len(servers) == 0 {
		return // no such pool
	}
	if !enough(voters, answer) {
		if step := Plan(servers, members, most); step.Kind != StepNone {
			t.Errorf("%q: %v without a majority", text, step)
		}
		return
	}
	trail := []string{text}
	for range 30 {
		step := Plan(servers, members, most)
		trail = append(trail, step.String())
		if step.Kind == StepNone {
			if complaint := atRest(servers, members, most); complaint != "" {
				t.Errorf("with at most %d: %s: %s", most, strings.Join(trail, "; "), complaint)
			}
			return
		}
		members = apply(members, step)
		if voters, answer := count(members); voters == 0 || !enough(voters, answer) {
			t.Errorf("with at most %d: %s: %d of %d answer", most, strings.Join(trail, "; "), answer, voters)
			return
		}
	}
	t.Errorf("with at most %d: no rest: %s", most, strings.Join(trail, "; "))
}

// apply does a step as servers that are up do it: what waits becomes ready.
func apply(members []Member, step Step) []Member {
	members = slices.Clone(members)
	i := slices.IndexFunc(members, func(m Member) bool { return m.Peer == step.Peer })
	switch step.Kind {
	case StepAdd:
		members = append(members, Member{ID: uint64(100 + len(members)), Peer: step.Peer, Learner: true})
	case StepWait:
		for j := range members { // time passes
			members[j].Dead = !members[j].Answers && !members[j].Learner
		}
		if !members[i].Learner {
			break
		}
		members[i].Name, members[i].Answers, members[i].Ready = strings.TrimPrefix(step.Peer, "http://"), true, true
	case StepPromote:
		members[i].Learner = false
	case StepRemove:
		members = slices.Delete(members, i, i+1)
	}
	return members
}

// atRest says what is not as the package comment of Plan promises.
func atRest(servers []Server, members []Member, most int) string {
	voters, answer := count(members)
	dead, idle := 0, 0
	for _, s := range servers {
		i := slices.IndexFunc(members, func(m Member) bool { return m.Name == s.ID })
		if i < 0 && s.Up {
			idle++
		} else if i >= 0 && members[i].Dead {
			dead++
		}
	}
	target := Target(len(servers), most)
	up := func(s Server) bool {
		i := slices.IndexFunc(members, func(m Member) bool { return m.Name == s.ID })
		return i < 0 && s.Up || i >= 0 && !members[i].Dead && (s.Up || !members[i].Learner)
	}
	switch {
	case !slices.ContainsFunc(servers, up):
		return "" // nobody who could have a vote
	case len(members) != voters:
		return "there are learners"
	case voters%2 == 0:
		return fmt.Sprintf("%d voters", voters)
	case voters > target:
		return fmt.Sprintf("%d voters, %d are wanted", voters, target)
	case voters < target && answer+dead+idle >= voters+2:
		return fmt.Sprintf("%d voters of %d, though there are more servers", voters, target)
	case dead > 0 && idle >= dead:
		return "a dead voter is kept though another could take its place"
	case slices.ContainsFunc(members, func(m Member) bool {
		return !slices.ContainsFunc(servers, func(s Server) bool { return s.ID == m.Name })
	}):
		return "a member of no server"
	}
	return ""
}
