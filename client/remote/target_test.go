package remote_test

import (
	"context"
	"testing"
	"time"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// stepDown makes nobody serve the set.
func (s *replicas) stepDown() {
	s.mu.Lock()
	s.mu.reign = &reign{member: -1}
	s.mu.Unlock()
	for _, srv := range s.servers {
		srv.SetBackend(nil)
	}
}

// While no member serves the set calls wait for one, and notice it soon; then, after the timeout, they
// fail at once.
func TestNobodyServes(t *testing.T) {
	const timeout = 2 * time.Second
	s := newReplicas(t)
	s.stepDown()
	r := connect(t, "", func(c *remote.Config) { c.Targets, c.Primary, c.Timeout = s.targets(), -1, timeout })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Await(ctx); volume.ReasonOf(err) != volume.Unavailable || r.Up() {
		t.Errorf("nobody serves: %v", err)
	}
	if _, err := r.Step(t.Context(), nil); volume.ReasonOf(err) != volume.Unavailable {
		t.Errorf("a Step: %v", err)
	}
	done := start(func() error { _, err := r.Getattr(t.Context(), volume.Root); return err })
	begin := time.Now()
	s.reignAt(2)
	if err := ends(t, done); err != nil || !r.Up() {
		t.Errorf("member 2 serves: %v, up %v", err, r.Up())
	}
	if took := time.Since(begin); took > time.Second { // 250 ms, on a machine of one's own
		t.Errorf("it was noticed after %v", took)
	}
	if _, err := r.Step(t.Context(), nil); err != nil {
		t.Errorf("a Step: %v", err)
	}
	s.stepDown()
	eventually(t, "calls fail at once", func() bool {
		begin := time.Now()
		_, err := r.Getattr(t.Context(), volume.Root)
		return volume.ReasonOf(err) == volume.Unavailable && time.Since(begin) < timeout/4
	})
	s.reignAt(0)
	eventually(t, "served again", func() bool { _, err := r.Getattr(t.Context(), volume.Root); return err == nil })
}

// Members that are silent, even the one said to be the primary, hold up nothing.
func TestSilentMember(t *testing.T) {
	s := newReplicas(t)
	s.proxies[0].stall(true, true)
	s.servers[0].SetBackend(nil)
	s.reignAt(2)
	begin := time.Now()
	r := s.remote(t)
	if _, err := r.Getattr(t.Context(), volume.Root); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 1500*time.Millisecond { // 250 ms; a try to connect may take 3 s
		t.Errorf("it took %v", took)
	}
	// And while nobody serves: the silent one does not lengthen the rounds of the others.
	s.stepDown()
	eventually(t, "disconnected", func() bool { return !r.Up() })
	begin = time.Now()
	s.reignAt(1)
	if _, err := r.Getattr(t.Context(), volume.Root); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// A primary that is cut off is given up without a word from anybody, after wire.StallAfter.
func TestCutOffUntold(t *testing.T) {
	t.Parallel()
	w := newOnce(t)
	w.s.proxies[0].stall(true, true)
	w.s.reignAt(1)
	begin := time.Now()
	if _, err := w.file.Append(w.ctx, []byte("-more"), 0); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if wrong := w.content("first-more"); wrong != "" {
		t.Error(wrong)
	}
}

// Whatever targets are told, a link that is right stays.
func TestTargetsKeepLink(t *testing.T) {
	w := newOnce(t)
	dialed := func() (n int64) {
		for _, p := range w.s.proxies {
			n += p.dialed.Load()
		}
		return n
	}
	before := dialed()
	all := w.s.targets()
	for _, told := range []struct {
		targets []remote.Target
		primary int
	}{{all, -1}, {all, 0}, {all[:2], 0}, {[]remote.Target{all[2], all[0]}, 1}, {[]remote.Target{{BrickID: all[0].BrickID}, all[1]}, 0}, {all, 0}} {
		w.r.SetTargets(told.targets, told.primary)
		if _, err := w.file.Getattr(w.ctx); err != nil {
			t.Error(err)
		}
	}
	if n := dialed() - before; n != 0 {
		t.Errorf("%d new connections", n)
	}
	// An old word of who is primary leads astray for a moment.
	w.r.SetTargets(all, 2)
	eventually(t, "back at the primary", func() bool { return dialed() > before && w.r.Up() })
	if _, err := w.file.Getattr(w.ctx); err != nil {
		t.Error(err)
	}
	// A member that is no more is left.
	w.s.servers[0].SetBackend(nil)
	w.s.reignAt(1)
	w.r.SetTargets(all[1:], -1)
	if _, err := w.file.Getattr(w.ctx); err != nil {
		t.Error(err)
	}
}
