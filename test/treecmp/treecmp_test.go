package treecmp_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/test/treecmp"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var ctx = context.Background()

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// twoBricks returns a brick with a bit of everything, and its exact copy.
func twoBricks(t *testing.T) (a, b string) {
	t.Helper()
	a, b = filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	check(t, os.Mkdir(a, 0o755))
	check(t, brick.Init(ctx, a, brick.Identity{VolumeID: "3f0c8a52", Volume: "v", Set: 1, BrickID: "9b1d40ce"}))
	s, err := brick.Open(a, brick.Options{})
	check(t, err)
	make := func(dir volume.ID, name string, n volume.Node) volume.ID {
		t.Helper()
		attr, err := s.Make(ctx, dir, name, n)
		check(t, err)
		return attr.ID
	}
	d := make(volume.Root, "d", volume.Node{Mode: unix.S_IFDIR | 0o755})
	f, attr, err := s.Create(ctx, d, "f", volume.Node{Mode: 0o644}, volume.Write)
	check(t, err)
	_, err = f.WriteAt(ctx, []byte(strings.Repeat("content", 100_000)), 0, 0)
	check(t, err)
	check(t, f.Close())
	check(t, s.Setxattr(ctx, attr.ID, "user.x", []byte("y"), 0))
	for _, name := range []string{"f2", "f3"} {
		_, err = s.Link(ctx, attr.ID, volume.Root, name)
		check(t, err)
	}
	make(volume.Root, "l", volume.Node{Mode: unix.S_IFLNK | 0o777, Target: "to"})
	make(volume.Root, "dev", volume.Node{Mode: unix.S_IFCHR | 0o600, Rdev: 0x103})
	e := make(d, "e", volume.Node{Mode: unix.S_IFDIR | 0o755})
	make(e, "g", volume.Node{Mode: unix.S_IFREG | 0o600})
	make(volume.Root, "gone", volume.Node{Mode: unix.S_IFREG | 0o600})
	n := make(volume.Root, "nameless", volume.Node{Mode: unix.S_IFDIR | 0o755})
	make(n, "in it", volume.Node{Mode: unix.S_IFREG | 0o600})
	check(t, s.Put(ctx, volume.Root, "p", volume.Pointer{ID: volume.NewID(2), Mode: unix.S_IFREG, Held: 2}, volume.ID{}, volume.Key{}))
	x := make(volume.Root, "x", volume.Node{Mode: unix.S_IFREG | 0o600})
	y := make(volume.Root, "y", volume.Node{Mode: unix.S_IFDIR | 0o600})
	check(t, s.Discard(ctx, volume.Root, "x", x, volume.Key{Set: 1, Intent: 1}))
	check(t, s.Discard(ctx, volume.Root, "y", y, volume.Key{Set: 1, Intent: 2}))
	check(t, s.Place(ctx, volume.Root, "gone", volume.Pointer{}))
	check(t, s.Place(ctx, volume.Root, "nameless", volume.Pointer{}))
	check(t, s.Close())
	if out, err := exec.Command("cp", "-a", "--preserve=all", a, b).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return a, b
}

// same fails the test unless there is just this line; "": none.
func same(t *testing.T, lines []string, err error, want string) {
	t.Helper()
	check(t, err)
	switch {
	case want == "" && len(lines) > 0, len(lines) > 1:
		t.Errorf("got\n%s\nwant %q", strings.Join(lines, "\n"), want)
	case want != "" && (len(lines) != 1 || !strings.Contains(lines[0], want)):
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestCompare(t *testing.T) {
	a, b := twoBricks(t)
	opt := treecmp.Options{Mtime: true}
	lines, err := treecmp.Compare(a, b, opt)
	same(t, lines, err, "")
	restore := func(name string) func() error {
		return func() error {
			var st unix.Stat_t
			check(t, unix.Lstat(filepath.Join(a, name), &st))
			return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(b, name), []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	at := func(name string) string { return filepath.Join(b, name) }
	for _, c := range []struct {
		want     string
		do, undo func() error
	}{
		{"d/f: mode", func() error { return os.Chmod(at("d/f"), 0o600) }, func() error { return os.Chmod(at("d/f"), 0o644) }},
		{"l: owner: 0:0 and 5:6", func() error { return os.Lchown(at("l"), 5, 6) }, func() error { return os.Lchown(at("l"), 0, 0) }},
		{"d/f: size", func() error { return os.Truncate(at("d/f"), 5) }, nil},
		{"d/e: mtime", func() error { return os.Chtimes(at("d/e"), time.Now(), time.Unix(5, 0)) }, restore("d/e")},
		{".: mtime", func() error { return os.Chtimes(b, time.Now(), time.Unix(5, 0)) }, restore(".")},
		{"d/e: user.n is there: false and true", func() error { return unix.Setxattr(at("d/e"), "user.n", nil, 0) }, func() error { return unix.Removexattr(at("d/e"), "user.n") }},
		{"d/e: trusted.mortar.id: ", func() error { return unix.Setxattr(at("d/e"), "trusted.mortar.id", []byte("0123456789abcdef"), 0) }, nil},
		{"d/e/g: only in " + a, func() error { return os.Remove(at("d/e/g")) }, nil},
		{"more: only in " + b, func() error { return os.WriteFile(at("more"), nil, 0o600) }, nil},
		{"l: type", func() error {
			if err := os.Remove(at("l")); err != nil {
				return err
			}
			return os.Mkdir(at("l"), 0o777)
		}, nil},
		{"l: target", func() error { return relink(at("l"), "elsewhere") }, nil},
		{"dev: device", func() error { return remake(at("dev"), unix.S_IFCHR|0o600, 0x104) }, nil},
		{"contents differ from byte 300001 on", func() error { return poke(at("d/f"), 300_001) }, nil},
	} {
		t.Run(c.want, func(t *testing.T) {
			check(t, c.do())
			opt := opt
			if c.undo == nil {
				opt.Mtime = false
			}
			lines, err := treecmp.Compare(a, b, opt)
			check(t, err)
			found := false
			for _, l := range lines {
				found = found || strings.Contains(l, c.want)
			}
			if !found {
				t.Errorf("got %q, want %q", lines, c.want)
			}
			if c.undo == nil {
				check(t, os.RemoveAll(b))
				if out, err := exec.Command("cp", "-a", "--preserve=all", a, b).CombinedOutput(); err != nil {
					t.Fatalf("cp: %v\n%s", err, out)
				}
				return
			}
			check(t, c.undo())
			lines, err = treecmp.Compare(a, b, opt)
			same(t, lines, err, "")
		})
	}
	check(t, unix.Setxattr(at("d"), "user.n", nil, 0))
	lines, err = treecmp.Compare(a, b, treecmp.Options{Mtime: true, Ignore: []string{"user.n"}})
	same(t, lines, err, "")
	check(t, os.Remove(at("f2"))) // a name less, besides
	lines, err = treecmp.Compare(a, b, treecmp.Options{Ignore: []string{"user.n"}})
	check(t, err)
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "f2: only in") { // its other names are on both
		t.Errorf("got %q", lines)
	}
}

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

func remake(path string, mode uint32, dev int) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return unix.Mknod(path, mode, dev)
}

func poke(path string, off int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{1}, off)
	return err
}

func TestCheck(t *testing.T) {
	a, _ := twoBricks(t)
	lines, err := treecmp.Check(a)
	same(t, lines, err, "")
	link := func(name string) string {
		var id volume.ID
		_, err := unix.Lgetxattr(filepath.Join(a, name), "trusted.mortar.id", id[:])
		check(t, err)
		return filepath.Join(a, ".mortar", "id", id.String()[:2], id.String())
	}
	for _, c := range []struct {
		want string
		do   func(b string) error
	}{
		{"not in the index", func(b string) error { return os.Remove(in(b, a, link("d/e/g"))) }},
		{"the index says", func(b string) error { return relink(in(b, a, link("d/e")), "../../../d") }},
		{"the index says", func(b string) error { return os.Remove(in(b, a, link("d"))) }},
		{"has no name", func(b string) error { return os.Remove(filepath.Join(b, "d/e/g")) }},
		{"leads to no directory", func(b string) error { return os.RemoveAll(filepath.Join(b, "d/e")) }},
		{"no object of Mortar's", func(b string) error { return os.WriteFile(filepath.Join(b, "d/strange"), nil, 0o600) }},
		{"4 links, of which 3", func(b string) error { return os.Rename(filepath.Join(b, "f2"), filepath.Join(b, ".mortar/log/f2")) }},
		{"has the ID of", func(b string) error {
			return exec.Command("cp", "-a", filepath.Join(b, "d/e"), filepath.Join(b, "e2")).Run()
		}},
		{"leads to another inode", func(b string) error {
			return exec.Command("cp", "-a", filepath.Join(b, "l"), filepath.Join(b, "l2")).Run()
		}},
		{"no ID", func(b string) error { return os.WriteFile(filepath.Join(b, ".mortar/id/00/x"), nil, 0o600) }},
	} {
		t.Run(c.want, func(t *testing.T) {
			b := filepath.Join(t.TempDir(), "b")
			if out, err := exec.Command("cp", "-a", "--preserve=all", a, b).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v\n%s", err, out)
			}
			check(t, c.do(b))
			lines, err := treecmp.Check(b)
			check(t, err)
			if !strings.Contains(strings.Join(lines, "\n"), c.want) {
				t.Errorf("got %q, want %q", lines, c.want)
			}
		})
	}
	if _, err := treecmp.Check(t.TempDir()); volume.ErrnoOf(err) != syscall.ENOENT {
		t.Errorf("no brick: %v", err)
	}
}

// in returns where path, which lies in brick a, is in brick b.
func in(b, a, path string) string { return b + strings.TrimPrefix(path, a) }
