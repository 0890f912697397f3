package set

import (
	"context"
	"sync"
	"time"
)

// timely is a context with a deadline that has no timer until somebody waits for it: nearly every change is
// applied within microseconds, and the timer was a twentieth of what a backup did for it. It takes from another context
// the values alone.
type timely struct {
	context.Context // never done
	until           time.Time

	mu struct {
		sync.Mutex
		timed context.Context // with the timer; nil: nobody has waited
		stop  context.CancelFunc
	}
}

// inTime returns a context with the values of ctx that ends after some time. end must be called.
func inTime(ctx context.Context, d time.Duration) *timely {
	return &timely{Context: context.WithoutCancel(ctx), until: time.Now().Add(d)}
}

// Deadline is context.Context's.
func (t *timely) Deadline() (time.Time, bool) { return t.until, true }

// Done is context.Context's.
func (t *timely) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.timed == nil {
		t.mu.timed, t.mu.stop = context.WithDeadline(t.Context, t.until)
	}
	return t.mu.timed.Done()
}

// Err is context.Context's.
func (t *timely) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.timed != nil:
		return t.mu.timed.Err()
	case time.Now().Before(t.until):
		return nil
	}
	return context.DeadlineExceeded // of which Done would tell, too
}

// end gives up what the context holds.
func (t *timely) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.stop != nil {
		t.mu.stop()
	}
}
