package set

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestTimely: a timely context ends at its time, for those who wait and those who look, whoever comes first, and not
// with the context that it was made of, whose values it has.
func TestTimely(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, 1))
	cancel()
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := inTime(parent, time.Minute)
			defer ctx.end()
			if ctx.Value(key{}) != 1 || ctx.Err() != nil {
				t.Fatalf("value %v, error %v", ctx.Value(key{}), ctx.Err())
			}
			if at, ok := ctx.Deadline(); !ok || time.Until(at) != time.Minute {
				t.Fatalf("it ends in %v, %v", time.Until(at), ok)
			}
			if waits {
				<-ctx.Done()
			} else {
				<-time.After(time.Minute)
			}
			if ctx.Err() != context.DeadlineExceeded {
				t.Errorf("waits %v: after its time its error is %v", waits, ctx.Err())
			}
			select {
			case <-ctx.Done():
			default:
				t.Errorf("waits %v: after its time it is not done", waits)
			}
		})
	}
}

// TestTimelyChild: who derives a context from a timely one is told of its end too, and giving it up leaves nothing behind.
func TestTimelyChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := inTime(context.Background(), time.Minute)
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-child.Done()
		if child.Err() != context.DeadlineExceeded {
			t.Errorf("the derived context's error is %v", child.Err())
		}
		ctx.end()
	})
}
