package fstest

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// now is the Fixed.Now of the env of fixed(sec).
func now(sec int64) volume.Time { return volume.Time{Sec: sec, Nsec: 123456789} }

func (e *memberEnv) mtime(id volume.ID, sec int64) {
	e.Helper()
	if a := e.attr(id); a.Mtime != now(sec) {
		e.Errorf("mtime %v, want %v", a.Mtime, now(sec))
	}
}

// mtimes checks the mtimes of a file and of a directory.
func (e *memberEnv) mtimes(id volume.ID, sec int64, dir volume.ID, dirSec int64) {
	e.Helper()
	e.mtime(id, sec)
	e.mtime(dir, dirSec)
}

var fixedTests = []memberTest{
	{"times of what is made", func(e *memberEnv) {
		d, d2 := e.mkdir(e.dir, "d"), e.mkdir(e.dir, "d2")
		for i, n := range []volume.Node{{Mode: syscall.S_IFREG}, {Mode: syscall.S_IFDIR}, {Mode: syscall.S_IFLNK, Target: "x"}, {Mode: syscall.S_IFIFO}} {
			f := e.fixed(1000+int64(i), false)
			a, err := e.m.Make(f.ctx, d, alphabet[i], n)
			e.ok(err)
			e.mtimes(a.ID, 1000+int64(i), d, 1000+int64(i))
			if b := e.attr(a.ID); a.Mtime != b.Mtime || a.Atime != b.Mtime || b.Ctime.Sec < 1e9 {
				e.Errorf("got %+v, then %+v", a, b)
			}
		}
		f, a, err := e.m.Create(e.fixed(2000, false).ctx, d, "new", volume.Node{}, volume.Write)
		e.ok(err)
		e.ok(f.Close())
		e.mtimes(a.ID, 2000, d, 2000)
		_, err = e.m.Link(e.fixed(2001, false).ctx, a.ID, d2, "link")
		e.ok(err)
		e.mtimes(a.ID, 2000, d2, 2001)
		e.ok(e.m.Unlink(e.fixed(2002, false).ctx, d2, "link"))
		e.mtimes(d, 2000, d2, 2002)
		e.ok(e.m.Rename(e.fixed(2003, false).ctx, d, "new", d2, "new", 0))
		e.mtimes(d, 2003, d2, 2003)
		e.mtime(a.ID, 2000)
		e.ok(e.m.Rename(e.fixed(2004, false).ctx, d, "b", d2, "b", 0))
		e.mtimes(d, 2004, d2, 2004)
		e.ok(e.m.Rmdir(e.fixed(2005, false).ctx, d2, "b"))
		e.mtime(d2, 2005)
		_, _, err = e.m.Create(e.fixed(9000, false).ctx, d2, "new", volume.Node{}, volume.Write|volume.Excl)
		e.fails(err, syscall.EEXIST)
		_, err = e.m.Make(e.fixed(9000, false).ctx, d2, "new", volume.Node{Mode: syscall.S_IFIFO})
		e.fails(err, syscall.EEXIST)
		e.mtimes(a.ID, 2000, d2, 2005)
	}},
	{"times of what a store does", func(e *memberEnv) {
		d, k := e.mkdir(e.dir, "d"), volume.Key{Set: 1, Intent: 1}
		f := e.file(d, "f", "x")
		e.ok(e.m.Put(e.fixed(1, false).ctx, d, "p", aPointer, volume.ID{}, volume.Key{}))
		e.mtime(d, 1)
		e.ok(e.m.Put(e.fixed(2, false).ctx, d, "p", volume.Pointer{ID: f}, aPointer.ID, k))
		e.mtime(d, 2)
		e.ok(e.m.Put(e.fixed(3, false).ctx, d, "p", volume.Pointer{ID: f}, aPointer.ID, k)) // as it is
		e.ok(e.m.Purge(e.fixed(3, false).ctx, k))
		e.mtime(d, 2)
		e.ok(e.m.Discard(e.fixed(4, false).ctx, d, "p", f, k))
		e.mtime(d, 4)
		e.ok(e.m.Restore(e.fixed(5, false).ctx, k))
		e.mtime(d, 5)
		c := volume.Copy{ID: volume.NewID(2), Mode: syscall.S_IFDIR | 0o755, Version: 3, Home: 2, BirthTime: now(77)}
		e.ok(e.m.MakeCopy(e.fixed(6, false).ctx, d, "c", c))
		e.mtimes(c.ID, 77, d, 5)
		c.ID, c.BirthTime = volume.NewID(2), volume.Time{}
		e.ok(e.m.MakeCopy(e.fixed(6, false).ctx, d, "c2", c))
		e.mtimes(c.ID, 6, d, 5)
	}},
	{"times of what is written", func(e *memberEnv) {
		id := e.file(e.dir, "f", "")
		f := e.open(id, volume.Read|volume.Write)
		at := func(sec int64) *memberEnv { return e.fixed(sec, false) }
		_, err := f.WriteAt(at(10).ctx, []byte("x"), 0, 0)
		e.ok(err)
		e.mtime(id, 10)
		_, err = f.Append(at(11).ctx, []byte("x"), 0)
		e.ok(err)
		e.mtime(id, 11)
		_, err = f.WriteAt(at(9).ctx, []byte("y"), 0, 0) // it comes late
		e.ok(err)
		e.mtime(id, 11)
		if !e.feat.NoAllocate {
			e.ok(f.Allocate(at(12).ctx, 0, 0, 8192))
			e.mtime(id, 12)
			e.ok(f.Allocate(at(13).ctx, volume.AllocPunchHole|volume.AllocKeepSize, 1<<20, 8192))
			e.mtime(id, 13)
		}
		set := func(sec int64, c volume.Change) volume.Attr {
			e.Helper()
			a, err := e.m.Setattr(at(sec).ctx, id, c)
			e.ok(err)
			return a
		}
		for i, size := range []int64{3, 3, 70000} {
			set(20+int64(i), volume.Change{Mask: volume.SetSize, Size: size})
			e.mtime(id, 20+int64(i))
		}
		a := set(30, volume.Change{Mask: volume.SetMtimeNow | volume.SetAtimeNow})
		e.mtime(id, 30)
		if a.Atime != now(30) {
			e.Errorf("atime %v", a.Atime)
		}
		set(31, volume.Change{Mask: volume.SetMtime | volume.SetSize, Mtime: now(5), Size: 1})
		e.mtime(id, 5)
		_, err = f.WriteAt(at(29).ctx, []byte("y"), 0, 0) // before the time was set
		e.ok(err)
		e.mtime(id, 5)
		set(32, volume.Change{Mask: volume.SetMode, Mode: 0o600})
		e.mtime(id, 5)
		e.ok(f.Flush(e.ctx))
		_, err = f.WriteAt(at(33).ctx, []byte("y"), 0, 0)
		e.ok(err)
		e.mtime(id, 33)
		g, err := e.m.Open(at(34).ctx, id, volume.Write|volume.Truncate)
		e.ok(err)
		e.ok(g.Close())
		e.mtime(id, 34)
		g, _, err = e.m.Create(at(35).ctx, e.dir, "f", volume.Node{}, volume.Write|volume.Truncate|volume.FullSync)
		e.ok(err)
		e.mtime(id, 35)
		_, err = g.WriteAt(at(36).ctx, []byte("y"), 0, 0)
		e.ok(err)
		e.ok(g.Close())
		e.mtime(id, 36)
		o := e.describe(id)
		o.Attr.Mtime = now(1)
		e.ok(e.m.Install(e.ctx, o)) // whatever was before
		_, err = f.WriteAt(at(20).ctx, []byte("y"), 0, 0)
		e.ok(err)
		e.mtime(id, 20)
	}},
	{"times in another order", func(e *memberEnv) {
		d := e.mkdir(e.dir, "d")
		for i, sec := range []int64{50, 40, 55, 45} {
			_, err := e.m.Make(e.fixed(sec, false).ctx, d, alphabet[i], volume.Node{Mode: syscall.S_IFREG})
			e.ok(err)
			e.mtime(d, []int64{50, 50, 55, 55}[i])
		}
		_, err := e.m.Setattr(e.fixed(60, false).ctx, d, volume.Change{Mask: volume.SetMtime, Mtime: now(7)})
		e.ok(err)
		e.ok(e.m.Unlink(e.fixed(59, false).ctx, d, "a"))
		e.mtime(d, 7)
		e.ok(e.m.Unlink(e.fixed(61, false).ctx, d, "b"))
		e.mtime(d, 61)
		e.ok(e.m.MakeCopy(e.fixed(62, false).ctx, d, "copy", volume.Copy{ID: volume.NewID(2), Mode: syscall.S_IFDIR}))
		e.mtime(d, 61)
	}},
	{"times side by side", func(e *memberEnv) {
		id, most := e.file(e.dir, "f", ""), int64(300)
		f := e.open(id, volume.Read|volume.Write)
		d := e.mkdir(e.dir, "d")
		var all sync.WaitGroup
		for i := range most {
			all.Go(func() {
				// Each of the times once, in no order.
				ctx := volume.WithFixed(e.ctx, volume.Fixed{Now: volume.Time{Sec: 1000, Nsec: uint32(i*7%most) + 1}})
				if _, err := f.WriteAt(ctx, []byte("x"), i, 0); err != nil {
					e.Error(err)
				}
				name := fmt.Sprint(i)
				if _, err := e.m.Make(ctx, d, name, volume.Node{Mode: syscall.S_IFREG}); err != nil {
					e.Error(err)
				}
				if i%2 == 0 {
					if err := e.m.Unlink(ctx, d, name); err != nil {
						e.Error(err)
					}
				}
			})
		}
		all.Wait()
		last := volume.Time{Sec: 1000, Nsec: uint32(most)}
		if a, b := e.attr(id), e.attr(d); a.Mtime != last || b.Mtime != last {
			e.Errorf("mtimes %v and %v, want %v", a.Mtime, b.Mtime, last)
		}
	}},
	{"keep", func(e *memberEnv) {
		k := volume.Key{Set: 1, Intent: 1}
		drop := map[string]func(ctx *memberEnv, id volume.ID) error{
			"unlink":  func(f *memberEnv, id volume.ID) error { return e.m.Unlink(f.ctx, e.dir, "f") },
			"rename":  func(f *memberEnv, id volume.ID) error { return e.m.Rename(f.ctx, e.dir, "g", e.dir, "f", 0) },
			"put":     func(f *memberEnv, id volume.ID) error { return e.m.Put(f.ctx, e.dir, "f", aPointer, id, k) },
			"discard": func(f *memberEnv, id volume.ID) error { return e.m.Discard(f.ctx, e.dir, "f", id, k) },
			"purge": func(f *memberEnv, id volume.ID) error {
				if err := e.m.Discard(e.ctx, e.dir, "f", id, k); err != nil {
					return err
				}
				return e.m.Purge(f.ctx, k)
			},
		}
		for name, do := range drop {
			id := e.file(e.dir, "f", "kept")
			e.file(e.dir, "g", "")
			e.ok(do(e.fixed(5, true), id))
			e.nameless(id)
			check := func() {
				e.Helper()
				if a := e.attr(id); a.Nlink != 0 {
					e.Errorf("%s: nlink %d", name, a.Nlink)
				}
				if got := e.content(id); got != "kept" {
					e.Errorf("%s: content %q", name, got)
				}
				_, err := e.m.Link(e.ctx, id, e.dir, "again")
				e.fails(err, syscall.ENOENT)
			}
			check()
			check() // closing it does not end it
			e.ok(e.m.Orphans(e.ctx))
			check()
			e.ok(e.m.Purge(e.ctx, k))
			e.restart()
			e.nameless(id)
			if h, ok := e.m.(interface{ Hold() }); ok {
				h.Hold()
				check()
				e.ok(e.m.Orphans(e.ctx))
				check()
			}
			f := e.openOnly(id, volume.Write)
			e.ok(e.m.Release(e.ctx, id))
			e.write(f, "w", 0)
			e.ok(f.Close())
			e.gone(id)
			e.nameless()
			for _, x := range e.namesIn(e.dir) {
				e.ok(e.m.Unlink(e.ctx, e.dir, x))
			}
		}
	}},
	{"a new reign", func(e *memberEnv) {
		id := e.file(e.dir, "f", "")
		set := func(at, mtime int64) {
			_, err := e.m.Setattr(e.fixed(at, false).ctx, id, volume.Change{Mask: volume.SetMtime, Mtime: now(mtime)})
			e.ok(err)
		}
		set(1010, 7)
		set(1005, 8) // it comes late
		e.mtime(id, 7)
		e.m.NewReign()
		set(1005, 9) // by another clock
		e.mtime(id, 9)
		set(1004, 10)
		e.mtime(id, 9)
	}},
	{"keep what was discarded under another name", func(e *memberEnv) {
		other, k := volume.Key{Set: 1, Intent: 1}, volume.Key{Set: 1, Intent: 2}
		drop := map[string]func(f *memberEnv, id volume.ID) error{
			"unlink":  func(f *memberEnv, id volume.ID) error { return e.m.Unlink(f.ctx, e.dir, "f") },
			"rename":  func(f *memberEnv, id volume.ID) error { return e.m.Rename(f.ctx, e.dir, "g", e.dir, "f", 0) },
			"put":     func(f *memberEnv, id volume.ID) error { return e.m.Put(f.ctx, e.dir, "f", aPointer, id, k) },
			"discard": func(f *memberEnv, id volume.ID) error { return e.m.Discard(f.ctx, e.dir, "f", id, k) },
		}
		for name, do := range drop {
			id := e.file(e.dir, "was", "kept")
			e.place(e.dir, "f", id)
			e.file(e.dir, "g", "")
			keeping := e.fixed(5, true)
			e.ok(e.m.Discard(keeping.ctx, e.dir, "was", id, other))
			e.nameless() // it has the name that it was renamed to
			e.ok(do(keeping, id))
			e.nameless(id)
			if got := e.content(id); got != "kept" {
				e.Errorf("%s: content %q", name, got)
			}
			e.ok(e.m.Purge(keeping.ctx, other))
			e.ok(e.m.Purge(keeping.ctx, k))
			if got := e.content(id); got != "kept" {
				e.Errorf("%s: content %q after the discards are purged", name, got)
			}
			e.ok(e.m.Release(e.ctx, id))
			e.gone(id)
			e.nameless()
			for _, x := range e.namesIn(e.dir) {
				e.ok(e.m.Unlink(e.ctx, e.dir, x))
			}
		}
	}},
	{"keep what has a name", func(e *memberEnv) {
		id := e.file(e.dir, "f", "")
		e.place(e.dir, "g", id)
		e.ok(e.m.Unlink(e.fixed(5, true).ctx, e.dir, "f"))
		e.nameless()
		e.ok(e.m.Unlink(e.fixed(5, true).ctx, e.dir, "g"))
		e.ok(e.m.Put(e.ctx, e.dir, "h", volume.Pointer{ID: id}, volume.ID{}, volume.Key{}))
		e.nameless()
		e.nlink(id, 1)
		e.ok(e.m.Unlink(e.fixed(5, false).ctx, e.dir, "h"))
		e.gone(id)
	}},
	{"open what is open elsewhere", func(e *memberEnv) {
		id := e.file(e.dir, "f", "x")
		e.ok(e.m.Discard(e.ctx, e.dir, "f", id, volume.Key{Set: 1}))
		_, err := e.m.Open(e.ctx, id, volume.Read)
		e.fails(err, syscall.ESTALE)
		f, err := e.m.Open(e.fixed(1, true).ctx, id, volume.Read)
		e.ok(err)
		if got := e.readAt(f, 0, 5); got != "x" {
			e.Errorf("holds %q", got)
		}
		e.ok(f.Close())
	}},
}
