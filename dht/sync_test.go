package dht

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// newSlow returns a world that makes nothing durable by itself.
func newSlow(t *testing.T) *world {
	c := &cluster{every: time.Hour}
	c.init(t, 3, true, model.WithPowerLoss())
	return newWorldOf(t, c)
}

// TestSyncedPath makes a file in directories that are all new, each at home on
// another set, and syncs the file alone. After a loss of power it is found from the
// root by its path, so all homes have all its directories.
func TestSyncedPath(t *testing.T) {
	s := seed(t)
	for i := range 60 {
		rng := rand.New(rand.NewPCG(s, uint64(i)))
		w := newSlow(t)
		path := []string{"dir"}
		dir, owner := w.dir, volume.SetID(0)
		for range 1 + rng.IntN(5) {
			owner = volume.SetID(rng.IntN(3) + 1)
			path = append(path, w.mkdir(dir, owner, "d"))
			dir = w.ids["d"]
		}
		name := w.owned(dir, volume.SetID(rng.IntN(3)+1), "f")
		f, a, err := w.fs.Create(w.ctx, dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
		w.must(err)
		if rng.IntN(2) == 0 { // behind a pointer
			to := w.owned(dir, volume.SetID(rng.IntN(3)+1), "g")
			w.must(w.fs.Rename(w.ctx, dir, name, dir, to, 0))
			name = to
		}
		w.must(f.Sync(w.ctx, rng.IntN(2) == 0))
		w.must(f.Close())
		w.cutPower(rng, w.ids3())
		if got := w.walk(append(path, name)); got != a.ID {
			t.Fatalf("round %d: %v leads to %v, not to the file that was synced", i, path, got)
		}
	}
}

// TestSyncedDirectory is the same for the sync of a directory.
func TestSyncedDirectory(t *testing.T) {
	s := seed(t)
	for i := range 40 {
		rng := rand.New(rand.NewPCG(s, uint64(i)))
		w := newSlow(t)
		path := []string{"dir"}
		dir := w.dir
		for range 1 + rng.IntN(4) {
			path = append(path, w.mkdir(dir, volume.SetID(rng.IntN(3)+1), "d"))
			dir = w.ids["d"]
		}
		sub := w.mkdir(dir, volume.SetID(rng.IntN(3)+1), "e")
		name := w.pointed(dir, 1, 2, "f")
		w.must(w.fs.Sync(w.ctx, dir))
		id := w.lookup(dir, name)
		w.cutPower(rng, w.ids3())
		if w.walk(append(path, name)) != id || w.walk(append(path, sub)) != w.ids["e"] {
			t.Fatalf("round %d: %v has not what it had when it was synced", i, path)
		}
	}
}

// walk looks a path up from the root, the zero ID if that leads nowhere.
func (w *world) walk(path []string) volume.ID {
	id := volume.Root
	for _, name := range path {
		a, err := w.fs.Lookup(w.ctx, id, name)
		if err != nil {
			w.t.Logf("%s of %v: %v", name, path, err)
			return volume.ID{}
		}
		id = a.ID
	}
	return id
}

// TestSyncAsksNoMore: a sync settles no whole set, and asks for nothing twice.
func TestSyncAsksNoMore(t *testing.T) {
	w := newSlow(t)
	var steps []op
	net := network(func(_ *life, _ volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		if st, err := decodeStep(b); err == nil {
			steps = append(steps, st.op)
		}
		return send()
	})
	w.mkdir(w.dir, 2, "d")
	name := w.owned(w.ids["d"], 1, "f")
	f, _, err := w.fs.Create(w.ctx, w.ids["d"], name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
	w.must(err)
	w.net.Store(&net)
	w.must(f.Sync(w.ctx, false))
	if !slices.Contains(steps, opSync) || slices.Contains(steps, opSettle) {
		t.Fatalf("the first sync sent %v", steps)
	}
	steps = nil
	w.must(f.Sync(w.ctx, false))
	if len(steps) > 0 {
		t.Fatalf("the second sync sent %v", steps)
	}
	w.net.Store(nil)
	w.must(f.Close())
}

func TestMarks(t *testing.T) {
	var m marks
	d, e, f := volume.NewID(2), volume.NewID(3), volume.NewID(1)
	m.add(d, 2, d)
	m.inherit(e, d)
	m.add(e, 3, e)
	m.add(e, 2, e) // takes what is above it along
	m.inherit(f, e)
	list, seq := m.needs(f)
	if !slices.Equal(list, []need{{3, e}, {2, e}}) {
		t.Fatal(list)
	}
	m.done(need{2, e}, seq)
	if list, _ = m.needs(f); !slices.Equal(list, []need{{3, e}}) {
		t.Fatal(list)
	}
	for range 2 * needsMax {
		m.add(f, 4, volume.NewID(4))
	}
	if list, seq = m.needs(f); len(list) > needsMax || !slices.Contains(list, need{set: 4}) {
		t.Fatal(list)
	}
	for _, set := range []volume.SetID{2, 3, 4} {
		m.done(need{set: set}, seq)
	}
	if list, _ := m.needs(f); list != nil || m.some.Load() || len(m.mu.objects) > 0 {
		t.Fatal("marks of settled sets stay", list)
	}
	var many []volume.ID
	for range marksMax + 2000 {
		id := volume.NewID(1)
		many = append(many, id)
		m.add(id, 2, d)
	}
	for _, id := range many {
		if list, _ := m.needs(id); len(list) == 0 {
			t.Fatal("a mark is lost")
		}
	}
	if list, _ := m.needs(many[marksMax]); !slices.Equal(list, []need{{set: 2}}) {
		t.Fatal("an object beyond those that fit", list)
	}
	wrong := 0
	for range 1000 {
		if list, _ := m.needs(volume.NewID(1)); len(list) > 0 {
			wrong++
		}
	}
	if wrong > 1 {
		t.Fatalf("%d objects of 1000 need what others need", wrong)
	}
	_, seq = m.needs(d)
	if m.done(need{set: 2}, seq); m.some.Load() {
		t.Fatal("a crowd stays")
	}
}

// TestSyncWhileAway: a set that is away for long, during which more is made that
// needs it than can be remembered one by one, is in the way of nobody else's sync,
// and what others removed meanwhile is dropped for good.
func TestSyncWhileAway(t *testing.T) {
	w := newWorld(t)
	w.quiet()
	w.mkdir(w.dir, 3, "d")
	o := w.nodes[1].owner()
	w.nodes[3].halt()
	for range marksMax + 1000 {
		o.marks.add(volume.NewID(1), 3, w.ids["d"])
	}
	gone := w.pointed(w.dir, 1, 2, "gone")
	f, _, err := w.fs.Create(w.ctx, w.dir, w.owned(w.dir, 1, "f"), volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
	w.must(err)
	if err := f.Sync(w.ctx, false); err != nil {
		t.Errorf("a file that needs nothing there: %v", err)
	}
	w.must(f.Close())
	w.must(w.fs.Unlink(w.ctx, w.dir, gone))
	for deadline := time.Now().Add(10 * time.Second); ; w.pause() {
		list, err := w.nodes[1].store.Discards(w.ctx)
		if err == nil && len(list) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what was removed is still there: %v", list)
		}
	}
	inside := w.owned(w.ids["d"], 1, "f")
	f, _, err = w.fs.Create(w.ctx, w.ids["d"], inside, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
	w.must(err)
	o.marks.add(f.ID(), 3, w.ids["d"]) // as if the directory was made just before
	if err := f.Sync(w.ctx, false); !isErrno(err, syscall.EIO) {
		t.Errorf("a file that needs a set that is away: %v", err)
	}
	w.must(f.Close())
	w.nodes[3].start()
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestSyncWaits syncs a file while another set, which has to make its directory durable, fails over: that takes
// longer, and is no error. Of a set of one brick, which nobody can take the place of, it is one at once.
func TestSyncWaits(t *testing.T) {
	for _, members := range []int{1, 2} {
		c := &cluster{every: time.Hour}
		c.init(t, 3, false)
		for i := range c.m.Sets { // no step has failed yet, so nobody has looked
			c.m.Sets[i].Members = make([]spec.Member, members)
		}
		w := newWorldOf(t, c)
		w.mkdir(w.dir, 2, "d")
		f, _, err := w.fs.Create(w.ctx, w.ids["d"], w.owned(w.ids["d"], 1, "f"), volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
		w.must(err)
		c.nodes[2].halt()
		done := make(chan error, 1)
		go func() { done <- f.Sync(w.ctx, false) }()
		if members == 1 {
			if err := <-done; volume.ErrnoOf(err) != syscall.EIO {
				t.Errorf("the sync ended with %v while a set of one brick was down", err)
			}
			c.nodes[2].start()
			continue
		}
		select {
		case err := <-done:
			t.Errorf("the sync did not wait: %v", err)
		case <-time.After(5 * lookAgain):
		}
		c.nodes[2].start()
		w.must(<-done)
		w.must(f.Close())
	}
}

// TestFindWhileAway: a file that is not where it was born may be elsewhere: who asks for it waits while another member of a set takes over,
// and is not told EIO; a set of one brick is away or not.
func TestFindWhileAway(t *testing.T) {
	for _, members := range []int{1, 3} {
		c := &cluster{}
		c.init(t, 3, false)
		for i := range c.m.Sets {
			c.m.Sets[i].Members = make([]spec.Member, members)
		}
		w := newWorldOf(t, c)
		name := w.owned(w.dir, 1, "f")
		f, a, err := w.fs.Create(w.ctx, w.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
		w.must(err)
		w.must(f.Close())
		w.must(w.fs.Unlink(w.ctx, w.dir, name))
		c.nodes[2].halt()
		done := make(chan error, 1)
		go func() { _, err := w.fs.Open(w.ctx, a.ID, volume.Read); done <- err }()
		if members == 1 {
			if err := <-done; volume.ErrnoOf(err) != syscall.EIO {
				t.Errorf("the opening ended with %v while a set of one brick was down", err)
			}
			c.nodes[2].start()
			continue
		}
		select {
		case err := <-done:
			t.Errorf("the opening did not wait: %v", err)
			c.nodes[2].start()
			continue
		case <-time.After(5 * lookAgain):
		}
		c.nodes[2].start()
		if err := <-done; volume.ErrnoOf(err) != syscall.ESTALE {
			t.Errorf("the opening of what is gone: %v", err)
		}
	}
}
