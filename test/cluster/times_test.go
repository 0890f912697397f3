package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// lenience is how much longer things may take on a machine that is busy with
// other tests; what they take is printed, and stands in docs/benchmarks.md.
const lenience = 5

// stopwatch measures steps and fails those that take longer than their limit, leniently.
type stopwatch struct{ t *testing.T }

func (w stopwatch) step(what string, limit time.Duration, f func()) {
	w.t.Helper()
	begin := time.Now()
	f()
	took := time.Since(begin)
	w.t.Logf("%-42s %6d ms, limit %d", what, took.Milliseconds(), limit.Milliseconds())
	if took > lenience*limit {
		w.t.Errorf("%s took %v; at rest it should take %v", what, took, limit)
	}
}

// What an administrator waits for, on three servers.
func TestTimes(t *testing.T) {
	c := New(t, 3)
	a, b, d := c.Servers[0], c.Servers[1], c.Servers[2]
	watch := stopwatch{t}
	watch.step("peer probe of a second server", 3*time.Second, func() {
		a.Must("peer", "probe", b.Name)
		b.Must("volume", "list")
	})
	watch.step("peer probe to a usable third server", 3*time.Second, func() {
		a.Must("peer", "probe", d.Name)
		d.Must("volume", "create", "first", d.Bricks("first", 1)[0], "force")
	})
	c.AwaitPool(c.Servers...)
	bricks := c.Bricks("v", 1)
	watch.step("volume create", time.Second, func() { a.Must("volume", "create", "v", bricks[0], bricks[1], bricks[2], "force") })
	watch.step("volume start", time.Second, func() { b.Must("volume", "start", "v") })
	watch.step("volume set", time.Second, func() { d.Must("volume", "set", "v", "network.timeout", "5") })
	watch.step("volume info", 200*time.Millisecond, func() { a.Must("volume", "info") })
	watch.step("volume stop", time.Second, func() { d.Must("volume", "stop", "v") })
	c.AwaitVoters(a) // a pool whose voters are just being made has an election to wait for
	for _, s := range c.Servers {
		s.Stop()
		watch.step("restart of "+s.Name+" to answering", 2*time.Second, s.Start)
	}
}

// Sixty volumes on three servers: the daemons answer at once, and rest.
func TestSixtyVolumes(t *testing.T) {
	sixtyVolumes(t, func(_ *Cluster, s *Server, name string) []string { return s.Bricks(name, 1) })
}

// The same with a brick on each server, 180 in all.
func TestSoakSixtyVolumes(t *testing.T) {
	if soaking() {
		sixtyVolumes(t, func(c *Cluster, _ *Server, name string) []string { return c.Bricks(name, 1) })
	}
}

func sixtyVolumes(t *testing.T, bricks func(c *Cluster, s *Server, name string) []string) {
	c := New(t, 3)
	c.Pool()
	const n = 60
	begin := time.Now()
	var wg sync.WaitGroup
	for i, s := range c.Servers {
		wg.Go(func() {
			for k := i; k < n; k += len(c.Servers) {
				name := fmt.Sprintf("v%02d", k)
				s.VolumeOn(name, bricks(c, s, name)...)
			}
		})
	}
	wg.Wait()
	t.Logf("%d volumes created and started in %v", n, time.Since(begin).Round(time.Millisecond))
	watch := stopwatch{t}
	for _, s := range c.Servers {
		watch.step("volume info of 60 volumes at "+s.Name, 200*time.Millisecond, func() {
			if out := s.Must("volume", "info"); strings.Count(out, "Volume Name: ") != n {
				t.Errorf("%d volumes", strings.Count(out, "Volume Name: "))
			}
		})
	}
	const window = 5 * time.Second
	var before []time.Duration
	for _, s := range c.Servers {
		before = append(before, processorTime(t, s.PID()))
	}
	<-time.After(window) // what is measured
	for i, s := range c.Servers {
		share := float64(processorTime(t, s.PID())-before[i]) / float64(window) * 100
		rss := resident(t, s.PID())
		t.Logf("%s at rest: %.1f %% of a core (limit 2), %d MiB (limit 120)", s.Name, share, rss>>20)
		if share > 2*lenience || rss > 120<<20 {
			t.Errorf("%s at rest: %.1f %% of a core, %d MiB; want at most 2 %%, 120 MiB", s.Name, share, rss>>20)
		}
	}
}

// processorTime is what a process has used so far.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// resident is how much memory of the machine a process has, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
