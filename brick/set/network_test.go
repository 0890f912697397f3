package set

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// process is one process of a node: it can be paused, as by SIGSTOP, and killed.
type process struct {
	n     *node
	life  string
	set   *Set
	calls sync.WaitGroup // of others, that are handled here

	// alive is held for reading by each operation on the member's store, so that none is
	// carried out when kill has returned.
	alive sync.RWMutex
	dead  bool // under alive

	mu     sync.Mutex
	paused chan struct{} // closed when it goes on; nil: it runs
	hook   hook
	refuse func(op string) error // why an operation on the store is not carried out; nil: it is
	fault  func(op string) error // what an operation on the store says in spite of having been carried out; nil: nothing
}

// hook is called before an operation on the member's store, and after it (done). It may wait.
type hook func(op string, done bool)

// kill ends the process's effects.
func (p *process) kill() {
	p.resume() // what hangs has to notice
	p.alive.Lock()
	defer p.alive.Unlock()
	p.dead = true
	_ = p.set.ledger.log.Close() // it must not note that what it did not carry out has failed
}

func (p *process) killed() bool {
	p.alive.RLock()
	defer p.alive.RUnlock()
	return p.dead
}

func (p *process) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

// runs waits until the process is not paused, or ctx ends.
func (p *process) runs(ctx context.Context) error {
	for {
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if paused == nil {
			return nil
		}
		select {
		case <-paused:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *process) setHook(h hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = h
}

// trace logs an operation on the member's store.
func (p *process) trace(ctx context.Context, op string, about ...any) {
	if p.n.c.traced {
		fixed, _ := volume.FixedOf(ctx)
		p.n.c.log.Debug(op, "node", p.n.id, "about", fmt.Sprint(about...), "keep", fixed.Keep, "request", volume.RequestOf(ctx).Number)
	}
}

// step carries out an operation on the member's store, unless the process is dead.
func (p *process) step(op string, f func() error) error {
	p.mu.Lock()
	h, refuse, fault := p.hook, p.refuse, p.fault
	p.mu.Unlock()
	if h != nil {
		h(op, false)
	}
	_ = p.runs(context.Background())
	p.alive.RLock()
	if p.dead {
		p.alive.RUnlock()
		return errDead
	}
	var err error
	if refuse != nil {
		err = refuse(op)
	}
	if err == nil {
		err = f()
	}
	p.alive.RUnlock()
	if err == nil && fault != nil {
		err = fault(op)
	}
	if h != nil {
		h(op, true)
	}
	if p.killed() {
		return errDead
	}
	return err
}

var errDead = &volume.Error{Op: "dead", Errno: 5}

// unheard is the failure of a call that was not answered.
func unheard() error { return &volume.Error{Op: "peer", Errno: 5, Reason: volume.Unavailable} }

// asked is the configuration store as one process sees it.
type asked struct {
	*authority
	p *process
}

func (a asked) reach(ctx context.Context) error {
	if err := a.p.runs(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.p.killed() || a.deaf[a.p.n.i] {
		return errStore
	}
	return nil
}

func (a asked) Read(ctx context.Context) (spec.SetState, Revision, error) {
	if err := a.reach(ctx); err != nil {
		return spec.SetState{}, 0, err
	}
	return a.authority.Read(ctx)
}

func (a asked) Swap(ctx context.Context, r Revision, next spec.SetState) (Revision, error) {
	if err := a.reach(ctx); err != nil {
		return 0, err
	}
	r, err := a.authority.Swap(ctx, r, next)
	a.p.n.c.late.Go(a.p.n.c.publish) // daemons tell of it
	if err := a.reach(ctx); err != nil {
		return 0, err
	}
	return r, err
}

// weather is what happens to messages: chances in a thousand.
type weather struct {
	mu                        sync.Mutex
	rng                       *rand.Rand
	lost, unanswered          int
	late, twice               int
	most                      time.Duration // a message or its second copy is late by up to this
	seen                      func(from, to *node, msg []byte)
	hold                      func(from, to *node, msg []byte) <-chan struct{} // not nil: it arrives when that is closed
	held                      sync.WaitGroup                                   // messages that were told to, and are not handled yet
	lostN, lateN, twiceN, deN int
}

// setWeather lets w happen to all messages from now on.
func (c *cluster) setWeather(w *weather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weather = w
}

// fate is what happens to one message.
type fate struct {
	lost, unanswered bool
	late, again      time.Duration
	hold             <-chan struct{}
}

func (w *weather) next(from, to *node, msg []byte) (f fate) {
	if w == nil {
		return f
	}
	if w.seen != nil {
		w.seen(from, to, msg)
	}
	if w.hold != nil {
		if f.hold = w.hold(from, to, msg); f.hold != nil {
			w.held.Add(1)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rng == nil {
		return f
	}
	chance := func(n int) bool { return w.rng.IntN(1000) < n }
	some := func() time.Duration { return time.Duration(w.rng.Int64N(int64(w.most) + 1)) }
	if f.lost = chance(w.lost); f.lost {
		w.lostN++
	}
	if f.unanswered = chance(w.unanswered); f.unanswered {
		w.deN++
	}
	if chance(w.late) {
		f.late = some()
		w.lateN++
	}
	if chance(w.twice) {
		f.again = some() + 1
		w.twiceN++
	}
	return f
}

// wirePeer is how a process calls another node.
type wirePeer struct {
	from *process
	to   *node
}

func (p wirePeer) Up() bool { return true }

// open reports whether something sent from one node arrives at another.
func (c *cluster) open(from, to *node) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.cut[[2]int{from.i, to.i}]
}

// running returns the node's process, which counts one more call; nil: none runs.
func (n *node) running() *process {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.proc != nil {
		n.proc.calls.Add(1)
	}
	return n.proc
}

func (p wirePeer) Call(ctx context.Context, msg, data []byte) ([]byte, error) {
	c, from := p.from.n.c, p.from.n
	if p.from.killed() {
		return nil, unheard()
	}
	if err := p.from.runs(ctx); err != nil {
		return nil, unheard()
	}
	c.mu.Lock()
	w := c.weather
	c.mu.Unlock()
	f := w.next(from, p.to, msg)
	if !c.open(from, p.to) {
		return nil, unheard()
	}
	type answer struct {
		b   []byte
		err error
	}
	msg, data = slices.Clone(msg), slices.Clone(data)
	answered := make(chan answer, 1)
	deliver := func(ctx context.Context, after time.Duration) (a answer) {
		pause(ctx, after)
		if f.hold != nil {
			<-f.hold
			defer w.held.Done()
		}
		to := p.to.running()
		if to == nil {
			return answer{err: unheard()}
		}
		defer to.calls.Done()
		_ = to.runs(context.Background())
		a.b, a.err = to.set.Handle(ctx, slices.Clone(msg), slices.Clone(data))
		_ = to.runs(context.Background())
		if to.killed() || !c.open(p.to, from) {
			return answer{err: unheard()}
		}
		return a
	}
	if f.again > 0 {
		c.late.Go(func() { deliver(context.Background(), f.again) })
	}
	if f.lost {
		return nil, unheard()
	}
	c.late.Go(func() { answered <- deliver(ctx, f.late) })
	select {
	case a := <-answered:
		if f.unanswered || p.from.killed() {
			return nil, unheard()
		}
		if err := p.from.runs(ctx); err != nil {
			return nil, unheard()
		}
		return a.b, a.err
	case <-ctx.Done():
		return nil, unheard()
	case <-time.After(peerTimeout):
		return nil, unheard()
	}
}

// peerTimeout is when a call ends that is not answered, as network.timeout has it.
const peerTimeout = 8 * time.Second

// clear makes all cuts and pauses and the weather good.
func (c *cluster) clear() {
	c.mu.Lock()
	clear(c.cut)
	c.weather = nil
	var all []*process
	for _, n := range c.nodes {
		if n.proc != nil {
			all = append(all, n.proc)
		}
	}
	c.mu.Unlock()
	for _, p := range all {
		p.resume()
	}
	c.auth.mu.Lock()
	defer c.auth.mu.Unlock()
	c.auth.down = false
	clear(c.auth.deaf)
}

// alone cuts a node off from the others and from the configuration store.
func (c *cluster) alone(n *node) {
	c.auth.mu.Lock()
	c.auth.deaf[n.i] = true
	c.auth.mu.Unlock()
	c.isolate(n, true, true)
}

// isolate cuts a node off from the others, in the directions that are given.
func (c *cluster) isolate(n *node, from, to bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.nodes {
		if o != n {
			c.cut[[2]int{n.i, o.i}] = from
			c.cut[[2]int{o.i, n.i}] = to
		}
	}
}
