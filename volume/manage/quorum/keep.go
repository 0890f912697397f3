package quorum

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
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
