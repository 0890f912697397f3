package fstest

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var staleTests = []test{
	{"an ID that never was", func(e *env) {
		forObject(e, volume.NewID(e.attr(e.dir).ID.Born()), syscall.ESTALE)
	}},
	{"the zero ID", func(e *env) { forObject(e, volume.ID{}, syscall.ESTALE) }},
	{"an ID of a set that is not there", func(e *env) { forObject(e, volume.NewID(60000), syscall.ESTALE) }},
	{"a removed directory", func(e *env) {
		id := e.mkdir(e.dir, "d")
		e.ok(e.fs.Rmdir(e.ctx, e.dir, "d"))
		forObject(e, id, syscall.ESTALE)
	}},
	{"a removed file", func(e *env) {
		id := e.file(e.dir, "f", "content")
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		forObject(e, id, syscall.ESTALE)
	}},
	{"a replaced file", func(e *env) {
		id := e.file(e.dir, "f", "content")
		e.file(e.dir, "g", "other")
		e.ok(e.fs.Rename(e.ctx, e.dir, "g", e.dir, "f", 0))
		forObject(e, id, syscall.ESTALE)
		e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
	}},
	{"a replaced directory", func(e *env) {
		id := e.mkdir(e.dir, "d")
		e.mkdir(e.dir, "g")
		e.ok(e.fs.Rename(e.ctx, e.dir, "g", e.dir, "d", 0))
		forObject(e, id, syscall.ESTALE)
		e.ok(e.fs.Rmdir(e.ctx, e.dir, "d"))
	}},
	{"a removed ID does not come back", func(e *env) {
		seen := map[volume.ID]bool{}
		for range e.count(50) {
			id := e.file(e.dir, "f", "")
			if seen[id] {
				e.Fatalf("ID %v was given again", id)
			}
			seen[id] = true
			e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		}
	}},
	{"names in what is no directory", func(e *env) {
		for i, n := range nodes()[1:] {
			name := "n" + string(rune('a'+i))
			id := e.make(e.dir, name, n).ID
			forDirectory(e, id, syscall.ENOTDIR)
			e.ok(e.fs.Unlink(e.ctx, e.dir, name))
		}
	}},
}

// forObject does everything with an ID that must fail with errno.
func forObject(e *env, id volume.ID, errno syscall.Errno) {
	e.Helper()
	check := checker(e, errno)
	_, err := e.fs.Getattr(e.ctx, id)
	check("getattr", err)
	_, err = e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetMode, Mode: 0o700})
	check("setattr", err)
	_, err = e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetSize})
	check("truncate", err)
	_, err = e.fs.Open(e.ctx, id, volume.Read)
	check("open", err)
	_, err = e.fs.Readlink(e.ctx, id)
	check("readlink", err)
	_, err = e.fs.Link(e.ctx, id, e.dir, "new")
	check("link", err)
	_, err = e.fs.Getxattr(e.ctx, id, "user.a")
	check("getxattr", err)
	check("setxattr", e.fs.Setxattr(e.ctx, id, "user.a", []byte("v"), 0))
	_, err = e.fs.Listxattr(e.ctx, id)
	check("listxattr", err)
	check("removexattr", e.fs.Removexattr(e.ctx, id, "user.a"))
	check("sync", e.fs.Sync(e.ctx, id))
	forDirectory(e, id, errno)
}

// forDirectory does everything with a directory that must fail with errno.
func forDirectory(e *env, dir volume.ID, errno syscall.Errno) {
	e.Helper()
	check := checker(e, errno)
	file := e.file(e.dir, "source", "")
	_, err := e.fs.Lookup(e.ctx, dir, "name")
	check("lookup", err)
	_, err = e.fs.Make(e.ctx, dir, "name", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	check("mkdir", err)
	_, err = e.fs.Make(e.ctx, dir, "name", volume.Node{Mode: syscall.S_IFLNK | 0o777, Target: "t"})
	check("symlink", err)
	_, _, err = e.fs.Create(e.ctx, dir, "name", volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
	check("create", err)
	_, err = e.fs.Link(e.ctx, file, dir, "name")
	check("link into", err)
	check("unlink", e.fs.Unlink(e.ctx, dir, "name"))
	check("rmdir", e.fs.Rmdir(e.ctx, dir, "name"))
	check("rename out of", e.fs.Rename(e.ctx, dir, "name", e.dir, "new", 0))
	check("rename into", e.fs.Rename(e.ctx, e.dir, "source", dir, "name", 0))
	_, _, err = e.fs.ReadDir(e.ctx, dir, 0, 100, false)
	check("readdir", err)
	e.ok(e.fs.Unlink(e.ctx, e.dir, "source"))
	e.missing(e.dir, "new")
}

// checker returns a function that reports an error without errno.
func checker(e *env, errno syscall.Errno) func(what string, err error) {
	return func(what string, err error) {
		e.Helper()
		if volume.ErrnoOf(err) != errno {
			e.Errorf("%s: %v, want %v", what, err, errno)
		}
	}
}
