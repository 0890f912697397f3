package fstest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var xattrTests = []test{
	{"set, get, list, remove", func(e *env) {
		for i, n := range nodes()[:2] { // user.* is for files and directories
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			e.hasNo(id, "user.a")
			e.attrs(id)
			for _, value := range []string{"", "v", "\x00\xff", strings.Repeat("v", 1000)} {
				e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte(value), 0))
				e.has(id, "user.a", value)
				e.attrs(id, "user.a")
			}
			e.ok(e.fs.Setxattr(e.ctx, id, "user.b", []byte("b"), 0))
			e.attrs(id, "user.a", "user.b")
			e.ok(e.fs.Removexattr(e.ctx, id, "user.a"))
			e.hasNo(id, "user.a")
			e.attrs(id, "user.b")
			e.fails(e.fs.Removexattr(e.ctx, id, "user.a"), syscall.ENODATA)
		}
	}},
	{"create and replace", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.fails(e.fs.Setxattr(e.ctx, id, "user.a", []byte("1"), volume.XattrReplace), syscall.ENODATA)
		e.attrs(id)
		e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("2"), volume.XattrCreate))
		e.fails(e.fs.Setxattr(e.ctx, id, "user.a", []byte("3"), volume.XattrCreate), syscall.EEXIST)
		e.has(id, "user.a", "2")
		e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("4"), volume.XattrReplace))
		e.has(id, "user.a", "4")
	}},
	{"names", func(e *env) {
		id := e.file(e.dir, "f", "")
		for _, name := range []string{"user.äöü", "user.\xff", "user. ", "user.a.b.c", "user." + strings.Repeat("n", volume.XattrNameMax-5)} {
			e.ok(e.fs.Setxattr(e.ctx, id, name, []byte(name), 0))
			e.has(id, name, name)
			e.attrs(id, name)
			e.ok(e.fs.Removexattr(e.ctx, id, name))
		}
		for _, name := range []string{"nospace", "foo.bar", "system.nonsense", ""} {
			_, err := e.fs.Getxattr(e.ctx, id, name)
			e.fails(err, syscall.EOPNOTSUPP, syscall.ERANGE)
			e.fails(e.fs.Setxattr(e.ctx, id, name, []byte("v"), 0), syscall.EOPNOTSUPP, syscall.ERANGE)
			e.fails(e.fs.Removexattr(e.ctx, id, name), syscall.EOPNOTSUPP, syscall.ERANGE)
		}
		long := "user." + strings.Repeat("n", volume.XattrNameMax)
		e.fails(e.fs.Setxattr(e.ctx, id, long, []byte("v"), 0), syscall.ERANGE, syscall.ENAMETOOLONG)
		e.attrs(id)
	}},
	{"Mortar's own do not exist", func(e *env) {
		for i, n := range nodes()[:2] {
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			for _, name := range []string{"trusted.mortar.id", "trusted.mortar.", "trusted.mortar.anything"} {
				e.hasNo(id, name)
				e.fails(e.fs.Setxattr(e.ctx, id, name, []byte("v"), 0), syscall.EPERM)
				e.fails(e.fs.Removexattr(e.ctx, id, name), syscall.ENODATA, syscall.EPERM)
			}
			all, err := e.fs.Listxattr(e.ctx, id)
			e.ok(err)
			for _, name := range all {
				if strings.HasPrefix(name, "trusted.mortar") {
					e.Errorf("listed %q", name)
				}
			}
		}
	}},
	{"trusted", func(e *env) {
		for i, n := range nodes() {
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			if e.feat.NoTrusted {
				e.fails(e.fs.Setxattr(e.ctx, id, "trusted.a", []byte("v"), 0), syscall.EOPNOTSUPP)
				continue
			}
			e.ok(e.fs.Setxattr(e.ctx, id, "trusted.a", []byte("v"), 0))
			e.has(id, "trusted.a", "v")
			e.attrs(id, "trusted.a")
			e.ok(e.fs.Removexattr(e.ctx, id, "trusted.a"))
		}
	}},
	{"user on other types", func(e *env) {
		for i, n := range nodes()[2:] {
			id := e.make(e.dir, "n"+string(rune('a'+i)), n).ID
			e.fails(e.fs.Setxattr(e.ctx, id, "user.a", []byte("v"), 0), syscall.EPERM)
			e.attrs(id)
		}
	}},
	{"large values", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("small"), 0))
		err := e.fs.Setxattr(e.ctx, id, "user.a", make([]byte, volume.XattrValueMax+1), 0)
		e.fails(err, syscall.E2BIG, syscall.ENOSPC)
		e.has(id, "user.a", "small")
		large := pattern(volume.XattrValueMax, 5)
		if err := e.fs.Setxattr(e.ctx, id, "user.a", large, 0); err != nil {
			e.fails(err, syscall.E2BIG, syscall.ENOSPC)
			e.has(id, "user.a", "small")
			return
		}
		e.has(id, "user.a", string(large))
	}},
	{"many", func(e *env) {
		id := e.file(e.dir, "f", "")
		var want []string
		for i := range 30 {
			name := fmt.Sprintf("user.name-%d", i)
			e.ok(e.fs.Setxattr(e.ctx, id, name, []byte(name), 0))
			want = append(want, name)
		}
		e.attrs(id, want...)
		for _, name := range want {
			e.has(id, name, name)
		}
	}},
	{"a value is the caller's", func(e *env) {
		id := e.file(e.dir, "f", "")
		v := []byte("value")
		e.ok(e.fs.Setxattr(e.ctx, id, "user.a", v, 0))
		clear(v)
		got, err := e.fs.Getxattr(e.ctx, id, "user.a")
		e.ok(err)
		clear(got)
		e.has(id, "user.a", "value")
	}},
	{"follow the object", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("v"), 0))
		_, err := e.fs.Link(e.ctx, id, e.dir, "g")
		e.ok(err)
		e.ok(e.fs.Rename(e.ctx, e.dir, "f", e.dir, "h", 0))
		e.ok(e.fs.Unlink(e.ctx, e.dir, "g"))
		e.has(id, "user.a", "v")
		d := e.mkdir(e.dir, "d")
		e.ok(e.fs.Setxattr(e.ctx, d, "user.a", []byte("dir"), 0))
		e.ok(e.fs.Rename(e.ctx, e.dir, "d", e.dir, "d2", 0))
		e.has(d, "user.a", "dir")
	}},
	{"ctime", func(e *env) {
		id := e.file(e.dir, "f", "")
		for i, f := range []func(){
			func() { e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("v"), 0)) },
			func() { e.ok(e.fs.Removexattr(e.ctx, id, "user.a")) },
		} {
			before := e.attr(id)
			e.tick()
			if f(); !before.Ctime.Before(e.attr(id).Ctime) || before.Mtime != e.attr(id).Mtime {
				e.Errorf("step %d: times %v %v", i, e.attr(id).Mtime, e.attr(id).Ctime)
			}
		}
	}},
}

// has checks an attribute's value.
func (e *env) has(id volume.ID, name, value string) {
	e.Helper()
	got, err := e.fs.Getxattr(e.ctx, id, name)
	e.ok(err)
	if !bytes.Equal(got, []byte(value)) {
		e.Fatalf("%s is %.40q (%d bytes), want %.40q (%d)", name, got, len(got), value, len(value))
	}
}

// hasNo checks that an attribute is absent.
func (e *env) hasNo(id volume.ID, name string) {
	e.Helper()
	_, err := e.fs.Getxattr(e.ctx, id, name)
	e.fails(err, syscall.ENODATA)
}

// attrs checks the list of attributes; the system's own (security.*) aside.
func (e *env) attrs(id volume.ID, want ...string) {
	e.Helper()
	all, err := e.fs.Listxattr(e.ctx, id)
	e.ok(err)
	all = slices.DeleteFunc(all, func(n string) bool { return strings.HasPrefix(n, "security.") })
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		e.Fatalf("attributes %q, want %q", all, want)
	}
}
