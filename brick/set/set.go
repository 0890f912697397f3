package set

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Config says what a Set is made of.
type Config struct {
	Set       volume.SetID
	Self      string        // ID of this member: its brick's UUID
	Life      string        // of this process, see spec.Member
	Boot      string        // of this machine; "": as the kernel says
	Member    volume.Member // the brick's store
	Dir       string        // BRICK/.mortar/log
	Authority Authority
	Lockers   LockerStore // likewise; nil: who holds locks is not kept on the disk

	// Serve puts a service on the set, of which this member has become the primary.
	Serve func(Reign) (Service, error)

	Logger *slog.Logger
}

// Reign is what a service stands on: valid until it is hidden.
type Reign struct {
	Store   volume.Store
	Epoch   Epoch
	Lockers LockerRecord
	// Boot tells the times apart in which nothing was lost with the power: it
	// stays the same over failovers.
	Boot string
}

// Service is what serves the set at its primary.
type Service interface {
	// Hide ends the service's acceptance of requests and cuts its clients off, at once: no
	// answer reaches them after it has returned. It waits for no request.
	Hide()
	// Stop waits for all that runs and gives everything up. It comes after Hide.
	Stop()
}

// Set is one member's part in a set. See the package comment. Run must be running.
type Set struct {
	cfg    Config
	log    *slog.Logger
	member volume.Member
	ledger *ledger
	locks  *locks
	kick   chan struct{} // wakes Run

	replies replies
	lockers lockers
	rate    healRate
	follow  follower

	mu struct {
		sync.Mutex
		members  []spec.Member   // of the set, by the newest map
		heals    bool            // members are healed by themselves
		quorum   int             // below which in-sync must not shrink
		peers    map[string]Peer // the other members
		version  uint64          // of the map
		told     spec.SetState   // by it
		reign    *reign          // nil unless primary
		started  time.Duration   // when this process began, on now's clock
		trouble  string          // why this member does not serve, for people
		fullHeal map[string]bool // members of which everything is to be compared
	}
}

// New returns a Set upon what lies in cfg.Dir. It serves nothing before Run and Update.
func New(cfg Config) (*Set, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, &volume.Error{Op: "start", Errno: volume.ErrnoOf(err), Err: err}
		}
		cfg.Boot = strings.TrimSpace(string(b))
	}
	l, err := openLedger(cfg.Dir, cfg.Self, cfg.Logger)
	if err != nil {
		return nil, err
	}
	s := &Set{cfg: cfg, log: cfg.Logger, member: cfg.Member, ledger: l, locks: newLocks(), kick: make(chan struct{}, 1)}
	s.mu.started = now()
	s.mu.peers = map[string]Peer{}
	s.mu.fullHeal = map[string]bool{}
	s.replies.begin()
	if err := l.replies(s.replies.note); err != nil {
		return nil, err
	}
	if !l.rebooted(cfg.Boot) { // the log's end may be lost with the power
		s.replies.complete()
	}
	if err := s.lockers.init(cfg.Lockers); err != nil {
		s.log.Error("nobody knows who had locks; they are lost", "error", err)
	}
	s.follow.init(s)
	return s, nil
}

// now reads CLOCK_BOOTTIME, which goes on while the machine sleeps: a promise
// must not outlive a sleep that the other side does not share.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // can't fail with a clock that exists
	return time.Duration(t.Nano())
}

// Update gives the Set a newer map, and the other members of the set.
func (s *Set) Update(m *spec.Map, peers map[string]Peer) error {
	i := slices.IndexFunc(m.Sets, func(t spec.Set) bool { return t.ID == s.cfg.Set })
	if i < 0 || m.Sets[i].Member(s.cfg.Self) == nil {
		return volume.Errorf("map", m.Volume, syscall.EINVAL, "set %d with this brick is not in the map", s.cfg.Set)
	}
	t := &m.Sets[i]
	arbiters := 0
	for _, member := range t.Members {
		if member.Arbiter {
			arbiters++
		}
	}
	s.mu.Lock()
	if m.Version < s.mu.version {
		s.mu.Unlock()
		return nil
	}
	s.mu.version, s.mu.members, s.mu.peers, s.mu.told = m.Version, t.Members, peers, t.State
	s.mu.heals = spec.Values(m.Options).Bool("cluster.self-heal-daemon")
	s.mu.quorum = spec.QuorumOf(m.Options, len(t.Members), arbiters)
	s.rate.set(int64(spec.Values(m.Options).Size("cluster.heal-rate")))
	r := s.mu.reign
	s.mu.Unlock()
	s.follow.hear(t)
	if r != nil {
		r.update(t)
	}
	s.wake()
	return nil
}

// wake makes Run look again.
func (s *Set) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// reignNow returns the reign of this member, nil if it is not the primary.
func (s *Set) reignNow() *reign {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.reign
}

// peer returns another member, nil if it is not known.
func (s *Set) peer(id string) Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.peers[id]
}

// others lists the set's members but this one.
func (s *Set) others() []spec.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []spec.Member
	for _, m := range s.mu.members {
		if m.ID != s.cfg.Self {
			out = append(out, m)
		}
	}
	return out
}

func (s *Set) memberOf(id string) *spec.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.mu.members {
		if s.mu.members[i].ID == id {
			return &s.mu.members[i]
		}
	}
	return nil
}

// isArbiter reports whether this member has no contents.
func (s *Set) isArbiter() bool {
	m := s.memberOf(s.cfg.Self)
	return m != nil && m.Arbiter
}

// Close gives the files of the Set free; Run has ended.
func (s *Set) Close() error {
	s.follow.close()
	return s.ledger.close()
}

// The errnos that say that something is not there.
const (
	enoent  = syscall.ENOENT
	estale  = syscall.ESTALE
	enotdir = syscall.ENOTDIR
)

// notPrimary is the error for what only the primary may answer.
func notPrimary(op string) error {
	return &volume.Error{Op: op, Errno: syscall.EIO, Reason: volume.NotPrimary}
}

// unavailable is the error for what can't be answered now.
func unavailable(op string, why string, a ...any) error {
	return &volume.Error{Op: op, Errno: syscall.EIO, Reason: volume.Unavailable, Err: fmt.Errorf(why, a...)}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
