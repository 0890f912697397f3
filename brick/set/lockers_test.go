package set

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// lockerDisk is a LockerStore that outlives processes.
type lockerDisk struct {
	mu  sync.Mutex
	ids [][16]byte
}

func (d *lockerDisk) Lockers() ([][16]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids, nil
}

func (d *lockerDisk) KeepLockers(ids [][16]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = ids
	return nil
}

// Whoever becomes primary knows of each session that was added, and of none that was
// removed, whatever has happened to the others; so do those who come back.
func TestLockersKnownToNextPrimary(t *testing.T) {
	c := newCluster(t, 3, inMemory)
	for _, n := range c.nodes {
		n.start()
	}
	c.allInSync(10 * time.Second)
	var mu sync.Mutex
	added, removed := map[[16]byte]bool{}, map[[16]byte]bool{}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for who := range 4 {
		clients.Go(func() {
			for i := uint64(1); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := [16]byte{byte(who)}
				binary.LittleEndian.PutUint64(id[8:], i)
				if !c.setLocker(id, true) {
					continue // it may be known or not
				}
				mu.Lock()
				added[id] = true
				mu.Unlock()
				if i%2 == 0 {
					mu.Lock()
					delete(added, id) // it may be either way while it is being removed
					mu.Unlock()
					if c.setLocker(id, false) {
						mu.Lock()
						removed[id] = true
						mu.Unlock()
					}
				}
				pause(context.Background(), 2*time.Millisecond)
			}
		})
	}
	round := 0
	check := func(set *Set) {
		t.Helper()
		mu.Lock()
		wanted, gone := maps.Clone(added), maps.Clone(removed)
		mu.Unlock()
		ids, _ := set.lockers.list()
		for id := range wanted {
			if !slices.Contains(ids, id) {
				t.Fatalf("round %d: %x is not known, of %d", round, id, len(wanted))
			}
		}
		for _, id := range ids {
			if gone[id] {
				t.Fatalf("%x is known still", id)
			}
		}
	}
	for round = range 4 {
		victim, _ := c.primary(10 * time.Second)
		if round%2 == 1 {
			victim = c.nodes[(victim.i+1)%3]
		}
		pause(context.Background(), 100*time.Millisecond)
		victim.stop()
		p, _ := c.primary(10 * time.Second)
		check(p.set)
		victim.start()
		c.allInSync(20 * time.Second)
	}
	close(stop)
	clients.Wait()
	p, _ := c.primary(10 * time.Second)
	check(p.set)
	want, _ := p.set.lockers.list()
	for _, n := range c.nodes { // one may still be on its way back
		c.eventually("all know the same", 20*time.Second, func() bool {
			got, _ := n.set.lockers.list()
			return slices.Equal(got, want)
		})
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d sessions were added, %d removed", len(added)+len(removed), len(removed))
	if len(added) < 20 || len(removed) < 20 {
		t.Error("too few")
	}
}

// setLocker adds or removes a session at whoever serves; true: that was acknowledged.
func (c *cluster) setLocker(id [16]byte, in bool) bool {
	s := c.serving()
	if s == nil {
		pause(context.Background(), 5*time.Millisecond)
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := s.p.set.reignNow()
	if r == nil {
		return false
	}
	f := LockerRecord{r}.AddLocker
	if !in {
		f = LockerRecord{r}.RemoveLocker
	}
	return f(ctx, id) == nil && !s.over()
}
