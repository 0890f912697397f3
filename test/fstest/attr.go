package fstest

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var attrTests = []test{
	{"mode", func(e *env) {
		for i, n := range nodes()[:6] {
			name := "n" + string(rune('a'+i))
			id := e.make(e.dir, name, n).ID
			for _, mode := range []uint32{0, 0o777, 0o7777, 0o4711, 0o2755, 0o1777, 0o644} {
				before := e.attr(id)
				a := e.change(id, volume.Change{Mask: volume.SetMode, Mode: syscall.S_IFSOCK | mode})
				if a.Mode != n.Mode&syscall.S_IFMT|mode {
					e.Errorf("%s: mode %o, want %o", typeName(n.Mode), a.Mode, mode)
				}
				before.Mode, before.Ctime, before.Version = a.Mode, a.Ctime, a.Version
				if !same(a, before) {
					e.Errorf("chmod changed more: %+v to %+v", before, a)
				}
			}
		}
	}},
	{"owner", func(e *env) {
		for i, n := range nodes() {
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			for _, c := range []volume.Change{
				{Mask: volume.SetUID, UID: 1000}, {Mask: volume.SetGID, GID: 1001}, {Mask: volume.SetUID | volume.SetGID, UID: 1 << 20, GID: 1<<32 - 2},
			} {
				want := e.attr(id)
				if c.Mask&volume.SetUID != 0 {
					want.UID = c.UID
				}
				if c.Mask&volume.SetGID != 0 {
					want.GID = c.GID
				}
				if a := e.change(id, c); a.UID != want.UID || a.GID != want.GID || a.Mode != want.Mode {
					e.Errorf("%s: %d:%d %o, want %d:%d %o", typeName(n.Mode), a.UID, a.GID, a.Mode, want.UID, want.GID, want.Mode)
				}
			}
		}
	}},
	{"chown clears suid and sgid", chownClears},
	{"clear privileges", func(e *env) {
		id := e.file(e.dir, "f", "")
		for mode, want := range map[uint32]uint32{0o6777: 0o777, 0o6755: 0o755, 0o6745: 0o2745, 0o7711: 0o1711, 0o644: 0o644} {
			e.change(id, volume.Change{Mask: volume.SetMode, Mode: mode})
			if a := e.change(id, volume.Change{Mask: volume.ClearPriv}); a.Mode&0o7777 != want {
				e.Errorf("of %o: mode %o, want %o", mode, a.Mode&0o7777, want)
			}
		}
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o6755})
		if a := e.change(id, volume.Change{Mask: volume.SetSize | volume.ClearPriv, Size: 10}); a.Mode&0o7777 != 0o755 || a.Size != 10 {
			e.Errorf("with a new size: mode %o size %d", a.Mode, a.Size)
		}
	}},
	{"size", func(e *env) {
		id := e.file(e.dir, "f", "0123456789")
		for _, c := range []struct {
			size int64
			want string
		}{{4, "0123"}, {8, "0123\x00\x00\x00\x00"}, {0, ""}, {3, "\x00\x00\x00"}} {
			before := e.attr(id)
			e.tick()
			a := e.change(id, volume.Change{Mask: volume.SetSize, Size: c.size})
			if got := e.content(id); a.Size != c.size || got != c.want {
				e.Errorf("size %d: %d, content %q", c.size, a.Size, got)
			}
			if !before.Mtime.Before(a.Mtime) || !before.Ctime.Before(a.Ctime) {
				e.Errorf("size %d: times stay %v, %v", c.size, a.Mtime, a.Ctime)
			}
		}
	}},
	{"size of other types", func(e *env) {
		for i, n := range nodes() {
			if n.Mode&syscall.S_IFMT == syscall.S_IFREG {
				continue
			}
			name := "n" + string(rune('a'+i))
			id := e.make(e.dir, name, n).ID
			_, err := e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetSize})
			if n.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				e.fails(err, syscall.EISDIR)
			} else {
				e.fails(err, syscall.EINVAL)
			}
		}
	}},
	{"impossible sizes change nothing", func(e *env) {
		id := e.file(e.dir, "f", "content")
		_, err := e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetSize | volume.SetMode, Size: -1, Mode: 0o600})
		e.fails(err, syscall.EINVAL)
		_, err = e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetSize | volume.SetMode, Size: 1<<63 - 1, Mode: 0o600})
		if err != nil { // XFS and Btrfs take it
			e.fails(err, syscall.EFBIG)
			if a := e.attr(id); a.Mode != syscall.S_IFREG|0o644 || a.Size != 7 {
				e.Errorf("the failed change left %+v", a)
			}
		}
	}},
	{"times", setTimes},
	{"times of every type", func(e *env) {
		at, mt := volume.Time{Sec: 1e9, Nsec: 1}, volume.Time{Sec: 2e9, Nsec: 2}
		for i, n := range nodes() {
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			a := e.change(id, volume.Change{Mask: volume.SetAtime | volume.SetMtime, Atime: at, Mtime: mt})
			if a.Atime != at || a.Mtime != mt {
				e.Errorf("%s: %v %v", typeName(n.Mode), a.Atime, a.Mtime)
			}
		}
	}},
	{"impossible times", func(e *env) {
		id := e.file(e.dir, "f", "")
		_, err := e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Nsec: 1e9}})
		e.fails(err, syscall.EINVAL)
	}},
	{"several at once", func(e *env) {
		id := e.file(e.dir, "f", "0123456789")
		mt := volume.Time{Sec: 123456789, Nsec: 987654321}
		a := e.change(id, volume.Change{
			Mask: volume.SetMode | volume.SetUID | volume.SetGID | volume.SetSize | volume.SetMtime | volume.SetAtimeNow,
			Mode: 0o6711, UID: 8, GID: 9, Size: 5, Mtime: mt,
		})
		if a.Mode != syscall.S_IFREG|0o6711 || a.UID != 8 || a.GID != 9 || a.Size != 5 || a.Mtime != mt {
			e.Errorf("%+v", a)
		}
	}},
	{"a directory's new content changes its set mtime", func(e *env) {
		d := e.mkdir(e.dir, "d")
		old := volume.Time{Sec: 1e9}
		for i, f := range []func(){
			func() { e.file(d, "f", "") },
			func() { e.mkdir(d, "d") },
			func() { e.ok(e.fs.Rename(e.ctx, d, "f", d, "g", 0)) },
			func() { e.ok(e.fs.Unlink(e.ctx, d, "g")) },
			func() { e.ok(e.fs.Rmdir(e.ctx, d, "d")) },
		} {
			if a := e.change(d, volume.Change{Mask: volume.SetMtime, Mtime: old}); a.Mtime != old {
				e.Errorf("mtime %v, want %v", a.Mtime, old)
			}
			if f(); !old.Before(e.attr(d).Mtime) {
				e.Errorf("step %d: the mtime stays", i)
			}
		}
	}},
	{"ctime follows every change", func(e *env) {
		id := e.file(e.dir, "f", "content")
		for _, c := range []volume.Change{
			{Mask: volume.SetMode, Mode: 0o600}, {Mask: volume.SetUID, UID: 3}, {Mask: volume.SetGID, GID: 3},
			{Mask: volume.SetAtime}, {Mask: volume.SetMtime}, {Mask: volume.SetAtimeNow}, {Mask: volume.SetMtimeNow}, {Mask: volume.SetSize, Size: 3},
		} {
			before := e.attr(id).Ctime
			e.tick()
			if a := e.change(id, c); !before.Before(a.Ctime) {
				e.Errorf("mask %b: ctime stays %v", c.Mask, a.Ctime)
			}
		}
	}},
	{"version of a directory", func(e *env) {
		d := e.mkdir(e.dir, "d")
		for _, c := range []volume.Change{{Mask: volume.SetMode, Mode: 0o700}, {Mask: volume.SetUID, UID: 4}, {Mask: volume.SetGID, GID: 4}} {
			before := e.attr(d).Version
			if a := e.change(d, c); a.Version <= before {
				e.Errorf("mask %b: version %d after %d", c.Mask, a.Version, before)
			}
		}
		n := volume.Node{Mode: syscall.S_IFREG | 0o644, Parent: e.attr(d).Version}
		e.make(d, "f", n)
		if v := e.attr(e.file(e.dir, "f", "")).Version; v != 0 {
			e.Errorf("a file has version %d", v)
		}
	}},
}

// chownClears checks chown(2)'s rule about set-ID bits.
func chownClears(e *env) {
	id, d := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
	chown := volume.Change{Mask: volume.SetUID | volume.SetGID, UID: 7, GID: 7}
	for mode, want := range map[uint32]uint32{0o6777: 0o777, 0o4755: 0o755, 0o2755: 0o755, 0o2745: 0o2745, 0o1755: 0o1755} {
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: mode})
		if a := e.change(id, chown); a.Mode&0o7777 != want {
			e.Errorf("file of mode %o: %o, want %o", mode, a.Mode&0o7777, want)
		}
		e.change(d, volume.Change{Mask: volume.SetMode, Mode: mode})
		if a := e.change(d, chown); a.Mode&0o7777 != mode {
			e.Errorf("directory of mode %o: %o", mode, a.Mode&0o7777)
		}
	}
	chown.Mask, chown.Mode = chown.Mask|volume.SetMode, 0o6755
	if a := e.change(id, chown); a.Mode&0o7777 != 0o6755 {
		e.Errorf("with a mode: %o", a.Mode&0o7777)
	}
}

// setTimes checks times to the nanosecond and far from today.
func setTimes(e *env) {
	id := e.file(e.dir, "f", "content")
	for _, t := range []volume.Time{
		{Sec: 0, Nsec: 0}, {Sec: 1, Nsec: 999_999_999}, {Sec: -1, Nsec: 1}, {Sec: -1e9, Nsec: 5},
		{Sec: 1<<31 - 1, Nsec: 7}, {Sec: 1 << 31, Nsec: 8}, {Sec: 1 << 33, Nsec: 123_456_789},
	} {
		was := e.attr(id)
		a := e.change(id, volume.Change{Mask: volume.SetMtime, Mtime: t})
		if a.Mtime != t || a.Atime != was.Atime {
			e.Errorf("mtime %v: %v, atime %v was %v", t, a.Mtime, a.Atime, was.Atime)
		}
		a = e.change(id, volume.Change{Mask: volume.SetAtime, Atime: t})
		if a.Atime != t || a.Mtime != t {
			e.Errorf("atime %v: %v, mtime %v", t, a.Atime, a.Mtime)
		}
	}
	a := e.change(id, volume.Change{Mask: volume.SetMtimeNow | volume.SetAtimeNow, Mtime: volume.Time{Sec: 5}, Atime: volume.Time{Sec: 5}})
	if a.Mtime.Sec < 1e9 || a.Atime.Sec < 1e9 || a.Mtime.Sec > 1<<32 {
		e.Errorf("now: %v %v", a.Mtime, a.Atime)
	}
}
