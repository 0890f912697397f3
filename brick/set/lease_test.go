package set

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// TestLease cuts a primary off, from the others and from the configuration store: it stops answering reads before another
// can have changed anything. Reads are numbered by what they saw: the content of a file
// that the next primary writes over as soon as it serves.
func TestLease(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"cut", "hangs"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := begunCluster(t, 3, inMemory)
			first, s := c.primary(10 * time.Second)
			f, id := newFile(t, s, "a", "old")
			var mu sync.Mutex
			var last time.Time // when a read that saw the old content was answered
			stop, cancel := context.WithCancel(t.Context())
			var readers sync.WaitGroup
			for range 3 {
				readers.Go(func() {
					for stop.Err() == nil {
						p := make([]byte, 3)
						if _, err := f.ReadAt(stop, p, 0); err != nil {
							return
						}
						mu.Lock()
						last = time.Now()
						mu.Unlock()
						pause(stop, time.Millisecond)
					}
				})
			}
			if what == "cut" {
				c.alone(first)
			} else {
				first.proc.pause()
			}
			began := time.Now()
			_, s = c.otherThan(first, 20*time.Second)
			took := time.Since(began)
			g, err := s.Open(t.Context(), id, volume.Write)
			must(t, err)
			written := time.Now()
			_, err = g.WriteAt(t.Context(), []byte("new"), 0, 0)
			must(t, err)
			if what == "hangs" {
				first.proc.resume() // it finds that time has passed
			}
			pause(t.Context(), 300*time.Millisecond)
			cancel()
			readers.Wait()
			if last.After(written) {
				t.Errorf("the old content was read %v after the new one was written", last.Sub(written))
			}
			if took < Lease-time.Second/2 {
				t.Errorf("another served after %v", took)
			}
			c.clear()
			c.allInSync(20 * time.Second)
			c.equal()
		})
	}
}

// TestPromiseBeforeSwap has a member that was about to make itself primary answer the old one just before: it
// has promised to obey, and does.
func TestPromiseBeforeSwap(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, inMemory)
	c.auth.state = spec.SetState{Epoch: 1, Primary: "m1", InSync: []spec.Seat{{Member: "m0", Boot: "boot"}, {Member: "m1", Boot: "boot"}}}
	s, err := New(Config{Set: 1, Self: "m0", Life: "l", Boot: "boot", Member: c.nodes[0].member, Dir: c.nodes[0].dir, Authority: c.auth})
	must(t, err)
	defer s.Close()
	must(t, s.follow.adopt(c.auth.state))
	v := Next(Facts{State: c.auth.state, Self: "m0", Boot: "boot", Now: now()})
	if v.Act != Promote {
		t.Fatalf("%+v", v)
	}
	w := begin(msgFence, 1)
	w.text("life of m1")
	w.orders(orders{state: c.auth.state, config: 1})
	_, err = s.Handle(t.Context(), w.b, nil)
	must(t, err)
	s.promote(t.Context(), c.auth.state, 1, v)
	if st := c.auth.now(); st.Epoch != 1 {
		t.Errorf("it has made itself primary: %+v", st)
	}
	beat := begin(msgBeat, 1)
	beat.u64(0)
	if _, err := s.Handle(t.Context(), beat.b, nil); err != nil {
		t.Errorf("it does not obey any more: %v", err)
	}
}

// TestStoreAway has the configuration store go: the set goes on as it is. When a backup goes too, changes wait
// until the store is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	p, s := c.primary(10 * time.Second)
	c.auth.setDown(true)
	make := func(name string) error {
		_, err := s.Make(context.Background(), volume.Root, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		return err
	}
	for end := time.Now().Add(Lease + time.Second); time.Now().Before(end); pause(t.Context(), 100*time.Millisecond) {
		_, err := s.Lookup(t.Context(), volume.Root, "none")
		if volume.ErrnoOf(err) != enoent {
			t.Fatal(err)
		}
	}
	must(t, make("a"))
	c.nodes[(p.i+1)%3].end(true)
	made := begun(func() error { return make("b") })
	select {
	case err := <-made:
		t.Fatalf("acknowledged though the list can't be changed: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	c.auth.setDown(false)
	select {
	case err := <-made:
		must(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("it does not go on")
	}
	c.nodes[(p.i+1)%3].start()
	c.allInSync(20 * time.Second)
	// The primary goes without the store: its successor waits for it.
	c.auth.setDown(true)
	p.end(true)
	pause(t.Context(), 500*time.Millisecond)
	if s := c.serving(); s != nil {
		t.Fatalf("%s serves without having asked the store", s.p.n.id)
	}
	c.auth.setDown(false)
	c.otherThan(p, 5*time.Second)
	p.start()
	c.allInSync(20 * time.Second)
	c.equal()
}

// begun runs f, and gives its result when it has one.
func begun(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func (a *authority) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// TestUnknownSwaps loses answers of the store's, of those that take members out, take them back, and make a
// primary: the set finds out what happened, and goes on.
func TestUnknownSwaps(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	for round := range 6 {
		c.auth.mu.Lock()
		c.auth.lose = 1 + round%3
		c.auth.mu.Unlock()
		p, _ := c.primary(15 * time.Second)
		victim := p
		if round%2 == 0 {
			victim = c.nodes[(p.i+1)%3]
		}
		victim.end(true)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		name := string(rune('a' + round))
		f := newFront(c)
		if _, err := f.Make(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFDIR | 0o755}); err != nil {
			t.Fatal(err)
		}
		cancel()
		victim.start()
		c.allInSync(20 * time.Second)
	}
	c.equal()
}

// TestLateMessages keeps messages of a primary back, each kind of them, until another one has taken over, or
// until the member has been fenced again: then they come, and nothing is carried out.
func TestLateMessages(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	first, s := c.primary(10 * time.Second)
	b := c.nodes[(first.i+1)%3]
	newFile(t, s, "a", "hello")
	// All that the primary sends to b from now on is noted, and comes as it is sent, too.
	var mu sync.Mutex
	var noted [][]byte
	c.setWeather(&weather{seen: func(from, to *node, msg []byte) {
		if from == first && to == b {
			mu.Lock()
			noted = append(noted, append([]byte(nil), msg...))
			mu.Unlock()
		}
	}})
	// Changes, a member that leaves and comes back, b healed and aligned.
	third := c.nodes[(first.i+2)%3]
	must(t, s.Unlink(t.Context(), volume.Root, "a"))
	third.end(true)
	_, err := s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	must(t, err)
	third.start()
	c.allInSync(20 * time.Second)
	b.end(true)
	must(t, s.Rename(t.Context(), volume.Root, "d", volume.Root, "e", 0))
	_, err = s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: syscall.S_IFREG | 0o644})
	must(t, err)
	b.start()
	c.allInSync(20 * time.Second)
	must(t, s.Unlink(t.Context(), volume.Root, "d"))
	c.eventually("all kinds of messages were sent", 5*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		kinds := map[message]bool{}
		heals := 0
		for _, m := range noted {
			k := message(m[frontSize])
			if kinds[k] = true; k >= msgHealFrom {
				heals++
			}
		}
		return heals > 3 && kinds[msgApply] && kinds[msgBeat] && kinds[msgFence] && kinds[msgSettle] && kinds[msgConfig]
	})
	again := func(of string, carried func(k message) bool) {
		t.Helper()
		before, queues := dump(t, b.member), b.set.ledger.dumpQueues(t)
		mu.Lock()
		list := append([][]byte(nil), noted...)
		mu.Unlock()
		for _, m := range list {
			k := message(m[frontSize])
			if _, err := b.set.Handle(t.Context(), append([]byte(nil), m...), nil); err == nil && !carried(k) {
				t.Errorf("%s: a late message of kind %d was carried out", of, k)
			}
		}
		if got := dump(t, b.member); got != before {
			t.Errorf("%s: late messages have changed something:\n%s", of, differ(before, got))
		}
		if got := b.set.ledger.dumpQueues(t); got != queues {
			t.Errorf("%s: queues were %s, are %s", of, queues, got)
		}
	}
	// Of the same epoch, behind another fence: what was sent before it.
	r := first.set.reignNow()
	r.fail(r.mu.backups[0], "a test")
	if len(r.mu.backups) > 1 {
		r.fail(r.mu.backups[1], "a test")
	}
	c.eventually("both were fenced again", 10*time.Second, func() bool { return c.serving() != nil && len(c.auth.now().InSync) == 3 && !r.anyDown() })
	mu.Lock()
	for i, m := range noted { // of the present fence everything may come again
		if reader := (&reader{b: m}); reader.u64() == r.fenceOf(b.id) {
			noted = noted[:i]
			break
		}
	}
	mu.Unlock()
	again("the same epoch", func(message) bool { return false })
	first.end(true)
	c.otherThan(first, 10*time.Second)
	again("an epoch that is over", func(message) bool { return false })
	first.start()
	c.allInSync(20 * time.Second)
	c.equal()
}

func (r *reign) anyDown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.mu.backups {
		if b.down() {
			return true
		}
	}
	return len(r.mu.backups) < 2
}

func (r *reign) fenceOf(id string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.mu.backups {
		if b.id == id {
			return b.fence.Load()
		}
	}
	return 0
}

// dumpQueues lists what is queued for absent members.
func (l *ledger) dumpQueues(t *testing.T) (out string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, q := range l.mu.queues {
		for _, k := range q.Keys() {
			out += id + " " + k.Name + k.ID.String() + "\n"
		}
	}
	return out
}
