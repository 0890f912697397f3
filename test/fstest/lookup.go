package fstest

import (
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var lookupTests = []test{
	{"root", func(e *env) {
		a := e.attr(volume.Root)
		if !a.IsDir() {
			e.Errorf("the root's mode is %o", a.Mode)
		}
	}},
	{"absent", func(e *env) { e.missing(e.dir, "absent") }},
	{"finds what getattr finds", func(e *env) {
		id := e.file(e.dir, "f", "content")
		if a, b := e.holds(e.dir, "f", id), e.attr(id); !same(a, b) {
			e.Errorf("lookup says %+v, getattr %+v", a, b)
		}
	}},
	{"bad names", func(e *env) {
		for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b"} {
			forNames(e, name, func(what string, err error) {
				if volume.ErrnoOf(err) != syscall.EINVAL {
					e.Errorf("%s of %q: %v, want EINVAL", what, name, err)
				}
			})
		}
	}},
	{"name of 256 bytes", func(e *env) {
		forNames(e, strings.Repeat("n", 256), func(what string, err error) {
			if volume.ErrnoOf(err) != syscall.ENAMETOOLONG {
				e.Errorf("%s: %v, want ENAMETOOLONG", what, err)
			}
		})
	}},
	{"name of 255 bytes", func(e *env) {
		long, other := strings.Repeat("n", 255), strings.Repeat("m", 255)
		id := e.file(e.dir, long, "")
		e.holds(e.dir, long, id)
		e.ok(e.fs.Rename(e.ctx, e.dir, long, e.dir, other, 0))
		e.holds(e.dir, other, id)
		e.lists(e.dir, other)
		e.ok(e.fs.Unlink(e.ctx, e.dir, other))
		d := e.mkdir(e.dir, long)
		e.holds(e.dir, long, d)
		e.ok(e.fs.Rmdir(e.ctx, e.dir, long))
		e.lists(e.dir)
	}},
	{"names are bytes", func(e *env) {
		all := []string{"A", "a", "\xff\xfe", "ä", "a\u0308", " ", "\n", "...", "-", "*", ".mortar", ".a.XyZ123", "a~", "\x01"}
		ids := map[string]volume.ID{}
		for _, name := range all {
			ids[name] = e.file(e.dir, name, "")
		}
		for _, name := range all {
			e.holds(e.dir, name, ids[name])
		}
		e.lists(e.dir, all...)
	}},
	{"reserved in the root only", func(e *env) {
		e.missing(volume.Root, volume.Reserved)
		id := e.file(e.dir, "f", "")
		attempts := map[string]func() error{
			"mkdir": func() error {
				_, err := e.fs.Make(e.ctx, volume.Root, volume.Reserved, volume.Node{Mode: syscall.S_IFDIR | 0o755})
				return err
			},
			"create": func() error {
				_, _, err := e.fs.Create(e.ctx, volume.Root, volume.Reserved, volume.Node{Mode: 0o644}, volume.Write)
				return err
			},
			"link": func() error { _, err := e.fs.Link(e.ctx, id, volume.Root, volume.Reserved); return err },
			"rename to": func() error {
				return e.fs.Rename(e.ctx, e.dir, "f", volume.Root, volume.Reserved, 0)
			},
			"rename": func() error { return e.fs.Rename(e.ctx, volume.Root, volume.Reserved, e.dir, "g", 0) },
			"unlink": func() error { return e.fs.Unlink(e.ctx, volume.Root, volume.Reserved) },
			"rmdir":  func() error { return e.fs.Rmdir(e.ctx, volume.Root, volume.Reserved) },
		}
		for what, try := range attempts {
			if err := try(); err == nil {
				e.Errorf("%s of %q in the root: no error", what, volume.Reserved)
			}
		}
		for _, x := range e.list(volume.Root, 1000, false) {
			if x.Name == volume.Reserved {
				e.Error("the root shows the reserved name")
			}
		}
		e.lists(e.dir, "f")
	}},
	{"many directories deep", func(e *env) {
		d := e.dir
		for range e.count(60) {
			d = e.mkdir(d, "deeper")
		}
		id := e.file(d, "f", "down here")
		if got := e.content(id); got != "down here" {
			e.Errorf("content %q", got)
		}
	}},
}

// forNames does every operation that takes a name with a name, in a directory
// where it does not exist.
func forNames(e *env, name string, check func(what string, err error)) {
	id := e.file(e.dir, "source", "")
	_, err := e.fs.Lookup(e.ctx, e.dir, name)
	check("lookup", err)
	for _, n := range nodes() {
		_, err := e.fs.Make(e.ctx, e.dir, name, n)
		check("make "+typeName(n.Mode), err)
	}
	_, _, err = e.fs.Create(e.ctx, e.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
	check("create", err)
	_, _, err = e.fs.Create(e.ctx, e.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write|volume.Excl)
	check("create excl", err)
	_, err = e.fs.Link(e.ctx, id, e.dir, name)
	check("link", err)
	check("unlink", e.fs.Unlink(e.ctx, e.dir, name))
	check("rmdir", e.fs.Rmdir(e.ctx, e.dir, name))
	check("rename from", e.fs.Rename(e.ctx, e.dir, name, e.dir, "other", 0))
	check("rename to", e.fs.Rename(e.ctx, e.dir, "source", e.dir, name, 0))
	check("exchange", e.fs.Rename(e.ctx, e.dir, "source", e.dir, name, volume.RenameExchange))
	e.lists(e.dir, "source")
	e.ok(e.fs.Unlink(e.ctx, e.dir, "source"))
}

// nodes returns one Node of each type.
func nodes() []volume.Node {
	return []volume.Node{
		{Mode: syscall.S_IFDIR | 0o755}, {Mode: syscall.S_IFREG | 0o644}, {Mode: syscall.S_IFIFO | 0o644},
		{Mode: syscall.S_IFSOCK | 0o644}, {Mode: syscall.S_IFCHR | 0o600, Rdev: 0x103}, {Mode: syscall.S_IFBLK | 0o600, Rdev: 0x801},
		{Mode: syscall.S_IFLNK | 0o777, Target: "target"},
	}
}

// typeName names a mode's type.
func typeName(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return "directory"
	case syscall.S_IFREG:
		return "file"
	case syscall.S_IFIFO:
		return "fifo"
	case syscall.S_IFSOCK:
		return "socket"
	case syscall.S_IFCHR:
		return "character device"
	case syscall.S_IFBLK:
		return "block device"
	case syscall.S_IFLNK:
		return "symbolic link"
	}
	return "nothing"
}
