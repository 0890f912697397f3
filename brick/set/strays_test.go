package set

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// Files without a name that nobody has open, and that nobody lets go: how they could come about.

// namelessAt lists what has no name at a node's member.
func namelessAt(t *testing.T, n *node) []volume.ID {
	t.Helper()
	ids, err := n.member.Nameless(context.Background())
	must(t, err)
	return ids
}

// nothingNameless waits until no member has anything without a name.
func (c *cluster) nothingNameless(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		c.eventually("nothing without a name is left at "+n.id, 10*time.Second, func() bool { return len(namelessAt(t, n)) == 0 })
	}
}

// comeBackOver ends the time in which clients may come back, at whoever serves.
func (c *cluster) comeBackOver(t *testing.T) {
	t.Helper()
	c.eventually("the time to come back is over", 20*time.Second, func() bool {
		s := c.serving()
		return s != nil && s.store.Orphans(context.Background()) == nil
	})
}

// TestLetGoAndLost has a primary end when it has let a file go whose last handle was closed, and before
// it has told the others. The next primary may be itself, and knows of nothing.
func TestLetGoAndLost(t *testing.T) {
	t.Parallel()
	for _, make := range []func(t testing.TB, i int) (volume.Member, string){inMemory, onBricks} {
		c := begunCluster(t, 3, make)
		first, s := c.primary(10 * time.Second)
		f, id := newFile(t, s, "a", "hello")
		must(t, s.Unlink(t.Context(), volume.Root, "a"))
		for _, name := range []string{"b", "c"} { // the logs tell of the unlinking no more
			_, err := s.Make(t.Context(), volume.Root, name, volume.Node{Mode: 0o100644})
			must(t, err)
		}
		r := first.set.reignNow()
		free := r.hold() // it does not get to tell
		must(t, f.Close())
		if ids := namelessAt(t, first); len(ids) > 0 {
			t.Fatalf("the primary has %v still", ids)
		}
		first.end(false)
		free()
		if ids := namelessAt(t, c.nodes[(first.i+1)%3]); !slices.Equal(ids, []volume.ID{id}) {
			t.Fatalf("another member has %v, not %v", ids, id)
		}
		first.start()
		c.allInSync(20 * time.Second)
		c.comeBackOver(t)
		c.nothingNameless(t)
	}
}

// TestStraysAtTakeover has members in sync that differ in what has no name, as the ends of processes can leave
// it: after a takeover all have what the new primary has, contents included.
func TestStraysAtTakeover(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	first, _ := c.primary(10 * time.Second)
	own := map[*node]volume.ID{}
	for _, n := range c.nodes {
		own[n] = volume.NewID(1)
		must(t, n.member.Install(t.Context(), volume.Object{Attr: volume.Attr{ID: own[n], Mode: 0o100644, Nlink: 1}}))
		f, err := n.member.Open(hidden(t.Context()), own[n], volume.Write)
		must(t, err)
		_, err = f.WriteAt(t.Context(), []byte(n.id), 0, 0)
		must(t, err)
		must(t, f.Close())
	}
	first.end(true)
	second, _ := c.otherThan(first, 10*time.Second)
	for _, n := range c.nodes {
		if ids := namelessAt(t, n); n != first && !slices.Equal(ids, []volume.ID{own[second]}) {
			t.Errorf("%s has %v, not %v of the primary, %s", n.id, ids, own[second], second.id)
		}
	}
	first.start()
	c.allInSync(20 * time.Second)
	for _, n := range c.nodes {
		f, err := n.member.Open(hidden(t.Context()), own[second], volume.Read)
		must(t, err)
		p := make([]byte, 10)
		size, err := f.ReadAt(t.Context(), p, 0)
		if must(t, err); string(p[:size]) != second.id {
			t.Errorf("at %s it has %q, not %q", n.id, p[:size], second.id)
		}
		must(t, f.Close())
	}
	c.comeBackOver(t)
	c.nothingNameless(t)
}

// TestOpenedOnceMore opens a file without a name again while it is about to go with its last handle: it stays,
// and goes with the new one.
func TestOpenedOnceMore(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	first, s := c.primary(10 * time.Second)
	f, id := newFile(t, s, "a", "hello")
	must(t, s.Unlink(t.Context(), volume.Root, "a"))
	r := first.set.reignNow()
	at := whole(id, true)
	must(t, r.s.locks.lock(t.Context(), at)) // as Open does
	local, err := r.s.member.Open(t.Context(), id, volume.Read)
	must(t, err)
	must(t, f.Close())
	g := r.store().(store).opened(local, id, volume.Read)
	c.eventually("somebody waits to let it go", 10*time.Second, func() bool {
		line, unlock := r.s.locks.line(id)
		defer unlock()
		return len(line.waiting) > 0
	})
	r.s.locks.unlock(at)
	c.eventually("who would let it go is done", 10*time.Second, func() bool {
		at := whole(id, false)
		free := r.s.locks.try(at)
		if free {
			r.s.locks.unlock(at)
		}
		return free
	})
	if got := content(t, s, id); got != "hello" {
		t.Errorf("it has %q", got)
	}
	must(t, g.Close())
	c.nothingNameless(t)
}

// TestUnlinkedWhenTheTimeIsOver unlinks a file, that a client could have come back for, when the time to come
// back ends: while what has no name is being listed.
func TestUnlinkedWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	first, s := c.primary(10 * time.Second)
	f, _ := newFile(t, s, "a", "hello")
	must(t, f.Close())
	first.end(true)
	second, s := c.otherThan(first, 10*time.Second)
	var once sync.Once
	second.proc.setHook(func(op string, done bool) {
		if op == "nameless" && done {
			once.Do(func() { must(t, s.Unlink(context.Background(), volume.Root, "a")) })
		}
	})
	must(t, s.Orphans(t.Context()))
	second.proc.setHook(nil)
	first.start()
	c.allInSync(20 * time.Second)
	c.nothingNameless(t)
}

// lateMember is a member whose Open comes back late.
type lateMember struct {
	volume.Member
	opened, goOn chan struct{}
}

func (m lateMember) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := m.Member.Open(ctx, id, f)
	close(m.opened)
	<-m.goOn
	return file, err
}

// TestOpenedWhileItGoes has a file opened, to be healed or synced, while a change takes its last name away: it
// goes when that is done, and does not stay because it is among the open ones.
func TestOpenedWhileItGoes(t *testing.T) {
	t.Parallel()
	m := lateMember{model.NewStore(1), make(chan struct{}), make(chan struct{})}
	a, err := m.Make(t.Context(), volume.Root, "a", volume.Node{ID: volume.NewID(1), Mode: 0o100644})
	must(t, err)
	files := newFiles()
	got := make(chan *openFile)
	go func() {
		f, err := files.get(t.Context(), m, a.ID)
		if err != nil {
			t.Error(err)
		}
		got <- f
	}()
	<-m.opened
	_, err = apply(t.Context(), m, files, &change{kind: doUnlink, id: a.ID, dir: volume.Root, name: "a"})
	must(t, err)
	close(m.goOn)
	f := <-got
	if ids, err := m.Nameless(t.Context()); err != nil || len(ids) != 1 {
		t.Errorf("while it is needed: %v, %v", ids, err)
	}
	files.put(f)
	if ids, err := m.Nameless(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("afterwards there are %v, %v", ids, err)
	}
}
