package fstest

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// What a rename's names can lead to.
const (
	absent   = "absent"
	file     = "file"
	link     = "symbolic link"
	emptyDir = "empty directory"
	fullDir  = "full directory"
)

var renameTests = []test{
	{"matrix in one directory", func(e *env) { renameMatrix(e, false) }},
	{"matrix over two directories", func(e *env) { renameMatrix(e, true) }},
	{"many names", func(e *env) {
		d := e.mkdir(e.dir, "d")
		for i := range e.count(100) {
			id := e.file(e.dir, fmt.Sprint("from-", i), fmt.Sprint("content ", i))
			e.ok(e.fs.Rename(e.ctx, e.dir, fmt.Sprint("from-", i), d, fmt.Sprint("to-", i*7), 0))
			e.missing(e.dir, fmt.Sprint("from-", i))
			e.holds(d, fmt.Sprint("to-", i*7), id)
			if got := e.content(id); got != fmt.Sprint("content ", i) {
				e.Fatalf("content %q", got)
			}
		}
		e.lists(e.dir, "d")
	}},
	{"on a long way and back", func(e *env) {
		id := e.file(e.dir, "n0", "content")
		n := e.count(40)
		for i := range n {
			e.ok(e.fs.Rename(e.ctx, e.dir, fmt.Sprint("n", i), e.dir, fmt.Sprint("n", i+1), 0))
			e.lists(e.dir, fmt.Sprint("n", i+1))
		}
		e.ok(e.fs.Rename(e.ctx, e.dir, fmt.Sprint("n", n), e.dir, "n0", 0))
		if a := e.holds(e.dir, "n0", id); a.Nlink != 1 || a.Size != 7 {
			e.Errorf("after it all: %+v", a)
		}
	}},
	{"many replaced names", func(e *env) {
		for i := range e.count(50) {
			old := e.file(e.dir, "target", "old")
			id := e.file(e.dir, fmt.Sprint("temp-", i), "new")
			f := e.openOnly(old, volume.Read)
			e.ok(e.fs.Rename(e.ctx, e.dir, fmt.Sprint("temp-", i), e.dir, "target", 0))
			e.holds(e.dir, "target", id)
			e.lists(e.dir, "target")
			if got := e.readAt(f, 0, 10); got != "old" {
				e.Fatalf("the replaced file reads %q", got)
			}
			if a, err := f.Getattr(e.ctx); err != nil || a.Nlink != 0 {
				e.Fatalf("the replaced file: %+v, %v", a, err)
			}
			e.ok(f.Close())
			e.ok(e.fs.Unlink(e.ctx, e.dir, "target"))
		}
	}},
	{"to the same name", func(e *env) {
		id, d := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
		for _, f := range []volume.RenameFlags{0, volume.RenameExchange} {
			e.ok(e.fs.Rename(e.ctx, e.dir, "f", e.dir, "f", f))
			e.ok(e.fs.Rename(e.ctx, e.dir, "d", e.dir, "d", f))
		}
		e.fails(e.fs.Rename(e.ctx, e.dir, "f", e.dir, "f", volume.RenameNoReplace), syscall.EEXIST)
		e.holds(e.dir, "f", id)
		e.holds(e.dir, "d", d)
	}},
	{"two names of one object", func(e *env) {
		d := e.mkdir(e.dir, "d")
		id := e.file(e.dir, "f", "")
		for i := range e.count(20) {
			name := fmt.Sprint("other-", i)
			_, err := e.fs.Link(e.ctx, id, d, name)
			e.ok(err)
			for _, f := range []volume.RenameFlags{0, volume.RenameExchange} {
				e.ok(e.fs.Rename(e.ctx, e.dir, "f", d, name, f))
				e.holds(e.dir, "f", id)
				e.holds(d, name, id)
				e.nlink(id, 2)
			}
			e.fails(e.fs.Rename(e.ctx, e.dir, "f", d, name, volume.RenameNoReplace), syscall.EEXIST)
			e.ok(e.fs.Unlink(e.ctx, d, name))
		}
	}},
	{"into itself", func(e *env) {
		a := e.mkdir(e.dir, "a")
		b := e.mkdir(a, "b")
		c := e.mkdir(b, "c")
		for _, into := range []volume.ID{a, b, c} {
			for _, f := range []volume.RenameFlags{0, volume.RenameNoReplace} {
				e.fails(e.fs.Rename(e.ctx, e.dir, "a", into, "new", f), syscall.EINVAL)
			}
		}
		e.fails(e.fs.Rename(e.ctx, e.dir, "a", b, "c", volume.RenameExchange), syscall.EINVAL)
		e.fails(e.fs.Rename(e.ctx, b, "c", e.dir, "a", volume.RenameExchange), syscall.EINVAL)
		e.fails(e.fs.Rename(e.ctx, b, "c", e.dir, "a", 0), syscall.ENOTEMPTY)
		e.holds(e.dir, "a", a)
		e.holds(a, "b", b)
		e.holds(b, "c", c)
		e.lists(c)
	}},
	{"flags", func(e *env) {
		e.file(e.dir, "f", "")
		for _, f := range []volume.RenameFlags{volume.RenameNoReplace | volume.RenameExchange, 4, 8, 1 << 31} {
			e.fails(e.fs.Rename(e.ctx, e.dir, "f", e.dir, "g", f), syscall.EINVAL)
		}
		e.lists(e.dir, "f")
	}},
	{"a directory with all that is in it", func(e *env) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		sub := e.mkdir(a, "sub")
		id := e.file(sub, "f", "content")
		e.ok(e.fs.Rename(e.ctx, e.dir, "a", b, "moved", 0))
		e.holds(b, "moved", a)
		e.holds(a, "sub", sub)
		e.holds(sub, "f", id)
		g := e.file(sub, "g", "more")
		e.holds(sub, "g", g)
		e.lists(sub, "f", "g")
		e.ok(e.fs.Rename(e.ctx, sub, "f", e.dir, "out", 0))
		e.holds(e.dir, "out", id)
		e.fails(e.fs.Rename(e.ctx, e.dir, "b", sub, "b", 0), syscall.EINVAL)
		e.fails(e.fs.Rmdir(e.ctx, b, "moved"), syscall.ENOTEMPTY)
	}},
	{"directory links", func(e *env) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		e.mkdir(a, "x")
		e.nlink(a, 3)
		e.ok(e.fs.Rename(e.ctx, a, "x", b, "x", 0))
		e.nlink(a, 2)
		e.nlink(b, 3)
		e.mkdir(a, "y")
		e.ok(e.fs.Rename(e.ctx, a, "y", b, "x", 0))
		e.nlink(a, 2)
		e.nlink(b, 3)
		e.file(a, "f", "")
		e.ok(e.fs.Rename(e.ctx, a, "f", b, "x", volume.RenameExchange))
		e.nlink(a, 3)
		e.nlink(b, 2)
	}},
	{"times of directories that change places", func(e *env) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		x, y := e.mkdir(a, "x"), e.mkdir(b, "y")
		was := []volume.Time{e.attr(x).Mtime, e.attr(y).Mtime}
		e.tick()
		e.ok(e.fs.Rename(e.ctx, a, "x", b, "y", volume.RenameExchange))
		for i, id := range []volume.ID{x, y} {
			if got := e.attr(id).Mtime; got != was[i] {
				e.Errorf("directory %d: mtime %v, was %v", i, got, was[i])
			}
		}
	}},
	{"times", func(e *env) {
		a, b := e.mkdir(e.dir, "a"), e.mkdir(e.dir, "b")
		id := e.file(a, "f", "")
		was := []volume.Attr{e.attr(a), e.attr(b), e.attr(id)}
		e.tick()
		e.ok(e.fs.Rename(e.ctx, a, "f", b, "g", 0))
		for i, dir := range []volume.ID{a, b} {
			if x := e.attr(dir); !was[i].Mtime.Before(x.Mtime) || !was[i].Ctime.Before(x.Ctime) {
				e.Errorf("directory %d: times %v %v", i, x.Mtime, x.Ctime)
			}
		}
		if x := e.attr(id); x.Mtime != was[2].Mtime {
			e.Error("the rename changed the file's mtime")
		}
	}},
}

// thing makes what a name is to lead to, and returns its ID.
func (e *env) thing(kind string, dir volume.ID, name string) volume.ID {
	e.Helper()
	switch kind {
	case file:
		return e.file(dir, name, "content of "+name)
	case link:
		return e.symlink(dir, name, "target")
	case emptyDir:
		return e.mkdir(dir, name)
	case fullDir:
		id := e.mkdir(dir, name)
		e.file(id, "inside", "")
		return id
	}
	return volume.ID{}
}

// renameErrno is what renameat2(2) says of a rename over two kinds; 0: it works.
func renameErrno(from, to string, f volume.RenameFlags) syscall.Errno {
	dir := func(kind string) bool { return kind == emptyDir || kind == fullDir }
	switch {
	case from == absent:
		return syscall.ENOENT
	case f == volume.RenameExchange && to == absent:
		return syscall.ENOENT
	case f == volume.RenameNoReplace && to != absent:
		return syscall.EEXIST
	case f == volume.RenameExchange, to == absent:
		return 0
	case dir(from) && !dir(to):
		return syscall.ENOTDIR
	case !dir(from) && dir(to):
		return syscall.EISDIR
	case to == fullDir:
		return syscall.ENOTEMPTY
	}
	return 0
}

// renameMatrix renames every kind onto every kind with all flags.
func renameMatrix(e *env, two bool) {
	kinds := []string{absent, file, link, emptyDir, fullDir}
	n := 0
	for _, from := range kinds {
		for _, to := range kinds {
			for _, f := range []volume.RenameFlags{0, volume.RenameNoReplace, volume.RenameExchange} {
				n++
				c := renameCase{from: from, to: to, flags: f, two: two, n: n}
				e.Run(fmt.Sprintf("%s onto %s flags %d", from, to, f), func(t *testing.T) {
					d := *e
					d.T = t
					c.run(&d)
				})
			}
		}
	}
}

// renameCase is a cell of the matrix.
type renameCase struct {
	from, to string
	flags    volume.RenameFlags
	two      bool // over two directories
	n        int  // makes the names differ, so that they fall to different sets
}

func (c renameCase) run(e *env) {
	top := e.mkdir(e.dir, fmt.Sprint("case-", c.n))
	dirA := e.mkdir(top, "A")
	dirB := dirA
	if c.two {
		dirB = e.mkdir(top, "B")
	}
	a, b := fmt.Sprint("a", c.n), fmt.Sprint("b", c.n)
	x, y := e.thing(c.from, dirA, a), e.thing(c.to, dirB, b)
	err := e.fs.Rename(e.ctx, dirA, a, dirB, b, c.flags)
	if errno := renameErrno(c.from, c.to, c.flags); errno != 0 {
		e.fails(err, errno)
		e.leads(dirA, a, x)
		e.leads(dirB, b, y)
		return
	}
	e.ok(err)
	e.leads(dirB, b, x)
	if c.flags != volume.RenameExchange {
		e.leads(dirA, a, volume.ID{})
		if !y.IsZero() {
			_, err := e.fs.Getattr(e.ctx, y)
			e.fails(err, syscall.ESTALE)
		}
		return
	}
	e.leads(dirA, a, y)
	if c.from == fullDir {
		e.lists(x, "inside")
	}
	if c.to == fullDir {
		e.lists(y, "inside")
	}
}

// leads checks what a name leads to; the zero ID: nothing.
func (e *env) leads(dir volume.ID, name string, id volume.ID) {
	e.Helper()
	if id.IsZero() {
		e.missing(dir, name)
		return
	}
	e.holds(dir, name, id)
}
