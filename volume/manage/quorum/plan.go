package quorum

import (
	"fmt"
	"slices"
)

// Server is a server of the pool, to Plan.
type Server struct {
	ID   string // UUID: the name of its member
	Peer string // URL of its member: PeerURL
	Up   bool   // its daemon is there, and could run a member
}

// StepKind is what a step does.
type StepKind int

// The kinds of steps.
const (
	StepNone    StepKind = iota // all is as it should be, or nothing can be done
	StepWait                    // learners are catching up; look again soon
	StepAdd                     // AddLearner(Peer), for the server
	StepPromote                 // Promote(Member)
	StepRemove                  // Remove(Member)
)

// Step is one change of the store's members.
type Step struct {
	Kind   StepKind
	Server string // UUID; "": the member is no server's
	Peer   string // URL
	Member uint64 // of StepPromote and StepRemove
	Why    string
}

func (s Step) String() string {
	kind := [...]string{"none", "wait", "add", "promote", "remove"}[s.Kind]
	if s.Server == "" && s.Member == 0 {
		return kind + ": " + s.Why
	}
	return fmt.Sprintf("%s %s %x: %s", kind, s.Server, s.Member, s.Why)
}

// Target is how many voters a pool of so many servers should have; most is the
// option cluster.max-voters: 1, 3 or 5.
func Target(servers, most int) int {
	switch {
	case servers >= 5 && most >= 5:
		return 5
	case servers >= 3 && most >= 3:
		return 3
	}
	return 1
}

// Plan returns the one next step from the members as they are to those that
// should be: as many as Target says, voters that there are before others, those
// in turn by their order. servers are those of the pool in order of joining, a
// server that leaves not among them; members come from Store.Members, with Dead
// set for those that have not answered for long.
//
// The number of voters at which it rests is odd whenever no voter is dead, and
// as small as needed while too few servers are up. A dead voter is kept as long
// as nobody can take its place and the others are a majority without it. No step leaves fewer voters that answer than a
// majority; without a majority there is none.
func Plan(servers []Server, members []Member, most int) Step {
	p := planner{servers: servers, target: Target(len(servers), most)}
	for _, m := range members {
		if m.Learner {
			p.learners = append(p.learners, m)
		} else {
			p.voters = append(p.voters, m)
		}
	}
	voters, answer := count(members)
	if !enough(voters, answer) {
		return Step{Kind: StepNone, Why: fmt.Sprintf("%d of %d voters answer: no majority", answer, voters)}
	}
	want := p.wanted()
	if len(want) == 0 {
		return Step{Kind: StepNone, Why: "no server of the pool is up"}
	}
	return p.next(want, answer)
}

type planner struct {
	servers          []Server
	voters, learners []Member
	target           int
}

// server returns the server that a member is of; nil: no server's.
func (p *planner) server(m *Member) *Server {
	for i := range p.servers {
		if s := &p.servers[i]; m.Name == s.ID || m.Name == "" && m.Peer == s.Peer {
			return s
		}
	}
	return nil
}

// of returns the member of a server among the list, nil if it has none.
func (p *planner) of(s *Server, list []Member) *Member {
	for i := range list {
		if p.server(&list[i]) == s {
			return &list[i]
		}
	}
	return nil
}

// wanted chooses the servers that should have a vote.
func (p *planner) wanted() []*Server {
	var voting, learning, others, dead []*Server
	for i := range p.servers {
		s := &p.servers[i]
		if v := p.of(s, p.voters); v != nil && v.Dead {
			dead = append(dead, s)
		} else if v != nil {
			voting = append(voting, s)
		} else if l := p.of(s, p.learners); l != nil && s.Up {
			learning = append(learning, s)
		} else if s.Up {
			others = append(others, s)
		}
	}
	// Of several that vote already, one that does not answer goes first.
	slices.SortStableFunc(voting, func(a, b *Server) int {
		return silent(p.of(a, p.voters)) - silent(p.of(b, p.voters))
	})
	want := slices.Concat(voting, learning, others)
	want = want[:min(len(want), p.target)]
	for alive, i := len(want), 0; i < len(dead) && len(want) < p.target && enough(len(want)+1, alive); i++ {
		want = append(want, dead[i])
	}
	if len(want)%2 == 0 && len(want) > 0 {
		want = want[:len(want)-1]
	}
	return want
}

func silent(m *Member) int {
	if m.Answers {
		return 0
	}
	return 1
}

// next is the first of these that there is to do: learners that are not wanted
// go; wanted servers learn, one after the other; when all of them have caught up, dead voters go, the
// learners get their votes, the other voters go. So the pool has an even number
// of voters only for the moments between two steps.
func (p *planner) next(want []*Server, answer int) Step {
	in := func(m *Member) bool { return slices.Contains(want, p.server(m)) }
	for i := range p.learners {
		if l := &p.learners[i]; !in(l) {
			return p.step(StepRemove, l, "a learner that is not wanted")
		}
	}
	for i := range p.learners {
		if l := &p.learners[i]; !l.Answers || !l.Ready {
			return p.step(StepWait, l, "it is catching up")
		}
	}
	for _, s := range want {
		if p.of(s, p.voters) == nil && p.of(s, p.learners) == nil {
			return Step{Kind: StepAdd, Server: s.ID, Peer: s.Peer, Why: fmt.Sprintf("%d voters are wanted", p.target)}
		}
	}
	for i := range p.voters {
		v := &p.voters[i]
		if !in(v) && !v.Answers && enough(len(p.voters)-1, answer) {
			return p.step(StepRemove, v, "a voter that does not answer")
		}
	}
	if len(p.learners) > 0 {
		if !enough(len(p.voters)+1, answer+1) {
			return p.step(StepWait, &p.learners[0], "too few voters answer for another")
		}
		return p.step(StepPromote, &p.learners[0], "it has caught up")
	}
	for i := range p.voters {
		v := &p.voters[i]
		if in(v) {
			continue
		}
		if !enough(len(p.voters)-1, answer-1) {
			return p.step(StepWait, v, "too few voters answer to go without it")
		}
		return p.step(StepRemove, v, fmt.Sprintf("%d voters are wanted", len(want)))
	}
	return Step{Kind: StepNone, Why: fmt.Sprintf("%d voters are wanted", len(want))}
}

func (p *planner) step(kind StepKind, m *Member, why string) Step {
	st := Step{Kind: kind, Peer: m.Peer, Member: m.ID, Why: why}
	if s := p.server(m); s != nil {
		st.Server = s.ID
	}
	return st
}
