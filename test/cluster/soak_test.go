package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seedVariable is a number: that seed instead of a new one.
const seedVariable = "MORTAR_SEED"

// Faults at random, one or two at once, for a moment each: daemons killed,
// paused and restarted, servers without power, links cut, one way too, isolated
// or slow servers. Afterwards the pool is whole, every server can change things,
// and all that was acknowledged is there. One round, or as many as a soak has time for.
func TestSoakFaults(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		seed = s
	}
	t.Logf("%s=%d", seedVariable, seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	c := New(t, 3)
	c.Pool()
	c.Volume("v", 1)
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "2")
	load := StartLoad(t, c.Mount(0, "v"))
	end := time.Now().Add(soakFor())
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		for range 1 + dice.IntN(2) {
			t.Logf("round %d: %s", round, fault(c, dice))
		}
		<-time.After(time.Duration(dice.Int64N(int64(4 * time.Second)))) // how long the fault lasts
		mend(c)
		c.AwaitPool(c.Servers...)
		for i, s := range c.Servers {
			c.AwaitVoters(s)
			Eventually(t, s.Name+" can change things", func() error {
				if r := s.Run("volume", "set", "v", "cluster.min-free-disk", fmt.Sprintf("%d%%", 1+(round+i)%50)); r.Code != 0 {
					return errors.New(r.Out + r.Err)
				}
				return nil
			})
		}
		same(t, c.Servers...)
		c.Servers[0].AwaitOnline("v")
		load.Progress(10)
	}
	failures, slowest := load.Stop()
	t.Logf("%d files written, %d failed, the longest wait %v", len(load.mu.written), len(failures), slowest.Round(time.Millisecond))
	load.Check(load.Dir())
}

// fault does some harm and says what.
func fault(c *Cluster, dice *rand.Rand) string {
	s := c.Servers[dice.IntN(len(c.Servers))]
	other := c.Servers[dice.IntN(len(c.Servers))]
	switch kind := dice.IntN(8); {
	case !s.Running():
		return s.Name + " is down already"
	case kind == 0:
		s.Kill()
		return s.Name + ": daemon killed"
	case kind == 1:
		s.Stop()
		return s.Name + ": daemon stopped"
	case kind == 2:
		s.Pause()
		return s.Name + ": daemon paused"
	case kind == 3:
		s.PowerOff()
		return s.Name + ": power off"
	case kind == 4:
		c.Isolate(s.Machine)
		return s.Name + " isolated"
	case kind == 5 && s != other:
		c.Cut(s.Machine, other.Machine)
		return s.Name + " and " + other.Name + " cut"
	case kind == 6 && s != other:
		c.CutOneWay(s.Machine, other.Machine)
		return s.Name + " to " + other.Name + " cut"
	}
	c.Delay(s.Machine, 100*time.Millisecond)
	return s.Name + " slow"
}

// mend takes all faults back.
func mend(c *Cluster) {
	c.t.Helper()
	c.Restore()
	for _, s := range c.Servers {
		c.Delay(s.Machine, 0)
		if !s.Running() {
			s.PowerOn()
		}
		s.Continue()
	}
	for _, s := range c.Servers {
		s.AwaitAnswer()
	}
}
