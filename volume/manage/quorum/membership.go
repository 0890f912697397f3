package quorum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// Member is a member of the store.
type Member struct {
	ID      uint64
	Name    string // UUID of its server; "": it was added but has never run
	Peer    string // URL for the other members
	Learner bool
	Answers bool // to Members: it answered just now
	Ready   bool // to Members: a learner that has caught up
	Dead    bool // for Plan, by its caller: it has not answered for so long that it is to be replaced
}

// Endpoint is where the member answers clients; "" for one without listener.
func (m *Member) Endpoint() string { return Endpoint(m.Peer) }

func membersOf(list []*etcdserverpb.Member) []Member {
	out := make([]Member, 0, len(list))
	for _, m := range list {
		peer := ""
		if len(m.PeerURLs) > 0 {
			peer = m.PeerURLs[0]
		}
		out = append(out, Member{ID: m.ID, Name: m.Name, Peer: peer, Learner: m.IsLearner})
	}
	return sortMembers(out)
}

func sortMembers(list []Member) []Member {
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// members are the members as this one knows them.
func (m *member) members() []Member {
	var out []Member
	for _, x := range m.etcd.Server.Cluster().Members() {
		out = append(out, memberOf(x))
	}
	return sortMembers(out)
}

func memberOf(x *membership.Member) Member {
	peer := ""
	if len(x.PeerURLs) > 0 {
		peer = x.PeerURLs[0]
	}
	return Member{ID: uint64(x.ID), Name: x.Name, Peer: peer, Learner: x.IsLearner}
}

// endpoints are where the voters answer clients, sorted.
func (m *member) endpoints() []string { return endpointsOf(m.members()) }

// peerPorts are the ports on which the other members hear each other.
func (m *member) peerPorts() map[int]bool {
	ports := map[int]bool{}
	for _, x := range m.members() {
		u, err := url.Parse(x.Peer)
		if err != nil || x.ID == m.id() {
			continue
		}
		if port, err := strconv.Atoi(u.Port()); err == nil {
			ports[port] = true
		}
	}
	return ports
}

func endpointsOf(list []Member) []string {
	var out []string
	for _, m := range list {
		if e := m.Endpoint(); e != "" && !m.Learner {
			out = append(out, e)
		}
	}
	slices.Sort(out)
	return out
}

// Members returns the members of the store as a majority knows them, and asks
// each whether it is there.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	r, err := s.Client().MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("the members of the configuration store can't be listed: %w", err)
	}
	list := membersOf(r.Members)
	var asked []string
	for _, m := range list {
		if e := m.Endpoint(); e != "" {
			asked = append(asked, e)
		}
	}
	answers := s.conns.probeAll(ctx, asked)
	if _, own := s.voters(ctx); own.member != 0 {
		answers = append(answers, own) // also if it does not reach itself
	}
	var newest uint64
	for _, a := range answers {
		newest = max(newest, a.index)
	}
	for i := range list {
		m := &list[i]
		for _, a := range answers {
			if a.err == nil && a.member == m.ID {
				m.Answers = true
				m.Ready = m.Learner && a.incarnation != 0 && float64(a.index) >= readyShare*float64(newest)
			}
		}
	}
	return list, nil
}

// readyShare of the log must have reached a learner. etcd asks for 0.9 itself.
const readyShare = 0.95

// changeTimeout bounds a change of the members: etcd itself waits for ever for
// one whose proposal was lost.
const changeTimeout = 5 * time.Second

// AddLearner adds the member of the server with this peer URL, as a learner,
// and returns its ID. The server starts it with BecomeLearner. If it is a
// member already, nothing changes.
func (s *Store) AddLearner(ctx context.Context, peer string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	c := s.Client()
	list, err := c.MemberList(ctx)
	if err != nil {
		return 0, fmt.Errorf("the members of the configuration store can't be listed: %w", err)
	}
	for _, m := range list.Members {
		if slices.Contains(m.PeerURLs, peer) {
			return m.ID, nil
		}
	}
	r, err := c.MemberAddAsLearner(ctx, []string{peer})
	if err != nil {
		return 0, fmt.Errorf("the member %s can't be added to the configuration store: %w", peer, err)
	}
	return r.Member.ID, nil
}

// Promote gives a learner its vote, if it answers and has caught up; ErrNotReady
// if not yet. A voter's promotion changes nothing.
func (s *Store) Promote(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	list, err := s.Members(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(m Member) bool { return m.ID == id })
	switch {
	case i < 0:
		return fmt.Errorf("%w: %x", ErrNotMember, id)
	case !list[i].Learner:
		return nil
	case !list[i].Answers || !list[i].Ready:
		return fmt.Errorf("%w: %s", ErrNotReady, list[i].Peer)
	}
	voters, answer := count(list)
	if !enough(voters+1, answer+1) {
		return fmt.Errorf("%w: %d of %d", ErrUnsafe, answer, voters)
	}
	_, err = s.Client().MemberPromote(ctx, id)
	switch {
	case err == nil || errors.Is(err, rpctypes.ErrMemberNotLearner):
		return nil
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		return fmt.Errorf("%w: %s", ErrNotReady, list[i].Peer)
	}
	return fmt.Errorf("the member %s can't be made a voter: %w", list[i].Peer, err)
}

// Remove removes a member, which then ends by itself, or is gone anyway.
// ErrUnsafe if too few of the others answer. One that is none changes nothing.
func (s *Store) Remove(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	list, err := s.Members(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	if !list[i].Learner {
		voters, answer := count(slices.Delete(slices.Clone(list), i, i+1))
		if voters == 0 || !enough(voters, answer) {
			return fmt.Errorf("%w: without %s, %d of %d", ErrUnsafe, list[i].Peer, answer, voters)
		}
	}
	_, err = s.Client().MemberRemove(ctx, id)
	if err == nil || errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return fmt.Errorf("the member %s can't be removed from the configuration store: %w", list[i].Peer, err)
}

// count returns how many voters there are, and how many of them answer.
func count(list []Member) (voters, answer int) {
	for _, m := range list {
		if !m.Learner {
			voters++
			if m.Answers {
				answer++
			}
		}
	}
	return voters, answer
}

// enough reports whether so many of the voters are a majority.
func enough(voters, answer int) bool { return answer >= voters/2+1 }

// Do carries out a step of Plan.
func (s *Store) Do(ctx context.Context, step Step) error {
	switch step.Kind {
	case StepAdd:
		_, err := s.AddLearner(ctx, step.Peer)
		return err
	case StepPromote:
		return s.Promote(ctx, step.Member)
	case StepRemove:
		return s.Remove(ctx, step.Member)
	}
	return nil
}
