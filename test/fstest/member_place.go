package fstest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var aPointer = volume.Pointer{ID: volume.ID{0: 9, 15: 2}, Mode: syscall.S_IFREG, Held: 2}

var placeTests = []memberTest{
	{"place a file", func(e *memberEnv) {
		id, other := e.file(e.dir, "f", "one"), e.file(e.dir, "g", "two")
		for range 2 {
			e.place(volume.Root, "h", id)
			e.nlink(id, 2)
		}
		for range 2 { // over a file that has no other name
			e.place(e.dir, "g", id)
			e.nlink(id, 3)
			e.nameless(other)
		}
		if got := e.content(other); got != "two" {
			e.Errorf("what was replaced holds %q", got)
		}
		e.nlink(other, 0)
		e.restart()
		e.nameless(other)
		e.place(e.dir, "f", other) // over one that has others
		e.nameless()
		e.nlink(id, 2)
		e.nlink(other, 1)
		e.lists(e.dir, "f", "g")
		if got := e.content(other); got != "two" {
			e.Errorf("what was replaced holds %q", got)
		}
		for range 2 {
			e.place(e.dir, "g", volume.ID{})
			e.nlink(id, 1)
			e.lists(e.dir, "f")
		}
		e.place(volume.Root, "h", volume.ID{})
		e.nameless(id)
	}},
	{"place a pointer", func(e *memberEnv) {
		put := func(name string, p volume.Pointer) {
			e.Helper()
			for range 2 {
				e.ok(e.m.Place(e.ctx, e.dir, name, p))
			}
			a, err := e.m.Lookup(e.ctx, e.dir, name)
			e.ok(err)
			if a.ID != p.ID || a.Held != p.Held || a.Type() != p.Mode {
				e.Errorf("the name leads to %+v, want %+v", a, p)
			}
		}
		put("p", aPointer)
		other := aPointer
		other.Held = 3
		put("p", other) // another set
		id, dir := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
		put("f", aPointer)
		put("d", aPointer)
		e.nameless(id, dir)
		e.place(e.dir, "p", id)
		e.place(e.dir, "f", dir)
		e.place(e.dir, "d", volume.ID{})
		e.nameless()
		e.lists(e.dir, "f", "p")
		e.holds(e.dir, "p", id)
		e.holds(e.dir, "f", dir)
	}},
	{"place a directory", func(e *memberEnv) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		in, deep := e.mkdir(a, "in"), volume.ID{}
		deep = e.file(in, "deep", "x")
		at := func(dir, parent volume.ID, name string) {
			e.Helper()
			p, n, err := e.m.Path(e.ctx, dir)
			e.ok(err)
			if p != parent || n != name {
				e.Errorf("lies in %v as %q, want %v %q", p, n, parent, name)
			}
			e.holds(parent, name, dir)
		}
		for range 2 {
			e.place(b, "moved", in)
			at(in, b, "moved")
		}
		e.lists(a)
		e.holds(in, "deep", deep)
		e.place(e.dir, "a", in) // over another directory
		e.nameless(a)
		at(in, e.dir, "a")
		_, _, err := e.m.Path(e.ctx, a)
		e.fails(err, syscall.ENOENT)
		e.file(a, "made in it", "") // it can be worked in
		e.place(in, "in turn", a)
		at(a, in, "in turn")
		e.lists(a, "made in it")
		e.nlink(in, 3)
		e.place(e.dir, "a", volume.ID{}) // not empty
		e.nameless(in)
		e.lists(in, "deep", "in turn")
		at(a, in, "in turn")
		e.restart()
		e.nameless(in)
		e.lists(in, "deep", "in turn")
		e.file(a, "and later", "")
		sub := e.mkdir(in, "sub")
		e.place(e.dir, "a", in)
		e.nameless()
		e.ok(e.m.Rename(e.ctx, in, "sub", e.dir, "sub", 0))
		at(sub, e.dir, "sub")
		e.holds(in, "deep", deep)
	}},
	{"place around each other", func(e *memberEnv) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		f := e.file(e.dir, "f", "")
		e.place(e.dir, "a", b) // a swap, name by name
		e.place(e.dir, "b", a)
		e.holds(e.dir, "a", b)
		e.holds(e.dir, "b", a)
		e.place(e.dir, "f", a) // a file by a directory, and the reverse
		e.place(e.dir, "a", f)
		e.nameless(b)
		e.place(a, "b", b)
		for range 2 { // a directory into itself
			e.fails(e.m.Place(e.ctx, b, "x", volume.Pointer{ID: a}), syscall.ELOOP)
			e.fails(e.m.Place(e.ctx, b, "x", volume.Pointer{ID: b}), syscall.ELOOP)
			e.fails(e.m.Place(e.ctx, b, "x", volume.Pointer{ID: volume.Root}), syscall.ELOOP)
		}
		e.lists(b)
		e.place(e.dir, "f", volume.ID{}) // what lies in a nameless one moves out from under it
		e.nameless(a)
		e.fails(e.m.Place(e.ctx, b, "x", volume.Pointer{ID: a}), syscall.ELOOP)
		e.place(e.dir, "b", b)
		e.place(b, "a", a)
		e.nameless()
		e.holds(b, "a", a)
	}},
	{"place side by side", func(e *memberEnv) {
		dirs, files := []volume.ID{e.dir}, []volume.ID{}
		for i := range 12 {
			dirs = append(dirs, e.mkdir(e.dir, fmt.Sprint("d", i)))
			files = append(files, e.file(e.dir, fmt.Sprint("f", i), fmt.Sprint(i)))
		}
		seed := seedOf(e.T)
		var all sync.WaitGroup
		for i := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, i))
			all.Go(func() {
				for range e.count(150) {
					dir, name := dirs[rng.IntN(len(dirs))], alphabet[rng.IntN(4)]
					p := []volume.Pointer{{}, aPointer, {ID: files[rng.IntN(len(files))]}, {ID: dirs[1+rng.IntN(len(dirs)-1)]}, {ID: dirs[1+rng.IntN(len(dirs)-1)]}}[rng.IntN(5)]
					if err := e.m.Place(e.ctx, dir, name, p); err != nil && volume.ErrnoOf(err) != syscall.ELOOP {
						e.Errorf("place %+v: %v", p, err)
					}
				}
			})
		}
		all.Wait()
		e.restart()
		there, _, err := reach(e.ctx, e.m)
		e.ok(err)
		for i, id := range append(dirs, files...) {
			if !slices.Contains(there, id) {
				e.Errorf("object %d can't be reached", i)
			}
		}
		for i, id := range files {
			if o := e.describe(id); o.Attr.Size != int64(len(fmt.Sprint(i))) {
				e.Errorf("file %d has %d bytes", i, o.Attr.Size)
			}
		}
	}},
	{"place nonsense", func(e *memberEnv) {
		f := e.file(e.dir, "f", "")
		for _, c := range []struct {
			dir   volume.ID
			name  string
			p     volume.Pointer
			errno syscall.Errno
		}{
			{volume.NewID(1), "x", volume.Pointer{ID: f}, syscall.ESTALE},
			{volume.NewID(1), "x", volume.Pointer{}, syscall.ESTALE},
			{e.dir, "x", volume.Pointer{ID: volume.NewID(1)}, syscall.ESTALE},
			{f, "x", volume.Pointer{ID: f}, syscall.ENOTDIR},
			{f, "x", aPointer, syscall.ENOTDIR},
			{e.dir, "x", volume.Pointer{Held: 2, Mode: syscall.S_IFREG}, syscall.EINVAL},
			{e.dir, "x", volume.Pointer{Held: 2, ID: f}, syscall.EINVAL},
			{volume.Root, volume.Reserved, aPointer, syscall.EPERM},
			{volume.Root, volume.Reserved, volume.Pointer{}, syscall.EPERM},
			{e.dir, "", aPointer, syscall.EINVAL},
			{e.dir, "a/b", aPointer, syscall.EINVAL},
		} {
			if err := e.m.Place(e.ctx, c.dir, c.name, c.p); volume.ErrnoOf(err) != c.errno {
				e.Errorf("place %q → %+v: %v, want %v", c.name, c.p, err, c.errno)
			}
		}
		e.lists(e.dir, "f")
		e.nameless()
	}},
	{"place and discards", func(e *memberEnv) {
		k := volume.Key{Set: 1, Intent: 1}
		f, d := e.file(e.dir, "f", "x"), e.mkdir(e.dir, "d")
		e.ok(e.m.Discard(e.ctx, e.dir, "f", f, k))
		e.ok(e.m.Discard(e.ctx, e.dir, "d", d, volume.Key{Set: 1, Intent: 2}))
		e.fails(e.m.Place(e.ctx, e.dir, "d", volume.Pointer{ID: d}), syscall.ESTALE)
		e.place(e.dir, "f", f)
		e.nlink(f, 1)
		e.place(e.dir, "f", volume.ID{})
		e.nameless(f)
		e.ok(e.m.Purge(e.ctx, k))
		e.nameless(f)
		e.place(e.dir, "g", f)
		if got := e.content(f); got != "x" {
			e.Errorf("content %q", got)
		}
	}},
	{"release", func(e *memberEnv) {
		e.ok(e.m.Release(e.ctx, volume.NewID(1)))
		e.ok(e.m.Release(e.ctx, volume.Root))
		id := e.file(e.dir, "f", "")
		link := e.symlink(e.dir, "l", "to")
		for _, named := range []volume.ID{id, link, e.dir} {
			e.ok(e.m.Release(e.ctx, named))
			e.attr(named)
		}
		e.place(e.dir, "f", volume.ID{})
		e.place(e.dir, "l", volume.ID{})
		for range 2 {
			e.ok(e.m.Release(e.ctx, id))
			e.ok(e.m.Release(e.ctx, link))
			e.gone(id)
			e.gone(link)
		}
		e.nameless()
	}},
	{"release a tree", func(e *memberEnv) {
		top := e.mkdir(e.dir, "top")
		ids := []volume.ID{top}
		for dir, i := top, 0; i < 40; i++ {
			ids = append(ids, e.file(dir, "f", ""), e.symlink(dir, "l", "x"))
			_, err := e.m.Link(e.ctx, ids[len(ids)-2], dir, "again")
			e.ok(err)
			e.ok(e.m.Put(e.ctx, dir, "p", aPointer, volume.ID{}, volume.Key{}))
			ids = append(ids, e.mkdir(dir, "side"))
			dir = e.mkdir(dir, "deeper")
			ids = append(ids, dir)
		}
		stays := e.file(top, "stays", "x")
		_, err := e.m.Link(e.ctx, stays, e.dir, "outside")
		e.ok(err)
		opened := e.file(ids[len(ids)-1], "open", "y")
		f := e.openOnly(opened, volume.Read)
		e.place(e.dir, "top", volume.ID{})
		e.nameless(top)
		for range 2 {
			e.ok(e.m.Release(e.ctx, top))
		}
		for _, id := range ids {
			e.gone(id)
		}
		e.nlink(stays, 1)
		e.lists(e.dir, "outside")
		e.nameless(opened)
		if got := e.readAt(f, 0, 9); got != "y" {
			e.Errorf("an open file holds %q", got)
		}
		e.ok(f.Close())
		e.gone(opened)
		e.nameless()
	}},
	{"release what is open", func(e *memberEnv) {
		id := e.file(e.dir, "f", "x")
		f := e.openOnly(id, volume.Read|volume.Write)
		e.place(e.dir, "f", volume.ID{})
		e.ok(e.m.Release(e.ctx, id))
		e.nameless(id)
		e.write(f, "y", 1)
		if got := e.readAt(f, 0, 9); got != "xy" {
			e.Errorf("holds %q", got)
		}
		e.ok(f.Close())
		e.gone(id)
		e.nameless()
	}},
}
