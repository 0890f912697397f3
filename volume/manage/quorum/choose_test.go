package quorum

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	want := wanted{cluster: "c", incarnation: 2}
	voter := func(endpoint string) answer {
		return answer{endpoint: endpoint, member: 1, leader: 1, cluster: "c", incarnation: 2}
	}
	but := func(a answer, change func(*answer)) answer { change(&a); return a }
	silent := but(voter("silent"), func(a *answer) { a.err = errors.New("no answer") })
	leaderless := but(voter("leaderless"), func(a *answer) { a.leader = 0 })
	learner := but(voter("learner"), func(a *answer) { a.learner = true })
	foreign := but(voter("foreign"), func(a *answer) { a.cluster = "d" })
	older := but(voter("older"), func(a *answer) { a.incarnation = 1 })
	newer := but(voter("newer"), func(a *answer) { a.incarnation = 3 })
	for _, c := range []struct {
		at      string
		answers []answer
		want    string // "": none
	}{
		{"", nil, ""},
		{"", []answer{silent, learner, foreign, older}, ""},
		{"", []answer{silent, voter("a")}, "a"},
		{"a", []answer{voter("a"), voter("b"), voter("c")}, "a"},
		{"b", []answer{voter("a"), voter("b"), voter("c")}, "b"},
		{"leaderless", []answer{leaderless, voter("a")}, "a"},
		{"leaderless", []answer{leaderless, silent}, "leaderless"},
		{"a", []answer{voter("a"), newer}, "newer"},
		{"newer", []answer{voter("a"), newer}, "newer"},
	} {
		for range 2 {
			got := ""
			if a := choose("id", c.at, want, c.answers); a != nil {
				got = a.endpoint
			}
			if got != c.want {
				t.Errorf("at %q of %+v: %q, want %q", c.at, c.answers, got, c.want)
			}
			slices.Reverse(c.answers) // the order is of no meaning
		}
	}
	used := map[string]bool{}
	for i := range 100 {
		used[choose(string(rune('0'+i)), "", want, []answer{voter("a"), voter("b"), voter("c")}).endpoint] = true
	}
	if len(used) != 3 {
		t.Errorf("all clients ask %v", used)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	st := state{Mode: modeVoter, Cluster: "c", Incarnation: 2}
	voters := func() []VoterHealth {
		return []VoterHealth{{MemberID: 1, Endpoint: "a"}, {MemberID: 2, Endpoint: "b"}, {MemberID: 3, Endpoint: "c"}}
	}
	at := func(endpoint string, member, leader uint64) answer {
		return answer{endpoint: endpoint, member: member, leader: leader, cluster: "c", incarnation: 2}
	}
	old := at("b", 2, 1)
	old.incarnation = 1
	for _, c := range []struct {
		name    string
		answers []answer
		answer  int
		quorum  bool
	}{
		{"all", []answer{at("a", 1, 1), at("b", 2, 1), at("c", 3, 1)}, 3, true},
		{"two", []answer{at("a", 1, 1), at("c", 3, 1), {endpoint: "b", err: errors.New("gone")}}, 2, true},
		{"an election", []answer{at("a", 1, 0), at("b", 2, 0), at("c", 3, 0)}, 3, false},
		{"a change of leaders", []answer{at("a", 1, 1), at("b", 2, 2), at("c", 3, 0)}, 3, false},
		{"a leader alone", []answer{at("a", 1, 1)}, 1, false},
		{"another incarnation", []answer{at("a", 1, 1), old}, 1, false},
		{"another member there", []answer{at("a", 1, 1), at("b", 9, 1)}, 1, false},
		{"nobody", nil, 0, false},
	} {
		if h := judge(st, voters(), c.answers); h.Answer != c.answer || h.Quorum != c.quorum || h.Majority != 2 {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
}

func TestSaid(t *testing.T) {
	t.Parallel()
	s, now := &said{}, time.Unix(1, 0)
	for _, c := range []struct {
		message string
		after   time.Duration
		want    bool
	}{{"a", 0, false}, {"a", time.Second, true}, {"b", time.Second, false}, {"a", saidPause, false}, {"a", saidPause + 1, true}} {
		if got := s.again(c.message, now.Add(c.after)); got != c.want {
			t.Errorf("%q after %v: %t, want %t", c.message, c.after, got, c.want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]string{
		PeerURL("10.0.0.1", 24101): "10.0.0.1:24102",
		PeerURL("fd00::1", 24101):  "[fd00::1]:24102",
		PeerURL("host.a", 1):       "host.a:2",
		placeholder:                "",
		"":                         "",
	} {
		if got := Endpoint(peer); got != want {
			t.Errorf("%s: %q, want %q", peer, got, want)
		}
	}
}
