package set

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/volume"
)

// TestLentUnderFaults has clients write blocks, each with a number that grows, while members end, hang, are cut off and come
// back, and others read past whoever is the primary: none reads a number that is older than one that was acknowledged before
// the read began, or older than one that anybody has read, nor half of one and half of another.
func TestLentUnderFaults(t *testing.T) {
	t.Parallel()
	for _, gentle := range []bool{false, true} {
		t.Run(map[bool]string{false: "all", true: "ends"}[gentle], func(t *testing.T) {
			t.Parallel()
			lentUnderFaults(t, gentle)
		})
	}
}

func lentUnderFaults(t *testing.T, gentle bool) {
	c := begunCluster(t, 3, onBricks)
	seed := testSeed(t)
	m := newNemesis(c, seed)
	m.gentle = gentle
	front := newFront(c)
	file, a, err := front.Create(t.Context(), volume.Root, "a", volume.Node{Mode: 0o600}, volume.Read|volume.Write)
	must(t, err)
	const blocks, size = 4, 8 << 10
	_, err = file.WriteAt(t.Context(), make([]byte, blocks*size), 0, 0)
	must(t, err)
	d := 12 * time.Second
	if testing.Short() {
		d = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var known [blocks]atomic.Uint64 // acknowledged, or read
	raise := func(i int, n uint64) {
		for old := known[i].Load(); old < n && !known[i].CompareAndSwap(old, n); old = known[i].Load() {
		}
	}
	m.begin()
	var wg sync.WaitGroup
	for i := range blocks {
		wg.Go(func() {
			p := make([]byte, size)
			for n := uint64(1); ctx.Err() == nil; n++ {
				for at := 0; at < size; at += 8 {
					binary.LittleEndian.PutUint64(p[at:], n)
				}
				if _, err := file.WriteAt(context.Background(), p, int64(i)*size, 0); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				raise(i, n)
				// All of them rest at the same times, or there would always be something under way where all is slow.
				for now := time.Now(); ctx.Err() == nil && now.UnixMilli()/20%2 == 0; now = time.Now() {
					pause(ctx, time.Duration(rand.IntN(4000))*time.Microsecond)
				}
			}
		})
	}
	var counted, asked atomic.Int64
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				s := c.serving()
				if s == nil {
					pause(ctx, time.Millisecond)
					continue
				}
				readLent(ctx, t, s, a.ID, func(l *loan, p []byte) bool {
					i := rand.IntN(blocks)
					before := known[i].Load()
					n, ok := l.read(p[:size], int64(i)*size)
					if !ok {
						asked.Add(1)
						return false
					}
					counted.Add(1)
					v := binary.LittleEndian.Uint64(p)
					for at := 0; at < n; at += 8 {
						if u := binary.LittleEndian.Uint64(p[at:]); u != v {
							t.Errorf("block %d is of %d and of %d", i, v, u)
						}
					}
					if n != size || v < before {
						t.Errorf("block %d: %d bytes of %d, when %d was known", i, n, v, before)
					}
					raise(i, v)
					return true
				})
			}
		})
	}
	wg.Wait()
	m.end()
	t.Logf("seed %d: %d things happened, %d reads counted, %d did not", seed, len(m.log), counted.Load(), asked.Load())
	if counted.Load() == 0 {
		t.Error("no read counted")
	}
	if t.Failed() {
		for _, l := range m.log {
			t.Log(l)
		}
	}
	c.allInSync(30 * time.Second)
	must(t, file.Close())
}

// readLent opens a file at a primary and reads it by a loan, often, or until it is no primary any more.
func readLent(ctx context.Context, t *testing.T, s *served, id volume.ID, read func(l *loan, p []byte) bool) {
	f, err := s.store.Open(ctx, id, volume.Read)
	if err != nil {
		pause(ctx, time.Millisecond)
		return
	}
	l, err := borrow(f, s.p)
	if err != nil {
		_ = f.Close()
		pause(ctx, time.Millisecond)
		return
	}
	p := make([]byte, volume.IOMax)
	for n, over := 0, 0; n < 2000 && over < 100 && ctx.Err() == nil; n++ { // of one that is no primary some more, in vain
		if !read(l, p) {
			pause(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
		}
		if s.over() {
			over++
		}
	}
	l.close()
	_ = f.Close() // not before: its word may then be another's
}

// TestLentTenure looks, while members end, hang and are cut off, whether the window ever tells a later time than the
// members that must answer have promised.
func TestLentTenure(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	m := newNemesis(c, testSeed(t))
	m.begin()
	looks := 0
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		s := c.serving()
		if s == nil {
			continue
		}
		r := s.p.set.reignNow()
		if r == nil {
			continue
		}
		f, err := r.window.File()
		if err != nil {
			continue // it is over
		}
		view, err := window.Map(f)
		must(t, err)
		for range 100 {
			r.mu.Lock()
			until, tenure, over := view.Until(), tenureOf(r.mu.backups), r.mu.why != ""
			r.mu.Unlock()
			if until > tenure || over && until != 0 {
				t.Errorf("the window tells %v, the tenure ends at %v, over: %v", until, tenure, over)
			}
			looks++
			pause(t.Context(), 100*time.Microsecond)
		}
		view.Close()
		_ = f.Close()
	}
	m.end()
	if looks == 0 {
		t.Error("nobody ever served")
	}
	c.allInSync(30 * time.Second)
}
