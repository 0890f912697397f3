package brick

import (
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func TestMakeEveryType(t *testing.T) {
	s := newStore(t)
	for _, c := range []struct {
		name string
		n    volume.Node
	}{
		{"dir", volume.Node{Mode: unix.S_IFDIR | 0o751}},
		{"file", volume.Node{Mode: unix.S_IFREG | 0o4755}},
		{"link", volume.Node{Mode: unix.S_IFLNK | 0o777, Target: "../somewhere else"}},
		{"fifo", volume.Node{Mode: unix.S_IFIFO | 0o640}},
		{"socket", volume.Node{Mode: unix.S_IFSOCK | 0o600}},
		{"char", volume.Node{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)}},
		{"block", volume.Node{Mode: unix.S_IFBLK | 0o660, Rdev: unix.Mkdev(7, 300)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.n.ID = volume.NewID(2)
			who := volume.WithCred(ctx, volume.Cred{UID: 1000, GID: 1001})
			made, err := s.Make(who, volume.Root, c.name, c.n)
			check(t, err)
			if made.ID != c.n.ID || made.Mode != c.n.Mode || made.Rdev != c.n.Rdev || made.UID != 1000 || made.GID != 1001 {
				t.Fatalf("made %+v of %+v", made, c.n)
			}
			if want := map[bool]uint32{true: 2, false: 1}[made.IsDir()]; made.Nlink != want {
				t.Errorf("nlink %d, want %d", made.Nlink, want)
			}
			looked, err := s.Lookup(ctx, volume.Root, c.name)
			check(t, err)
			got, err := s.Getattr(ctx, c.n.ID)
			check(t, err)
			if looked != made || got != made {
				t.Errorf("made   %+v\nlookup %+v\ngetattr %+v", made, looked, got)
			}
			target, err := s.Readlink(ctx, c.n.ID)
			if c.n.Target == "" {
				wants(t, err, unix.EINVAL)
			} else if check(t, err); target != c.n.Target {
				t.Errorf("target %q", target)
			}
			_, err = s.Make(ctx, volume.Root, c.name, c.n)
			wants(t, err, unix.EEXIST)
			_, err = s.Make(ctx, volume.Root, c.name+"2", c.n)
			wants(t, err, unix.EINVAL) // the ID is in use
			_, err = s.Lookup(ctx, volume.Root, c.name+"2")
			wants(t, err, unix.ENOENT)
		})
	}
	clean(t, s)
}

// clean fails if something is left where nothing may be between operations.
func clean(t *testing.T, s *Store) {
	t.Helper()
	for dir, fd := range map[string]int{tmpDir: s.tmpFD, discardDir: s.discardFD, openDir: s.openFD} {
		names, err := s.ownNames(fd, ".")
		check(t, err)
		if len(names) > 0 {
			t.Errorf("left in %s: %q", dir, names)
		}
	}
}

func TestReservedName(t *testing.T) {
	s := newStore(t)
	d := mkdir(t, s, volume.Root, "d")
	_, err := s.Lookup(ctx, volume.Root, volume.Reserved)
	wants(t, err, unix.ENOENT)
	_, err = s.Make(ctx, volume.Root, volume.Reserved, volume.Node{Mode: unix.S_IFDIR | 0o755})
	wants(t, err, unix.EPERM)
	wants(t, s.Rename(ctx, volume.Root, "d", volume.Root, volume.Reserved, 0), unix.EPERM)
	wants(t, s.Rename(ctx, volume.Root, volume.Reserved, volume.Root, "x", 0), unix.ENOENT)
	wants(t, s.Rmdir(ctx, volume.Root, volume.Reserved), unix.ENOENT)
	mkdir(t, s, d, volume.Reserved)
	ents, end, err := s.ReadDir(ctx, volume.Root, 0, 10, true)
	check(t, err)
	if len(ents) != 1 || !end || ents[0].Name != "d" || ents[0].Attr.Nlink != 3 {
		t.Errorf("listed %+v", ents)
	}
	a, err := s.Getattr(ctx, volume.Root)
	check(t, err)
	if a.Nlink != 3 {
		t.Errorf("the root's nlink is %d, want 3", a.Nlink)
	}
}

func TestOpenUnlinked(t *testing.T) {
	path := newBrick(t)
	s := openBrick(t, path, Options{})
	a := create(t, s, volume.Root, "a", "alpha")
	b := create(t, s, volume.Root, "b", "beta")
	ha, err := s.Open(ctx, a, volume.Read|volume.Write)
	check(t, err)
	hb, err := s.Open(ctx, b, volume.Read)
	check(t, err)
	check(t, s.Unlink(ctx, volume.Root, "a"))
	create(t, s, volume.Root, "c", "gamma")
	check(t, s.Rename(ctx, volume.Root, "c", volume.Root, "b", 0))
	for _, h := range []volume.File{ha, hb} {
		at, err := h.Getattr(ctx)
		check(t, err)
		if at.Nlink != 0 {
			t.Errorf("nlink %d of an unlinked file", at.Nlink)
		}
		_, err = s.Link(ctx, h.ID(), volume.Root, "again")
		wants(t, err, unix.ENOENT)
	}
	if got := contents(t, s, a); got != "alpha" {
		t.Errorf("contents %q", got)
	}
	_, err = ha.WriteAt(ctx, []byte("A"), 0, 0)
	check(t, err)
	check(t, s.Close()) // as a crash: the handles are gone
	s = openBrick(t, path, Options{})
	if got := contents(t, s, b); got != "beta" { // reopened by its ID, and closed: that was the end of it
		t.Errorf("contents %q", got)
	}
	_, err = s.Getattr(ctx, b)
	wants(t, err, unix.ESTALE)
	check(t, s.Orphans(ctx))
	_, err = s.Open(ctx, a, volume.Read)
	wants(t, err, unix.ESTALE)
	clean(t, s)
}

func TestHardLinks(t *testing.T) {
	s := newStore(t)
	d := mkdir(t, s, volume.Root, "d")
	id := create(t, s, volume.Root, "a", "x")
	at, err := s.Link(ctx, id, d, "b")
	check(t, err)
	if at.Nlink != 2 {
		t.Errorf("nlink %d", at.Nlink)
	}
	_, err = s.Link(ctx, id, d, "b")
	wants(t, err, unix.EEXIST)
	_, err = s.Link(ctx, d, volume.Root, "d2")
	wants(t, err, unix.EPERM)
	check(t, s.Unlink(ctx, volume.Root, "a"))
	at, err = s.Lookup(ctx, d, "b")
	check(t, err)
	if at.Nlink != 1 || at.ID != id {
		t.Errorf("%+v", at)
	}
	check(t, s.Unlink(ctx, d, "b"))
	_, err = s.Getattr(ctx, id)
	wants(t, err, unix.ESTALE)
	clean(t, s)
}

func TestDirectoriesMove(t *testing.T) {
	path := newBrick(t)
	s := openBrick(t, path, Options{Directories: 1})
	a, b := mkdir(t, s, volume.Root, "a"), mkdir(t, s, volume.Root, "b")
	deep := a
	for range 60 { // deeper than the kernel follows links
		deep = mkdir(t, s, deep, strings.Repeat("n", 100))
	}
	id := create(t, s, deep, "f", "deep")
	wants(t, s.Rename(ctx, volume.Root, "a", deep, "a", 0), unix.EINVAL)
	check(t, s.Rename(ctx, volume.Root, "a", b, "moved", 0))
	check(t, s.Rename(ctx, volume.Root, "b", volume.Root, "B", 0))
	p, name, err := s.Path(ctx, a)
	check(t, err)
	if p != b || name != "moved" {
		t.Errorf("path %v %q", p, name)
	}
	s.Close()
	s = openBrick(t, path, Options{})
	at, err := s.Lookup(ctx, deep, "f")
	check(t, err)
	if at.ID != id {
		t.Errorf("found %v", at.ID)
	}
	e := mkdir(t, s, volume.Root, "empty")
	wants(t, s.Rename(ctx, volume.Root, "empty", b, "moved", 0), unix.ENOTEMPTY)
	check(t, s.Rename(ctx, volume.Root, "empty", b, "moved", volume.RenameExchange))
	check(t, s.Rename(ctx, volume.Root, "empty", b, "moved", 0)) // the empty one goes
	_, err = s.Getattr(ctx, e)
	wants(t, err, unix.ESTALE)
	_, err = s.Lookup(ctx, e, "x")
	wants(t, err, unix.ESTALE)
	_, err = s.Lookup(ctx, deep, "f")
	check(t, err)
	clean(t, s)
}

func TestDirectoryVersion(t *testing.T) {
	s := newStore(t)
	d := mkdir(t, s, volume.Root, "d")
	version := func() uint64 {
		a, err := s.Getattr(ctx, d)
		check(t, err)
		b, err := s.Lookup(ctx, volume.Root, "d")
		check(t, err)
		if a != b {
			t.Fatalf("getattr %+v\nlookup %+v", a, b)
		}
		return a.Version
	}
	v := version()
	_, err := s.Make(ctx, d, "x", volume.Node{Mode: unix.S_IFREG | 0o644, Parent: v})
	check(t, err)
	_, err = s.Setattr(ctx, d, volume.Change{Mask: volume.SetMode, Mode: 0o2775})
	check(t, err)
	if version() != v+1 {
		t.Errorf("version %d after chmod, want %d", version(), v+1)
	}
	_, err = s.Make(ctx, d, "y", volume.Node{Mode: unix.S_IFREG | 0o644, Parent: v})
	wants(t, err, unix.ESTALE)
	if volume.ReasonOf(err) != volume.Outdated {
		t.Errorf("%v", err)
	}
	_, err = s.Setattr(ctx, d, volume.Change{Mask: volume.SetMtimeNow})
	check(t, err)
	_, err = s.Setattr(ctx, d, volume.Change{Mask: volume.SetGID, GID: 77})
	check(t, err)
	if version() != v+2 {
		t.Errorf("version %d after chown, want %d", version(), v+2)
	}
	a, err := s.Make(volume.WithCred(ctx, volume.Cred{UID: 5, GID: 6}), d, "sub", volume.Node{Mode: unix.S_IFDIR | 0o755, Parent: v + 2})
	check(t, err)
	if a.UID != 5 || a.GID != 77 || a.Mode != unix.S_IFDIR|unix.S_ISGID|0o755 {
		t.Errorf("inherited %+v", a)
	}
}

func TestDefaultACL(t *testing.T) {
	s := newStore(t)
	d := mkdir(t, s, volume.Root, "d")
	// u::rwx g::r-x o::---, user 1000 rwx, mask rwx (acl(5), version 2).
	acl := []byte{2, 0, 0, 0,
		1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		0x10, 0, 7, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}
	check(t, s.Setxattr(ctx, d, attrDefaultACL, acl, 0))
	umasked := volume.WithCred(ctx, volume.Cred{Umask: 0o77})
	for name, mode := range map[string]uint32{"f": unix.S_IFREG | 0o666, "s": unix.S_IFDIR | 0o2777, "p": unix.S_IFIFO | 0o666} {
		a, err := s.Make(umasked, d, name, volume.Node{Mode: mode})
		check(t, err)
		if want := mode &^ 0o7; a.Mode != want {
			t.Errorf("%s: mode %o, want %o", name, a.Mode, want)
		}
		_, err = s.Getxattr(ctx, a.ID, attrACL)
		check(t, err)
		_, err = s.Getxattr(ctx, a.ID, attrDefaultACL)
		wants(t, err, map[bool]unix.Errno{true: 0, false: unix.ENODATA}[a.IsDir()])
	}
	check(t, s.Removexattr(ctx, d, attrDefaultACL))
	a, err := s.Make(umasked, d, "g", volume.Node{Mode: unix.S_IFREG | 0o666})
	check(t, err)
	if a.Mode != unix.S_IFREG|0o600 {
		t.Errorf("mode %o", a.Mode)
	}
	clean(t, s)
}

func TestXattrs(t *testing.T) {
	s := newStore(t)
	id := create(t, s, volume.Root, "f", "")
	for _, x := range []string{id.String(), volume.Root.String()} {
		o, _ := volume.ParseID(x)
		check(t, s.Setxattr(ctx, o, "user.a", []byte("1"), volume.XattrCreate))
		wants(t, s.Setxattr(ctx, o, "user.a", []byte("1"), volume.XattrCreate), unix.EEXIST)
		wants(t, s.Setxattr(ctx, o, "user.b", []byte("1"), volume.XattrReplace), unix.ENODATA)
		check(t, s.Setxattr(ctx, o, "user.big", make([]byte, 1000), 0))
		v, err := s.Getxattr(ctx, o, "user.big")
		check(t, err)
		if len(v) != 1000 {
			t.Errorf("%d bytes", len(v))
		}
		_, err = s.Getxattr(ctx, o, attrID)
		wants(t, err, unix.ENODATA)
		wants(t, s.Setxattr(ctx, o, attrID, []byte("x"), 0), unix.EPERM)
		wants(t, s.Setxattr(ctx, o, "system.other", []byte("x"), 0), unix.EOPNOTSUPP)
		wants(t, s.Setxattr(ctx, o, "other", []byte("x"), 0), unix.EOPNOTSUPP)
		names, err := s.Listxattr(ctx, o)
		check(t, err)
		if len(names) != 2 {
			t.Errorf("%q", names)
		}
		check(t, s.Removexattr(ctx, o, "user.a"))
		wants(t, s.Removexattr(ctx, o, "user.a"), unix.ENODATA)
	}
}

// TestRemovedDirectory: who holds a directory that was removed can't make anything in it.
func TestRemovedDirectory(t *testing.T) {
	each(t, func(t *testing.T, kind string, newStore func(t *testing.T) *Store) {
		s := newStore(t)
		id := mkdir(t, s, volume.Root, "d")
		a := create(t, s, volume.Root, "a", "")
		d, err := s.dir("test", id)
		check(t, err)
		defer s.dirs.put(d)
		in, err := s.enter("test", d, 0)
		check(t, err)
		d.attr.RUnlock()
		check(t, s.Rmdir(ctx, volume.Root, "d"))
		for _, mode := range []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO} {
			b := s.newBirth(ctx, "make", d, in, "x", volume.Node{Mode: mode | 0o644})
			if mode == unix.S_IFREG {
				_, _, err = s.bearFile(&b)
			} else {
				_, err = s.bearOther(&b)
			}
			wants(t, err, unix.ESTALE)
		}
		f, err := s.target("link", a)
		check(t, err)
		_, err = s.link("link", &f, d, "x")
		wants(t, err, unix.ESTALE)
		_, err = s.find("lookup", d, "x")
		wants(t, err, unix.ESTALE)
		clean(t, s)
	})
}
