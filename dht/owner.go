package dht

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// OwnerConfig is what an Owner is made of.
type OwnerConfig struct {
	Self   volume.SetID
	Map    *spec.Map
	Store  volume.Store
	Peers  map[volume.SetID]volume.Set // every other set of the volume; they need not be up
	Logger *slog.Logger                // nil: none

	// SettleEvery is how often what was replaced or removed by operations over
	// several sets is made durable and dropped for good. 0: 5 s.
	SettleEvery time.Duration
	// Boot names the machine's present boot, up to 64 bytes; "": as the kernel
	// says. If it is another than at the last start, power may have been lost.
	Boot string
	// StepTimeout bounds one step to another set. 0: 5 s.
	StepTimeout time.Duration
}

// Owner is a set as others see it (volume.Set): it orders what concerns the
// names that the set owns, and coordinates what takes several sets. See the
// package comment. Run must be running for what failed halfway to be finished.
type Owner struct {
	cfg   OwnerConfig
	self  volume.SetID
	store volume.Store
	log   *slog.Logger
	view  atomic.Pointer[view]

	names lockTable // of names this set owns, and the volume's rename token at the root's home
	dirs  lockTable // of copies of directories being made or removed here; taken after names

	epoch uint32 // of this life
	book  book   // taken after the locks of names, before mu
	marks marks
	firm  firm
	space space

	mu struct { // taken last; nothing is called with it but the journal
		sync.Mutex
		active   map[uint64]*intent // ours, names not yet free
		finished map[uint64]*intent // ours, not yet durable everywhere
		reached  map[uint32]uint64  // highest number recorded of earlier epochs
		parts    map[partKey]*part  // of others' intents here
		peers    map[volume.SetID]*peer
		dying    map[volume.ID]partKey // directories with their home here
		expected map[volume.ID]int     // directories that intents will put something into, see expect
		doubt    doubt                 // after a loss of power somewhere
		boot     string                // as the journal has it; the present one when all is verified
		strays   bool                  // discards of unknown intents may be here
	}

	kick      chan struct{} // wakes Run
	doubtful  chan struct{} // wakes the verifier
	moved     atomic.Bool   // something was moved aside: all sets must verify once more
	walks     atomic.Int32  // the verifier's: in a row, without success
	compacted int64         // Run's: the journal's size after it was last rewritten
	run       struct {
		sync.Mutex
		cancel context.CancelFunc
		done   chan struct{}
		closed bool
	}
}

// peer is what is known of another set's life.
type peer struct {
	epoch uint32
	below uint64              // its intents below are finished
	ended map[uint64]struct{} // those above that have nothing here any more
}

var _ volume.Set = (*Owner)(nil)

// NewOwner returns the Owner of a set over its store. It reads the journal, so
// that names of unfinished operations are held from the first request on, and
// asks no other set.
func NewOwner(cfg OwnerConfig) (*Owner, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.SettleEvery == 0 {
		cfg.SettleEvery = 5 * time.Second
	}
	if cfg.StepTimeout == 0 {
		cfg.StepTimeout = 5 * time.Second
	}
	if len(cfg.Boot) > bootMax {
		return nil, volume.Errorf("start", cfg.Boot, syscall.EINVAL, "a boot's name has up to %d bytes", bootMax)
	}
	if cfg.Boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, &volume.Error{Op: "start", Errno: volume.ErrnoOf(err), Err: err}
		}
		cfg.Boot = strings.TrimSpace(string(b))
	}
	o := &Owner{cfg: cfg, self: cfg.Self, store: cfg.Store, log: cfg.Logger, kick: make(chan struct{}, 1), doubtful: make(chan struct{}, 1)}
	o.mu.active = map[uint64]*intent{}
	o.mu.finished = map[uint64]*intent{}
	o.mu.reached = map[uint32]uint64{}
	o.mu.parts = map[partKey]*part{}
	o.mu.peers = map[volume.SetID]*peer{}
	o.mu.dying = map[volume.ID]partKey{}
	o.mu.strays = true
	o.mu.doubt = doubt{sets: map[volume.SetID]uint32{}, verified: map[volume.SetID]uint32{}}
	o.mu.expected = map[volume.ID]int{}
	o.book.open = map[partKey][][]byte{}
	if err := o.Update(cfg.Map, cfg.Peers); err != nil {
		return nil, err
	}
	if err := o.recover(); err != nil {
		return nil, err
	}
	return o, nil
}

// Update gives the Owner a newer map and the sets to go with it. An older map
// is not taken.
func (o *Owner) Update(m *spec.Map, peers map[volume.SetID]volume.Set) error {
	v, err := newView(m, peers)
	if err != nil {
		return err
	}
	if !v.has(o.self) {
		return volume.Errorf("map", m.Volume, syscall.EINVAL, "set %d is not in the map", o.self)
	}
	for {
		old := o.view.Load()
		if old != nil && old.m.Version > m.Version {
			return nil
		}
		if o.view.CompareAndSwap(old, v) {
			o.wake()
			return nil
		}
	}
}

// Up is true: an Owner can be asked.
func (o *Owner) Up() bool { return true }

// wake makes Run look at its work.
func (o *Owner) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// admit checks that a request about a name is in the right place.
func (o *Owner) admit(ctx context.Context, op string, dir volume.ID, name string) (*view, error) {
	v := o.view.Load()
	if v.single {
		return v, nil
	}
	if stamp := volume.LayoutOf(ctx); stamp != 0 && stamp != v.version || len(name) <= volume.NameMax && v.owner(dir, name) != o.self {
		return nil, &volume.Error{Op: op, Where: name, Errno: syscall.ESTALE, Reason: volume.Outdated}
	}
	return v, volume.CheckName(op, name)
}

// tell carries a step out at a set, which may be this one.
func (o *Owner) tell(ctx context.Context, v *view, set volume.SetID, s *step) (*answer, error) {
	s.from, s.epoch = o.self, o.epoch
	if s.intent != 0 {
		s.below = o.belowNumber()
	}
	ctx, cancel := context.WithTimeout(quiet(ctx), o.cfg.StepTimeout)
	defer cancel()
	if set == o.self {
		return o.handle(ctx, s)
	}
	b, err := v.ask(ctx, set, s.encode())
	if err != nil {
		return nil, err
	}
	a, err := decodeAnswer(b)
	if err != nil {
		return nil, malformed("answer", err)
	}
	return a, nil
}

// reaches reports whether a set can be asked, waiting for one that fails over as long as for a step.
func (o *Owner) reaches(ctx context.Context, v *view, set volume.SetID) bool {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.StepTimeout)
	defer cancel()
	return set == o.self || v.comesUp(ctx, set)
}

// each calls f for all sets side by side and returns their errors in order.
func each(sets []volume.SetID, f func(set volume.SetID) error) []error {
	errs := make([]error, len(sets))
	if len(sets) == 1 {
		errs[0] = f(sets[0])
		return errs
	}
	var wg sync.WaitGroup
	for i, set := range sets {
		wg.Go(func() { errs[i] = f(set) })
	}
	wg.Wait()
	return errs
}

// others returns all sets but this one.
func (o *Owner) others(v *view) []volume.SetID {
	sets := make([]volume.SetID, 0, len(v.ids))
	for _, id := range v.ids {
		if id != o.self {
			sets = append(sets, id)
		}
	}
	return sets
}

// opMax bounds an operation over several sets, its client gone or not.
const opMax = 30 * time.Second

// detached returns a context for what must be finished: the caller's
// cancellation does not reach it, and it has a deadline of its own. It has no request.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(quiet(ctx)), opMax)
}
