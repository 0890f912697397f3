package fstest

import (
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var makeTests = []test{
	{"every type", func(e *env) {
		for i, n := range nodes() {
			name := "n" + string(rune('a'+i))
			a := e.make(e.dir, name, n)
			want := n.Mode
			if a.Mode != want || a.Rdev != n.Rdev {
				e.Errorf("%s: mode %o device %x, want %o %x", typeName(n.Mode), a.Mode, a.Rdev, want, n.Rdev)
			}
			if b := e.holds(e.dir, name, a.ID); !same(a, b) {
				e.Errorf("%s: make says %+v, lookup %+v", typeName(n.Mode), a, b)
			}
			if a.ID.IsZero() || a.Held != 0 {
				e.Errorf("%s: %+v", typeName(n.Mode), a)
			}
		}
	}},
	{"a chosen ID", func(e *env) {
		for i, n := range nodes() {
			n.ID = volume.NewID(e.attr(e.dir).ID.Born())
			if a := e.make(e.dir, "n"+string(rune('a'+i)), n); a.ID != n.ID {
				e.Errorf("%s: ID %v, want %v", typeName(n.Mode), a.ID, n.ID)
			}
		}
	}},
	{"impossible nodes", func(e *env) {
		bad := []volume.Node{
			{}, {Mode: 0o644}, {Mode: syscall.S_IFMT | 0o644},
			{Mode: syscall.S_IFLNK | 0o777}, {Mode: syscall.S_IFLNK | 0o777, Target: "a\x00b"},
		}
		for _, n := range bad {
			_, err := e.fs.Make(e.ctx, e.dir, "bad", n)
			e.fails(err, syscall.EINVAL)
		}
		_, err := e.fs.Make(e.ctx, e.dir, "bad", volume.Node{Mode: syscall.S_IFLNK | 0o777, Target: strings.Repeat("t", volume.TargetMax+1)})
		e.fails(err, syscall.ENAMETOOLONG, syscall.EINVAL)
		e.lists(e.dir)
	}},
	{"exists", func(e *env) {
		for i, old := range nodes() {
			name := "n" + string(rune('a'+i))
			a := e.make(e.dir, name, old)
			for _, n := range nodes() {
				_, err := e.fs.Make(e.ctx, e.dir, name, n)
				e.fails(err, syscall.EEXIST)
			}
			if b := e.holds(e.dir, name, a.ID); b.Mode != a.Mode || b.Ctime != a.Ctime {
				e.Errorf("the failed make changed %+v to %+v", a, b)
			}
		}
	}},
	{"symbolic links", func(e *env) {
		for i, target := range []string{"t", "/absolute", "../up", "dangling/.", strings.Repeat("t", volume.TargetMax), "\xff"} {
			id := e.symlink(e.dir, "l"+string(rune('a'+i)), target)
			got, err := e.fs.Readlink(e.ctx, id)
			e.ok(err)
			if a := e.attr(id); got != target || a.Size != int64(len(target)) || a.Nlink != 1 || a.Mode != syscall.S_IFLNK|0o777 {
				e.Errorf("target of %d bytes: got %d bytes, attributes %+v", len(target), len(got), a)
			}
		}
	}},
	{"readlink of others", func(e *env) {
		for i, n := range nodes() {
			if n.Target == "" {
				_, err := e.fs.Readlink(e.ctx, e.make(e.dir, "n"+string(rune('a'+i)), n).ID)
				e.fails(err, syscall.EINVAL)
			}
		}
	}},
	{"owner and umask", func(e *env) {
		u := e.as(volume.Cred{UID: 1234, GID: 4321, Umask: 0o027})
		for i, n := range nodes() {
			n.Mode |= 0o777
			want := n.Mode &^ 0o027
			if n.Target != "" {
				want = n.Mode
			}
			a := u.make(e.dir, "n"+string(rune('a'+i)), n)
			if a.UID != 1234 || a.GID != 4321 || a.Mode != want {
				e.Errorf("%s: %d:%d mode %o, want 1234:4321 %o", typeName(n.Mode), a.UID, a.GID, a.Mode, want)
			}
		}
	}},
	{"special bits are taken as they are", func(e *env) {
		for i, bits := range []uint32{syscall.S_ISUID, syscall.S_ISGID, syscall.S_ISVTX, 0o7000} {
			for j, typ := range []uint32{syscall.S_IFDIR, syscall.S_IFREG, syscall.S_IFIFO} {
				a := e.make(e.dir, string(rune('a'+i))+string(rune('a'+j)), volume.Node{Mode: typ | bits | 0o755})
				if a.Mode != typ|bits|0o755 {
					e.Errorf("%s: mode %o, want %o", typeName(typ), a.Mode, typ|bits|0o755)
				}
			}
		}
	}},
	{"setgid directory", func(e *env) {
		d := e.mkdir(e.dir, "d")
		e.change(d, volume.Change{Mask: volume.SetMode | volume.SetGID, Mode: syscall.S_ISGID | 0o775, GID: 77})
		u := e.as(volume.Cred{UID: 5, GID: 6})
		if a := u.make(d, "sub", volume.Node{Mode: syscall.S_IFDIR | 0o755}); a.GID != 77 || a.UID != 5 || a.Mode != syscall.S_IFDIR|syscall.S_ISGID|0o755 {
			e.Errorf("directory: %d:%d mode %o", a.UID, a.GID, a.Mode)
		}
		if a := u.make(d, "f", volume.Node{Mode: syscall.S_IFREG | 0o644}); a.GID != 77 || a.Mode != syscall.S_IFREG|0o644 {
			e.Errorf("file: group %d mode %o", a.GID, a.Mode)
		}
		f, a, err := u.fs.Create(u.ctx, d, "g", volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Write)
		e.ok(err)
		e.ok(f.Close())
		if a.GID != 77 {
			e.Errorf("created file: group %d", a.GID)
		}
	}},
	{"directory links", func(e *env) {
		e.nlink(e.dir, 2)
		d := e.mkdir(e.dir, "d")
		e.nlink(d, 2)
		e.nlink(e.dir, 3)
		e.file(e.dir, "f", "")
		e.mkdir(d, "dd")
		e.nlink(e.dir, 3)
		e.nlink(d, 3)
		e.ok(e.fs.Rmdir(e.ctx, d, "dd"))
		e.ok(e.fs.Rmdir(e.ctx, e.dir, "d"))
		e.nlink(e.dir, 2)
	}},
	{"times", func(e *env) {
		for i, n := range nodes() {
			before := e.attr(e.dir)
			e.tick()
			a := e.make(e.dir, "n"+string(rune('a'+i)), n)
			after := e.attr(e.dir)
			if !before.Mtime.Before(after.Mtime) || !before.Ctime.Before(after.Ctime) {
				e.Errorf("%s: the directory's times stay %v, %v", typeName(n.Mode), after.Mtime, after.Ctime)
			}
			if !before.Mtime.Before(a.Mtime) || !before.Mtime.Before(a.Ctime) || !before.Mtime.Before(a.Atime) {
				e.Errorf("%s: born with times %v %v %v, not after %v", typeName(n.Mode), a.Atime, a.Mtime, a.Ctime, before.Mtime)
			}
		}
	}},
}
