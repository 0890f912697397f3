package set

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Messages that come twice, or late.

func TestHeard(t *testing.T) {
	var h heard
	for _, c := range []struct {
		n    uint64
		want bool
	}{
		{2, true}, {1, true}, {2, false}, {1, false}, {heardMax + 1, true}, {3, true}, {2, false},
		{heardMax + 100, true}, {100, false}, {101, true}, {101, false}, {10 * heardMax, true}, {heardMax + 101, false},
	} {
		if got := h.first(c.n); got != c.want {
			t.Errorf("%d comes for the first time: %v", c.n, got)
		}
	}
	for n := uint64(20 * heardMax); n < 30*heardMax; n++ {
		if !h.first(n) || h.first(n-heardMax/2) != (n < 20*heardMax+heardMax/2) || len(h.seen) > 2*heardMax {
			t.Fatalf("at %d of %d remembered", n, len(h.seen))
		}
	}
}

// TestHealTwice has a heal's message come once more, as from a connection that broke, when what it made has gone.
func TestHealTwice(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	p, s := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	r := p.set.reignNow()
	var late atomic.Pointer[[]byte]
	c.setWeather(&weather{seen: func(_, _ *node, msg []byte) {
		if message(msg[frontSize]) == askInstall {
			late.Store(&msg)
		}
	}})
	a, err := s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: 0o40755})
	must(t, err)
	o, err := p.member.Describe(t.Context(), a.ID)
	must(t, err)
	r.mu.Lock()
	to := r.side(r.mu.backups[0])
	r.mu.Unlock()
	must(t, to.install(t.Context(), o))
	must(t, s.Rmdir(t.Context(), volume.Root, "d"))
	var data writer
	data.object(o)
	if _, err := b.set.Handle(context.Background(), *late.Load(), data.b); volume.ReasonOf(err) != volume.Unavailable {
		t.Errorf("the second copy: %v", err)
	}
	if _, err := b.member.Describe(t.Context(), a.ID); !isStale(err) {
		t.Errorf("the directory is there again: %v", err)
	}
}

// TestRepairComesLate has what a comparison of members in sync sends to repair a file arrive when the file has
// been written since: the repair was given up before.
func TestRepairComesLate(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	p, s := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	f, id := newFile(t, s, "a", "first")
	held := hidden(context.Background())
	there, err := b.member.Open(held, id, volume.Write)
	must(t, err)
	_, err = there.WriteAt(held, []byte("wrong"), 0, 0)
	must(t, err)
	must(t, there.Close())
	o, err := p.member.Describe(t.Context(), id)
	must(t, err)
	must(t, b.member.Install(t.Context(), o)) // the time too, so that it is the other member that is damaged
	late, sent := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	w := &weather{}
	w.hold = func(_, to *node, msg []byte) <-chan struct{} {
		if message(msg[frontSize]) == askWrite && to == b && once.CompareAndSwap(false, true) {
			close(sent)
			return late
		}
		return nil
	}
	c.setWeather(w)
	must(t, p.set.StartHeal(t.Context(), true))
	select {
	case <-sent:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is repaired")
	}
	_, err = f.WriteAt(t.Context(), []byte("newer"), 0, 0)
	must(t, err)
	close(late)
	w.held.Wait()
	c.allInSync(20 * time.Second)
	c.equal()
	if got := content(t, s, id); got != "newer" {
		t.Errorf("it has %q", got)
	}
}

// TestHealedInFlight has a member taken back while a change is in flight that another member never gets, and the
// primary lost then: the two that are left are equal, whoever takes over.
func TestHealedInFlight(t *testing.T) {
	t.Parallel()
	for try := range 6 {
		c := begunCluster(t, 3, inMemory)
		p, s := c.primary(10 * time.Second)
		x, z := c.nodes[(p.i+1)%3], c.nodes[(p.i+2)%3]
		if try%2 == 1 {
			x, z = z, x
		}
		r := p.set.reignNow()
		z.end(true)
		c.eventually("it is out of sync", 10*time.Second, func() bool { return len(c.auth.now().InSync) == 2 })
		_, err := s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: 0o40755})
		must(t, err)
		never, ended := make(chan struct{}), make(chan struct{})
		release := sync.OnceFunc(func() { close(never) })
		t.Cleanup(release)
		var once atomic.Bool
		c.setWeather(&weather{hold: func(_, to *node, msg []byte) <-chan struct{} {
			switch message(msg[frontSize]) {
			case msgApply:
				if to == x {
					return never
				}
			case askSettle: // what was queued is healed, and the rest follows while nothing changes
				if to == z && once.CompareAndSwap(false, true) {
					go func() {
						defer close(ended)
						_, _ = s.Make(context.Background(), volume.Root, "in flight", volume.Node{Mode: 0o40755})
					}()
					c.eventually("it is applied at the primary", 10*time.Second, func() bool {
						r.mu.Lock()
						defer r.mu.Unlock()
						for _, fl := range r.mu.flying {
							return fl.applied
						}
						return false
					})
				}
			}
			return nil
		}})
		z.start()
		c.eventually("it is in sync again", 5*time.Second, func() bool { return len(c.auth.now().InSync) == 3 })
		p.end(true)
		c.otherThan(p, 10*time.Second)
		release()
		<-ended
		if a, b := dump(t, x.member), dump(t, z.member); a != b {
			t.Fatalf("attempt %d: %s and %s differ:\n%s", try, x.id, z.id, differ(a, b))
		}
	}
}
