package dht

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// forgetful is a set that loses the answer of a client's next request to change
// a name, after or before it was executed, and lets somebody act in between.
type forgetful struct {
	volume.Set
	c *amnesia
}

type amnesia struct {
	armed    bool
	executed bool
	between  func()
}

func (c *amnesia) call(f func() error) error {
	if !c.armed {
		return f()
	}
	c.armed = false
	if c.executed {
		if err := f(); err != nil {
			return err
		}
	}
	if c.between != nil {
		c.between()
	}
	return &volume.Error{Op: "test", Errno: syscall.EIO, Reason: volume.Unknown}
}

func (s *forgetful) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	err = s.c.call(func() error { a, err = s.Set.Make(ctx, dir, name, n); return err })
	return a, err
}
func (s *forgetful) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (file volume.File, a volume.Attr, err error) {
	err = s.c.call(func() error {
		file, a, err = s.Set.Create(ctx, dir, name, n, f)
		return err
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, volume.Attr{}, err
	}
	return file, a, nil
}
func (s *forgetful) Link(ctx context.Context, id, dir volume.ID, name string) (a volume.Attr, err error) {
	err = s.c.call(func() error { a, err = s.Set.Link(ctx, id, dir, name); return err })
	return a, err
}
func (s *forgetful) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return s.c.call(func() error { return s.Set.Unlink(ctx, dir, name) })
}
func (s *forgetful) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return s.c.call(func() error { return s.Set.Rmdir(ctx, dir, name) })
}
func (s *forgetful) Rename(ctx context.Context, od volume.ID, on string, nd volume.ID, nn string, f volume.RenameFlags) error {
	return s.c.call(func() error { return s.Set.Rename(ctx, od, on, nd, nn, f) })
}

// TestAskedAgain loses replies for good and looks at what the caller is told and
// what is there then. w.fs is the other client.
func TestAskedAgain(t *testing.T) {
	eio, eexist := syscall.EIO, syscall.EEXIST
	var name, to string
	create := func(f volume.Flags) func(w *world, d *Distribute) error {
		return func(w *world, d *Distribute) error {
			file, _, err := d.Create(w.ctx, w.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write|f)
			if err == nil {
				_, err = file.WriteAt(w.ctx, []byte("x"), 0, 0)
				file.Close()
			}
			return err
		}
	}
	mkdir := func(w *world, d *Distribute) error {
		_, err := d.Make(w.ctx, w.dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		return err
	}
	link := func(w *world, d *Distribute) error {
		_, err := d.Link(w.ctx, w.ids["f"], w.dir, to)
		return err
	}
	unlink := func(w *world, d *Distribute) error { return d.Unlink(w.ctx, w.dir, name) }
	rmdir := func(w *world, d *Distribute) error { return d.Rmdir(w.ctx, w.dir, name) }
	rename := func(w *world, d *Distribute) error { return d.Rename(w.ctx, w.dir, name, w.dir, to, 0) }
	file := func(w *world) { w.ids["f"] = w.lookup(w.dir, w.file(w.dir, 1, "n")) }
	dir := func(w *world) { w.mkdir(w.dir, 1, "n") }
	other := func(w *world) { w.file(w.dir, 1, "n") }
	gone := func(w *world) { w.must(w.fs.Unlink(w.ctx, w.dir, name)) }
	moved := func(w *world) { w.must(w.fs.Rename(w.ctx, w.dir, name, w.sub, "moved", 0)) }
	replaced := func(w *world) { gone(w); other(w) }
	tests := []struct {
		what     string
		setup    func(w *world) // before
		look     bool           // the client has seen the name
		run      func(w *world, d *Distribute) error
		executed bool
		between  func(w *world)
		want     syscall.Errno
		has      int // names in dir after it, sub aside
	}{
		{"create", nil, false, create(volume.Excl), true, nil, 0, 1},
		{"create lost", nil, false, create(volume.Excl), false, nil, 0, 1},
		{"create, then moved", nil, false, create(volume.Excl), true, moved, 0, 0},
		{"create lost, another's", nil, false, create(volume.Excl), false, other, eexist, 1},
		{"open lost, another's", nil, false, create(0), false, other, 0, 1},
		{"open", other, false, create(volume.Truncate), true, nil, 0, 1},
		{"mkdir", nil, false, mkdir, true, nil, 0, 1},
		{"mkdir lost", nil, false, mkdir, false, nil, 0, 1},
		{"mkdir lost, another's", nil, false, mkdir, false, dir, eexist, 1},
		{"link", file, false, link, true, nil, 0, 2},
		{"link lost", file, false, link, false, nil, 0, 2},
		{"link lost, another's", file, false, link, false, func(w *world) { w.file(w.dir, 1, "to") }, eexist, 2},
		{"unlink", file, true, unlink, true, nil, 0, 0},
		{"unlink lost", file, true, unlink, false, nil, 0, 0},
		{"unlink of what was not seen", file, false, unlink, true, nil, eio, 0},
		{"unlink, replaced", file, true, unlink, false, replaced, eio, 1},
		{"rmdir", dir, true, rmdir, true, nil, 0, 0},
		{"rmdir lost", dir, true, rmdir, false, nil, 0, 0},
		{"rename", file, true, rename, true, nil, 0, 1},
		{"rename lost", file, true, rename, false, nil, 0, 1},
		{"rename of what was not seen", file, false, rename, true, nil, eio, 1},
		{"rename lost, moved", file, true, rename, false, moved, eio, 0},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			w := newWorld(t)
			name, to = w.owned(w.dir, 1, "n"), w.owned(w.dir, 1, "to")
			if test.setup != nil {
				test.setup(w)
			}
			c := &amnesia{executed: test.executed}
			sets := map[volume.SetID]volume.Set{}
			for id, s := range w.client().view.Load().sets {
				sets[id] = &forgetful{s, c}
			}
			d := New(Config{Map: w.m, Sets: sets})
			if test.look {
				_, err := d.Lookup(w.ctx, w.dir, name)
				w.must(err)
			}
			if test.between != nil {
				c.between = func() { test.between(w) }
			}
			c.armed = true
			if err := test.run(w, d); volume.ErrnoOf(err) != test.want {
				t.Errorf("the caller was told %v", err)
			}
			if c.armed {
				t.Error("no reply was lost")
			}
			list, _, err := w.fs.ReadDir(w.ctx, w.dir, 0, 100, true)
			if err != nil || len(list) != test.has+1 {
				t.Errorf("there are %d names: %v %v", len(list), list, err)
			}
			w.quiet()
			if wrong := w.check(); len(wrong) > 0 {
				t.Error(wrong)
			}
		})
	}
}

// TestKilledMidway ends a set's process before each change of its store while
// it makes something alone, and starts it again: the caller, whose connection
// says that the reply is lost, is told that it was made, and it was, once.
func TestKilledMidway(t *testing.T) {
	kinds := map[string]uint32{"mkdir": syscall.S_IFDIR, "symlink": syscall.S_IFLNK, "mknod": syscall.S_IFIFO, "create": syscall.S_IFREG}
	for what, kind := range kinds {
		for at := int64(1); at <= 2; at++ {
			t.Run(fmt.Sprint(what, " ", at), func(t *testing.T) {
				w := newWorld(t)
				n := volume.Node{Mode: kind | 0o755}
				if kind == syscall.S_IFLNK {
					n.Target = "target"
				}
				name := w.owned(w.dir, 1, "n")
				f := &fault{}
				f.left.Store(at)
				w.nodes[1].fault.Store(f)
				sets := map[volume.SetID]volume.Set{}
				for id, s := range w.client().view.Load().sets {
					sets[id] = &reconnecting{s, w.nodes[id]}
				}
				d := New(Config{Map: w.m, Sets: sets})
				var err error
				if kind == syscall.S_IFREG {
					var file volume.File
					if file, _, err = d.Create(w.ctx, w.dir, name, n, volume.Write|volume.Excl); err == nil {
						w.must(file.Close())
					}
				} else {
					_, err = d.Make(w.ctx, w.dir, name, n)
				}
				if err != nil {
					t.Fatal(err)
				}
				w.nodes[1].fault.Store(nil)
				if f.hit.Load() {
					w.nodes[1].restart()
				}
				if a, err := w.fs.Lookup(w.ctx, w.dir, name); err != nil || a.Type() != kind {
					t.Fatal(a, err)
				}
				w.quiet()
				if wrong := w.check(); len(wrong) > 0 {
					t.Fatal(wrong)
				}
			})
		}
	}
}

// reconnecting is a set as a remote client has it whose process is started again
// when it dies: a request to change something that was not answered is Unknown.
type reconnecting struct {
	volume.Set
	n *node
}

func (r *reconnecting) lost(err error) error {
	if err == nil || !r.n.life.Load().dead.Load() {
		return err
	}
	r.n.restart()
	return &volume.Error{Op: "test", Errno: syscall.EIO, Reason: volume.Unknown}
}

func (r *reconnecting) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	a, err := r.Set.Make(ctx, dir, name, n)
	return a, r.lost(err)
}
func (r *reconnecting) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	file, a, err := r.Set.Create(ctx, dir, name, n, f)
	return file, a, r.lost(err)
}
