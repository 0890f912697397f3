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
	later := volume.TimeOf(time.Now().Add(time.Hour))
	for _, tt := range []struct {
		what    string
		tells   [3]bool // of three changes under way at a time
		forgets bool    // something else is changed meanwhile
		knows   bool
	}{
		{"all tell", [3]bool{true, true, true}, false, true},
		{"the first does not", [3]bool{false, true, true}, false, false},
		{"the last does not", [3]bool{true, true, false}, false, false},
		{"something else is changed", [3]bool{true, true, true}, true, false},
	} {
		if _, err := c.fs.Getattr(ctx, volume.Root); err != nil {
			t.Fatal(err)
		}
		var all [3]*change
		for i := range all {
			_, all[i] = c.fs.heard.begin(ctx, volume.Root, false)
		}
		if tt.forgets {
			c.fs.heard.forget(volume.Root)
		}
		for i, change := range all {
			if tt.tells[i] { // the second was made last
				change.beside.Dir = volume.Attr{ID: volume.Root, Mtime: volume.Time{Sec: later.Sec - int64((i-1)*(i-1))}}
			}
			c.fs.heard.changed(change, v.ids[0])
		}
		if knows := c.fs.heard.knows(volume.Root, v.ids[0]); knows != tt.knows {
			t.Errorf("%s: known: %v", tt.what, knows)
		}
		if parts, _ := c.fs.heard.ask(volume.Root); tt.knows && parts[v.ids[0]].Mtime.Sec != later.Sec {
			t.Errorf("%s: the time is that of an earlier change", tt.what)
		}
		c.fs.heard.forget(volume.Root)
	}
}

// TestToldAfterTimesWereSet: a directory whose time was set ahead has the present one after a change in it.
func TestToldAfterTimesWereSet(t *testing.T) {
	for _, sets := range []int{1, 3} {
		c := newCluster(t, sets, false)
		c.fs.heard.believe = time.Hour
		ctx := t.Context()
		ahead := volume.Time{Sec: 1 << 33}
		for i := range 5 {
			if _, err := c.fs.Setattr(ctx, volume.Root, volume.Change{Mask: volume.SetMtime, Mtime: ahead}); err != nil {
				t.Fatal(err)
			}
			if a, err := c.fs.Getattr(ctx, volume.Root); err != nil || a.Mtime != ahead {
				t.Fatalf("%v, %v", a.Mtime, err)
			}
			if _, err := c.fs.Make(ctx, volume.Root, fmt.Sprint(i), volume.Node{Mode: syscall.S_IFREG | 0o600}); err != nil {
				t.Fatal(err)
			}
			if a, err := c.fs.Getattr(ctx, volume.Root); err != nil || a.Mtime == ahead {
				t.Errorf("of %d sets: after a change the time is that which was set: %v", sets, err)
			}
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
		{"mkdir", func() error {
			_, err := c.fs.Make(ctx, a.ID, "sub", volume.Node{Mode: syscall.S_IFDIR | 0o700})
			return err
		}},
		{"rmdir", func() error { return c.fs.Rmdir(ctx, a.ID, "sub") }},
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
