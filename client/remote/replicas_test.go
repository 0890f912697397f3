package remote_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// replicas is a set of several members as a client sees it: one file system, several
// servers, of which one at a time may change it, and a memory of which requests were executed.
type replicas struct {
	t       testing.TB
	fs      volume.FS
	servers []*server.Server
	proxies []*proxy
	traps   chan *trap // at most one: the next change falls into it
	mu      struct {
		sync.Mutex
		reign    *reign
		outcomes map[volume.Request]wire.Outcome
		executed map[volume.Request]int
	}
}

// reign is the Backend of one member for a time. When it is over it changes nothing any more.
type reign struct {
	volume.FS
	set    *replicas
	member int
}

// trap catches a change before or after it is executed, until it is cancelled or let go.
type trap struct {
	op     string
	after  bool
	caught chan struct{}
	letGo  chan struct{}
}

const replicaCount = 3

func newReplicas(t testing.TB) *replicas {
	s := &replicas{t: t, fs: model.New(), traps: make(chan *trap, 1)}
	s.mu.outcomes = map[volume.Request]wire.Outcome{}
	s.mu.executed = map[volume.Request]int{}
	for i := range replicaCount {
		srv, addr := serve(t, nil, func(c *server.Config) {
			c.Outcome = func(ctx context.Context, q volume.Request) (wire.Outcome, bool, bool) { return s.outcome(ctx, i, q) }
			c.Boot, c.BrickID = wire.SessionID{1}, fmt.Sprint("member ", i)
		})
		s.servers = append(s.servers, srv)
		s.proxies = append(s.proxies, newProxy(t, addr))
	}
	s.reignAt(0)
	return s
}

// targets are the members as a Remote wants them.
func (s *replicas) targets() (all []remote.Target) {
	for i, p := range s.proxies {
		all = append(all, remote.Target{Addr: p.addr(), BrickID: fmt.Sprint("member ", i)})
	}
	return all
}

func (s *replicas) remote(t testing.TB) *remote.Remote {
	return connect(t, "", func(c *remote.Config) { c.Targets, c.Timeout = s.targets(), 20*time.Second })
}

// reignAt makes a member the primary, without a word to the one before.
func (s *replicas) reignAt(i int) {
	r := &reign{s.fs, s, i}
	s.mu.Lock()
	s.mu.reign = r
	s.mu.Unlock()
	s.servers[i].SetBackend(r)
}

// outcome waits, on a member that only thinks that it is the primary, until it knows better.
func (s *replicas) outcome(ctx context.Context, member int, q volume.Request) (o wire.Outcome, executed, known bool) {
	s.mu.Lock()
	primary := s.mu.reign.member == member
	o, executed = s.mu.outcomes[q]
	s.mu.Unlock()
	if !primary {
		<-ctx.Done()
	}
	return o, executed, true
}

// catch sets a trap.
func (s *replicas) catch(op string, after bool) *trap {
	tr := &trap{op, after, make(chan struct{}), make(chan struct{})}
	s.traps <- tr
	return tr
}

// trap stays in the trap that is set for what is done here, if one is.
func (r *reign) trap(ctx context.Context, op string, after bool) {
	select {
	case tr := <-r.set.traps:
		if tr.op != op || tr.after != after {
			r.set.traps <- tr
			return
		}
		close(tr.caught)
		select {
		case <-ctx.Done():
		case <-tr.letGo:
		}
	default:
	}
}

func fencedOff(op string) error {
	return &volume.Error{Op: op, Errno: syscall.EIO, Reason: volume.NotPrimary}
}

// change executes a change, unless the reign is over.
func (r *reign) change(ctx context.Context, op string, f func(o *wire.Outcome) error) error {
	r.trap(ctx, op, false)
	q := volume.RequestOf(ctx)
	if q.Number == 0 {
		r.set.t.Errorf("a %s without a request", op)
	}
	r.set.mu.Lock()
	if r.set.mu.reign != r {
		r.set.mu.Unlock()
		return fencedOff(op)
	}
	var o wire.Outcome
	err := f(&o)
	if err == nil {
		r.set.mu.outcomes[q] = o
		if r.set.mu.executed[q]++; r.set.mu.executed[q] > 1 && op != "write" && op != "setattr" {
			r.set.t.Errorf("a %s is executed %d times", op, r.set.mu.executed[q])
		}
	}
	r.set.mu.Unlock()
	r.trap(ctx, op, true)
	return err
}

func (r *reign) Step(context.Context, []byte) ([]byte, error) { return nil, nil }

func (r *reign) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	r.set.mu.Lock()
	over := r.set.mu.reign != r
	r.set.mu.Unlock()
	if over {
		return volume.Attr{}, fencedOff("lookup")
	}
	return r.FS.Lookup(ctx, dir, name)
}

func (r *reign) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	err = r.change(ctx, "make", func(o *wire.Outcome) error {
		a, err = r.FS.Make(ctx, dir, name, n)
		o.Attr = a
		return err
	})
	return a, err
}

func (r *reign) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, flags volume.Flags) (f volume.File, a volume.Attr, err error) {
	err = r.change(ctx, "create", func(o *wire.Outcome) error {
		f, a, err = r.FS.Create(ctx, dir, name, n, flags)
		o.Attr = a
		return err
	})
	if err != nil {
		return nil, a, err
	}
	return &reignFile{f, r}, a, err
}

func (r *reign) Open(ctx context.Context, id volume.ID, flags volume.Flags) (volume.File, error) {
	f, err := r.FS.Open(ctx, id, flags)
	if err != nil {
		return nil, err
	}
	return &reignFile{f, r}, nil
}

func (r *reign) Link(ctx context.Context, id, dir volume.ID, name string) (a volume.Attr, err error) {
	err = r.change(ctx, "link", func(o *wire.Outcome) error {
		a, err = r.FS.Link(ctx, id, dir, name)
		o.Attr = a
		return err
	})
	return a, err
}

func (r *reign) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return r.change(ctx, "unlink", func(*wire.Outcome) error { return r.FS.Unlink(ctx, dir, name) })
}

func (r *reign) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return r.change(ctx, "rmdir", func(*wire.Outcome) error { return r.FS.Rmdir(ctx, dir, name) })
}

func (r *reign) Rename(ctx context.Context, od volume.ID, on string, nd volume.ID, nn string, f volume.RenameFlags) error {
	return r.change(ctx, "rename", func(*wire.Outcome) error { return r.FS.Rename(ctx, od, on, nd, nn, f) })
}

func (r *reign) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	return r.change(ctx, "setxattr", func(*wire.Outcome) error { return r.FS.Setxattr(ctx, id, name, value, f) })
}

func (r *reign) Removexattr(ctx context.Context, id volume.ID, name string) error {
	return r.change(ctx, "removexattr", func(*wire.Outcome) error { return r.FS.Removexattr(ctx, id, name) })
}

type reignFile struct {
	volume.File
	r *reign
}

func (f *reignFile) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (off int64, err error) {
	err = f.r.change(ctx, "append", func(o *wire.Outcome) error {
		off, err = f.File.Append(ctx, p, flags)
		o.Offset = off
		return err
	})
	return off, err
}

func (f *reignFile) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, c volume.Change) (n int, err error) {
	err = f.r.change(ctx, "write and setattr", func(*wire.Outcome) error {
		n, err = f.File.WriteSet(ctx, p, off, flags, c)
		return err
	})
	return n, err
}

func (f *reignFile) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (n int, err error) {
	err = f.r.change(ctx, "write", func(*wire.Outcome) error {
		n, err = f.File.WriteAt(ctx, p, off, flags)
		return err
	})
	return n, err
}

func (f *reignFile) Setattr(ctx context.Context, c volume.Change) (a volume.Attr, err error) {
	err = f.r.change(ctx, "setattr", func(o *wire.Outcome) error {
		a, err = f.File.Setattr(ctx, c)
		o.Attr = a
		return err
	})
	return a, err
}

func (f *reignFile) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	return f.r.change(ctx, "allocate", func(*wire.Outcome) error { return f.File.Allocate(ctx, mode, off, length) })
}
