package quorum

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	a, b, c, d := p[0], p[1], p[2], p[3]
	ctx, cancel := limit()
	defer cancel()
	if err := a.Recover(ctx); !errors.Is(err, ErrMode) {
		t.Errorf("a pool with a majority is recovered: %v", err)
	}
	lease, err := a.Client().Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Client().Put(ctx, "mortar/leased", "1", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		c.put(fmt.Sprintf("mortar/%d", i), "x") // the last one it may not know to be committed
	}
	a.kill()
	b.kill()
	if err := d.Recover(ctx); !errors.Is(err, ErrMode) {
		t.Errorf("a client is recovered: %v", err)
	}
	c.eventually("miss the majority", func(ctx context.Context) error {
		if h := c.Health(ctx); h.Quorum {
			return fmt.Errorf("the health is %+v", h)
		}
		return nil
	})
	begun := time.Now()
	ctx, cancel = limit()
	defer cancel()
	if err := c.Recover(ctx); err != nil {
		t.Fatalf("after %v: %v", time.Since(begun), err)
	}
	t.Logf("recovered after %v", time.Since(begun))
	cluster := a.cfg.Cluster
	if st := c.Status(); st.Role != Voter || st.Pool.Incarnation != 2 || st.Pool.Cluster != cluster {
		t.Errorf("after Recover: %+v", st)
	}
	for i := range 50 {
		c.has(fmt.Sprintf("mortar/%d", i), "x")
	}
	if r, err := c.Client().Get(ctx, "mortar/leased"); err != nil || len(r.Kvs) != 0 {
		t.Errorf("a leased key outlives its lease: %v, %v", r, err)
	}
	d.has("mortar/49", "x") // the client follows by itself
	d.eventually("know the incarnation", func(context.Context) error {
		if st := d.Status(); st.Pool.Incarnation != 2 || !slices.Equal(st.Pool.Endpoints, []string{c.endpoint()}) {
			return fmt.Errorf("it knows %+v", st.Pool)
		}
		return nil
	})
	c.put("mortar/new", "1")
	// The others come back together: they would be a majority of the old pool.
	a.open()
	b.open()
	for _, v := range []*server{a, b} {
		st := v.Status()
		if !errors.Is(st.Err, ErrSuperseded) || st.Successor == nil || st.Successor.Incarnation != 2 {
			t.Fatalf("an old member does not find out: %+v", st)
		}
		v.has("mortar/new", "1")
		if err := v.Recover(ctx); !errors.Is(err, ErrSuperseded) {
			t.Errorf("an old member is recovered: %v", err)
		}
		if err := v.BecomeClient(ctx, *st.Successor); err != nil {
			t.Fatal(err)
		}
	}
	p = pool{c, a, b, d}
	p.rest(3)
	p.roles(Voter, Voter, Voter, Client)
	b.has("mortar/new", "1")
}

// An old member that started while no recovered one was reachable finds out when they meet.
func TestSupersededLater(t *testing.T) {
	t.Parallel()
	p := newPool(t, 3)
	a, b, c := p[0], p[1], p[2]
	a.put("mortar/a", "1")
	b.kill()
	c.kill()
	ctx, cancel := limit()
	defer cancel()
	a.eventually("be recovered", func(ctx context.Context) error { return a.Recover(ctx) })
	a.put("mortar/a", "2")
	a.close()
	b.open()
	c.open()
	b.has("mortar/a", "1") // the old pool, as the package comment says
	a.open()
	for _, v := range []*server{b, c} {
		v.eventually("find out", func(context.Context) error {
			if st := v.Status(); !errors.Is(st.Err, ErrSuperseded) {
				return fmt.Errorf("it is %+v", st)
			}
			return nil
		})
		v.has("mortar/a", "2")
	}
	// It is found out again after a restart, since its data are still the old ones.
	b.close()
	b.open()
	if st := b.Status(); !errors.Is(st.Err, ErrSuperseded) {
		t.Errorf("after its restart it is %+v", st)
	}
	if err := b.BecomeLearner(ctx, b.host); !errors.Is(err, ErrSuperseded) {
		t.Errorf("an old member becomes a learner: %v", err)
	}
}

// A new pool from what a server without a member remembers.
func TestFound(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	p[0].put("mortar/1/a", "1")
	d := p[3]
	ctx, cancel := limit()
	defer cancel()
	keys, revision, err := d.Export(ctx, "mortar/1/")
	if err != nil || len(keys) != 1 || keys[0].Key != "mortar/1/a" || keys[0].Revision == 0 || revision < keys[0].Revision {
		t.Fatalf("exported: %v at %d, %v", keys, revision, err)
	}
	old := p[0].Status().Pool
	for _, v := range p[:3] {
		v.kill()
	}
	if err := d.Found(ctx, Founding{Cluster: old.Cluster, Incarnation: old.Incarnation + 1, Host: d.host, Keys: keys}); err != nil {
		t.Fatal(err)
	}
	d.has("mortar/1/a", "1")
	d.healthy(1)
	d.put("mortar/1/a", "2")
	// The old voters know nothing of d, unless they are told where to look.
	p[0].open()
	p[0].Hint([]string{d.endpoint()})
	p[0].eventually("find out", func(context.Context) error {
		if st := p[0].Status(); !errors.Is(st.Err, ErrSuperseded) {
			return fmt.Errorf("it is %+v", st)
		}
		return nil
	})
	p[0].has("mortar/1/a", "2")
}

// Each transition ends at each of its points, as by a crash, and is completed by
// repeating it; and is cancelled there, and repeated.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	fresh := "33333333-3333-4333-8333-333333333333"
	for _, c := range []struct {
		name   string
		points []string
		ready  func(t *testing.T) (v *server, run func(context.Context) error)
		role   Role
	}{
		{"Listen", []string{"recorded", "listening"}, func(t *testing.T) (*server, func(context.Context) error) {
			v := newServer(t).open()
			v.put("mortar/a", "1")
			return v, func(ctx context.Context) error { return v.Listen(ctx, v.host) }
		}, Voter},
		{"BecomeClient", []string{"recorded", "ended"}, func(t *testing.T) (*server, func(context.Context) error) {
			a, v := newServer(t).open(), newServer(t).open()
			if err := a.Listen(context.Background(), a.host); err != nil {
				t.Fatal(err)
			}
			a.put("mortar/a", "1")
			return v, func(ctx context.Context) error { return v.BecomeClient(ctx, a.Status().Pool) }
		}, Client},
		{"BecomeLearner", []string{"recorded", "started"}, func(t *testing.T) (*server, func(context.Context) error) {
			p := pool{newServer(t).open()}
			v := p.join(newServer(t).open())
			p[0].put("mortar/a", "1")
			if _, err := p[0].AddLearner(context.Background(), v.peer()); err != nil {
				t.Fatal(err)
			}
			return v, func(ctx context.Context) error { return v.BecomeLearner(ctx, v.host) }
		}, Learner},
		{"Found", []string{"prepared", "recorded", "ended", "started"}, func(t *testing.T) (*server, func(context.Context) error) {
			p := pool{newServer(t).open()}
			v := p.join(newServer(t).open())
			return v, func(ctx context.Context) error {
				return v.Found(ctx, Founding{Cluster: fresh, Incarnation: 1, Keys: []KeyValue{{Key: "mortar/a", Value: []byte("1")}}})
			}
		}, Alone},
		{"Recover", []string{"stopped", "copied", "forced", "prepared", "recorded", "ended", "started"}, func(t *testing.T) (*server, func(context.Context) error) {
			v := newServer(t).open()
			v.put("mortar/a", "1")
			p := pool{v}
			p = append(p, p.join(newServer(t).open()))
			p.vote(p[1])
			p[1].kill()
			return v, func(ctx context.Context) error {
				if st := v.Status(); st.Pool.Incarnation == 2 {
					return nil // it is done
				}
				return v.Recover(ctx)
			}
		}, Voter},
	} {
		for _, point := range c.points {
			check := func(t *testing.T, interrupt func(*server, string, func(context.Context) error)) {
				t.Parallel()
				v, run := c.ready(t)
				interrupt(v, point, run)
				v.eventually("complete it", run)
				if st := v.Status(); st.Role != c.role || st.Err != nil {
					t.Errorf("it is %+v", st)
				}
				v.has("mortar/a", "1")
				if entries, err := os.ReadDir(v.cfg.Dir); err != nil || len(entries) > 1 {
					t.Errorf("left behind: %v, %v", entries, err)
				}
			}
			t.Run(c.name+"/"+point+"/crash", func(t *testing.T) { check(t, (*server).crash) })
			t.Run(c.name+"/"+point+"/cancel", func(t *testing.T) { check(t, (*server).cancel) })
		}
	}
}

// crash runs a transition up to a point, where the process ends and begins again.
func (v *server) crash(point string, run func(context.Context) error) {
	v.t.Helper()
	reached := false
	v.Store.cfg.pass = func(at string) {
		if at == point {
			reached = true
			runtime.Goexit()
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := limit()
		defer cancel()
		_ = run(ctx) // it does not return
	}()
	<-ended
	if !reached {
		v.t.Fatalf("it does not come to %q", point)
	}
	v.kill()
	v.open()
}

// cancel runs a transition whose context ends at a point.
func (v *server) cancel(point string, run func(context.Context) error) {
	v.t.Helper()
	ctx, cancel := limit()
	defer cancel()
	v.Store.cfg.pass = func(at string) {
		if at == point {
			cancel()
		}
	}
	_ = run(ctx) // it fails or is beyond that
	if ctx.Err() == nil {
		v.t.Fatalf("it does not come to %q", point)
	}
}
