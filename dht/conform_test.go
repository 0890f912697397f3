package dht

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

func TestConformance(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) {
			fstest.Run(t, fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }})
		})
	}
}

// believing is a cluster whose client believes what it heard of directories for
// longer than the test lasts: whatever it does itself it must see at once.
func believing(t *testing.T, sets int) volume.FS {
	c := newCluster(t, sets, false)
	c.fs.heard.believe = time.Hour
	return c.fs
}

func TestBelieving(t *testing.T) {
	cfg := fstest.Config{New: func(t *testing.T) volume.FS { return believing(t, 3) }}
	t.Run("conformance", func(t *testing.T) { fstest.Run(t, cfg) })
	t.Run("random", func(t *testing.T) { fstest.Random(t, cfg, 3000) })
	t.Run("concurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
}

// TestTold: what the owner of a name tells of the directory when the name is
// made spares asking it, unless two changes meet.
func TestTold(t *testing.T) {
	c := newCluster(t, 3, false)
	c.fs.heard.believe = time.Hour
	ctx := t.Context()
	v := c.fs.view.Load()
	for i := range 20 {
		if _, err := c.fs.Getattr(ctx, volume.Root); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(i)
		f, _, err := c.fs.Create(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o600}, volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		for _, set := range v.ids {
			if !c.fs.heard.knows(volume.Root, set) {
				t.Errorf("after making %s, set %d must be asked", name, set)
			}
		}
	}
	_, one := c.fs.heard.begin(ctx, volume.Root)
	_, two := c.fs.heard.begin(ctx, volume.Root)
	for i, change := range []*change{one, two} {
		change.beside.Dir.ID = volume.Root
		c.fs.heard.changed(change, v.ids[0])
		if knows := c.fs.heard.knows(volume.Root, v.ids[0]); knows != (i == 0) {
			t.Errorf("change %d of two at a time: known: %v", i, knows)
		}
	}
}

// TestToldByOne: on a volume of one set nobody need be asked about a directory that only this client changes.
func TestToldByOne(t *testing.T) {
	c := newCluster(t, 1, false)
	c.fs.heard.believe = time.Hour
	ctx, set := t.Context(), c.ids[0]
	a, err := c.fs.Make(ctx, volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o700})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.fs.Getattr(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"create", func() error {
			f, _, err := c.fs.Create(ctx, a.ID, "f", volume.Node{Mode: syscall.S_IFREG | 0o600}, volume.Write)
			if err == nil {
				err = f.Close()
			}
			return err
		}},
		{"rename", func() error { return c.fs.Rename(ctx, a.ID, "f", a.ID, "g", 0) }},
		{"unlink", func() error { return c.fs.Unlink(ctx, a.ID, "g") }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !c.fs.heard.knows(a.ID, set) {
			t.Errorf("after a %s the directory must be asked for", s.name)
		}
		heard, err := c.fs.Getattr(ctx, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		c.fs.heard.forgetAll()
		if asked, err := c.fs.Getattr(ctx, a.ID); err != nil || asked != heard {
			t.Errorf("after a %s the directory is\n%+v, %v; heard was\n%+v", s.name, asked, err, heard)
		}
	}
}

func TestRandom(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		cfg := fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }}
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { fstest.Random(t, cfg, 3000) })
		t.Run(fmt.Sprintf("%d sets concurrent", n), func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
	}
}

// TestHeardOverRename: after the rename of a file only those are asked about the
// directory again who have changed it, and what they say is the truth.
func TestHeardOverRename(t *testing.T) {
	w := newWorld(t)
	w.fs.heard.believe = time.Hour
	v := w.fs.view.Load()
	attr := func(fs volume.FS) volume.Attr {
		t.Helper()
		a, err := fs.Getattr(w.ctx, w.dir)
		w.must(err)
		return a
	}
	name := w.file(w.dir, 1, "f")
	for i, to := range []volume.SetID{2, 3, 3, 1} { // the file stays on set 1
		attr(w.fs)
		from, next := v.owner(w.dir, name), w.owned(w.dir, to, fmt.Sprint("to", i, "-"))
		w.lookup(w.dir, name)
		w.must(w.fs.Rename(w.ctx, w.dir, name, w.dir, next, 0))
		for _, set := range v.ids {
			concerned := set != to && (set == 1 || set == from) // to has told
			if w.fs.heard.knows(w.dir, set) == concerned {
				t.Errorf("%s, which lies on set 1, became %s: set %d is believed: %v", name, next, set, !concerned)
			}
		}
		if got, want := attr(w.fs), attr(w.client()); got != want {
			t.Errorf("the directory is\n%+v, heard was\n%+v", want, got)
		}
		name = next
	}
	replaced := w.pointed(w.dir, 2, 3, "replaced")
	attr(w.fs)
	w.lookup(w.dir, name)
	w.must(w.fs.Rename(w.ctx, w.dir, name, w.dir, replaced, 0))
	if got, want := attr(w.fs), attr(w.client()); got != want {
		t.Errorf("the directory is\n%+v, heard was\n%+v", want, got)
	}
}
