package dht

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// cluster is a volume in memory: a store and an Owner a set, linked directly,
// and what is needed to break them.
type cluster struct {
	t     testing.TB
	ids   []volume.SetID
	m     *spec.Map
	nodes map[volume.SetID]*node
	fs    *Distribute
	fast  bool          // short timeouts, for tests with faults
	every time.Duration // between settlings; 0: 5 ms
	net   atomic.Pointer[network]

	trace struct { // what was done to the stores, with MORTAR_TRACE set
		sync.Mutex
		on    bool
		lines []string
	}
}

func (c *cluster) note(set volume.SetID, err error, what ...any) {
	if c.trace.on {
		c.trace.Lock()
		defer c.trace.Unlock()
		c.trace.lines = append(c.trace.lines, fmt.Sprintln(append([]any{"TRACE", len(c.trace.lines), set}, append(what, err)...)...))
	}
}

// tell logs the end of the trace.
func (c *cluster) tell() {
	c.trace.Lock()
	defer c.trace.Unlock()
	for _, l := range c.trace.lines[max(0, len(c.trace.lines)-50000):] {
		c.t.Log(l)
	}
}

// network decides about each step between sets. It returns what carries out
// the step, or does not.
type network func(from *life, to volume.SetID, step []byte, send func() ([]byte, error)) ([]byte, error)

// node is one set.
type node struct {
	c     *cluster
	id    volume.SetID
	store *model.Store
	life  atomic.Pointer[life] // the latest
	fault atomic.Pointer[fault]

	noPut, noDiscard atomic.Bool // the disk has no room for them: ENOSPC

	requests struct { // executed, as the set below notes them
		sync.Mutex
		count map[volume.Request]int
	}
	boots int // losses of power
}

// life is a process: from a start of the node's Owner to its end, after which
// nothing of it reaches the store or other nodes, and nothing reaches it.
type life struct {
	dead    atomic.Bool
	deposed atomic.Bool // nothing of it reaches the store, but it does not know, and reaches other nodes
	owner   atomic.Pointer[Owner]
	ctx     context.Context
	stop    func()
}

// fault crashes a node at the n-th of its store's changes, counted over the node.
type fault struct {
	left    atomic.Int64
	hit     atomic.Bool
	applied bool // that change is made, and its answer lost
	depose  bool // the process lives on, see life
}

func testMap(n int) *spec.Map {
	m := &spec.Map{Version: 1, Volume: "test", Started: true, RootHome: 1, Options: map[string]string{"cluster.min-free-disk": "0"}}
	var weights []Weight
	for i := range n {
		id := volume.SetID(i + 1)
		m.Sets = append(m.Sets, spec.Set{ID: id})
		weights = append(weights, Weight{id, 1})
	}
	l, err := NewLayout(1, weights)
	if err != nil {
		panic(err)
	}
	m.Layouts = []spec.Layout{l}
	return m
}

// newCluster makes a volume of n sets.
func newCluster(t testing.TB, n int, fast bool, opts ...model.Option) *cluster {
	t.Helper()
	return (&cluster{}).init(t, n, fast, opts...)
}

func (c *cluster) init(t testing.TB, n int, fast bool, opts ...model.Option) *cluster {
	t.Helper()
	c.t, c.m, c.nodes, c.fast = t, testMap(n), map[volume.SetID]*node{}, fast
	for _, s := range c.m.Sets {
		c.ids = append(c.ids, s.ID)
		c.nodes[s.ID] = &node{c: c, id: s.ID, store: model.NewStore(s.ID, opts...)}
	}
	c.trace.on = os.Getenv("MORTAR_TRACE") != ""
	for _, id := range c.ids {
		c.nodes[id].start()
	}
	t.Cleanup(func() {
		for _, id := range c.ids {
			c.nodes[id].halt()
		}
	})
	c.fs = c.client()
	return c
}

// client returns another client of the volume.
func (c *cluster) client() *Distribute {
	sets := map[volume.SetID]volume.Set{}
	for id, n := range c.nodes {
		sets[id] = &link{n: n}
	}
	return New(Config{Map: c.m, Sets: sets})
}

func (n *node) start() {
	n.t().Helper()
	l := &life{}
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(context.Background())
	peers := map[volume.SetID]volume.Set{}
	for id, p := range n.c.nodes {
		if id != n.id {
			peers[id] = &link{n: p, from: l}
		}
	}
	cfg := OwnerConfig{Self: n.id, Map: n.c.m, Store: &faultyStore{Store: n.store, n: n, life: l}, Peers: peers, SettleEvery: cmp.Or(n.c.every, 5*time.Millisecond), Boot: fmt.Sprint("boot ", n.boots)}
	if n.c.fast {
		cfg.StepTimeout = 300 * time.Millisecond
	}
	if os.Getenv("MORTAR_DEBUG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", n.id)
	}
	o, err := NewOwner(cfg)
	if err != nil {
		n.t().Fatalf("set %d does not start: %v", n.id, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { o.Run(context.Background()) })
	l.owner.Store(o)
	l.stop = func() { cancel(); o.Close(); wg.Wait() }
	n.life.Store(l)
}

func (n *node) t() testing.TB { return n.c.t }

// halt ends the node's process.
func (n *node) halt() {
	l := n.life.Load()
	l.dead.Store(true)
	l.stop()
}

// restart crashes the node's process and starts it again.
func (n *node) restart() {
	n.halt()
	n.fault.Store(nil)
	n.store.Crash()
	n.start()
}

func (n *node) owner() *Owner { return n.life.Load().owner.Load() }

var errDown = &volume.Error{Op: "test", Errno: syscall.EIO, Reason: volume.Unavailable}

// link is a node as another sees it.
type link struct {
	n    *node
	from *life // nil: a client's
}

// ask returns the life that answers, nil if none does.
func (l *link) ask() *life {
	to := l.n.life.Load()
	if to == nil || to.dead.Load() || l.from != nil && l.from.dead.Load() {
		return nil
	}
	return to
}

func (l *link) Up() bool { return l.ask() != nil }

// lost turns an answer that can't arrive into an error.
func (l *link) lost(to *life, err error) error {
	if to.dead.Load() || l.from != nil && l.from.dead.Load() {
		return errDown
	}
	return err
}

func (l *link) Step(ctx context.Context, b []byte) ([]byte, error) {
	send := func() ([]byte, error) {
		return fwd1(ctx, l, func(ctx context.Context, o *Owner) ([]byte, error) { return o.Step(ctx, b) })
	}
	if net := l.n.c.net.Load(); net != nil {
		return (*net)(l.from, l.n.id, b, send)
	}
	return send()
}

// fwd1 carries a request out at the node. It dies with the process that serves
// it, whatever it waits for there.
func fwd1[A any](ctx context.Context, l *link, f func(ctx context.Context, o *Owner) (A, error)) (A, error) {
	type result struct {
		a   A
		err error
	}
	var none A
	to := l.ask()
	if to == nil {
		return none, errDown
	}
	done := make(chan result, 1)
	go func() {
		a, err := f(ctx, to.owner.Load())
		done <- result{a, err}
	}()
	select {
	case r := <-done:
		return r.a, l.lost(to, r.err)
	case <-to.ctx.Done():
		return none, errDown
	}
}

func fwd0(ctx context.Context, l *link, f func(ctx context.Context, o *Owner) error) error {
	_, err := fwd1(ctx, l, func(ctx context.Context, o *Owner) (struct{}, error) { return struct{}{}, f(ctx, o) })
	return err
}

func (l *link) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Attr, error) { return o.Lookup(ctx, dir, name) })
}
func (l *link) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Attr, error) { return o.Getattr(ctx, id) })
}
func (l *link) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Attr, error) { return o.Setattr(ctx, id, c) })
}
func (l *link) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	a, err := fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Attr, error) { return o.Make(ctx, dir, name, n) })
	return a, l.tell(ctx, dir, err)
}

// tell tells a client what brick/server tells it of a directory that it changed.
func (l *link) tell(ctx context.Context, dir volume.ID, err error) error {
	if b := volume.BesideOf(ctx); b != nil && err == nil {
		if a, err := l.Getattr(ctx, dir); err == nil {
			b.Dir = a
		}
	}
	return err
}
func (l *link) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	type made struct {
		f volume.File
		a volume.Attr
	}
	r, err := fwd1(ctx, l, func(ctx context.Context, o *Owner) (r made, err error) {
		r.f, r.a, err = o.Create(ctx, dir, name, n, f)
		return r, err
	})
	return r.f, r.a, l.tell(ctx, dir, err)
}
func (l *link) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.File, error) { return o.Open(ctx, id, f) })
}
func (l *link) Readlink(ctx context.Context, id volume.ID) (string, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (string, error) { return o.Readlink(ctx, id) })
}
func (l *link) Link(ctx context.Context, id, dir volume.ID, name string) (volume.Attr, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Attr, error) { return o.Link(ctx, id, dir, name) })
}
func (l *link) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return l.tell(ctx, dir, fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Unlink(ctx, dir, name) }))
}
func (l *link) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return l.tell(ctx, dir, fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Rmdir(ctx, dir, name) }))
}
func (l *link) Rename(ctx context.Context, od volume.ID, on string, nd volume.ID, nn string, f volume.RenameFlags) error {
	return l.tell(ctx, nd, fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Rename(ctx, od, on, nd, nn, f) }))
}
func (l *link) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	type page struct {
		list []volume.Entry
		end  bool
	}
	r, err := fwd1(ctx, l, func(ctx context.Context, o *Owner) (r page, err error) {
		r.list, r.end, err = o.ReadDir(ctx, dir, after, max, attrs)
		return r, err
	})
	return r.list, r.end, err
}
func (l *link) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) ([]byte, error) { return o.Getxattr(ctx, id, name) })
}
func (l *link) Setxattr(ctx context.Context, id volume.ID, name string, v []byte, f volume.XattrFlags) error {
	return fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Setxattr(ctx, id, name, v, f) })
}
func (l *link) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) ([]string, error) { return o.Listxattr(ctx, id) })
}
func (l *link) Removexattr(ctx context.Context, id volume.ID, name string) error {
	return fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Removexattr(ctx, id, name) })
}
func (l *link) Sync(ctx context.Context, id volume.ID) error {
	return fwd0(ctx, l, func(ctx context.Context, o *Owner) error { return o.Sync(ctx, id) })
}
func (l *link) Statfs(ctx context.Context) (volume.Statfs, error) {
	return fwd1(ctx, l, func(ctx context.Context, o *Owner) (volume.Statfs, error) { return o.Statfs(ctx) })
}

// quiet waits until no intent is open and no discard is left anywhere.
func (c *cluster) quiet() {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		what := c.unrest()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			c.tell()
			c.t.Fatalf("the volume does not come to rest:%s", what)
		}
		c.pause()
	}
}

// pause lets the others go on between two looks.
func (c *cluster) pause() {
	select {
	case <-time.After(time.Millisecond):
	case <-c.t.Context().Done():
	}
}

// unrest says what is still under way, "" if nothing is.
func (c *cluster) unrest() (what string) {
	for _, id := range c.ids {
		o := c.nodes[id].owner()
		o.mu.Lock()
		if n := len(o.mu.active) + len(o.mu.finished) + len(o.mu.parts) + len(o.mu.dying); n > 0 {
			what += fmt.Sprintf(" set %d: %d active, %d finished, %d parts, %d dying;", id, len(o.mu.active), len(o.mu.finished), len(o.mu.parts), len(o.mu.dying))
		}
		o.mu.Unlock()
		o.mu.Lock()
		if n := len(o.mu.doubt.sets); n > 0 || o.mu.boot != o.cfg.Boot {
			what += fmt.Sprintf(" set %d: doubts %v, boot %q;", id, o.mu.doubt, o.mu.boot)
		}
		o.mu.Unlock()
		if n := o.names.hidden.Load(); n != 0 {
			what += fmt.Sprintf(" set %d: %d names hidden;", id, n)
		}
		list, err := c.nodes[id].store.Discards(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		if len(list) > 0 {
			what += fmt.Sprintf(" set %d: discards %v;", id, list)
		}
	}
	return what
}
