package fstest

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// regular is a Node for Create.
var regular = volume.Node{Mode: syscall.S_IFREG | 0o644}

var createTests = []test{
	{"new", func(e *env) {
		for _, flags := range []volume.Flags{volume.Write, volume.Write | volume.Excl, volume.Read | volume.Write | volume.Truncate, volume.Read} {
			f, a, err := e.fs.Create(e.ctx, e.dir, "f", regular, flags)
			e.ok(err)
			if f.ID() != a.ID || a.Size != 0 || a.Mode != regular.Mode || a.Nlink != 1 {
				e.Errorf("created %+v, handle of %v", a, f.ID())
			}
			e.holds(e.dir, "f", a.ID)
			if flags&volume.Write != 0 {
				e.write(f, "hello", 0)
			}
			e.ok(f.Close())
			e.ok(e.fs.Unlink(e.ctx, e.dir, "f"))
		}
	}},
	{"a chosen ID", func(e *env) {
		n := regular
		n.ID = volume.NewID(e.attr(e.dir).ID.Born())
		f, a, err := e.fs.Create(e.ctx, e.dir, "f", n, volume.Write)
		e.ok(err)
		e.ok(f.Close())
		if a.ID != n.ID {
			e.Errorf("ID %v, want %v", a.ID, n.ID)
		}
		n.ID = volume.NewID(e.attr(e.dir).ID.Born())
		f, b, err := e.fs.Create(e.ctx, e.dir, "f", n, volume.Write)
		e.ok(err)
		e.ok(f.Close())
		if b.ID != a.ID {
			e.Errorf("opened %v, want %v", b.ID, a.ID)
		}
	}},
	{"no permission bits", func(e *env) {
		f, a, err := e.fs.Create(e.ctx, e.dir, "f", volume.Node{Mode: syscall.S_IFREG}, volume.Write)
		e.ok(err)
		e.write(f, "hello", 0)
		e.ok(f.Close())
		if got := e.content(a.ID); got != "hello" {
			e.Errorf("content %q", got)
		}
	}},
	{"owner and umask", func(e *env) {
		u := e.as(volume.Cred{UID: 11, GID: 12, Umask: 0o077})
		f, a, err := e.fs.Create(u.ctx, e.dir, "f", volume.Node{Mode: syscall.S_IFREG | 0o4777}, volume.Write)
		e.ok(err)
		e.ok(f.Close())
		if a.UID != 11 || a.GID != 12 || a.Mode != syscall.S_IFREG|0o4700 {
			e.Errorf("%d:%d mode %o", a.UID, a.GID, a.Mode)
		}
	}},
	{"existing", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f, a, err := e.fs.Create(e.ctx, e.dir, "f", volume.Node{Mode: syscall.S_IFREG | 0o600}, volume.Read|volume.Write)
		e.ok(err)
		if a.ID != id || a.Size != 7 || a.Mode != syscall.S_IFREG|0o644 {
			e.Errorf("opened %+v", a)
		}
		if got := e.readAt(f, 0, 10); got != "content" {
			e.Errorf("content %q", got)
		}
		e.ok(f.Close())
	}},
	{"existing, exclusive", func(e *env) {
		for i, n := range nodes() {
			name := "n" + string(rune('a'+i))
			id := e.make(e.dir, name, n).ID
			_, _, err := e.fs.Create(e.ctx, e.dir, name, regular, volume.Write|volume.Excl|volume.Truncate)
			e.fails(err, syscall.EEXIST)
			e.holds(e.dir, name, id)
		}
		id := e.file(e.dir, "f", "content")
		_, _, err := e.fs.Create(e.ctx, e.dir, "f", regular, volume.Write|volume.Excl|volume.Truncate)
		e.fails(err, syscall.EEXIST)
		if got := e.content(id); got != "content" {
			e.Errorf("the failed create cut the file to %q", got)
		}
	}},
	{"existing, cut", func(e *env) {
		id := e.file(e.dir, "f", "content")
		f, a, err := e.fs.Create(e.ctx, e.dir, "f", regular, volume.Write|volume.Truncate)
		e.ok(err)
		e.ok(f.Close())
		if a.ID != id || a.Size != 0 || e.attr(id).Size != 0 {
			e.Errorf("cut: %+v", a)
		}
	}},
	{"existing of other types", func(e *env) {
		e.symlink(e.dir, "dangling", "nowhere")
		for name, errno := range openErrors(e) {
			_, _, err := e.fs.Create(e.ctx, e.dir, name, regular, volume.Read)
			e.fails(err, errno)
		}
		_, _, err := e.fs.Create(e.ctx, e.dir, "dangling", regular, volume.Write)
		e.fails(err, syscall.ELOOP)
		e.missing(e.dir, "nowhere")
	}},
	{"open of other types", func(e *env) {
		for name, errno := range openErrors(e) {
			a, err := e.fs.Lookup(e.ctx, e.dir, name)
			e.ok(err)
			_, err = e.fs.Open(e.ctx, a.ID, volume.Read)
			e.fails(err, errno)
		}
	}},
	{"open and cut", func(e *env) {
		id := e.file(e.dir, "f", "content")
		other := e.open(id, volume.Read)
		before := e.attr(id)
		e.tick()
		f := e.openOnly(id, volume.Write|volume.Truncate)
		if a := e.attr(id); a.Size != 0 || !before.Mtime.Before(a.Mtime) || !before.Ctime.Before(a.Ctime) {
			e.Errorf("after the cut: %+v", a)
		}
		if got := e.readAt(other, 0, 10); got != "" {
			e.Errorf("the other handle reads %q", got)
		}
		e.ok(f.Close())
	}},
	{"cut clears suid when asked", func(e *env) {
		id := e.file(e.dir, "f", "content")
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o6755})
		e.ok(e.openOnly(id, volume.Write|volume.Truncate).Close())
		if a := e.attr(id); a.Mode != syscall.S_IFREG|0o6755 {
			e.Errorf("without KillPriv: mode %o", a.Mode)
		}
		e.ok(e.openOnly(id, volume.Write|volume.Truncate|volume.KillPriv).Close())
		if a := e.attr(id); a.Mode != syscall.S_IFREG|0o755 {
			e.Errorf("with KillPriv: mode %o", a.Mode)
		}
	}},
	{"open does not cut", func(e *env) {
		id := e.file(e.dir, "f", "content")
		for _, flags := range []volume.Flags{volume.Read, volume.Write, volume.Read | volume.Write, volume.Write | volume.Append,
			volume.Write | volume.Direct, volume.Write | volume.DataSync, volume.Write | volume.FullSync} {
			e.ok(e.openOnly(id, flags).Close())
		}
		if got := e.content(id); got != "content" {
			e.Errorf("content %q", got)
		}
	}},
	{"directory's times", func(e *env) {
		before := e.attr(e.dir)
		e.tick()
		e.file(e.dir, "f", "")
		made := e.attr(e.dir)
		if !before.Mtime.Before(made.Mtime) || !before.Ctime.Before(made.Ctime) {
			e.Errorf("a create left the directory's times at %v", made.Mtime)
		}
		e.tick()
		f, _, err := e.fs.Create(e.ctx, e.dir, "f", regular, volume.Read)
		e.ok(err)
		e.ok(f.Close())
		if a := e.attr(e.dir); a.Mtime != made.Mtime || a.Ctime != made.Ctime {
			e.Error("an open changed the directory's times")
		}
	}},
}

// openErrors makes objects that can't be opened, and returns their names and
// what opening them fails with.
func openErrors(e *env) map[string]syscall.Errno {
	e.mkdir(e.dir, "dir")
	e.symlink(e.dir, "link", "dir")
	e.fifo(e.dir, "fifo")
	e.make(e.dir, "socket", volume.Node{Mode: syscall.S_IFSOCK | 0o644})
	e.make(e.dir, "chr", volume.Node{Mode: syscall.S_IFCHR | 0o644, Rdev: 0x103})
	e.make(e.dir, "blk", volume.Node{Mode: syscall.S_IFBLK | 0o644, Rdev: 0xfe00})
	return map[string]syscall.Errno{
		"dir": syscall.EISDIR, "link": syscall.ELOOP, "fifo": syscall.ENXIO,
		"socket": syscall.ENXIO, "chr": syscall.ENXIO, "blk": syscall.ENXIO,
	}
}
