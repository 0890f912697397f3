package quorum

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How closely the pool is looked after.
const (
	keepInterval   = time.Second     // between looks at the voters
	missesMax      = 2               // looks that a client's voter may leave unanswered
	settleTimeout  = 2 * time.Second // of what a look may change in the store
	aliveTime      = 10 * time.Second
	aliveTimeout   = 2 * time.Second // of a client's connection on which nothing is acknowledged
	openingTimeout = time.Second     // for asking whether the pool was recovered, before a voter starts
)

// keep looks after the store until ctx ends: after members that ended, voters
// that changed, promotion, recovered pools, and clients whose voter is gone.
func (s *Store) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	k := &keeper{store: s}
	for {
		st, m := s.now()
		look := tick.C
		var failed, stopped <-chan struct{}
		if m != nil {
			failed, stopped = m.trap.failed, m.etcd.Server.StopNotify()
			if st.Mode == modeAlone {
				look = nil // nothing to look after
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look:
		case <-s.nudge:
		case <-failed:
		case <-stopped:
		}
		done, err := s.take(ctx)
		if err != nil {
			return
		}
		k.settle(ctx)
		done()
	}
}

// keeper is what the look-out remembers; used by its goroutine only.
type keeper struct {
	store  *Store
	misses int // of the voter that the client talks to, in a row
}

// settle makes what is what it should be. What it can't do now it does the next
// time; the caller has the turn.
func (k *keeper) settle(ctx context.Context) {
	s := k.store
	st, m := s.now()
	if m != nil && m.trap.err() != nil {
		s.lose(m, fmt.Errorf("%w: %w; free space or mend the disk and start the daemon again", ErrFailed, m.trap.err()))
	} else if m != nil && ended(m) {
		s.stopped(ctx, st, m)
	}
	if st, m = s.now(); m != nil {
		if err := s.tend(ctx, st, m); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("the configuration store's member needs another attempt", "error", err)
		}
		st, m = s.now()
	} else if st.Mode != modeClient && s.Status().Err == nil {
		s.restart(ctx, st)
		st, m = s.now()
	}
	if st.Mode == modeAlone && m != nil {
		return
	}
	k.watch(ctx)
}

// restart starts a member that should run, because an earlier attempt failed.
func (s *Store) restart(ctx context.Context, st state) {
	err := s.begin(ctx, st)
	if err == nil && st.Mode == modeAlone {
		err = s.answering(ctx)
	}
	if errors.Is(err, ErrNotMember) && st.Mode == modeVoter {
		s.removed(st, nil)
	} else if err != nil && ctx.Err() == nil {
		s.cfg.Log.Warn("the configuration store's member needs another attempt", "error", err)
	}
}

// ended reports whether the member has stopped by itself: it was removed.
func ended(m *member) bool {
	select {
	case <-m.etcd.Server.StopNotify():
		return true
	default:
		return false
	}
}

// tend does what a running member needs.
func (s *Store) tend(ctx context.Context, st state, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if !st.Born && m.isReady() {
		st.Born = true
		if err := s.record(st); err != nil {
			return err
		}
	}
	if st.Mode == modeVoter && m.etcd.Server.Leader() != 0 {
		if err := s.readdress(ctx, st, m); err != nil {
			return err
		}
	}
	if voters := m.endpoints(); len(voters) > 0 && !slices.Equal(voters, st.Voters) {
		st, _ = s.now()
		st.Voters = voters
		return s.record(st)
	}
	return nil
}

// readdress tells the others where this member is.
func (s *Store) readdress(ctx context.Context, st state, m *member) error {
	want := peerURL(st.Host, s.cfg.Port)
	if self := m.self(); self == nil || slices.Equal(self.PeerURLs, []string{want}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout) // etcd waits for ever for a proposal that was lost
	defer cancel()
	if _, err := m.client.MemberUpdate(ctx, m.id(), []string{want}); err != nil {
		return fmt.Errorf("the other servers can't be told this server's address: %w", err)
	}
	st, _ = s.now()
	return s.record(st) // with the host, which may be new since Open
}

// watch asks the voters who they are, and chooses the client.
func (k *keeper) watch(ctx context.Context) {
	s := k.store
	want := s.wanted()
	answers := s.conns.probeAll(ctx, want.endpoints)
	if ctx.Err() != nil {
		return
	}
	s.conns.only(want.endpoints)
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

// lose puts aside a member that can't go on.
func (s *Store) lose(m *member, why error) {
	s.mu.Lock()
	s.mu.member, s.mu.err = nil, why
	s.mu.Unlock()
	if why == nil {
		why = errors.New("the configuration store's member is started again")
	}
	s.use(deadClient(why), "")
	m.close(s.heir(m))
	s.cfg.Log.Error("the configuration store's member ended", "error", why)
}

// supersededBy reports whether the member was put aside for that pool already.
func (s *Store) supersededBy(next *Pool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.successor != nil && s.mu.successor.Incarnation >= next.Incarnation
}

// supersede puts aside a member whose pool went on without it.
func (s *Store) supersede(ctx context.Context, m *member, next *Pool) {
	why := fmt.Errorf("%w: this server's configuration is that of incarnation %d, the pool is at %d", ErrSuperseded, s.Status().Pool.Incarnation, next.Incarnation)
	if list, err := s.list(ctx, next.Endpoints[0], false); err == nil {
		if e := endpointsOf(list); len(e) > 0 {
			next.Endpoints = e
		}
	}
	s.mu.Lock()
	s.mu.member, s.mu.err, s.mu.successor = nil, why, next
	s.mu.Unlock()
	s.use(deadClient(why), "")
	if m != nil {
		m.close(0)
	}
	s.cfg.Log.Warn("the configuration store's member ended", "error", why)
	s.wake()
}

// stopped puts away a member that ended by itself, which it does when another
// one tells it that it was removed. Unless the voters say so too it is started again.
func (s *Store) stopped(ctx context.Context, st state, m *member) {
	if m.self() == nil {
		if voters := m.endpoints(); len(voters) > 0 {
			st.Voters = voters
		}
		s.removed(st, m)
		return
	}
	if list, err := s.current(ctx, st); err == nil && !slices.ContainsFunc(list, func(x Member) bool { return x.ID == m.id() }) {
		st.Voters = endpointsOf(list)
		s.removed(st, m)
		return
	}
	s.lose(m, nil)
}

// removed makes a client of a member that the others have removed.
func (s *Store) removed(st state, m *member) {
	voters := st.Voters
	own := Endpoint(peerURL(st.Host, s.cfg.Port))
	voters = slices.DeleteFunc(slices.Clone(voters), func(e string) bool { return e == own })
	if len(voters) == 0 {
		if m != nil {
			s.lose(m, fmt.Errorf("%w: the others removed it", ErrNotMember))
		}
		return
	}
	next := state{Mode: modeClient, Cluster: st.Cluster, Incarnation: st.Incarnation, Voters: voters}
	if err := s.become(next); err != nil {
		s.cfg.Log.Warn("the removed member can't be put away", "error", err)
		return
	}
	s.cfg.Log.Info("the configuration store's member was removed; this server asks the voters", "voters", voters)
	s.wake()
}

// wake lets the keeper look at once.
func (s *Store) wake() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// tidy removes the data directories that the state does not name.
func (s *Store) tidy(st state) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		_, err := strconv.Atoi(trimScratch(e.Name()))
		ours := err == nil || st.Data != "." && e.Name() == "member"
		if ours && e.Name() != st.Data {
			if err := os.RemoveAll(filepath.Join(s.cfg.Dir, e.Name())); err != nil {
				s.cfg.Log.Warn("data that are not needed any more can't be removed", "error", err)
			}
		}
	}
}
