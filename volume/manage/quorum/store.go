package quorum

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Errors that callers tell apart; each comes wrapped in a sentence.
var (
	// ErrDamaged: what is on disk can't be believed.
	ErrDamaged = errors.New("the configuration store is damaged")
	// ErrFailed: etcd gave up while it ran (a full or broken disk); only a restart of the daemon brings the member back.
	ErrFailed = errors.New("the configuration store failed")
	// ErrSuperseded: the pool was recovered without this member, whose store must not be used any more.
	ErrSuperseded = errors.New("the pool was recovered without this server")
	// ErrNotMember: this server, or that one, is not among the store's members.
	ErrNotMember = errors.New("not a member of the configuration store")
	// ErrNotReady: a learner has not caught up yet; try again later.
	ErrNotReady = errors.New("not ready to vote yet")
	// ErrUnsafe: the change would leave the store without a majority of voters that answer.
	ErrUnsafe = errors.New("too few voters answer")
	// ErrMode: the transition is none from the present role.
	ErrMode = errors.New("not from the present role")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the configuration store is closed")
)

// Config says where a store lives and how it is reached.
type Config struct {
	Dir       string      // of the data: the state directory's "etcd"
	StateFile string      // the state directory's "quorum.json"
	ID        string      // UUID of the daemon: the member's name
	Cluster   string      // UUID that a daemon without state file gives its cluster of one
	Host      string      // name or address under which the others reach this server now; "": as recorded
	Bind      string      // address on which to listen; "": Host
	Port      int         // on which members answer members; clients on the one after it
	MaxRecord int         // bytes of the greatest value; 0: 1 MiB
	Hints     []string    // see Store.Hint: asked before a voter starts
	TLS       *tls.Config // nil; the place for what comes
	Log       *slog.Logger

	pass func(point string) // for tests: called between the steps of a transition
}

// Role is what the daemon is in the store at present.
type Role string

// The roles.
const (
	Alone   Role = "alone"   // the only member, without a listener
	Learner Role = "learner" // a member that gets the records but has no vote yet
	Voter   Role = "voter"   // a member with a vote
	Client  Role = "client"  // no member: asks the voters
)

// Pool says how the store of a pool is found.
type Pool struct {
	Cluster     string   // UUID
	Incarnation uint64   // how often it was recovered, from 1; 0: not known
	Endpoints   []string // host:port where voters answer clients
}

// Status is a store's state.
type Status struct {
	Role      Role
	Pool      Pool   // Endpoints: as last known, present in all roles but Alone
	Host      string // under which the member is reached; "" with Alone and Client
	MemberID  uint64 // of the own member; 0: none runs
	Endpoint  string // of the voter that Client asks; "": the own member
	Err       error  // why the member does not run: ErrFailed, ErrSuperseded, ErrNotMember …; nil: it does, or need not
	Successor *Pool  // with ErrSuperseded: the recovered pool
}

// Store is the configuration store as one daemon sees it.
type Store struct {
	cfg   Config
	zap   *zap.Logger // for clients; members have their own
	conns *conns
	turn  chan struct{} // held by the one transition that is under way
	nudge chan struct{} // wakes the keeper
	stop  context.CancelFunc
	wg    sync.WaitGroup
	mu    struct {
		sync.Mutex
		closed    bool
		state     state
		member    *member // nil: none runs
		err       error   // see Status
		successor *Pool
		client    *clientv3.Client
		endpoint  string // that client talks to; "": the own member
		changed   chan struct{}
		hints     []string
	}
}

// Open opens the store that cfg.StateFile describes; without that file it makes
// one of a single member. A lone member answers when Open returns. A voter's
// Open does not wait for the others: see Health. The error is a sentence.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	setSegmentSize()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, turn: make(chan struct{}, 1), nudge: make(chan struct{}, 1)}
	s.zap = etcdLogger(cfg.Log, &fatalTrap{failed: make(chan struct{})})
	s.conns = newConns(cfg.TLS)
	s.mu.changed = make(chan struct{})
	s.mu.client = deadClient(errors.New("the configuration store is being opened"))
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the state directory can't be written: %w", err)
	}
	st, err := readState(cfg.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		if st, err = firstState(cfg.Dir, cfg.Cluster); err == nil {
			err = writeState(cfg.StateFile, st)
		}
	}
	if err != nil {
		return nil, err
	}
	if st.Host != "" && cfg.Host != "" {
		st.Host = cfg.Host // recorded once the member is up
	}
	s.mu.state, s.mu.hints = st, slices.Clone(cfg.Hints)
	if err := s.resume(ctx, st); err != nil {
		s.Close()
		return nil, err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.wg.Go(func() { s.keep(ctx) })
	return s, nil
}

// Close stops the member, which hands on its leadership first, and the client.
func (s *Store) Close() {
	if s.stop != nil {
		s.stop()
		s.wg.Wait()
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	s.mu.closed = true
	m := s.mu.member
	s.mu.member = nil
	s.mu.Unlock()
	s.use(deadClient(ErrClosed), "")
	if m != nil {
		m.close(s.heir(m))
	}
	s.conns.close()
}

// Client returns the client of the store as it is reached at present; never
// nil. See the package comment for what its users see when it is replaced.
func (s *Store) Client() *clientv3.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.client
}

// Changed returns a channel that is closed when what Client or Status return
// has changed since the call of Changed.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.changed
}

// Status returns the store's state. It asks nobody.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.state
	out := Status{
		Role: Client, Host: st.Host, Endpoint: s.mu.endpoint, Err: s.mu.err, Successor: s.mu.successor,
		Pool: Pool{Cluster: st.Cluster, Incarnation: st.Incarnation, Endpoints: slices.Clone(st.Voters)},
	}
	if st.Mode == modeAlone {
		out.Role = Alone
	} else if st.Mode == modeVoter {
		out.Role = Learner
		if m := s.mu.member; m == nil || !m.learner() {
			out.Role = Voter
		}
	}
	if s.mu.member != nil {
		out.MemberID = s.mu.member.id()
	}
	return out
}

// Hint names further places, host:port, where members may answer clients: those
// of all servers that the pool has. They are asked only whether the pool was
// recovered there.
func (s *Store) Hint(endpoints []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.hints = slices.Clone(endpoints)
}

// take begins a transition; the caller ends it by calling done.
func (s *Store) take(ctx context.Context) (done func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("the configuration store is busy with another change: %w", ctx.Err())
	}
	s.mu.Lock()
	closed := s.mu.closed
	s.mu.Unlock()
	if closed {
		<-s.turn
		return nil, ErrClosed
	}
	return func() { <-s.turn }, nil
}

// now returns the state and the member that runs.
func (s *Store) now() (state, *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state, s.mu.member
}

// record writes the state file; in memory the state changes only with it.
// The caller has the turn.
func (s *Store) record(st state) error {
	if err := writeState(s.cfg.StateFile, st); err != nil {
		return err
	}
	s.mu.Lock()
	s.mu.state = st
	s.tell()
	s.mu.Unlock()
	return nil
}

// use makes c the store's client and closes the one before it.
func (s *Store) use(c *clientv3.Client, endpoint string) {
	s.mu.Lock()
	old := s.mu.client
	s.mu.client, s.mu.endpoint = c, endpoint
	s.tell()
	s.mu.Unlock()
	if old != c {
		old.Close()
	}
}

// tell closes changed; mu is held.
func (s *Store) tell() {
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// pass marks a point between two steps of a transition, where tests interrupt it.
func (s *Store) pass(point string) {
	if s.cfg.pass != nil {
		s.cfg.pass(point)
	}
}

// data is the directory of a state's member.
func (s *Store) data(st state) string { return filepath.Join(s.cfg.Dir, st.Data) }
