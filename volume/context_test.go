package volume

import (
	"context"
	"testing"
	"testing/synctest"
)

// watched is a context that knows itself how to call a function when it is done.
type watched struct {
	context.Context
	after []func()
}

func (w *watched) AfterFunc(f func()) (stop func() bool) {
	w.after = append(w.after, f)
	return func() bool { return true }
}

// wrapped is ctx with all values that there are.
func wrapped(ctx context.Context) context.Context {
	ctx = WithBeside(WithLayout(WithCred(ctx, Cred{UID: 7}), 3), &Beside{})
	return WithFixed(WithRequest(ctx, Request{Number: 5}), Fixed{Keep: true})
}

// TestAfterFuncHandedOn: whoever derives a context from one with values asks the one below to be told of its end.
func TestAfterFuncHandedOn(t *testing.T) {
	below, cancel := context.WithCancel(t.Context())
	w := &watched{Context: hidden{below}}
	ctx := wrapped(w)
	child, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() {})
	if len(w.after) != 2 {
		t.Fatalf("the context below was asked %d times, want 2", len(w.after))
	}
	cancel()
	if w.after[0](); child.Err() != context.Canceled {
		t.Error("the derived context goes on")
	}
	if !stop() {
		t.Error("what has not run can't be stopped")
	}
}

// hidden hides a context's kind from package context.
type hidden struct{ context.Context }

func (h hidden) Value(any) any { return nil }

// TestValues: values are found through others, and the end of what is below is seen.
func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, own := range []bool{false, true} {
			below, cancel := context.WithCancel(context.Background())
			var ctx context.Context = below
			if own {
				ctx = hidden{below}
			}
			ctx = wrapped(ctx)
			if f, ok := FixedOf(ctx); CredOf(ctx).UID != 7 || LayoutOf(ctx) != 3 || BesideOf(ctx) == nil || RequestOf(ctx).Number != 5 || !ok || !f.Keep {
				t.Error("a value is missing")
			}
			if RequestOf(WithRequest(ctx, Request{})) != (Request{}) {
				t.Error("a value can't be hidden by another")
			}
			ran := false
			stopped := context.AfterFunc(ctx, func() { t.Error("it was stopped") })
			context.AfterFunc(ctx, func() { ran = true })
			child, end := context.WithCancel(ctx)
			if !stopped() {
				t.Error("what has not run can't be stopped")
			}
			cancel()
			synctest.Wait()
			if !ran || child.Err() != context.Canceled || ctx.Err() != context.Canceled {
				t.Errorf("own %v: ran %v, errors %v and %v", own, ran, child.Err(), ctx.Err())
			}
			end()
		}
	})
}
