package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every daemon and every brick of a volume is restarted, one at a time, as for an
// update, while clients work: none of them sees an error.
func TestSetRollingRestart(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", 2)
	mounts := []string{c.Mount(0, "v", strict), c.Mount(1, "v", strict)}
	ledger := StartLedger(t, seed, 2, mounts...)
	witnesses := StartWitnesses(t, seed, 1, mounts...)
	load := StartLoad(t, c.Mount(2, "v"))
	for _, s := range c.Servers {
		load.Progress(10)
		s.Stop()
		s.Start()
		c.AwaitPool(c.Servers...)
		for i := range 2 {
			restart(c, s, i)
		}
	}
	load.Progress(10)
	load.Finish(10 * time.Second)
	account, said := ledger.Finish(mounts[0]), witnesses.Finish("")
	t.Logf("%d operations of witnesses, %d changes of the ledger, longest wait %v", said.Operations, account.Acknowledged, max(said.Slowest, account.Slowest))
	if len(account.Failures)+len(said.Errors) > 0 {
		t.Errorf("clients saw errors: %v %v", account.Failures, said.Errors)
	}
	c.AwaitInSync("v")
	c.AwaitEqual("v")
}

// restart ends brick i of a server as an administrator does, and waits until the
// daemon has started it again and it has taken its place.
func restart(c *Cluster, s *Server, i int) {
	c.t.Helper()
	var was Member
	find := func() (Member, error) {
		members, err := s.Members("v")
		for _, m := range members {
			if m.Path == s.BrickDir("v", i) {
				return m, nil
			}
		}
		return Member{}, fmt.Errorf("%+v, %w", members, err)
	}
	Eventually(c.t, "the brick runs", func() (err error) {
		if was, err = find(); err == nil && was.PID <= 0 {
			err = fmt.Errorf("%+v", was)
		}
		return err
	})
	if !c.signal(was, syscall.SIGTERM) {
		c.t.Fatalf("%+v is not there", was)
	}
	Eventually(c.t, "the brick is back", func() error {
		m, err := find()
		if err == nil && (m.PID <= 0 || m.PID == was.PID || !m.Online) {
			err = fmt.Errorf("%+v", m)
		}
		return err
	})
	c.AwaitInSync("v")
}

// All servers lose their power at once, under load, and come back in any order:
// everything that was acknowledged is there. What simulates the power does
// not take what was not synced; the boot IDs are other ones, so the members compare what may be lost.
func TestSoakPowerOfAll(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	dice := rand.New(rand.NewPCG(seed, 0))
	c := NewStopped(t, 3)
	for _, s := range c.Servers {
		s.Reboots()
		s.Launch()
	}
	for _, s := range c.Servers {
		s.AwaitAnswer()
	}
	c.Pool()
	c.Replicated("v", 1)
	rounds := 2
	if soaking() {
		rounds = 20
	}
	lost, acknowledged := 0, 0
	for range rounds {
		mount := c.Mount(0, "v", strict)
		ledger := StartLedger(t, dice.Uint64(), 3, mount)
		ledger.Progress(200)
		order := slices.Clone(c.Servers)
		for _, s := range order {
			s.PowerOff()
		}
		dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			s.PowerOn()
			<-time.After(time.Duration(dice.Int64N(int64(time.Second))))
		}
		for _, s := range order {
			s.AwaitAnswer()
		}
		c.AwaitInSync("v")
		ledger.Progress(20)
		a := ledger.Finish(mount)
		lost, acknowledged = lost+a.Lost, acknowledged+a.Acknowledged
		t.Logf("%d acknowledged, %d synced, %d lost; errors %s", a.Acknowledged, a.Synced, a.Lost,
			strings.Join(slices.Sorted(maps.Keys(a.Failures)), ", "))
		c.AwaitInSync("v")
		c.AwaitEqual("v")
		c.Client.Unmount(mount)
	}
	t.Logf("%d times all servers without power: %d changes acknowledged, %d lost", rounds, acknowledged, lost)
}
