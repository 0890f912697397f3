package remote

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// Config says which set is meant, where it is and how long to wait for it.
type Config struct {
	VolumeID string       // UUID of the volume
	Set      volume.SetID // the set, for messages
	Name     string       // of the brick, for messages: HOST:/PATH; default: set N

	// Targets are the set's members, and Primary is the index of that which serves it, as
	// far as is known; −1: nothing is. See SetTargets. Of a set of one member it is enough to give the
	// fields of its Target.
	Targets []Target
	Primary int
	Addr    string
	BrickID string
	Dial    func(ctx context.Context, addr string) (net.Conn, error)

	Timeout time.Duration // network.timeout: bound of every call; default 10 s
	Client  string        // how to introduce oneself; default host name and process ID
	Version string        // of the program, likewise
	Token   string        // the volume's secret, if it has one
	TLS     *tls.Config   // nil: without
	Layout  volume.LayoutVersion
	Member  bool // to another member of the own set: for Peer, and nothing else
	LocalIO bool // client.local-io, see SetLocalIO

	Logger *slog.Logger
}

// Remote is a volume.Set in another process. The zero Remote is not usable; see New.
type Remote struct {
	conf    Config
	where   string
	log     *slog.Logger
	session wire.SessionID
	number  atomic.Uint64 // of the last request

	attempts atomic.Uint64 // to connect, so far

	bound   atomic.Int64 // network.timeout now; see SetTimeout
	localIO atomic.Bool  // see SetLocalIO
	late    atomic.Bool  // see SetLate

	slots   chan struct{} // one in it for each request in flight
	closing context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	book    locks.Book    // of locks that were granted
	locker  atomic.Bool   // there may have been any
	polls   chan struct{} // one in it for each waiting lock that is polled for
	moved   chan struct{} // to manage: targets or primary have changed; capacity 1

	mu struct {
		sync.Mutex
		targets   []Target
		primary   int // index of the one that is thought to serve; −1: not known
		closed    bool
		link      *link         // nil while disconnected
		downSince time.Time     // while link is nil
		lastErr   error         // of the last attempt to connect
		changed   chan struct{} // closed, and replaced, when link or closed changes
		pending   map[uint64]*call
		changing  map[volume.ID]*call // unanswered changes that may be repeated, by object; linked by call.next
		files     map[uint64]*file    // open ones, by handle
		turn      uint64              // counts beginnings and ends of changes of files' contents
		firsts    []*file             // that may have contents which came with their opening
		debts     map[debtKey]*debt   // what is to be given up as soon as the brick is back
		paying    bool                // pay runs
		promises  map[volume.ID]*promise
		partings  []*parting                  // in the order in which they were answered
		awaiting  bool                        // awaitPartings runs
		unmade    map[volume.ID]syscall.Errno // directories in which a name could not be removed that was said to be
		reserves  bool                        // there may have been any
		settled   uint64                      // the server that was told that there are none from before
		closes    []uint64                    // handles that the next request tells the brick to close
		boot      wire.SessionID              // of the brick's machine, as last heard
		server    uint64                      // whose session it is, likewise
		version   uint16                      // of the protocol, likewise; 0: not known
	}
}

var (
	_ volume.Set  = (*Remote)(nil)
	_ volume.File = (*file)(nil)
)

var (
	errClosed = errors.New("closed")
	errDown   = errors.New("not connected yet")
)

// New returns a Remote, which begins to connect. It must be closed.
func New(conf Config) *Remote {
	if conf.Timeout <= 0 {
		conf.Timeout = 10 * time.Second
	}
	if conf.Logger == nil {
		conf.Logger = slog.New(slog.DiscardHandler)
	}
	if conf.Name == "" {
		conf.Name = fmt.Sprintf("set %d", conf.Set)
	}
	if conf.Client == "" {
		host, _ := os.Hostname()
		conf.Client = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if conf.Targets == nil {
		conf.Targets = []Target{{Addr: conf.Addr, BrickID: conf.BrickID, Dial: conf.Dial}}
	}
	r := &Remote{
		conf: conf, where: conf.Name,
		log:   conf.Logger.With("brick", conf.Name),
		slots: make(chan struct{}, wire.InFlightMin),
		moved: make(chan struct{}, 1),
		polls: make(chan struct{}, pollsMax),
	}
	r.SetTimeout(conf.Timeout)
	r.localIO.Store(conf.LocalIO)
	_, _ = rand.Read(r.session[:])  // never fails
	r.session[len(r.session)-1] = 0 // brick/server marks it in a record
	r.closing, r.stop = context.WithCancel(context.Background())
	r.mu.targets, r.mu.primary, r.mu.lastErr = slices.Clone(conf.Targets), conf.Primary, errDown
	r.mu.downSince = time.Now()
	r.mu.changed = make(chan struct{})
	r.mu.pending = map[uint64]*call{}
	r.mu.changing = map[volume.ID]*call{}
	r.mu.files = map[uint64]*file{}
	r.wg.Go(r.manage)
	r.wg.Go(r.watch)
	return r
}

// SetTimeout changes network.timeout for calls that begin from now on.
func (r *Remote) SetTimeout(d time.Duration) { r.bound.Store(int64(d)) }

func (r *Remote) timeout() time.Duration { return time.Duration(r.bound.Load()) }

// Up reports whether a brick that serves the set is connected and was heard of lately.
func (r *Remote) Up() bool {
	r.mu.Lock()
	l := r.mu.link
	r.mu.Unlock()
	return l != nil && time.Since(l.heardAt()) < 2*wire.PingInterval+wire.PingInterval/2
}

// Await waits until the set is connected, or ctx ends, or all its bricks refuse
// for good reason (another volume, another protocol), and says what is in the way.
func (r *Remote) Await(ctx context.Context) error {
	for {
		r.mu.Lock()
		up, changed, err := r.mu.link != nil, r.mu.changed, r.mu.lastErr
		r.mu.Unlock()
		var refused *volume.Error
		switch {
		case up:
			return nil
		case errors.As(err, &refused) && refused.Errno != syscall.EIO:
			return refused
		case r.closing.Err() != nil:
			return r.unavailable("connect", errClosed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r.unavailable("connect", err)
		case <-r.closing.Done():
		}
	}
}

// Close says bye, fails what is unanswered with Reason Unavailable and waits
// for the goroutines. Files that are open are closed with the session.
func (r *Remote) Close() error {
	r.mu.Lock()
	if r.mu.closed {
		r.mu.Unlock()
		r.wg.Wait()
		return nil
	}
	r.mu.closed = true
	l := r.mu.link
	for _, c := range r.mu.pending {
		r.endLocked(c, r.unavailable(c.op.String(), errClosed))
	}
	r.broadcastLocked()
	r.mu.Unlock()
	if l != nil {
		l.bye()
	}
	r.stop()
	r.wg.Wait()
	return nil
}

// broadcastLocked wakes who waits for a link.
func (r *Remote) broadcastLocked() {
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// unavailable is the error of a call that the brick could not be asked in time.
func (r *Remote) unavailable(op string, cause error) error {
	return &volume.Error{Op: op, Where: r.where, Errno: syscall.EIO, Reason: volume.Unavailable, Err: cause}
}

// unknown is the error of a call that may have been executed.
func (r *Remote) unknown(op string, cause string) error {
	return &volume.Error{Op: op, Where: r.where, Errno: syscall.EIO, Reason: volume.Unknown, Err: errors.New(cause)}
}
