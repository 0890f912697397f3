package set

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/volume"
	filelocks "github.com/mortarfs/mortar/volume/locks"
)

// served is the service of a primary in the tests, in the place of server and owner: its
// store, for calls that end, or are forgotten, when it is hidden.
type served struct {
	p      *process
	store  volume.Store
	epoch  Epoch
	boot   string
	hidden chan struct{}

	mu    sync.Mutex
	quiet *sync.Cond
	calls int
	files map[volume.File]bool

	removals []*removal // under way, and those that wait for them
}

func (p *process) service(r Reign) (Service, error) {
	s := &served{p: p, store: r.Store, epoch: r.Epoch, boot: r.Boot, hidden: make(chan struct{}), files: map[volume.File]bool{}}
	s.quiet = sync.NewCond(&s.mu)
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	p.n.serve = s
	return s, nil
}

// Hide implements Service.
func (s *served) Hide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.hidden)
}

// Stop implements Service: it waits for the calls, and closes what is open.
func (s *served) Stop() {
	s.mu.Lock()
	for s.calls > 0 {
		s.quiet.Wait()
	}
	files := maps.Clone(s.files) // who closes one of them at this moment closes it twice, which does no harm
	s.mu.Unlock()
	for f := range files {
		_ = f.Close()
	}
}

// over reports whether nothing that this primary says is heard any more.
func (s *served) over() bool {
	select {
	case <-s.hidden:
		return true
	default:
		return s.p.killed()
	}
}

// enter begins a call, unless it is hidden.
func (s *served) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return false
	}
	s.calls++
	return true
}

func (s *served) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	s.quiet.Broadcast()
}

// unlinkTogether has a name removed with those that others come with meanwhile, by the first of them.
func (s *served) unlinkTogether(ctx context.Context, dir volume.ID, name string) error {
	mine := &removal{Removal: volume.Removal{Of: ctx, Dir: dir, Name: name}, done: make(chan struct{})}
	s.mu.Lock()
	s.removals = append(s.removals, mine)
	first := len(s.removals) == 1
	s.mu.Unlock()
	for first {
		s.mu.Lock()
		some := slices.Clone(s.removals)
		s.mu.Unlock()
		all := make([]volume.Removal, len(some))
		for i, r := range some {
			all[i] = r.Removal
		}
		s.store.(volume.Remover).RemoveAll(ctx, all)
		for i, r := range some {
			r.Err = all[i].Err
			close(r.done)
		}
		s.mu.Lock()
		s.removals = s.removals[len(some):]
		first = len(s.removals) > 0
		s.mu.Unlock()
	}
	<-mine.done
	return mine.Err
}

type removal struct {
	volume.Removal
	done chan struct{}
}

// keep notes an open file, which Stop closes.
func (s *served) keep(f volume.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[f] = true
}

func (s *served) drop(f volume.File) {
	s.mu.Lock()
	delete(s.files, f)
	s.mu.Unlock()
	_ = f.Close()
}

// serving returns who serves now, the newest if several seem to, nil for nobody.
func (c *cluster) serving() (newest *served) {
	for _, n := range c.nodes {
		n.mu.Lock()
		s := n.serve
		n.mu.Unlock()
		if s != nil && !s.over() && (newest == nil || s.epoch > newest.epoch) {
			newest = s
		}
	}
	return newest
}

// frontPatience is how long a front waits for somebody who serves.
const frontPatience = 45 * time.Second

// front is a client of the set: what it is asked it asks the primary, and the
// next one if that is no more, under the same Request, unless that was executed.
type front struct {
	c     *cluster
	id    [16]byte
	locks filelocks.Table
	next  atomic.Uint64
	delay time.Duration // before each operation, at most

	mu      sync.Mutex
	adopted *served
	files   map[*frontFile]bool // open

	asked, told, again atomic.Int64 // outcomes that were asked for; of these, executed; operations repeated
}

func newFront(c *cluster) *front {
	f := &front{c: c, files: map[*frontFile]bool{}}
	id := volume.NewID(1)
	copy(f.id[:], id[:])
	return f
}

// try runs do at a primary. ok: its result counts.
func try[T any](ctx context.Context, s *served, do func(ctx context.Context, s *served) (T, error)) (v T, err error, ok bool) {
	if !s.enter() {
		return v, nil, false
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer s.leave()
		v, err := do(ctx, s)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err, !s.over()
	case <-s.hidden:
		return v, nil, false
	}
}

// adopt returns who serves, once all files are open there; nil: ask again.
func (f *front) adopt(ctx context.Context) *served {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.c.serving()
	if s == nil || s == f.adopted {
		return s
	}
	for file := range f.files {
		h, err, ok := try(ctx, s, func(ctx context.Context, s *served) (volume.File, error) {
			h, err := s.store.Open(ctx, file.id, file.flags)
			if err == nil {
				s.keep(h)
			}
			return h, err
		})
		if !ok {
			return nil
		}
		if err != nil {
			if volume.ReasonOf(err) == volume.Unavailable || volume.ReasonOf(err) == volume.NotPrimary {
				return nil
			}
			f.c.t.Errorf("a file that was open can't be opened again: %v", err)
		}
		file.local = h
	}
	f.adopted = s
	if _, err, ok := try(ctx, s, func(ctx context.Context, s *served) (bool, error) { return true, s.store.Orphans(ctx) }); ok && err != nil {
		f.c.t.Logf("orphans: %v", err)
	}
	return s
}

// ask is how an operation is repeated.
type ask uint8

const (
	repeat ask = iota // freely
	decide            // only if it was not executed
	prefer            // if nobody knows that it was executed
)

// call carries an operation out. told makes its result of the outcome of one that was executed.
func call[T any](ctx context.Context, f *front, how ask, do func(ctx context.Context, s *served) (T, error), told func(ctx context.Context, s *served, o Outcome) (T, error)) (v T, err error) {
	if f.delay > 0 {
		pause(ctx, time.Duration(rand.Int64N(int64(f.delay))))
	}
	q := volume.Request{Session: f.id, Number: f.next.Add(1)}
	do = func(do func(context.Context, *served) (T, error)) func(ctx context.Context, s *served) (T, error) {
		return func(ctx context.Context, s *served) (T, error) { return do(volume.WithRequest(ctx, q), s) }
	}(do)
	sent := false
	for end := time.Now().Add(frontPatience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, time.Millisecond) {
		s := f.adopt(ctx)
		if s == nil {
			continue
		}
		if sent && how != repeat {
			type outcome struct {
				o               Outcome
				executed, known bool
			}
			o, _, ok := try(ctx, s, func(ctx context.Context, s *served) (outcome, error) {
				o, executed, known := s.p.set.Outcome(ctx, q)
				return outcome{o, executed, known}, nil
			})
			switch {
			case !ok:
				continue
			case o.executed:
				f.told.Add(1)
				if v, err, ok = try(ctx, s, func(ctx context.Context, s *served) (T, error) { return told(ctx, s, o.o) }); ok {
					return v, err
				}
				continue
			case !o.known && how == decide:
				return v, fmt.Errorf("nobody knows what became of request %d", q.Number)
			}
			f.asked.Add(1)
		}
		if sent {
			f.again.Add(1)
		}
		sent = true
		var ok bool
		v, err, ok = try(ctx, s, do)
		if reason := volume.ReasonOf(err); ok && reason != volume.NotPrimary && reason != volume.Unavailable {
			return v, err
		}
	}
	if err == nil {
		err = &volume.Error{Op: "front", Errno: 5, Reason: volume.Unavailable, Err: fmt.Errorf("nobody serves")}
	}
	return v, err
}

type none struct{}

// plain is call for what has no result.
func plain(ctx context.Context, f *front, how ask, do func(ctx context.Context, s *served) error) error {
	_, err := call(ctx, f, how, func(ctx context.Context, s *served) (none, error) { return none{}, do(ctx, s) },
		func(context.Context, *served, Outcome) (none, error) { return none{}, nil })
	return err
}

// attrTold is what an outcome tells of operations that have attributes for their result.
func attrTold(_ context.Context, _ *served, o Outcome) (volume.Attr, error) {
	if o.Attr.ID.IsZero() {
		return o.Attr, fmt.Errorf("the outcome has no attributes")
	}
	return o.Attr, nil
}
