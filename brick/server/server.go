package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Backend is what a server serves: a volume.Set as seen from inside.
type Backend interface {
	volume.FS
	Step(ctx context.Context, step []byte) ([]byte, error)
}

// Config says what to serve, and to whom. Zero values mean the defaults given.
type Config struct {
	Set      Backend // nil: none yet, see SetBackend
	VolumeID string  // UUID of the volume; clients of another are refused
	BrickID  string  // UUID of the brick; clients that mean another are refused

	// Token, if not empty, is the secret that a client must show.
	Token string
	TLS   *tls.Config // nil: without

	Logger   *slog.Logger
	Grace    time.Duration // that a session outlives its connection; default 30 s
	InFlight int           // requests of a session at a time; default 1024, at least wire.InFlightMin
	// MaxTimeout bounds the deadline of requests, and is that of those without; default 60 s.
	MaxTimeout time.Duration
	// WantFlush is set if Set delays writes, so that File.Flush must reach it.
	WantFlush bool
	// Layout, if not nil, tells the layout version to greet clients with.
	Layout func() volume.LayoutVersion
	// Boot tells one boot of the machine from another; default: the kernel's boot ID. See SetBoot.
	Boot wire.SessionID

	// Peer answers what another member of the brick's set asks, whether the set
	// is served here or not: a message of at most wire.PeerMessageMax bytes with
	// data of at most volume.IOMax, of which it keeps nothing, by at most
	// wire.PeerAnswerMax bytes, which it leaves alone from then on. It may be asked the same twice. nil: EOPNOTSUPP.
	Peer func(ctx context.Context, message, data []byte) ([]byte, error)
	// Outcome tells what became of a request that a client has sent to an
	// earlier server of the set, whichever that was; nil: nobody knows. That
	// one was not executed means that it never will be, unless it comes again. Not
	// known: no record of such requests is kept, or not for so long. It is asked
	// on behalf of the Backend set last, and ctx ends with that.
	Outcome func(ctx context.Context, r volume.Request) (o wire.Outcome, executed, known bool)
	// Lockers returns the record of who may hold locks, for what is served from now on: it
	// fails with Reason NotPrimary once that is over. nil: none is kept, and locks are lost with
	// this server: who had one gets EIO from its file.
	Lockers func() Lockers
	// Heal tells of the set's healing and begins it; nil: the set has one member.
	Heal wire.Healer
}

// tick is how often deadlines and graces are looked at.
const tick = 100 * time.Millisecond

// sessionsMax bounds the sessions of a server, stepsMax the Steps and lanesMax
// the lanes of a session at a time.
const (
	sessionsMax = 1 << 14
	stepsMax    = 1 << 12
	lanesMax    = 1 << 13
)

// Server serves one brick.
type Server struct {
	conf     Config
	log      *slog.Logger
	members  *role // of members' sessions
	grpc     *grpc.Server
	quit     chan struct{}   // closed by Stop
	running  context.Context // ends with Stop
	cancel   context.CancelFunc
	access   atomic.Pointer[Access]
	readOnly atomic.Bool
	wg       sync.WaitGroup
	stopOnce sync.Once

	attachments atomic.Uint64 // the number of the last connection of a session

	mu struct {
		sync.Mutex
		role     *role // of clients' sessions
		boot     wire.SessionID
		sessions map[wire.SessionID]*session
		leaving  map[wire.SessionID]*session // that have ended, but not all of their requests
		greeting map[net.Conn]struct{}       // connections that have not said what they want
		stopped  bool
	}
}

// New returns a Server, which Serve starts.
func New(conf Config) *Server {
	if conf.Logger == nil {
		conf.Logger = slog.New(slog.DiscardHandler)
	}
	if conf.Grace <= 0 {
		conf.Grace = 30 * time.Second
	}
	if conf.InFlight <= 0 {
		conf.InFlight = 1024
	}
	conf.InFlight = max(conf.InFlight, wire.InFlightMin)
	if conf.MaxTimeout <= 0 {
		conf.MaxTimeout = time.Minute
	}
	if conf.Boot == (wire.SessionID{}) {
		conf.Boot = bootID()
	}
	s := &Server{
		conf: conf, log: conf.Logger,
		quit: make(chan struct{}),
	}
	var l Lockers
	if conf.Set != nil && conf.Lockers != nil {
		l = conf.Lockers()
	}
	s.members = s.newRole(nil, conf.Boot, nil)
	s.mu.boot, s.mu.role = conf.Boot, s.newRole(conf.Set, conf.Boot, l)
	s.attachments.Store(rand.Uint64N(1 << 62)) // those that an earlier process gave are nobody's any more
	s.mu.sessions = map[wire.SessionID]*session{}
	s.mu.leaving = map[wire.SessionID]*session{}
	s.access.Store(&Access{})
	s.mu.greeting = map[net.Conn]struct{}{}
	s.running, s.cancel = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(wire.ServerOptions(conf.TLS, service{s})...)
	s.grpc.RegisterService(wire.Describe(), service{s})
	s.wg.Go(s.janitor)
	return s
}

// bootID reads the kernel's; where there is none every process counts as a boot.
func bootID() (id wire.SessionID) {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	hex := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if parsed, err := volume.ParseID(hex); err == nil {
		return wire.SessionID(parsed)
	}
	return wire.SessionID(volume.NewID(0))
}

// Serve answers connections of l, which it closes in the end, until Stop (nil)
// or until l fails. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(l)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Stop closes all connections, cancels what runs, waits for it and closes all
// files. It may be called more than once.
func (s *Server) Stop() {
	s.stopOnce.Do(func() {
		s.mu.Lock()
		s.mu.stopped = true
		s.mu.role.frame.close()
		for raw := range s.mu.greeting {
			_ = raw.Close()
		}
		s.mu.Unlock()
		close(s.quit)
		s.cancel()
		s.grpc.Stop()
		for _, sess := range s.sessions() {
			s.end(sess, "the server stops", again)
		}
		s.mu.Lock()
		last := s.mu.role.names
		s.mu.Unlock()
		last.close()
	})
	s.wg.Wait()
}

// Clients lists the sessions, in no order.
func (s *Server) Clients() []wire.Client {
	cs := []wire.Client{}
	for _, sess := range s.sessions() {
		cs = append(cs, sess.describe())
	}
	return cs
}

func (s *Server) sessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.mu.sessions))
	for _, sess := range s.mu.sessions {
		all = append(all, sess)
	}
	return all
}

// janitor cancels requests whose deadline passed, tells of slow ones and ends sessions and claims whose grace passed.
func (s *Server) janitor() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case now := <-t.C:
			for _, sess := range s.sessions() {
				sess.slow(now)
				if sess.expire(now) {
					s.end(sess, "the client did not come back", lost)
				}
			}
			s.mu.Lock()
			of := s.mu.role
			s.mu.Unlock()
			s.tendLocks(of, now)
			s.tendNames(of, now)
		}
	}
}

// goes runs f on a goroutine that Stop waits for, unless Stop has begun.
func (s *Server) goes(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped {
		return false
	}
	s.wg.Go(f)
	return true
}
