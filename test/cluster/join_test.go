package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// Daemons that are restarted right after they were probed, while their part in
// the store is still being changed, settle.
func TestRestartWhileJoining(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	a := c.Servers[0]
	for _, s := range c.Servers[1:] {
		a.Must("peer", "probe", s.Name)
	}
	for i, s := range c.Servers {
		if i == 1 {
			s.Kill()
		} else {
			s.Stop()
		}
		s.Start()
	}
	c.AwaitPool(c.Servers...)
	for _, s := range c.Servers {
		c.AwaitVoters(s)
	}
	for i, s := range c.Servers {
		s.Must("volume", "create", fmt.Sprint("v", i), s.Bricks("v", 1)[0], "force")
	}
	same(t, c.Servers...)
}

// A daemon is killed, the one that probes or the one that is probed, at any
// moment of a probe or detach: the same command again completes it.
func TestKilledInProbe(t *testing.T) {
	t.Parallel()
	killedInProbe(t, 4)
}

// The same at many more moments.
func TestSoakKilledInProbe(t *testing.T) {
	if soaking() {
		killedInProbe(t, 60)
	}
}

func killedInProbe(t *testing.T, rounds int) {
	c := New(t, 3)
	a, b, joiner := c.Servers[0], c.Servers[1], c.Servers[2]
	a.Must("peer", "probe", b.Name)
	c.AwaitPool(a, b)
	a.Volume("v", 1)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		for _, verb := range []string{"probe", "detach"} {
			victim := []*Server{a, joiner}[dice.IntN(2)]
			moment := time.Duration(dice.Int64N(int64(400 * time.Millisecond)))
			var r Result
			var wg sync.WaitGroup
			wg.Go(func() { r = a.Run("peer", verb, joiner.Name) })
			<-time.After(moment) // the moment is what the test is about
			victim.Kill()
			wg.Wait()
			victim.Start()
			begin := time.Now()
			Eventually(t, "peer "+verb+" again", func() error {
				again := a.Run("peer", verb, joiner.Name)
				gone := verb == "detach" && strings.Contains(again.Out+again.Err, "is not part of cluster")
				if again.Code != 0 && !gone {
					return errors.New(again.Out + again.Err)
				}
				return nil
			})
			t.Logf("round %d: %s killed %v into %s (exit %d); done again after %v", round, victim.Name, moment.Round(time.Millisecond), verb, r.Code,
				time.Since(begin).Round(time.Millisecond))
			if verb == "probe" {
				c.AwaitPool(a, b, joiner)
				joiner.Must("volume", "set", "v", "network.timeout", fmt.Sprint(10+round%10))
			} else {
				c.AwaitPool(a, b)
				c.AwaitPool(joiner)
			}
			same(t, a, b)
		}
	}
	for _, s := range []*Server{a, b} {
		c.AwaitVoters(s)
	}
}
