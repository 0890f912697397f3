package manage

import (
	"context"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// waitMax is how long a test waits for something that has to come, on a machine that is busy.
const waitMax = 45 * time.Second

// playMax is how long a test that plays the same at many places begins with others. On a machine that is not
// busy it comes to all that it has chosen.
const playMax = 90 * time.Second

// comes waits for what ch has to give, or its end; the test ends if that does not come.
func comes[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	v, ok := came(t, what, ch)
	if !ok {
		t.FailNow()
	}
	return v
}

// came is comes, and lets a test that has failed go on.
func came[T any](t *testing.T, what string, ch <-chan T) (v T, ok bool) {
	t.Helper()
	limit := time.NewTimer(waitMax)
	defer limit.Stop()
	select {
	case v = <-ch:
		return v, true
	case <-limit.C:
	}
	var all strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	t.Logf("what goes on:\n%s", all.String())
	t.Errorf("not within %v: %s", waitMax, what)
	return v, false
}

// watched are the maps of the volume "v", as daemons tell of them. Of several changes in a short time only the
// last is told, on a busy machine: a test must not wait for what lies between.
type watched struct {
	t    *testing.T
	maps chan *spec.Map
}

// watch follows the maps of "v" until the test ends, asking the target first.
func watch(t *testing.T, target string) *watched {
	t.Helper()
	w := &watched{t, make(chan *spec.Map, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.FollowMap(ctx, []string{target}, "v", func(m *spec.Map) {
			select {
			case w.maps <- m:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err, _ := came(t, "the end of who follows the maps", done); err != nil {
			t.Logf("the maps ended with: %v", err)
		}
	})
	return w
}

// until returns the first map from now on for which cond holds.
func (w *watched) until(what string, cond func(*spec.Map) bool) *spec.Map {
	w.t.Helper()
	for end := time.Now().Add(waitMax); ; {
		m := comes(w.t, "a map: "+what, w.maps)
		if cond(m) {
			return m
		}
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: a map: %s; the last is %+v", waitMax, what, m)
		}
	}
}

// next returns the next map.
func (w *watched) next() *spec.Map {
	w.t.Helper()
	return w.until("any", func(*spec.Map) bool { return true })
}
