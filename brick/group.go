package brick

import (
	"context"
	"sync"
)

// group lets callers at the same time share one run of something slow that
// serves them all, such as a syncfs. A caller is served by a run that began
// after it called, never by one that was under way already.
//
// The run is made by one of the callers; no goroutine is kept.
type group struct {
	once sync.Once
	run  chan struct{} // one place, taken by who runs; see token

	mu struct {
		sync.Mutex
		next *round // the round that callers join; nil: none has yet
	}
}

type round struct {
	done chan struct{}
	err  error // valid once done is closed
}

func (g *group) token() chan struct{} {
	g.once.Do(func() { g.run = make(chan struct{}, 1) })
	return g.run
}

// alone runs f while no round runs.
func (g *group) alone(f func() error) error {
	g.token() <- struct{}{}
	defer func() { <-g.run }()
	return f()
}

// do returns the result of a run of f that began after the call of do. When
// ctx ends before, it returns with ctx's error.
func (g *group) do(ctx context.Context, f func() error) error {
	token := g.token()
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if g.mu.next == nil {
		g.mu.next = &round{done: make(chan struct{})}
	}
	r := g.mu.next
	g.mu.Unlock()

	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case token <- struct{}{}:
	}
	defer func() { <-token }()
	select {
	case <-r.done: // the one before ran this round
		return r.err
	default:
	}
	// Invariant: rounds begin under the token only, so r is still the next one.
	g.mu.Lock()
	g.mu.next = nil
	g.mu.Unlock()
	r.err = f()
	close(r.done)
	return r.err
}
