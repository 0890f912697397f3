package dht

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// A scenario is one operation over several sets and what must be there before.
// In all of them set 1 owns the (new) name.
type scenario struct {
	name  string
	setup func(w *world)
	run   func(w *world) error
}

// world is a cluster of three sets with names of known owners.
type world struct {
	*cluster
	ctx context.Context
	dir volume.ID // where it happens
	sub volume.ID // another directory, below dir
	ids map[string]volume.ID
	req int // counts requests

	born string // in sub: what is made with contents, and must have them if it is there; "": nothing
}

// bears makes what born names; with an ID of our choice.
func (w *world) bears() error {
	n := volume.Node{ID: w.ids["new"], Mode: syscall.S_IFREG | 0o600, Data: []byte("contents"), Then: bornThen}
	a, err := w.fs.Make(w.ctx, w.sub, w.born, n)
	if err == nil && (a.ID != n.ID || a.Mode&0o7777 != bornThen.Mode || a.Size != 8 || a.Mtime != bornThen.Mtime || a.Held != 0) {
		w.t.Errorf("it was made as %+v", a)
	}
	return err
}

var bornThen = volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o4640, Mtime: volume.Time{Sec: 1000, Nsec: 7}}

// wholeBorn checks that what was made with contents has them, if it is there.
func (w *world) wholeBorn() {
	w.t.Helper()
	a, err := w.fs.Lookup(w.ctx, w.sub, w.born)
	if isErrno(err, syscall.ENOENT) {
		return
	}
	w.must(err)
	f, err := w.fs.Open(w.ctx, a.ID, volume.Read)
	w.must(err)
	defer f.Close()
	p := make([]byte, 100)
	n, err := f.ReadAt(w.ctx, p, 0)
	if err != nil || string(p[:n]) != "contents" || a.Mode&0o7777 != bornThen.Mode || a.Mtime != bornThen.Mtime {
		w.t.Errorf("it has its name, %q and %+v: %v", p[:n], a, err)
	}
}

// fillsUp makes set 1 give new data to set 2.
func (w *world) fillsUp() {
	o := w.nodes[1].owner()
	o.space.mu.Lock()
	o.space.mu.best = 2
	o.space.mu.Unlock()
	o.space.low.Store(true)
}

// owned returns a name in dir that set owns.
func (w *world) owned(dir volume.ID, set volume.SetID, stem string) string {
	v := w.fs.view.Load()
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%s%d", stem, i); v.owner(dir, name) == set {
			return name
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("setup: %v", err)
	}
}

// file makes a file whose name set owns.
func (w *world) file(dir volume.ID, set volume.SetID, stem string) string {
	w.t.Helper()
	name := w.owned(dir, set, stem)
	f, _, err := w.fs.Create(w.ctx, dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write|volume.Excl)
	w.must(err)
	w.must(f.Close())
	return name
}

// pointed makes a file whose name owner owns and that lies on data.
func (w *world) pointed(dir volume.ID, owner, data volume.SetID, stem string) string {
	w.t.Helper()
	from, to := w.file(dir, data, stem+"src"), w.owned(dir, owner, stem)
	w.must(w.fs.Rename(w.ctx, dir, from, dir, to, 0))
	return to
}

func (w *world) mkdir(dir volume.ID, set volume.SetID, stem string) string {
	w.t.Helper()
	name := w.owned(dir, set, stem)
	a, err := w.fs.Make(w.ctx, dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
	w.must(err)
	w.ids[stem] = a.ID
	return name
}

// movedDir makes a directory whose name owner owns and whose home is another set.
func (w *world) movedDir(dir volume.ID, owner, home volume.SetID, stem string) string {
	w.t.Helper()
	from, to := w.mkdir(dir, home, stem), w.owned(dir, owner, stem+"to")
	w.must(w.fs.Rename(w.ctx, dir, from, dir, to, 0))
	return to
}

func newWorld(t *testing.T) *world { return newWorldOf(t, newCluster(t, 3, true)) }

func newWorldOf(t *testing.T, c *cluster) *world {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w := &world{cluster: c, ctx: ctx, ids: map[string]volume.ID{}}
	a, err := c.fs.Make(ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	w.must(err)
	w.dir = a.ID
	b, err := c.fs.Make(ctx, w.dir, "sub", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	w.must(err)
	w.sub = b.ID
	return w
}

// renames returns a scenario that renames what src makes to what dst makes, or
// to a free name.
func renames(name string, f volume.RenameFlags, src, dst func(w *world) string) scenario {
	var from, to string
	return scenario{
		name: name,
		setup: func(w *world) {
			from = src(w)
			if to = w.owned(w.sub, 1, "new"); dst != nil {
				to = dst(w)
			}
		},
		run: func(w *world) error { return w.fs.Rename(w.ctx, w.dir, from, w.sub, to, f) },
	}
}

func scenarios() []scenario {
	file2 := func(w *world) string { return w.file(w.dir, 2, "old") }
	file1 := func(w *world) string { return w.file(w.dir, 1, "old") }
	ptr23 := func(w *world) string { return w.pointed(w.dir, 2, 3, "old") }
	ptr21 := func(w *world) string { return w.pointed(w.dir, 2, 1, "old") }
	ptr12 := func(w *world) string { return w.pointed(w.dir, 1, 2, "old") }
	dst1 := func(w *world) string { return w.file(w.sub, 1, "new") }
	dst12 := func(w *world) string { return w.pointed(w.sub, 1, 2, "new") }
	dst13 := func(w *world) string { return w.pointed(w.sub, 1, 3, "new") }
	dir2 := func(w *world) string { return w.mkdir(w.dir, 2, "d") }
	dir23 := func(w *world) string { return w.movedDir(w.dir, 2, 3, "d") }
	edir1 := func(w *world) string { return w.mkdir(w.sub, 1, "e") }
	edir13 := func(w *world) string { return w.movedDir(w.sub, 1, 3, "e") }
	x := volume.RenameExchange
	list := []scenario{
		renames("rename", 0, file2, nil),
		renames("rename noreplace", volume.RenameNoReplace, file2, nil),
		renames("rename here", 0, file1, nil),
		renames("replace here", 0, file1, dst1),
		renames("rename a pointer", 0, ptr23, nil),
		renames("rename a pointer to here", 0, ptr21, nil),
		renames("rename a pointer of here", 0, ptr12, nil),
		renames("replace", 0, file2, dst1),
		renames("replace a pointer to the source", 0, file2, dst12),
		renames("replace a pointer to a third", 0, file2, dst13),
		renames("replace by a pointer", 0, ptr23, dst12),
		renames("replace by a pointer to the same set", 0, ptr23, dst13),
		renames("replace by a pointer to here", 0, ptr21, dst13),
		renames("exchange", x, file2, dst1),
		renames("exchange pointers", x, ptr23, dst12),
		renames("exchange crossed pointers", x, ptr21, dst12),
		renames("exchange with same data set", x, ptr23, dst13),
		renames("rename directory", 0, dir2, nil),
		renames("rename moved directory", 0, dir23, nil),
		renames("replace directory", 0, dir2, edir1),
		renames("replace moved directory", 0, dir23, edir13),
		renames("exchange directories", x, dir23, edir13),
		renames("exchange file and directory", x, file2, edir13),
		renames("exchange pointer and directory", x, ptr23, edir13),
		renames("exchange directory and pointer", x, dir23, dst13),
		renames("exchange directory and file", x, dir2, dst1),
	}
	var name string
	list = append(list, scenario{"unlink a pointer",
		func(w *world) { name = w.pointed(w.dir, 1, 2, "f") },
		func(w *world) error { return w.fs.Unlink(w.ctx, w.dir, name) },
	}, scenario{"link",
		func(w *world) { w.ids["f"] = w.lookup(w.dir, w.file(w.dir, 2, "f")); name = w.owned(w.sub, 1, "l") },
		func(w *world) error { _, err := w.fs.Link(w.ctx, w.ids["f"], w.sub, name); return err },
	}, scenario{"unlink here",
		func(w *world) { name = w.file(w.dir, 1, "f") },
		func(w *world) error { return w.fs.Unlink(w.ctx, w.dir, name) },
	}, scenario{"link here",
		func(w *world) { w.ids["f"] = w.lookup(w.dir, w.file(w.dir, 1, "f")); name = w.owned(w.sub, 1, "l") },
		func(w *world) error { _, err := w.fs.Link(w.ctx, w.ids["f"], w.sub, name); return err },
	}, scenario{"create here",
		func(w *world) { name = w.owned(w.sub, 1, "f") },
		func(w *world) error {
			f, _, err := w.fs.Create(w.ctx, w.sub, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write|volume.Excl)
			if err == nil {
				err = f.Close()
			}
			return err
		},
	}, scenario{"bear here",
		func(w *world) { w.born = w.owned(w.sub, 1, "f"); w.ids["new"] = volume.NewID(1) },
		(*world).bears,
	}, scenario{"bear elsewhere",
		func(w *world) { w.born = w.owned(w.sub, 1, "f"); w.ids["new"] = volume.NewID(1); w.fillsUp() },
		(*world).bears,
	}, scenario{"mkdir",
		func(w *world) { name = w.owned(w.sub, 1, "d"); w.ids["new"] = volume.NewID(1) },
		func(w *world) error {
			_, err := w.fs.Make(w.ctx, w.sub, name, volume.Node{ID: w.ids["new"], Mode: syscall.S_IFDIR | 0o755})
			return err
		},
	}, scenario{"mkdir with an ID of elsewhere",
		func(w *world) { name = w.owned(w.sub, 1, "d"); w.ids["new"] = volume.NewID(2) },
		func(w *world) error {
			_, err := w.fs.Make(w.ctx, w.sub, name, volume.Node{ID: w.ids["new"], Mode: syscall.S_IFDIR | 0o755})
			return err
		},
	}, scenario{"rmdir",
		func(w *world) { name = w.mkdir(w.dir, 1, "d") },
		func(w *world) error { return w.fs.Rmdir(w.ctx, w.dir, name) },
	}, scenario{"rmdir with its home elsewhere",
		func(w *world) { name = w.movedDir(w.dir, 1, 2, "d") },
		func(w *world) error { return w.fs.Rmdir(w.ctx, w.dir, name) },
	}, scenario{"create elsewhere",
		func(w *world) {
			name = w.owned(w.sub, 1, "f")
			w.ids["new"] = volume.NewID(1)
			w.fillsUp()
		},
		func(w *world) error {
			f, _, err := w.fs.Create(w.ctx, w.sub, name, volume.Node{ID: w.ids["new"], Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write|volume.Excl)
			if err == nil {
				err = f.Close()
			}
			return err
		},
	})
	return list
}

func (w *world) lookup(dir volume.ID, name string) volume.ID {
	a, err := w.fs.Lookup(w.ctx, dir, name)
	w.must(err)
	return a.ID
}
