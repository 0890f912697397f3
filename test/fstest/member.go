package fstest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// MemberConfig says which member is tested.
type MemberConfig struct {
	// New returns an empty member; t.Cleanup takes it down. Several are used side by side.
	New func(t *testing.T) volume.Member
	// Restart ends a member as a crash of its process does and returns it as
	// the next start finds it. nil: it is not restarted.
	Restart  func(t *testing.T, m volume.Member) volume.Member
	Features Features
}

// memberEnv is an env whose file system is a member.
type memberEnv struct {
	*env
	m   volume.Member
	cfg MemberConfig
}

type memberTest struct {
	name string
	run  func(e *memberEnv)
}

// Member tests what volume.Member has beside volume.Store, and that what a
// context's volume.Fixed says is obeyed.
func Member(t *testing.T, cfg MemberConfig) {
	for _, c := range slices.Concat(describeTests, placeTests, fixedTests) {
		t.Run(c.name, func(t *testing.T) {
			m := cfg.New(t)
			c.run(&memberEnv{newEnv(t, m, cfg.Features), m, cfg})
		})
	}
}

// restart restarts the member, if that can be done.
func (e *memberEnv) restart() {
	if e.cfg.Restart != nil {
		e.m = e.cfg.Restart(e.T, e.m)
		e.fs = e.m
	}
}

// fixed returns an env whose operations carry a Fixed.
func (e *memberEnv) fixed(sec int64, keep bool) *memberEnv {
	d, f := *e, *e.env
	d.env = &f
	f.ctx = volume.WithFixed(e.ctx, volume.Fixed{Now: volume.Time{Sec: sec, Nsec: 123456789}, Keep: keep})
	return &d
}

func (e *memberEnv) describe(id volume.ID) volume.Object {
	e.Helper()
	o, err := e.m.Describe(e.ctx, id)
	e.ok(err)
	return o
}

// place makes name in dir lead to an object that is here; the zero ID clears it.
func (e *memberEnv) place(dir volume.ID, name string, id volume.ID) {
	e.Helper()
	e.ok(e.m.Place(e.ctx, dir, name, volume.Pointer{ID: id}))
}

// nameless fails the test unless these objects are without a name.
func (e *memberEnv) nameless(want ...volume.ID) {
	e.Helper()
	got, err := e.m.Nameless(e.ctx)
	e.ok(err)
	compare := func(a, b volume.ID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		e.Fatalf("nameless are %v, want %v", got, want)
	}
}

// gone fails the test unless there is no trace of an object.
func (e *memberEnv) gone(id volume.ID) {
	e.Helper()
	_, err := e.m.Describe(e.ctx, id)
	e.fails(err, syscall.ESTALE)
	_, err = e.m.Getattr(e.ctx, id)
	e.fails(err, syscall.ESTALE)
}

// told removes from an object what Describe tells and Install does not make.
func told(o volume.Object) volume.Object {
	o.Attr.Nlink, o.Attr.Blocks, o.Attr.Ctime, o.Attr.Btime, o.Attr.Version = 0, 0, volume.Time{}, volume.Time{}, 0
	if o.Attr.IsDir() {
		o.Attr.Size = 0
	}
	if !o.Attr.IsRegular() { // looking at it is reading it
		o.Attr.Atime = volume.Time{}
	}
	if t := o.Attr.Type(); t != syscall.S_IFCHR && t != syscall.S_IFBLK {
		o.Attr.Rdev = 0
	}
	return o
}

func sameObject(a, b volume.Object) bool {
	a, b = told(a), told(b)
	return a.Attr == b.Attr && a.Target == b.Target && slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y volume.Xattr) bool {
		return x.Name == y.Name && bytes.Equal(x.Value, y.Value)
	})
}

// is fails the test unless Describe tells what was installed.
func (e *memberEnv) is(want volume.Object) {
	e.Helper()
	if got := e.describe(want.Attr.ID); !sameObject(got, want) {
		e.Fatalf("described as\n%+v\nwant\n%+v", told(got), told(want))
	}
}

// dirXattr is a directory's version and home as members tell it.
func dirXattr(version byte, home byte) volume.Xattr {
	return volume.Xattr{Name: "trusted.mortar.dir", Value: []byte{1, 0, 0, 0, 0, 0, 0, 0, version, 0, home}}
}

// samples are objects of all types, with new IDs.
func (e *memberEnv) samples() map[string]volume.Object {
	one := func(mode uint32, xs ...volume.Xattr) volume.Object {
		return volume.Object{Attr: volume.Attr{
			ID: volume.NewID(1), Mode: mode, UID: 7, GID: 8,
			Atime: volume.Time{Sec: 1e9, Nsec: 1}, Mtime: volume.Time{Sec: -5, Nsec: 999_999_999},
		}, Xattrs: xs}
	}
	all := map[string]volume.Object{
		"file":      one(syscall.S_IFREG|0o6751, volume.Xattr{Name: "user.color", Value: []byte("blue")}, volume.Xattr{Name: "user.empty", Value: []byte{}}),
		"directory": one(syscall.S_IFDIR|0o2750, dirXattr(9, 3), volume.Xattr{Name: "user.x", Value: []byte("y")}),
		"link":      one(syscall.S_IFLNK | 0o777),
		"long link": one(syscall.S_IFLNK | 0o777),
		"fifo":      one(syscall.S_IFIFO | 0o604),
		"device":    one(syscall.S_IFCHR | 0o600),
		"socket":    one(syscall.S_IFSOCK | 0o711),
	}
	set := func(name string, f func(o *volume.Object)) { o := all[name]; f(&o); all[name] = o }
	set("file", func(o *volume.Object) { o.Attr.Size = 1<<20 + 1 })
	set("link", func(o *volume.Object) { o.Target = "../some where"; o.Attr.Size = 13 })
	set("long link", func(o *volume.Object) { o.Target = strings.Repeat("x/", 2047); o.Attr.Size = 4094 })
	set("device", func(o *volume.Object) { o.Attr.Rdev = 5<<8 | 1 })
	if !e.feat.NoTrusted {
		set("link", func(o *volume.Object) {
			o.Xattrs = append(o.Xattrs, volume.Xattr{Name: "trusted.t", Value: []byte{0, 1}})
		})
	}
	if !e.feat.NoACL {
		set("directory", func(o *volume.Object) {
			o.Attr.Mode = syscall.S_IFDIR | 0o2775
			o.Xattrs = slices.Insert(o.Xattrs, 0, volume.Xattr{Name: "system.posix_acl_access", Value: named(7, 5, 5, 7, 5)},
				volume.Xattr{Name: "system.posix_acl_default", Value: named(7, 0, 5, 7, 0)})
		})
	}
	return all
}

var describeTests = []memberTest{
	{"describe", func(e *memberEnv) {
		id := e.file(e.dir, "f", "content")
		e.ok(e.m.Setxattr(e.ctx, id, "user.b", []byte("2"), 0))
		e.ok(e.m.Setxattr(e.ctx, id, "user.a", nil, 0))
		o := e.describe(id)
		if a := e.attr(id); !same(a, o.Attr) || len(o.Xattrs) != 2 || o.Xattrs[0].Name != "user.a" || string(o.Xattrs[1].Value) != "2" {
			e.Errorf("described as %+v, want %+v", o, a)
		}
		if o := e.describe(e.symlink(e.dir, "l", "to")); o.Target != "to" || len(o.Xattrs) != 0 {
			e.Errorf("a symbolic link is %+v", o)
		}
		for _, dir := range []volume.ID{volume.Root, e.dir} {
			if o := e.describe(dir); len(o.Xattrs) != 1 || o.Xattrs[0].Name != "trusted.mortar.dir" {
				e.Errorf("a directory has attributes %+v", o.Xattrs)
			}
		}
		e.gone(volume.NewID(1))
	}},
	{"describe what is discarded", func(e *memberEnv) {
		f, d := e.file(e.dir, "f", ""), e.mkdir(e.dir, "d")
		before := e.describe(d)
		e.ok(e.m.Discard(e.ctx, e.dir, "f", f, volume.Key{Set: 1, Intent: 1}))
		e.ok(e.m.Discard(e.ctx, e.dir, "d", d, volume.Key{Set: 1, Intent: 2}))
		e.nameless()
		if o := e.describe(f); o.Attr.Nlink != 0 {
			e.Errorf("nlink %d", o.Attr.Nlink)
		}
		e.is(before)
	}},
	{"install new", func(e *memberEnv) {
		var ids []volume.ID
		all := e.samples()
		for name, o := range all {
			o.Attr.Nlink, o.Attr.Blocks = 77, 77
			for range 2 {
				e.ok(e.m.Install(e.ctx, o))
				e.is(o)
			}
			a := e.attr(o.Attr.ID)
			if !a.IsDir() && a.Nlink != 0 {
				e.Errorf("%s has %d links", name, a.Nlink)
			}
			if a.IsDir() && a.Version != 9 {
				e.Errorf("%s has version %d", name, a.Version)
			}
			ids = append(ids, a.ID)
		}
		e.nameless(ids...)
		e.restart()
		e.nameless(ids...)
		for name, o := range all {
			e.is(o)
			e.place(volume.Root, name, o.Attr.ID)
			e.holds(volume.Root, name, o.Attr.ID)
			e.is(o)
		}
		e.nameless()
		e.restart()
		for name, o := range all {
			e.holds(volume.Root, name, o.Attr.ID)
			e.is(o)
		}
	}},
	{"install over", func(e *memberEnv) {
		id := e.file(e.dir, "f", "long content")
		e.ok(e.m.Setxattr(e.ctx, id, "user.old", []byte("x"), 0))
		o := e.samples()["file"]
		o.Attr.ID, o.Attr.Size = id, 4
		if !e.feat.NoTrusted {
			o.Xattrs = slices.Insert(o.Xattrs, 0, volume.Xattr{Name: "security.capability", Value: []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}})
		}
		e.ok(e.m.Install(e.ctx, o))
		e.is(o)
		e.holds(e.dir, "f", id)
		o.Attr.Size, o.Attr.UID, o.Attr.Mode = 9, 55, syscall.S_IFREG|0o4600
		e.ok(e.m.Install(e.ctx, o))
		e.is(o)
		if got := e.content(id); got != "long\x00\x00\x00\x00\x00" {
			e.Errorf("content %q", got)
		}
		e.nameless()
		d := e.samples()["directory"]
		d.Attr.ID = e.dir
		e.ok(e.m.Install(e.ctx, d))
		e.is(d)
		d.Xattrs = []volume.Xattr{dirXattr(200, 0)}
		d.Attr.Mode = syscall.S_IFDIR | 0o700
		e.ok(e.m.Install(e.ctx, d))
		e.is(d)
		if a := e.attr(e.dir); a.Version != 200 {
			e.Errorf("version %d", a.Version)
		}
		a := e.make(e.dir, "child", volume.Node{Mode: syscall.S_IFREG | 0o666, Parent: 200})
		if a.Mode != syscall.S_IFREG|0o666 || a.GID != 0 { // neither ACL nor S_ISGID are inherited any more
			e.Errorf("a child has mode %#o and group %d", a.Mode, a.GID)
		}
		root := e.describe(volume.Root)
		root.Attr.UID = 3
		e.ok(e.m.Install(e.ctx, root))
		e.is(root)
	}},
	{"install another kind", func(e *memberEnv) {
		kinds := e.samples()
		for _, was := range []string{"file", "directory", "link", "device"} {
			for _, is := range []string{"file", "directory", "link", "fifo"} {
				o, p := kinds[was], kinds[is]
				p.Attr.ID = o.Attr.ID
				if p.Attr.Type() == o.Attr.Type() {
					if was != "link" {
						continue
					}
					p.Target, p.Attr.Size = "another", 7
				}
				e.ok(e.m.Install(e.ctx, o))
				e.place(e.dir, "one", o.Attr.ID)
				if !o.Attr.IsDir() {
					e.place(volume.Root, "two", o.Attr.ID)
					e.ok(e.m.Put(e.ctx, e.dir, "three", volume.Pointer{ID: o.Attr.ID}, volume.ID{}, volume.Key{}))
					e.ok(e.m.Discard(e.ctx, e.dir, "three", o.Attr.ID, volume.Key{Set: 1, Intent: 7}))
				} else {
					e.file(o.Attr.ID, "in it", "")
				}
				e.ok(e.m.Install(e.ctx, p))
				e.is(p)
				e.lists(e.dir)
				e.missing(volume.Root, "two")
				e.nameless(p.Attr.ID)
				e.ok(e.m.Release(e.ctx, p.Attr.ID))
				e.gone(p.Attr.ID)
				e.nameless()
			}
		}
	}},
	{"install nonsense", func(e *memberEnv) {
		good := e.samples()
		bad := func(name string, change func(o *volume.Object)) {
			e.Helper()
			o := good[name]
			o.Xattrs = slices.Clone(o.Xattrs)
			change(&o)
			e.fails(e.m.Install(e.ctx, o), syscall.EINVAL)
		}
		bad("file", func(o *volume.Object) { o.Attr.ID = volume.ID{} })
		bad("file", func(o *volume.Object) { o.Attr.Mode = 0o644 })
		bad("file", func(o *volume.Object) { o.Attr.Size = -1 })
		bad("file", func(o *volume.Object) { o.Attr.Held = 2 })
		bad("file", func(o *volume.Object) { o.Attr.Mtime.Nsec = 1e9 })
		bad("file", func(o *volume.Object) { o.Attr.ID = volume.Root })
		bad("file", func(o *volume.Object) { o.Xattrs = append(o.Xattrs, dirXattr(1, 1)) })
		bad("file", func(o *volume.Object) { o.Xattrs = append(o.Xattrs, volume.Xattr{Name: "trusted.mortar.id"}) })
		bad("file", func(o *volume.Object) { o.Xattrs = append(o.Xattrs, volume.Xattr{Name: "other.x"}) })
		bad("link", func(o *volume.Object) { o.Target = "" })
		bad("link", func(o *volume.Object) { o.Target = "a\x00b" })
		bad("directory", func(o *volume.Object) { o.Xattrs = nil })
		bad("directory", func(o *volume.Object) {
			o.Xattrs = []volume.Xattr{{Name: "trusted.mortar.dir", Value: make([]byte, 11)}}
		})
		e.nameless()
	}},
	{"sums", func(e *memberEnv) {
		id := e.file(e.dir, "f", "")
		sums := func(first int64, n, size int) []uint64 {
			e.Helper()
			got, err := e.m.Sums(e.ctx, id, first, n, size)
			e.ok(err)
			return got
		}
		if got := sums(0, 5, 4096); len(got) != 0 {
			e.Errorf("an empty file has sums %v", got)
		}
		f := e.open(id, volume.Write)
		e.write(f, "x", 4096)
		e.write(f, strings.Repeat("\x00", 4096), 8192)
		e.write(f, "x", 16384)
		e.write(f, "yz", 1<<21)
		x := sums(4, 1, 4096)
		got := sums(0, 1000, 4096)
		if len(got) != 513 || len(x) != 1 || x[0] == 0 {
			e.Fatalf("%d sums, and %v", len(got), x)
		}
		for i, sum := range got {
			// In block 1, "x" and zeros; block 4 is equal; the last is what there is of it.
			if want := i == 1 || i == 4 || i == 512; want != (sum != 0) {
				e.Errorf("block %d has sum %d", i, sum)
			}
		}
		if got[1] != got[4] || got[512] == got[1] {
			e.Errorf("sums %v %v %v", got[1], got[4], got[512])
		}
		if got := sums(512, 3, 4096); len(got) != 1 {
			e.Errorf("%d sums at the end", len(got))
		}
		if got := sums(513, 3, 4096); len(got) != 0 {
			e.Errorf("%d sums beyond the end", len(got))
		}
		if a, b := sums(1<<20+1, 1, 2), sums(0, 3, 1<<20); len(a) != 0 || len(b) != 3 || b[1] != 0 {
			e.Errorf("sums %v and %v", a, b)
		}
		_, err := e.m.Sums(e.ctx, e.dir, 0, 1, 4096)
		e.fails(err, syscall.EISDIR)
		_, err = e.m.Sums(e.ctx, e.fifo(e.dir, "p"), 0, 1, 4096)
		e.fails(err, syscall.EINVAL)
		_, err = e.m.Sums(e.ctx, volume.NewID(1), 0, 1, 4096)
		e.fails(err, syscall.ESTALE)
		for _, c := range [][3]int{{-1, 1, 1}, {0, 0, 1}, {0, 1, 0}, {0, 1, volume.IOMax + 1}, {0, 1 << 20, 1}, {1<<63 - 2, 1, 4096}} {
			_, err = e.m.Sums(e.ctx, id, int64(c[0]), c[1], c[2])
			e.fails(err, syscall.EINVAL)
		}
		ended, cancel := context.WithCancel(e.ctx)
		cancel()
		_, err = e.m.Sums(ended, id, 0, 1, 4096)
		e.fails(err, syscall.EINTR)
	}},
}
