package set

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestQueueOfOneWhoCameBack has a member take its seat, and its queue deleted, while a change
// that was queued for it is being made durable.
func TestQueueOfOneWhoCameBack(t *testing.T) {
	l, err := openLedger(t.TempDir(), "m0", slog.New(slog.DiscardHandler))
	must(t, err)
	defer l.close()
	must(t, l.begin(t.Context(), "m1", nil))
	must(t, l.setAbsent([]string{"m1"}))
	c := &change{kind: doUnlink, dir: volume.Root, name: "a", id: volume.NewID(1)}
	n, err := l.record(t.Context(), 1, 1, 0, c.touches(), c)
	must(t, err)
	l.release(&n)
	must(t, l.keepQueues(nil))
	if err := l.sync(t.Context(), &n); err != nil {
		t.Fatalf("the queue of a member that is in sync: %v", err)
	}
}

// TestAppliedButNotQueued kills a primary that goes on alone between the change of its own data and what it
// notes for the member that is absent: that member gets the change all the same.
func TestAppliedButNotQueued(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t, 2, inMemory)
	for _, n := range c.nodes {
		n.start()
	}
	c.allInSync(10 * time.Second)
	p, s := c.primary(10 * time.Second)
	a, err := s.Make(ctx, volume.Root, "gone", volume.Node{Mode: 0o40755})
	must(t, err)
	for _, name := range []string{"a", "b"} { // so that the absent one knows the first as finished
		_, err := s.Make(ctx, volume.Root, name, volume.Node{Mode: 0o40755})
		must(t, err)
	}
	absent := c.nodes[1-p.i]
	absent.stop()
	p.stop()
	p.start()
	_, s = c.primary(10 * time.Second) // alone
	_, err = s.Make(ctx, volume.Root, "late", volume.Node{Mode: 0o40755})
	must(t, err)
	p.stop()
	l, err := openLedger(p.dir, p.id, c.log)
	must(t, err)
	st, _ := l.state()
	ch := &change{kind: doRmdir, dir: volume.Root, name: "gone", id: a.ID, request: volume.Request{Session: [16]byte{1}, Number: 1}, now: volume.TimeOf(time.Now())}
	noted, err := l.record(ctx, st.Epoch, 1<<40, 0, ch.touches(), ch) // with nobody absent, as far as it knows
	must(t, err)
	_, err = apply(ctx, p.member, newFiles(), ch)
	must(t, err)
	l.release(&noted)
	must(t, l.close())
	p.start()
	c.primary(10 * time.Second)
	absent.start()
	c.allInSync(15 * time.Second)
	c.equal()
}

// TestOutcomesOutlive: what was noted of requests counts after a start, wherever the mark is.
func TestOutcomesOutlive(t *testing.T) {
	dir := t.TempDir()
	l, err := openLedger(dir, "m0", slog.New(slog.DiscardHandler))
	must(t, err)
	q := func(n uint64) volume.Request { return volume.Request{Session: [16]byte{1}, Number: n} }
	id := volume.NewID(1)
	for n := uint64(1); n <= 4; n++ {
		c := &change{kind: doSetattr, id: id, set: volume.Change{Mask: volume.SetMode}, request: q(n)}
		noted, err := l.record(t.Context(), 1, n, 0, c.touches(), c)
		must(t, err)
		l.release(&noted)
	}
	must(t, l.forget([]volume.Request{q(2)}))
	must(t, l.doubt([]volume.Request{q(3)}))
	for _, boot := range []string{"boot", "another"} {
		end, err := l.unfinished(boot)
		must(t, err)
		if want := []volume.Request{q(1), q(3), q(4)}; !slices.Equal(end.requests, want) {
			t.Errorf("of %s pending are %v, want %v", boot, end.requests, want)
		}
	}
	must(t, l.aligned(1, 3, "boot", true))
	must(t, l.close())
	l, err = openLedger(dir, "m0", slog.New(slog.DiscardHandler))
	must(t, err)
	defer l.close()
	l.finished(1, 3)
	got := map[uint64]bool{}
	must(t, l.replies(func(q volume.Request, e effect, sure bool) {
		if got[q.Number] = sure; e.id != id {
			t.Errorf("request %d made %v", q.Number, e.id)
		}
	}))
	if want := map[uint64]bool{1: true, 3: false, 4: false}; !maps.Equal(got, want) {
		t.Errorf("known, and whether it is sure: %v, want %v", got, want)
	}
}
