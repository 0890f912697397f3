package quorum

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// markKey holds which cluster a store is, for everybody who asks a member.
const markKey = "mortar/quorum"

// mark is the record at markKey.
type mark struct {
	V           int    `json:"v"`
	Cluster     string `json:"cluster"`
	Incarnation uint64 `json:"incarnation"`
}

func encodeMark(st state) string {
	b, err := json.Marshal(mark{stateVersion, st.Cluster, st.Incarnation})
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(b)
}

// probeTimeout bounds the asking of one member. Health asks all at once.
const probeTimeout = 1500 * time.Millisecond

// answer is what a member said of itself. It needs no majority for it.
type answer struct {
	endpoint    string
	err         error // it did not answer
	etcd        uint64
	member      uint64
	leader      uint64 // 0: it knows none
	learner     bool
	index       uint64 // of the log: how far it is applied
	cluster     string // "": it has no records yet
	incarnation uint64
}

// connIdle is how long a connection for probes is kept unused.
const connIdle = time.Minute

// conns are connections for probes, one an endpoint, made when first used.
type conns struct {
	options []grpc.DialOption
	mu      struct {
		sync.Mutex
		conns map[string]*grpc.ClientConn // nil: closed
		used  map[string]time.Time        // when it was last asked for
	}
}

// connect is how quickly a connection is made and tried again.
var connect = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: time.Second,
})

func newConns(t *tls.Config) *conns {
	c := &conns{options: []grpc.DialOption{connect, grpc.WithTransportCredentials(insecure.NewCredentials())}}
	if t != nil {
		c.options[1] = grpc.WithTransportCredentials(credentials.NewTLS(t))
	}
	c.mu.conns, c.mu.used = map[string]*grpc.ClientConn{}, map[string]time.Time{}
	return c
}

func (c *conns) to(endpoint string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.conns == nil {
		return nil, ErrClosed
	}
	c.mu.used[endpoint] = time.Now()
	if conn := c.mu.conns[endpoint]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+endpoint, c.options...)
	if err == nil {
		c.mu.conns[endpoint] = conn
	}
	return conn, err
}

// prune closes the connections that have not been used for long.
func (c *conns) prune(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e, conn := range c.mu.conns {
		if now.Sub(c.mu.used[e]) > connIdle {
			conn.Close()
			delete(c.mu.conns, e)
			delete(c.mu.used, e)
		}
	}
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.mu.conns {
		conn.Close()
	}
	c.mu.conns = nil
}

// probe asks the member at endpoint who it is.
func (c *conns) probe(ctx context.Context, endpoint string) answer {
	a := answer{endpoint: endpoint}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := c.to(endpoint)
	if err != nil {
		a.err = err
		return a
	}
	st, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		a.err = err
		return a
	}
	a.etcd, a.member = st.Header.ClusterId, st.Header.MemberId
	a.leader, a.learner, a.index = st.Leader, st.IsLearner, st.RaftAppliedIndex
	r, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(markKey), Serializable: true})
	if err != nil {
		a.err = err
		return a
	}
	for _, kv := range r.Kvs {
		var m mark
		if err := json.Unmarshal(kv.Value, &m); err != nil {
			a.err = fmt.Errorf("%s: the record %s can't be read: %w", endpoint, markKey, err)
			return a
		}
		a.cluster, a.incarnation = m.Cluster, m.Incarnation
	}
	return a
}

// probeAll asks several at once; the answers are in the order of the endpoints.
func (c *conns) probeAll(ctx context.Context, endpoints []string) []answer {
	out := make([]answer, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() { out[i] = c.probe(ctx, e) })
	}
	wg.Wait()
	return out
}

// VoterHealth is what is known of one voter.
type VoterHealth struct {
	MemberID uint64 // 0: not known
	Name     string // UUID of its server; "": not known
	Endpoint string // host:port; "": without a listener
	Answers  bool
	Leads    bool
	Err      error // why it does not answer
}

// Health is how the store's voters are.
type Health struct {
	Voters   []VoterHealth // as last known to this server
	Answer   int           // of them
	Majority int           // how many are needed
	Quorum   bool          // a majority answers and follows a leader: changes are possible, unless the leader is gone since less than 2 s
}

// Health asks every voter, itself included, whether it is there. It takes two
// seconds at most, and needs no majority. While a leader is being elected,
// Quorum is false although a majority answers.
func (s *Store) Health(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	voters, own := s.voters(ctx)
	asked := make([]string, 0, len(voters))
	for _, v := range voters {
		if v.Endpoint != "" && (own.member == 0 || v.MemberID != own.member) {
			asked = append(asked, v.Endpoint)
		}
	}
	answers := s.conns.probeAll(ctx, asked)
	if own.member != 0 {
		answers = append(answers, own)
	}
	st, _ := s.now()
	return judge(st, voters, answers)
}

// judge puts the voters and the answers together.
func judge(st state, voters []VoterHealth, answers []answer) Health {
	h := Health{Voters: voters, Majority: len(voters)/2 + 1}
	leaders := map[uint64]int{} // members that follow it
	for i := range h.Voters {
		v := &h.Voters[i]
		for _, a := range answers {
			if a.endpoint != v.Endpoint && (v.MemberID == 0 || a.member != v.MemberID) {
				continue
			}
			switch {
			case a.err != nil:
				v.Err = a.err
			case a.cluster != "" && (a.cluster != st.Cluster || a.incarnation != st.Incarnation):
				v.Err = fmt.Errorf("%w: it answers for cluster %s, incarnation %d", ErrNotMember, a.cluster, a.incarnation)
			case v.MemberID != 0 && a.member != v.MemberID:
				v.Err = fmt.Errorf("%w: another member answers there", ErrNotMember)
			default:
				v.MemberID, v.Answers, v.Leads, v.Err = a.member, true, a.leader == a.member, nil
				h.Answer++
				leaders[a.leader]++
			}
		}
	}
	for leader, n := range leaders {
		h.Quorum = h.Quorum || leader != 0 && n >= h.Majority
	}
	return h
}

// listTimeout bounds the first part of Health: a client's question who the voters are.
const listTimeout = 400 * time.Millisecond

// voters are the voters as this server knows them, and what its own member, if
// one runs, would answer.
func (s *Store) voters(ctx context.Context) ([]VoterHealth, answer) {
	st, m := s.now()
	if m == nil || m.self() == nil {
		if at := s.Status().Endpoint; at != "" {
			ctx, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			if list, err := s.list(ctx, at, false); err == nil && len(endpointsOf(list)) > 0 {
				return healthOf(list), answer{}
			}
		}
		var out []VoterHealth
		for _, e := range st.Voters {
			out = append(out, VoterHealth{Endpoint: e})
		}
		return out, answer{}
	}
	srv := m.etcd.Server
	out := healthOf(m.members())
	own := answer{
		etcd: uint64(srv.Cluster().ID()), member: m.id(), leader: srv.Lead(), learner: m.learner(), index: srv.AppliedIndex(),
		cluster: st.Cluster, incarnation: st.Incarnation,
	}
	own.err = m.trap.err()
	return out, own
}

func healthOf(list []Member) []VoterHealth {
	var out []VoterHealth
	for _, v := range list {
		if !v.Learner {
			out = append(out, VoterHealth{MemberID: v.ID, Name: v.Name, Endpoint: v.Endpoint()})
		}
	}
	return out
}

// heirTimeout bounds the search for a leader's heir.
const heirTimeout = 300 * time.Millisecond

// heir is a voter that answers, to which a leader that ends hands its part; 0 if
// there is none, or the member does not lead.
func (s *Store) heir(m *member) uint64 {
	if srv := m.etcd.Server; srv.Leader() != srv.MemberID() {
		return 0
	}
	var asked []string
	for _, v := range m.members() {
		if v.ID != m.id() && !v.Learner {
			asked = append(asked, v.Endpoint())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), heirTimeout)
	defer cancel()
	for _, a := range s.conns.probeAll(ctx, asked) {
		if a.err == nil && a.leader == m.id() {
			return a.member
		}
	}
	return 0
}
