package quorum

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// watch asks the voters who they are, and chooses the client.
func (k *keeper) watch(ctx context.Context) {
	s := k.store
	want := s.wanted()
	answers := s.conns.probeAll(ctx, want.endpoints)
	if ctx.Err() != nil {
		return
	}
	s.conns.prune(time.Now())
	st, m := s.now()
	if next := successor(st, answers); next != nil && st.Mode == modeVoter && !s.supersededBy(next) {
		s.supersede(ctx, m, next)
		return
	}
	if m != nil && !m.learner() {
		s.mu.Lock()
		own := s.mu.client == m.client
		s.mu.Unlock()
		if !own {
			s.use(m.client, "")
		}
		k.misses = 0
		return
	}
	k.route(ctx, want, answers)
}

// wanted says whose voters a client asks: those of the state, or of the pool
// that was recovered.
type wanted struct {
	cluster     string
	incarnation uint64
	endpoints   []string // without the own one
}

func (s *Store) wanted() wanted {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.state
	w := wanted{cluster: st.Cluster, incarnation: st.Incarnation}
	own := ""
	if st.Mode == modeVoter {
		own = Endpoint(peerURL(st.Host, s.cfg.Port))
	}
	lists := [][]string{st.Voters, s.mu.hints}
	if next := s.mu.successor; next != nil {
		w.incarnation, lists = next.Incarnation, [][]string{next.Endpoints, s.mu.hints}
	}
	for _, e := range slices.Concat(lists...) {
		if e != own && e != "" && !slices.Contains(w.endpoints, e) {
			w.endpoints = append(w.endpoints, e)
		}
	}
	return w
}

// successor is the pool that a member of a later incarnation is of; nil: none is.
func successor(st state, answers []answer) *Pool {
	var p *Pool
	for _, a := range answers {
		switch {
		case a.err != nil || a.cluster != st.Cluster || a.incarnation <= st.Incarnation:
		case p == nil || a.incarnation > p.Incarnation:
			p = &Pool{a.cluster, a.incarnation, []string{a.endpoint}}
		case a.incarnation == p.Incarnation:
			p.Endpoints = append(p.Endpoints, a.endpoint)
		}
	}
	return p
}

// route chooses the voter that this server asks as a client.
func (k *keeper) route(ctx context.Context, want wanted, answers []answer) {
	s := k.store
	s.mu.Lock()
	at := s.mu.endpoint
	s.mu.Unlock()
	best := choose(s.cfg.ID, at, want, answers)
	switch {
	case best == nil:
		if k.misses++; k.misses == missesMax || at == "" {
			s.use(deadClient(errors.New("no voter of the pool answers")), "")
		}
		return
	case best.endpoint != at:
		if k.misses++; at != "" && k.misses < missesMax && best.incarnation == want.incarnation && !gone(at, answers) {
			return
		}
		if err := s.connect(best.endpoint); err != nil {
			s.cfg.Log.Warn("the pool's store can't be reached", "at", best.endpoint, "error", err)
			return
		}
	}
	k.misses = 0
	s.follow(ctx, *best)
}

// gone reports whether nobody listens at an endpoint: there is no waiting for it.
func gone(endpoint string, answers []answer) bool {
	return slices.ContainsFunc(answers, func(a answer) bool {
		return a.endpoint == endpoint && status.Code(a.err) == codes.Unavailable
	})
}

// choose returns the best of those voters that answered, nil if there is none:
// of the latest incarnation, with a leader, the one that is used already, or
// one that depends on id, so that clients are spread.
func choose(id, at string, want wanted, answers []answer) *answer {
	weight := func(a *answer) uint64 {
		h := fnv.New64a()
		h.Write([]byte(id + " " + a.endpoint))
		return h.Sum64()
	}
	var best *answer
	for i := range answers {
		a := &answers[i]
		if a.err != nil || a.learner || a.cluster != want.cluster || a.incarnation < want.incarnation {
			continue
		}
		better := false
		switch {
		case best == nil:
			better = true
		case a.incarnation != best.incarnation:
			better = a.incarnation > best.incarnation
		case (a.leader != 0) != (best.leader != 0):
			better = a.leader != 0
		case a.endpoint == at || best.endpoint == at:
			better = a.endpoint == at
		default:
			better = weight(a) > weight(best)
		}
		if better {
			best = a
		}
	}
	return best
}

// connect makes a client of one voter the store's.
func (s *Store) connect(endpoint string) error {
	scheme := "http://"
	if s.cfg.TLS != nil {
		scheme = "https://"
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{scheme + endpoint}, TLS: s.cfg.TLS, Logger: s.zap,
		DialTimeout: connectTimeout, DialKeepAliveTime: aliveTime, DialKeepAliveTimeout: aliveTimeout,
		DialOptions: []grpc.DialOption{connect},
	})
	if err != nil {
		return err
	}
	s.use(c, endpoint)
	return nil
}

// follow records what the voter says of the pool: its voters, its incarnation.
func (s *Store) follow(ctx context.Context, a answer) {
	list, err := s.list(ctx, a.endpoint, false)
	if err != nil {
		return
	}
	st, _ := s.now()
	voters := endpointsOf(list)
	if st.Mode != modeClient || len(voters) == 0 || slices.Equal(voters, st.Voters) && st.Incarnation == a.incarnation {
		return
	}
	st.Voters, st.Incarnation = voters, a.incarnation
	if err := s.record(st); err != nil {
		s.cfg.Log.Warn("the pool's voters can't be recorded", "error", err)
	}
}

// list asks one member for the list of members; the newest with current.
func (s *Store) list(ctx context.Context, endpoint string, current bool) ([]Member, error) {
	conn, err := s.conns.to(endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	r, err := etcdserverpb.NewClusterClient(conn).MemberList(ctx, &etcdserverpb.MemberListRequest{Linearizable: current})
	if err != nil {
		return nil, err
	}
	return membersOf(r.Members), nil
}
