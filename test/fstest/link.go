package fstest

import (
	"fmt"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var linkTests = []test{
	{"another name", func(e *env) {
		id, d := e.file(e.dir, "a", "content"), e.mkdir(e.dir, "d")
		for i := range uint32(e.count(20)) {
			a, err := e.fs.Link(e.ctx, id, d, fmt.Sprint("b", i))
			e.ok(err)
			if a.ID != id || a.Nlink != i+2 {
				e.Errorf("link %d: %+v", i, a)
			}
			if b := e.holds(d, fmt.Sprint("b", i), id); !same(a, b) {
				e.Errorf("link says %+v, lookup %+v", a, b)
			}
		}
		f := e.open(id, volume.Write)
		e.write(f, "CON", 0)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "a"))
		if got := e.content(id); got != "CONtent" {
			e.Errorf("content %q", got)
		}
		e.nlink(id, uint32(e.count(20)))
	}},
	{"every type", func(e *env) {
		for i, n := range nodes()[1:] {
			name := string(rune('a' + i))
			id := e.make(e.dir, name, n).ID
			a, err := e.fs.Link(e.ctx, id, e.dir, name+"2")
			e.ok(err)
			if a.Nlink != 2 || a.Mode != n.Mode {
				e.Errorf("%s: %+v", typeName(n.Mode), a)
			}
			e.ok(e.fs.Unlink(e.ctx, e.dir, name))
			e.holds(e.dir, name+"2", id)
			e.nlink(id, 1)
		}
	}},
	{"errors", func(e *env) {
		d := e.mkdir(e.dir, "d")
		_, err := e.fs.Link(e.ctx, d, e.dir, "e")
		e.fails(err, syscall.EPERM)
		_, err = e.fs.Link(e.ctx, volume.Root, e.dir, "e")
		e.fails(err, syscall.EPERM)
		id := e.file(e.dir, "f", "")
		for _, name := range []string{"d", "f"} {
			_, err = e.fs.Link(e.ctx, id, e.dir, name)
			e.fails(err, syscall.EEXIST)
		}
		e.nlink(id, 1)
		e.lists(e.dir, "d", "f")
	}},
	{"of a file that is open but nameless", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f := e.open(id, volume.Read)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		_, err := e.fs.Link(e.ctx, id, e.dir, "g")
		e.fails(err, syscall.ENOENT)
		if got := e.readAt(f, 0, 10); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
	{"times", func(e *env) {
		id, d := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
		file, dir := e.attr(id), e.attr(d)
		e.tick()
		_, err := e.fs.Link(e.ctx, id, d, "g")
		e.ok(err)
		if a := e.attr(id); !file.Ctime.Before(a.Ctime) || a.Mtime != file.Mtime {
			e.Errorf("the file's times: %v %v", a.Mtime, a.Ctime)
		}
		if a := e.attr(d); !dir.Ctime.Before(a.Ctime) || !dir.Mtime.Before(a.Mtime) {
			e.Errorf("the directory's times: %v %v", a.Mtime, a.Ctime)
		}
		file, dir = e.attr(id), e.attr(d)
		e.tick()
		e.ok(e.fs.Unlink(e.ctx, d, "g"))
		if a := e.attr(id); !file.Ctime.Before(a.Ctime) || a.Mtime != file.Mtime {
			e.Errorf("after unlink, the file's times: %v %v", a.Mtime, a.Ctime)
		}
		if a := e.attr(d); !dir.Ctime.Before(a.Ctime) || !dir.Mtime.Before(a.Mtime) {
			e.Errorf("after unlink, the directory's times: %v %v", a.Mtime, a.Ctime)
		}
	}},
	{"unlink", func(e *env) {
		for i, n := range nodes()[1:] {
			name := string(rune('a' + i))
			e.make(e.dir, name, n)
			e.ok(e.fs.Unlink(e.ctx, e.dir, name))
			e.missing(e.dir, name)
			e.fails(e.fs.Unlink(e.ctx, e.dir, name), syscall.ENOENT)
		}
		e.lists(e.dir)
	}},
	{"unlink of a directory", func(e *env) {
		id := e.mkdir(e.dir, "d")
		e.fails(e.fs.Unlink(e.ctx, e.dir, "d"), syscall.EISDIR)
		e.holds(e.dir, "d", id)
	}},
	{"unlinked but open", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f, g := e.openOnly(id, volume.Read|volume.Write), e.openOnly(id, volume.Read)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		e.missing(e.dir, "f")
		e.nlink(id, 0)
		e.write(f, " and more", 7)
		if got := e.readAt(g, 0, 100); got != "content and more" {
			e.Errorf("content %q", got)
		}
		a, err := f.Setattr(e.ctx, volume.Change{Mask: volume.SetSize | volume.SetMode, Size: 3, Mode: 0o600})
		e.ok(err)
		if a.Size != 3 || a.Mode != syscall.S_IFREG|0o600 || a.Nlink != 0 {
			e.Errorf("setattr of the handle: %+v", a)
		}
		if _, err := f.Append(e.ctx, []byte("xyz"), 0); err != nil {
			e.Errorf("append: %v", err)
		}
		e.ok(f.Sync(e.ctx, false))
		e.ok(f.Close())
		if got := e.readAt(g, 0, 100); got != "conxyz" {
			e.Errorf("content %q", got)
		}
		if a, err := g.Getattr(e.ctx); err != nil || a.Size != 6 {
			e.Errorf("getattr of the handle: %+v, %v", a, err)
		}
		e.ok(g.Close())
	}},
	{"a new file under the name of an open one", func(e *env) {
		id := e.file(e.dir, "f", "old")
		f := e.open(id, volume.Read)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		other := e.file(e.dir, "f", "new")
		if got := e.readAt(f, 0, 10); got != "old" || other == id {
			e.Errorf("the open file reads %q", got)
		}
		if got := e.content(other); got != "new" {
			e.Errorf("the new file reads %q", got)
		}
	}},
	{"rmdir", func(e *env) {
		d := e.mkdir(e.dir, "d")
		e.file(d, "f", "")
		e.fails(e.fs.Rmdir(e.ctx, e.dir, "d"), syscall.ENOTEMPTY)
		e.ok(e.fs.Unlink(e.ctx, d, "f"))
		e.mkdir(d, "sub")
		e.fails(e.fs.Rmdir(e.ctx, e.dir, "d"), syscall.ENOTEMPTY)
		e.holds(e.dir, "d", d)
		e.ok(e.fs.Rmdir(e.ctx, d, "sub"))
		before := e.attr(e.dir)
		e.tick()
		e.ok(e.fs.Rmdir(e.ctx, e.dir, "d"))
		e.missing(e.dir, "d")
		e.fails(e.fs.Rmdir(e.ctx, e.dir, "d"), syscall.ENOENT)
		if a := e.attr(e.dir); !before.Mtime.Before(a.Mtime) || !before.Ctime.Before(a.Ctime) {
			e.Errorf("the directory's times: %v %v", a.Mtime, a.Ctime)
		}
		if again := e.mkdir(e.dir, "d"); again == d {
			e.Error("the ID was given again")
		}
	}},
	{"rmdir of every name's set", func(e *env) {
		// A directory with one file somewhere: whatever set owns its name says no.
		d := e.mkdir(e.dir, "d")
		for i := range e.count(40) {
			name := fmt.Sprint("file-", i)
			e.file(d, name, "")
			e.fails(e.fs.Rmdir(e.ctx, e.dir, "d"), syscall.ENOTEMPTY)
			e.ok(e.fs.Unlink(e.ctx, d, name))
		}
		e.ok(e.fs.Rmdir(e.ctx, e.dir, "d"))
	}},
	{"rmdir of what is no directory", func(e *env) {
		for i, n := range nodes()[1:] {
			name := string(rune('a' + i))
			id := e.make(e.dir, name, n).ID
			e.fails(e.fs.Rmdir(e.ctx, e.dir, name), syscall.ENOTDIR)
			e.holds(e.dir, name, id)
		}
	}},
}
