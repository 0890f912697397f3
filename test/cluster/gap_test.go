package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pulse is a client that writes 4 KiB every 10 ms, into a file of 16 MiB from
// its beginning to its end and anew, and measures how long nothing was acknowledged.
type pulse struct {
	stop chan struct{}
	work sync.WaitGroup

	mu struct {
		sync.Mutex
		last    time.Time // of the last acknowledgement
		longest time.Duration
		writes  int
		err     error
	}
}

const (
	pulseEvery = 10 * time.Millisecond
	pulseSize  = 4096
	pulseMax   = 16 << 20
)

func startPulse(t *testing.T, path string) *pulse {
	t.Helper()
	p := &pulse{stop: make(chan struct{})}
	p.mu.last = time.Now()
	p.work.Go(func() {
		if err := apart(func() { p.run(path) }); err != nil {
			p.beat(err)
		}
	})
	t.Cleanup(p.end)
	return p
}

func (p *pulse) run(path string) {
	f, err := os.Create(path)
	if err != nil {
		p.beat(err)
		return
	}
	defer f.Close()
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	b := make([]byte, pulseSize)
	for off := int64(0); ; off = (off + pulseSize) % pulseMax {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		_, err := f.WriteAt(b, off)
		p.beat(err)
	}
}

func (p *pulse) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.work.Wait()
}

func (p *pulse) beat(err error) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.mu.err == nil {
		p.mu.err = err
	}
	p.mu.longest, p.mu.last = max(p.mu.longest, now.Sub(p.mu.last)), now
	p.mu.writes++
}

// reset begins a new measurement and returns how many writes there were so far.
func (p *pulse) reset() (writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.longest = 0
	return p.mu.writes
}

// longest returns the longest pause since the reset, and how many writes there were in all.
func (p *pulse) measured() (longest time.Duration, writes int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.mu.longest, time.Since(p.mu.last)), p.mu.writes, p.mu.err
}

// distribution tells of measured times what one wants to know.
func distribution(d []time.Duration) string {
	d = slices.Clone(d)
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[min(len(d)-1, int(share*float64(len(d))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("%d tries: min %v, 10 %% %v, median %v, 90 %% %v, max %v", len(d), at(0), at(0.1), at(0.5), at(0.9), at(1))
}

// How long a client that writes all the time has to wait when the primary's process is killed, and when its host is
// cut off: measured from its last acknowledged write before to the first after. No write fails.
func TestSoakServiceGap(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name         string
		short, long  int // tries
		limit        time.Duration
		harm, relief func(c *Cluster, m Member)
	}{
		{"brick killed", 6, 50, time.Second, func(c *Cluster, m Member) { c.signal(m, syscall.SIGKILL) }, func(*Cluster, Member) {}},
		{"host cut off", 2, 50, 5 * time.Second, func(c *Cluster, m Member) { c.Isolate(c.On(m).Machine) }, func(c *Cluster, _ Member) { c.Restore() }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			c := New(t, 3)
			c.Pool()
			c.Replicated("v", 1)
			p := startPulse(t, filepath.Join(c.Mount(0, "v", strict), "pulse")) // each write has been on the bricks when it returns
			tries := how.short
			if soaking() {
				tries = how.long
			}
			var gaps []time.Duration
			for n := range tries {
				gaps = append(gaps, gap(c, p, how.harm, how.relief))
				t.Logf("%s, try %d: %v", how.name, n+1, gaps[n].Round(time.Millisecond))
			}
			_, writes, err := p.measured()
			t.Logf("%s, longest pause of a client that writes every 10 ms, %s; %d writes", how.name, distribution(gaps), writes)
			if err != nil {
				t.Errorf("a write failed: %v", err)
			}
			// Other tests run beside this one, so a single try says little.
			slices.Sort(gaps)
			if median := gaps[len(gaps)/2]; median > how.limit {
				t.Errorf("the median is %v, want at most %v", median, how.limit)
			}
		})
	}
}

// gap harms the primary and returns the longest pause until writing goes on under another.
func gap(c *Cluster, p *pulse, harm, relief func(c *Cluster, m Member)) time.Duration {
	c.t.Helper()
	const calm = 100 // writes without a fault before the next try
	from := p.reset()
	Eventually(c.t, "writes go on", func() error {
		if _, n, _ := p.measured(); n < from+calm {
			return fmt.Errorf("%d of %d", n-from, calm)
		}
		return nil
	})
	was := c.AwaitPrimary("v", 1)
	from = p.reset()
	harm(c, was)
	var other *Server // one that is not cut off
	for _, s := range c.Servers {
		if s != c.On(was) {
			other = s
		}
	}
	Eventually(c.t, "another is the primary", func() error {
		members, err := other.Members("v")
		for _, m := range members {
			if m.Primary() && m.Epoch > was.Epoch {
				return nil
			}
		}
		return fmt.Errorf("%+v, %w", members, err)
	})
	_, from, _ = p.measured()
	Eventually(c.t, "writes go on", func() error {
		if _, n, _ := p.measured(); n < from+5 {
			return fmt.Errorf("%d of 5", n-from)
		}
		return nil
	})
	longest, _, _ := p.measured()
	relief(c, was)
	c.AwaitInSync("v")
	return longest
}
