package set

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// TestMain lets tests that mostly wait run side by side, on few processors too.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "12")
	}
	os.Exit(m.Run())
}

// nemesis does to a cluster what happens to clusters, one after the other, at random.
type nemesis struct {
	c      *cluster
	rng    *rand.Rand
	gentle bool // nothing but ends of processes that are noticed: failovers take no time
	log    []string
	begun  time.Time
	stop   chan struct{}
	done   sync.WaitGroup
	kills  int // of them, primaries:
	crown  int
}

func newNemesis(c *cluster, seed uint64) *nemesis {
	return &nemesis{c: c, rng: rand.New(rand.NewPCG(seed, 77)), begun: time.Now(), stop: make(chan struct{})}
}

func (m *nemesis) note(format string, a ...any) {
	m.log = append(m.log, fmt.Sprintf("%7.3fs ", time.Since(m.begun).Seconds())+fmt.Sprintf(format, a...))
}

// begin lets it work until end is called.
func (m *nemesis) begin() {
	m.done.Go(func() {
		for m.rest(time.Duration(m.rng.Int64N(int64(300 * time.Millisecond)))) {
			m.act()
			if m.rng.IntN(2) == 0 {
				m.mended(8 * time.Second)
			}
		}
	})
}

// end stops it, and makes everything good.
func (m *nemesis) end() {
	close(m.stop)
	m.done.Wait()
	m.c.clear()
	for _, n := range m.c.nodes {
		if n.set == nil {
			n.start()
		}
	}
}

// rest waits; false: it is to end.
func (m *nemesis) rest(d time.Duration) bool {
	select {
	case <-m.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// mended waits for a while until all are in sync.
func (m *nemesis) mended(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end) && m.rest(5*time.Millisecond); {
		m.c.auth.mu.Lock()
		n := len(m.c.auth.state.InSync)
		m.c.auth.mu.Unlock()
		if n == len(m.c.nodes) && m.c.serving() != nil {
			return
		}
	}
}

// victim is the primary, in three of five cases, or any node.
func (m *nemesis) victim() *node {
	if s := m.c.serving(); s != nil && m.rng.IntN(5) < 3 {
		return s.p.n
	}
	return m.c.nodes[m.rng.IntN(len(m.c.nodes))]
}

// while is how long something lasts: mostly short, now and then longer than a lease.
func (m *nemesis) while() time.Duration {
	if m.rng.IntN(4) == 0 {
		return Lease + time.Duration(m.rng.Int64N(int64(time.Second)))
	}
	return time.Duration(m.rng.Int64N(int64(600 * time.Millisecond)))
}

// act does one thing, and undoes it.
func (m *nemesis) act() {
	n := m.victim()
	what := m.rng.IntN(10)
	if m.gentle {
		what = 0
	}
	s := m.c.serving()
	primary := s != nil && s.p.n == n
	switch {
	case what < 4:
		m.kill(n, primary)
	case what < 6:
		d := m.while()
		m.note("%s (primary: %v) hangs for %v", n.id, primary, d)
		n.proc.pause()
		m.rest(d)
		n.proc.resume()
	case what < 8:
		d := m.while()
		from, to := m.rng.IntN(3) != 0, m.rng.IntN(3) != 0
		m.note("%s (primary: %v) is cut off (from %v, to %v) for %v", n.id, primary, from, to, d)
		m.c.isolate(n, from, to)
		if m.rng.IntN(2) == 0 {
			m.c.auth.mu.Lock()
			m.c.auth.deaf[n.i] = true
			m.c.auth.mu.Unlock()
		}
		m.rest(d)
		m.c.clear()
	case what < 9:
		d := m.while()
		w := &weather{
			rng: rand.New(rand.NewPCG(m.rng.Uint64(), 1)), lost: m.rng.IntN(30), unanswered: m.rng.IntN(30),
			late: m.rng.IntN(200), twice: m.rng.IntN(200), most: time.Duration(m.rng.Int64N(int64(300 * time.Millisecond))),
		}
		m.c.setWeather(w)
		m.rest(d)
		m.c.clear()
		w.mu.Lock()
		m.note("bad weather of %v: %d lost, %d unanswered, %d late, %d twice", d, w.lostN, w.deN, w.lateN, w.twiceN)
		w.mu.Unlock()
	default:
		d := m.while()
		m.c.auth.mu.Lock()
		m.c.auth.down, m.c.auth.lose = m.rng.IntN(2) == 0, m.rng.IntN(3)
		m.note("the store: down %v, answers of %d swaps lost, for %v", m.c.auth.down, m.c.auth.lose, d)
		m.c.auth.mu.Unlock()
		if m.rng.IntN(2) == 0 {
			m.kill(n, primary)
		} else {
			m.rest(d)
		}
		m.c.auth.mu.Lock()
		m.c.auth.lose = 0
		m.c.auth.mu.Unlock()
		m.c.clear()
	}
}

// kill ends a node's process, and starts another.
func (m *nemesis) kill(n *node, primary bool) {
	m.kills++
	if primary {
		m.crown++
	}
	seen := m.gentle || m.rng.IntN(4) != 0
	d := time.Duration(m.rng.Int64N(int64(400 * time.Millisecond)))
	m.note("%s (primary: %v) ends, noticed: %v, for %v", n.id, primary, seen, d)
	n.end(seen)
	m.rest(d)
	n.start()
}

// begunCluster returns a cluster that runs, all in sync.
func begunCluster(t *testing.T, members int, make func(t testing.TB, i int) (volume.Member, string)) *cluster {
	return newCluster(t, members, make).begin()
}

// begunWith is begunCluster with options of the volume.
func begunWith(t *testing.T, members int, options map[string]string) *cluster {
	c := newCluster(t, members, inMemory)
	c.options = options
	return c.begin()
}

func (c *cluster) begin() *cluster {
	for _, n := range c.nodes {
		n.start()
	}
	c.primary(20 * time.Second)
	c.allInSync(20 * time.Second)
	return c
}

// TestFaults does random operations on sets whose members end, hang, are cut off and come back
// all the time: every answer is as if nothing had happened, and in the end all members are equal.
func TestFaults(t *testing.T) {
	t.Parallel()
	ops := 300 // MORTAR_SOAK does more
	if testing.Short() {
		ops = 100
	}
	for _, members := range []int{2, 3, 4} { // 4: three, of which one is an arbiter
		for _, several := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/several=%v", []string{2: "two", 3: "three", 4: "arbiter"}[members], several), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, min(members, 3), inMemory)
				c.nodes[len(c.nodes)-1].arbiter = members == 4
				faults(t, c, several, ops)
			})
		}
	}
}

// TestFaultsOnDisk is TestFaults with bricks.
func TestFaultsOnDisk(t *testing.T) {
	t.Parallel()
	ops := 150
	if testing.Short() {
		ops = 40
	}
	for members := 2; members <= 3; members++ {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			faults(t, newCluster(t, members, onBricks), true, ops)
		})
	}
}

func faults(t *testing.T, c *cluster, several bool, ops int) {
	seed := testSeed(t)
	var m *nemesis
	var f *front
	cfg := fstest.Config{New: func(t *testing.T) volume.FS {
		c.begin()
		f = newFront(c)
		f.delay = 16 * time.Millisecond
		m = newNemesis(c, seed)
		m.begin()
		return f
	}}
	if several {
		fstest.RandomConcurrent(t, cfg, ops)
	} else {
		fstest.Random(t, cfg, ops)
	}
	m.end()
	t.Logf("seed %d: %d things happened, %d ends of processes, %d of primaries; %d operations repeated, %d outcomes asked for, %d told that it was executed",
		seed, len(m.log), m.kills, m.crown, f.again.Load(), f.asked.Load()+f.told.Load(), f.told.Load())
	if t.Failed() {
		for _, l := range m.log {
			t.Log(l)
		}
	}
	c.allInSync(30 * time.Second)
	f.settled(t)
	c.equal()
}

// settled lets what nobody has open go, at the primary of the end.
func (f *front) settled(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	if err := plain(ctx, f, repeat, func(ctx context.Context, s *served) error { return s.store.Orphans(ctx) }); err != nil {
		t.Error(err)
	}
}
