package fstest

import (
	"bytes"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// bearTests are of files that are made at once with what is in them.
var bearTests = []test{
	{"contents", func(e *env) {
		for i, n := range []int{0, 1, 4096, 5000, 64<<10 + 1, 256 << 10, volume.IOMax} {
			name := "f" + string(rune('a'+i))
			data := bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n]
			a := e.bear(e.dir, name, 0o640, string(data), volume.Change{})
			if a.Size != int64(n) || a.Mode != syscall.S_IFREG|0o640 || a.Nlink != 1 {
				e.Errorf("%d bytes: %+v", n, a)
			}
			clear(data) // the buffer is the caller's again
			if got, want := e.content(a.ID), strings.Repeat("0123456789abcde", n/15+1)[:n]; got != want {
				e.Errorf("%d bytes: %d others are there", n, len(got))
			}
		}
	}},
	{"and used on", func(e *env) {
		a := e.bear(e.dir, "f", 0o600, "content", volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 5}})
		f := e.open(a.ID, volume.Read|volume.Write)
		e.write(f, " more", 7)
		if b := e.attr(a.ID); b.Size != 12 || b.Mtime.Sec == 5 || e.content(a.ID) != "content more" {
			e.Errorf("%+v, %q", b, e.content(a.ID))
		}
		e.ok(e.fs.Rename(e.ctx, e.dir, "f", e.dir, "g", 0))
		e.ok(e.fs.Unlink(e.ctx, e.dir, "g"))
		if got := e.readAt(f, 0, 100); got != "content more" {
			e.Errorf("without a name: %q", got)
		}
	}},
	{"attributes", bornWith},
	{"impossible", func(e *env) {
		size := volume.Change{Mask: volume.SetSize | volume.SetMode, Size: 7, Mode: 0o600}
		both := volume.Change{Mask: volume.SetMode | volume.SetMinimalACL, Mode: 0o600}
		mode := volume.Change{Mask: volume.SetMode, Mode: 0o600}
		e.tick()
		before := e.attr(e.dir)
		bad := []volume.Node{
			{Mode: syscall.S_IFREG | 0o644, Data: []byte("content"), Then: size}, {Mode: syscall.S_IFREG | 0o644, Then: size},
			{Mode: syscall.S_IFREG | 0o644, Data: []byte("content"), Then: both},
			{Mode: syscall.S_IFREG | 0o644, Data: make([]byte, volume.IOMax+1)},
			{Mode: 0o644, Data: []byte("content")},
		}
		for _, n := range nodes() {
			if n.Mode&syscall.S_IFMT != syscall.S_IFREG {
				data, then := n, n
				data.Data, then.Then = []byte("content"), mode
				bad = append(bad, data, then)
			}
		}
		for _, n := range bad {
			_, err := e.fs.Make(e.ctx, e.dir, "bad", n)
			e.fails(err, syscall.EINVAL)
		}
		_, _, err := e.fs.Create(e.ctx, e.dir, "bad", volume.Node{Mode: syscall.S_IFREG | 0o644, Data: []byte("content")}, volume.Write)
		e.fails(err, syscall.EINVAL)
		_, _, err = e.fs.Create(e.ctx, e.dir, "bad", volume.Node{Mode: syscall.S_IFREG | 0o644, Then: mode}, volume.Write)
		e.fails(err, syscall.EINVAL)
		e.lists(e.dir)
		if after := e.attr(e.dir); after.Mtime != before.Mtime || after.Ctime != before.Ctime {
			e.Errorf("what failed changed the directory from %+v to %+v", before, after)
		}
	}},
	{"exists", func(e *env) {
		for i, old := range nodes() {
			name := "n" + string(rune('a'+i))
			a := e.make(e.dir, name, old)
			before := e.attr(e.dir)
			_, err := e.fs.Make(e.ctx, e.dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644, Data: []byte("other"), Then: volume.Change{Mask: volume.SetUID, UID: 7}})
			e.fails(err, syscall.EEXIST)
			if b := e.holds(e.dir, name, a.ID); b.Mode != a.Mode || b.Ctime != a.Ctime || b.UID != a.UID || b.Size != a.Size {
				e.Errorf("the failed make changed %+v to %+v", a, b)
			}
			if after := e.attr(e.dir); after.Mtime != before.Mtime || after.Ctime != before.Ctime {
				e.Errorf("the failed make changed the directory from %+v to %+v", before, after)
			}
		}
		_, err := e.fs.Make(e.ctx, volume.NewID(1), "f", volume.Node{Mode: syscall.S_IFREG | 0o644, Data: []byte("content")})
		e.fails(err, syscall.ESTALE)
	}},
	{"privileges", func(e *env) {
		u := e.as(volume.Cred{UID: 5, GID: 6})
		for i, c := range []struct {
			by   *env
			mode uint32
			data string
			then volume.Change
			want uint32
		}{
			{e, 0o6755, "content", volume.Change{}, 0o6755},
			{e, 0o6755, "content", volume.Change{Mask: volume.SetUID, UID: 7}, 0o755},
			{e, 0o2644, "content", volume.Change{Mask: volume.SetUID, UID: 7}, 0o2644},
			{e, 0o755, "content", volume.Change{Mask: volume.SetUID | volume.SetMode, UID: 7, Mode: 0o6755}, 0o6755},
			{e, 0o6755, "", volume.Change{Mask: volume.ClearPriv}, 0o755},
			{u, 0o6755, "", volume.Change{Mask: volume.SetMtimeNow}, 0o6755},
			{u, 0o6755, "content", volume.Change{}, 0o755},
			{u, 0o2644, "content", volume.Change{}, 0o2644},
			{u, 0o1644, "content", volume.Change{Mask: volume.SetMode, Mode: 0o4711}, 0o4711},
			{u, 0o6755, "", volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640}, 0o6640},
			{u, 0o6755, "content", volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640}, 0o640},
		} {
			if a := c.by.bear(e.dir, "f"+string(rune('a'+i)), c.mode, c.data, c.then); a.Mode&0o7777 != c.want {
				e.Errorf("%o with %q and %+v: mode %o, want %o", c.mode, c.data, c.then, a.Mode&0o7777, c.want)
			}
		}
	}},
	{"setgid directory and umask", func(e *env) {
		d := e.mkdir(e.dir, "d")
		e.change(d, volume.Change{Mask: volume.SetMode | volume.SetGID, Mode: syscall.S_ISGID | 0o775, GID: 77})
		u := e.as(volume.Cred{UID: 5, GID: 6, Umask: 0o027})
		if a := u.bear(d, "a", 0o666, "content", volume.Change{}); a.UID != 5 || a.GID != 77 || a.Mode != syscall.S_IFREG|0o640 {
			e.Errorf("%d:%d mode %o", a.UID, a.GID, a.Mode)
		}
		if a := u.bear(d, "b", 0o666, "content", volume.Change{Mask: volume.SetGID, GID: 6}); a.UID != 5 || a.GID != 6 || a.Mode != syscall.S_IFREG|0o640 {
			e.Errorf("%d:%d mode %o", a.UID, a.GID, a.Mode)
		}
		if a := u.bear(d, "c", 0o600, "content", volume.Change{Mask: volume.SetMode, Mode: 0o666}); a.Mode != syscall.S_IFREG|0o666 {
			e.Errorf("mode %o: the umask is not for what comes then", a.Mode)
		}
		if a := e.bear(d, "d", 0o666, "content", volume.Change{Mask: volume.SetUID | volume.SetGID}); a.UID != 0 || a.GID != 0 {
			e.Errorf("%d:%d", a.UID, a.GID)
		}
	}},
	aclTest("default ACL", func(e *env) {
		d := e.mkdir(e.dir, "d")
		e.ok(e.fs.Setxattr(e.ctx, d, aclDefault, named(7, 7, 5, 7, 1), 0))
		u := e.as(volume.Cred{UID: 5, GID: 5, Umask: 0o077}) // not used
		a := u.bear(d, "a", 0o4640, "content", volume.Change{})
		e.has(a.ID, aclAccess, string(named(6, 7, 5, 4, 0)))
		b := u.bear(d, "b", 0o640, "content", volume.Change{Mask: volume.SetMode, Mode: 0o4604})
		e.has(b.ID, aclAccess, string(named(6, 7, 5, 0, 4)))
		c := u.bear(d, "c", 0o640, "", volume.Change{Mask: volume.SetMinimalACL | volume.SetUID, Mode: 0o604, UID: 9})
		e.hasNo(c.ID, aclAccess)
		f := e.bear(d, "f", 0o4640, "content", volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640})
		e.hasNo(f.ID, aclAccess)
		g := e.bear(d, "g", 0o4640, "content", volume.Change{Mask: volume.SetUID | volume.SetMtime, UID: 9})
		e.has(g.ID, aclAccess, string(named(6, 7, 5, 4, 0)))
		for name, x := range map[string]struct{ got, want, uid uint32 }{
			"a": {a.Mode, 0o640, 5}, "b": {b.Mode, 0o4604, 5}, "c": {c.Mode, 0o604, 9}, "f": {f.Mode, 0o4640, 0}, "g": {g.Mode, 0o640, 9},
		} {
			if y, err := e.fs.Lookup(e.ctx, d, name); err != nil || x.got != syscall.S_IFREG|x.want || y.Mode != x.got || y.UID != x.uid {
				e.Errorf("%s: mode %o, then %o of %d: %v", name, x.got, y.Mode, y.UID, err)
			}
		}
	}),
	{"times", func(e *env) {
		before := e.attr(e.dir)
		e.tick()
		a := e.bear(e.dir, "f", 0o644, "content", volume.Change{})
		after := e.attr(e.dir)
		if !before.Mtime.Before(after.Mtime) || !before.Ctime.Before(after.Ctime) {
			e.Errorf("the directory's times stay %v, %v", after.Mtime, after.Ctime)
		}
		if !before.Mtime.Before(a.Mtime) || !before.Mtime.Before(a.Ctime) || !before.Mtime.Before(a.Atime) {
			e.Errorf("born with times %v %v %v, not after %v", a.Atime, a.Mtime, a.Ctime, before.Mtime)
		}
		old := volume.Time{Sec: 1000, Nsec: 7}
		b := e.bear(e.dir, "g", 0o644, "content", volume.Change{Mask: volume.SetMtime | volume.SetAtimeNow, Mtime: old})
		if b.Mtime != old || !before.Mtime.Before(b.Atime) || !before.Mtime.Before(b.Ctime) {
			e.Errorf("born with times %v %v %v", b.Atime, b.Mtime, b.Ctime)
		}
		c := e.bear(e.dir, "h", 0o644, "content", volume.Change{Mask: volume.SetAtime | volume.SetMtimeNow, Atime: old})
		if c.Atime != old || !before.Mtime.Before(c.Mtime) {
			e.Errorf("born with times %v %v", c.Atime, c.Mtime)
		}
	}},
}

// bear makes a file that is born with contents and attributes.
func (e *env) bear(dir volume.ID, name string, mode uint32, data string, then volume.Change) volume.Attr {
	e.Helper()
	p := []byte(data)
	a := e.make(dir, name, volume.Node{Mode: syscall.S_IFREG | mode, Data: p, Then: then})
	clear(p) // it is ours again
	if b := e.holds(dir, name, a.ID); !same(a, b) {
		e.Errorf("%s: make says %+v, lookup %+v", name, a, b)
	}
	if got := e.content(a.ID); got != data {
		e.Errorf("%s has %d bytes, not the %d that it was made with", name, len(got), len(data))
	}
	return a
}

// bornWith makes files with all kinds of attributes, with contents and without.
func bornWith(e *env) {
	at, mt := volume.Time{Sec: 1000, Nsec: 7}, volume.Time{Sec: 2000, Nsec: 8}
	all := volume.Change{Mask: volume.SetMode | volume.SetUID | volume.SetGID | volume.SetAtime | volume.SetMtime, Mode: 0o4751, UID: 5, GID: 6, Atime: at, Mtime: mt}
	for i, data := range []string{"", "content"} {
		name := func(s string) string { return s + string(rune('0'+i)) }
		got := e.as(volume.Cred{UID: 3, GID: 4, Umask: 0o077}).bear(e.dir, name("all"), 0o666, data, all)
		if got.Mode != syscall.S_IFREG|0o4751 || got.UID != 5 || got.GID != 6 || got.Mtime != mt || got.Size != int64(len(data)) {
			e.Errorf("%q: all: %+v", data, got)
		}
		if a := e.make(e.dir, name("atime"), volume.Node{Mode: syscall.S_IFREG | 0o600, Data: []byte(data), Then: all}); a.Atime != at {
			e.Errorf("%q: atime %v", data, a.Atime)
		}
		got = e.as(volume.Cred{UID: 3, GID: 4}).bear(e.dir, name("uid"), 0o640, data, volume.Change{Mask: volume.SetUID, UID: 5, GID: 6, Mode: 0o777, Mtime: mt})
		if got.Mode != syscall.S_IFREG|0o640 || got.UID != 5 || got.GID != 4 || got.Mtime == mt {
			e.Errorf("%q: uid: %+v", data, got)
		}
		got = e.bear(e.dir, name("acl"), 0o1640, data, volume.Change{Mask: volume.SetMinimalACL | volume.SetMtime, Mode: 0o604, Mtime: mt})
		if got.Mode != syscall.S_IFREG|0o1604 || got.UID != 0 || got.Mtime != mt {
			e.Errorf("%q: acl: %+v", data, got)
		}
		if !e.feat.NoACL {
			e.hasNo(got.ID, aclAccess)
		}
	}
}
