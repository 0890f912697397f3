package set

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mortarfs/mortar/volume"
)

func testID(n byte) volume.ID { return volume.ID{0: n, 15: 1} }

// naiveLocks is what locks are, looked at in the simplest way: everything that is held,
// and everyone who waits in the order in which he came.
type naiveLocks struct {
	held    []span
	waiting []*naiveWaiter
}

// naiveWaiter waits for spans of one object.
type naiveWaiter struct {
	who   int
	spans []span
}

func conflict(as, bs []span) bool {
	for _, a := range as {
		for _, b := range bs {
			if a.id == b.id && a.from < b.to && b.from < a.to && !(a.shared && b.shared) {
				return true
			}
		}
	}
	return false
}

// settle grants what can be granted to those who came first, and returns to whom.
func (l *naiveLocks) settle() (done []int) {
	var left []*naiveWaiter
	for _, w := range l.waiting {
		free := !conflict(w.spans, l.held)
		for _, v := range left {
			free = free && !conflict(w.spans, v.spans)
		}
		if !free {
			left = append(left, w)
			continue
		}
		l.held = append(l.held, w.spans...)
		done = append(done, w.who)
	}
	l.waiting = left
	return done
}

// forget takes out who gives up.
func (l *naiveLocks) forget(who int) {
	l.waiting = slices.DeleteFunc(l.waiting, func(w *naiveWaiter) bool { return w.who == who })
}

func (l *naiveLocks) drop(spans []span) {
	for _, s := range spans {
		i := slices.Index(l.held, s)
		l.held = slices.Delete(l.held, i, i+1)
	}
}

// randomSpans are up to three spans on objects from first on, in order.
func randomSpans(rng *rand.Rand, first, objects int) []span {
	var out []span
	for range 1 + rng.IntN(3) {
		id, shared := testID(byte(first+rng.IntN(objects))), rng.IntN(2) == 0
		switch rng.IntN(4) {
		case 0:
			out = append(out, whole(id, shared))
		case 1:
			out = append(out, namesOf(id))
		case 2:
			out = append(out, entryOf(id, fmt.Sprint(rng.IntN(3)), shared))
		default:
			out = append(out, contentsOf(id, rng.Int64N(8), rng.Int64N(5), shared))
		}
	}
	return order(out)
}

// TestLocksAgainstModel takes and gives back spans at random, and has after each step exactly
// those hold theirs whom the naive locks let.
func TestLocksAgainstModel(t *testing.T) {
	seed := testSeed(t)
	for round := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { locksRound(t, rand.New(rand.NewPCG(seed, round))) })
	}
}

func locksRound(t *testing.T, rng *rand.Rand) {
	l, naive := newLocks(), &naiveLocks{}
	type holder struct {
		spans  []span
		cancel context.CancelFunc
	}
	var mu sync.Mutex
	got := map[int]bool{}      // who has been let by l
	all := map[int]*holder{}   // who holds or waits
	holding := map[int]bool{}  // of these, by the naive locks
	var log []string           //
	var running sync.WaitGroup // who wait
	check := func() {
		t.Helper()
		for _, who := range naive.settle() {
			holding[who] = true
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for who := range all {
			if got[who] != holding[who] {
				t.Errorf("%d holds its spans: %v, should: %v\n%s", who, got[who], holding[who], log)
			}
		}
	}
	for i := range 120 {
		pick := func(held bool) (who int) {
			var list []int
			for w := range all {
				if holding[w] == held {
					list = append(list, w)
				}
			}
			if len(list) == 0 {
				return -1
			}
			slices.Sort(list)
			return list[rng.IntN(len(list))]
		}
		switch k := rng.IntN(10); {
		case k < 4: // lock
			ctx, cancel := context.WithCancel(context.Background())
			h := &holder{randomSpans(rng, rng.IntN(3), 1), cancel} // of one object: who waits for several stands in several lines
			log = append(log, fmt.Sprintf("%d locks %v\n", i, h.spans))
			all[i] = h
			naive.waiting = append(naive.waiting, &naiveWaiter{who: i, spans: h.spans})
			running.Go(func() {
				if l.lock(ctx, h.spans...) == nil {
					mu.Lock()
					defer mu.Unlock()
					got[i] = true
				}
			})
		case k < 6: // try
			spans := randomSpans(rng, 0, 3)
			want := !conflict(spans, naive.held)
			for _, w := range naive.waiting {
				want = want && !conflict(spans, w.spans)
			}
			log = append(log, fmt.Sprintf("%d tries %v\n", i, spans))
			ok := l.try(spans...)
			if ok != want {
				t.Errorf("try: %v, should be %v\n%s", ok, want, log)
			}
			if ok {
				naive.held = append(naive.held, spans...)
				all[i], holding[i] = &holder{spans, func() {}}, true
				mu.Lock()
				got[i] = true
				mu.Unlock()
			}
		case k < 9: // unlock
			if who := pick(true); who >= 0 {
				log = append(log, fmt.Sprintf("%d unlocks\n", who))
				l.unlock(all[who].spans...)
				naive.drop(all[who].spans)
				delete(all, who)
			}
		default: // give up
			if who := pick(false); who >= 0 {
				log = append(log, fmt.Sprintf("%d gives up\n", who))
				all[who].cancel()
				naive.forget(who)
				delete(all, who)
			}
		}
		if check(); t.Failed() {
			for _, h := range all {
				h.cancel()
			}
			return
		}
	}
	for len(all) > 0 {
		for who, h := range all {
			h.cancel()
			if holding[who] {
				l.unlock(h.spans...)
				naive.drop(h.spans)
			} else {
				naive.forget(who)
			}
			delete(all, who)
			check()
		}
	}
	running.Wait()
	for i := range l.shards {
		if n := len(l.shards[i].lines); n != 0 {
			t.Errorf("%d lines are left of which nothing is held", n)
		}
	}
}

// TestLocksSideBySide has many goroutines take random spans, as the set does (in order, then more by trying):
// all come to an end, and what is held never conflicts.
func TestLocksSideBySide(t *testing.T) {
	seed := testSeed(t)
	l := newLocks()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var held []span
	hold := func(spans []span) {
		mu.Lock()
		defer mu.Unlock()
		if conflict(spans, held) {
			t.Errorf("%v is held beside %v", spans, held)
		}
		held = append(held, spans...)
	}
	free := func(spans []span) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range spans {
			i := slices.Index(held, s)
			held = slices.Delete(held, i, i+1)
		}
	}
	var wg sync.WaitGroup
	var again atomic.Int64
	for g := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, g))
			for range 2000 {
				first := randomSpans(rng, 0, 3)
				want := slices.DeleteFunc(randomSpans(rng, 0, 3), func(s span) bool { return conflict([]span{s}, first) || slices.Contains(first, s) })
				if err := l.lock(ctx, first...); err != nil {
					t.Error(err)
					return
				}
				if !l.try(want...) { // as store.withObject
					again.Add(1)
					l.unlock(first...)
					first, want = order(append(first, want...)), nil
					if err := l.lock(ctx, first...); err != nil {
						t.Error(err)
						return
					}
				}
				hold(first)
				hold(want)
				free(want)
				free(first)
				l.unlock(want...)
				l.unlock(first...)
			}
		})
	}
	wg.Wait()
	t.Logf("%d times anew", again.Load())
}

func TestOrder(t *testing.T) {
	a, b := testID(1), testID(2)
	for _, c := range []struct{ in, want []span }{
		{[]span{{b, 0, 1, false}, {a, 5, 6, false}, {a, 0, 1, true}}, []span{{a, 0, 1, true}, {a, 5, 6, false}, {b, 0, 1, false}}},
		{[]span{{a, 0, 4, true}, {a, 2, 6, true}}, []span{{a, 0, 6, true}}},
		{[]span{{a, 0, 4, true}, {a, 2, 6, false}}, []span{{a, 0, 6, false}}},
		{[]span{{a, 0, 4, false}, {a, 4, 6, true}}, []span{{a, 0, 4, false}, {a, 4, 6, true}}},
		{[]span{whole(a, true), namesOf(a)}, []span{whole(a, false)}},
		{[]span{entryOf(a, "x", false), entryOf(a, "x", false)}, []span{entryOf(a, "x", false)}},
	} {
		if got := order(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("order(%v) = %v, want %v", c.in, got, c.want)
		}
	}
	if c := cmp.Compare(uint64(volume.CookieLast), namesAt); c >= 0 {
		t.Error("names of a directory lie where the names of an object do")
	}
}
