package quorum

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// connectTimeout bounds the making of a client's connection.
const connectTimeout = time.Second

// resume starts what the state says, when the store is opened.
func (s *Store) resume(ctx context.Context, st state) error {
	s.tidy(st)
	if st.Mode == modeClient {
		s.use(deadClient(errors.New("no voter of the pool has answered yet")), "")
		s.reach(ctx)
		return nil
	}
	if st.Mode == modeVoter {
		asking, cancel := context.WithTimeout(ctx, openingTimeout)
		next := successor(st, s.conns.probeAll(asking, s.wanted().endpoints))
		cancel()
		if next != nil {
			s.supersede(ctx, nil, next)
			s.reach(ctx)
			return nil
		}
	}
	err := s.begin(ctx, st)
	switch {
	case err == nil && st.Mode == modeVoter:
		s.reach(ctx)
		return nil
	case err == nil:
		return s.answering(ctx)
	case st.Mode == modeVoter && !st.Born && !errors.Is(err, ErrDamaged) && ctx.Err() == nil:
		s.cfg.Log.Warn("this server can't become a voter yet", "error", err)
		s.reach(ctx)
		return nil
	}
	return err
}

// reach looks at the voters once, so that the client is chosen.
func (s *Store) reach(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, openingTimeout)
	defer cancel()
	(&keeper{store: s}).watch(ctx)
}

// begin starts the member of a state.
func (s *Store) begin(ctx context.Context, st state) error {
	dir := s.data(st)
	b := birthAlone(s.cfg.ID, st)
	if !hasLog(dir) {
		if st.Born {
			return fmt.Errorf("%w: the log in %s is gone; restore the state directory, or move it away and let this server join the pool again", ErrDamaged, dir)
		}
		if err := os.RemoveAll(dir); err != nil { // what is left of an attempt
			return fmt.Errorf("the state directory can't be written: %w", err)
		}
		if st.Mode == modeVoter {
			var err error
			if b, err = s.joining(ctx, st); err != nil {
				return err
			}
		}
	}
	self := placeholder
	var l *listeners
	if st.Mode == modeVoter {
		self = peerURL(st.Host, s.cfg.Port)
		var err error
		if l, err = s.listen(st.Host); err != nil {
			return err
		}
	}
	m, err := startMember(s.cfg.ID, dir, self, b, s.cfg.MaxRecord, s.cfg.Log)
	if err != nil {
		if l != nil {
			l.close()
		}
		return err
	}
	if l != nil {
		m.serving = s.serve(m, l)
	}
	s.mu.Lock()
	s.mu.member, s.mu.err, s.mu.successor = m, nil, nil
	s.tell()
	s.mu.Unlock()
	s.wake()
	return nil
}

// answering waits until the lone member answers, and marks its store.
func (s *Store) answering(ctx context.Context) error {
	st, m := s.now()
	if err := m.ready(ctx); err != nil {
		return err
	}
	if err := putMark(ctx, m.client, st); err != nil {
		return fmt.Errorf("the configuration store can't be written: %w", err)
	}
	if !st.Born {
		st.Born = true
		if err := s.record(st); err != nil {
			return err
		}
	}
	s.use(m.client, "")
	return nil
}

// putMark writes which cluster the store is, if nobody has.
func putMark(ctx context.Context, c *clientv3.Client, st state) error {
	_, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(markKey), "=", 0)).
		Then(clientv3.OpPut(markKey, encodeMark(st))).
		Commit()
	return err
}

// joining is the birth of the member of a state that the voters have added
// already. ErrNotMember if they have not, or not with an empty place.
func (s *Store) joining(ctx context.Context, st state) (birth, error) {
	list, err := s.current(ctx, st)
	if err != nil {
		return birth{}, err
	}
	self := peerURL(st.Host, s.cfg.Port)
	var initial []string
	found := false
	for _, m := range list {
		name := m.Name
		if m.Peer == self {
			if name != "" {
				return birth{}, fmt.Errorf("%w: the place %s was used before and its data are gone: it must be removed and added again", ErrNotMember, self)
			}
			name, found = s.cfg.ID, true
		} else if name == "" || name == s.cfg.ID {
			name = fmt.Sprintf("member-%x", m.ID)
		}
		initial = append(initial, name+"="+m.Peer)
	}
	if !found {
		return birth{}, fmt.Errorf("%w: the voters have not added %s", ErrNotMember, self)
	}
	return birth{token: st.Cluster, initial: strings.Join(initial, ","), joins: true}, nil
}

// current asks the voters of a state for the newest list of members.
func (s *Store) current(ctx context.Context, st state) ([]Member, error) {
	err := errors.New("no voter is known")
	own := Endpoint(peerURL(st.Host, s.cfg.Port))
	for _, e := range st.Voters {
		if e == own {
			continue
		}
		var list []Member
		if list, err = s.list(ctx, e, true); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("the pool's voters can't be asked: %w", err)
}

// Listen makes this server's member reachable for other servers under host, a
// name or an address. A lone member becomes a voter of a pool of one; a voter
// moves to the new host. Repeating it is harmless. When it fails after the
// sockets are open, the keeper goes on telling the others.
func (s *Store) Listen(ctx context.Context, host string) error {
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	st, m := s.now()
	if m == nil {
		return fmt.Errorf("%w: this server has no member of the configuration store", ErrMode)
	}
	if err := m.ready(ctx); err != nil {
		return err
	}
	var fresh *listeners
	if old := m.serving; old == nil || old.host != host && s.cfg.Bind == "" {
		if fresh, err = s.listen(host); err != nil {
			return err
		}
		defer func() {
			if fresh != nil {
				fresh.close()
			}
		}()
	}
	st.Mode, st.Host = modeVoter, host
	if self := Endpoint(peerURL(host, s.cfg.Port)); !slices.Contains(st.Voters, self) {
		st.Voters = append(slices.Clone(st.Voters), self)
	}
	if err := s.record(st); err != nil {
		return err
	}
	s.pass("recorded")
	if fresh != nil {
		if old := m.serving; old != nil { // until the others know the new address
			defer old.endPeers()
			defer old.endClients()
		}
		m.serving, fresh = s.serve(m, fresh), nil
	}
	s.pass("listening")
	defer s.wake()
	return s.readdress(ctx, st, m)
}

// Bounds of the first contact with a pool's voters, and the pause between two
// questions: on a slow link the connection takes most of the time of the first.
const (
	meetTimeout = 5 * time.Second
	meetPause   = 100 * time.Millisecond
)

// meet asks the voters of a pool until one tells who is a member, and returns that voter too.
// A learner that starts takes itself for a voter until it has applied its own addition; it refuses
// the question when it knows better, so the next one is asked.
func (s *Store) meet(ctx context.Context, p Pool) (answer, []Member, error) {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	err := fmt.Errorf("no voter of the pool %s answers at %s", p.Cluster, strings.Join(p.Endpoints, ", "))
	for {
		answers := s.conns.probeAll(ctx, p.Endpoints)
		for {
			best := choose(s.cfg.ID, "", wanted{cluster: p.Cluster, incarnation: p.Incarnation}, answers)
			if best == nil {
				break
			}
			list, refused := s.list(ctx, best.endpoint, true)
			if refused == nil {
				return *best, list, nil
			}
			err = fmt.Errorf("the voter %s of the pool can't be asked: %w", best.endpoint, refused)
			best.err = refused
		}
		select {
		case <-ctx.Done():
			return answer{}, nil, err
		case <-time.After(meetPause):
		}
	}
}

// BecomeClient makes this server a client of the pool: its member, if it has
// one, ends and its data are dropped. At least one voter must answer, else
// nothing changes. A voter of the very pool must be removed from it first.
func (s *Store) BecomeClient(ctx context.Context, p Pool) error {
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	st, m := s.now()
	next := state{Mode: modeClient, Cluster: p.Cluster, Incarnation: p.Incarnation}
	voter, list, err := s.meet(ctx, p)
	if err != nil {
		return err
	}
	next.Incarnation, next.Voters = voter.incarnation, endpointsOf(list)
	if st.Mode == modeVoter && st.Cluster == next.Cluster && st.Incarnation == next.Incarnation && m != nil &&
		slices.ContainsFunc(list, func(x Member) bool { return x.ID == m.id() }) {
		return fmt.Errorf("%w: this server is a member of the pool's store and must be removed from it first", ErrMode)
	}
	if err := s.become(next); err != nil {
		return err
	}
	s.reach(ctx)
	return nil
}

// become records a state without a member, ends the one that runs and drops its data.
func (s *Store) become(next state) error {
	_, m := s.now()
	if err := s.record(next); err != nil {
		return err
	}
	s.pass("recorded")
	s.mu.Lock()
	s.mu.member, s.mu.err, s.mu.successor = nil, nil, nil
	s.mu.Unlock()
	if m != nil || s.Status().Endpoint == "" {
		s.use(deadClient(errChanging), "")
	}
	if m != nil {
		m.close(0)
	}
	s.pass("ended")
	s.tidy(next)
	return nil
}

// BecomeLearner starts this server's member, which the controller has added
// (AddLearner) under host. It returns when the member runs; it has a vote only
// when it has caught up and is promoted. Repeating it is harmless. A member
// that runs already is left as it is.
func (s *Store) BecomeLearner(ctx context.Context, host string) error {
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	st, m := s.now()
	if s.Status().Err != nil {
		return s.Status().Err
	}
	if m != nil && st.Mode == modeVoter {
		list, err := s.current(ctx, st)
		if err != nil || slices.ContainsFunc(list, func(x Member) bool { return x.ID == m.id() }) {
			return err
		}
		st.Voters = endpointsOf(list)
		s.removed(st, m) // it has not noticed yet
		st, m = s.now()
	}
	switch {
	case m != nil && st.Mode == modeVoter:
		return s.Status().Err
	case st.Mode == modeAlone:
		return fmt.Errorf("%w: a lone server joins as a client first", ErrMode)
	case st.Mode == modeClient:
		next := st
		next.Mode, next.Host, next.Data, next.Born = modeVoter, host, s.fresh(), false
		if _, err := s.joining(ctx, next); err != nil {
			return err
		}
		if err := s.record(next); err != nil {
			return err
		}
		s.pass("recorded")
		st = next
	}
	if err := s.begin(ctx, st); err != nil {
		return err
	}
	s.pass("started")
	return nil
}

// fresh is the name of a data directory that is not there yet.
func (s *Store) fresh() string {
	highest := 0
	entries, _ := os.ReadDir(s.cfg.Dir) // none: the first
	for _, e := range entries {
		if n, err := strconv.Atoi(trimScratch(e.Name())); err == nil {
			highest = max(highest, n)
		}
	}
	return strconv.Itoa(highest + 1)
}

// scratchSuffix marks directories that are only a help.
const scratchSuffix = ".scratch"

func trimScratch(name string) string { return strings.TrimSuffix(filepath.Base(name), scratchSuffix) }
