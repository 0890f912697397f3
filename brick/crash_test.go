package brick

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// scene is an operation that is stopped at each of its steps.
type scene struct {
	name  string
	setup func(t *testing.T, s *Store, w *world)
	op    func(s *Store, w *world) error
}

// world is what a scene's setup leaves for its operation, by name.
type world struct {
	ids  map[string]volume.ID
	open []volume.File
}

func (w *world) id(name string) volume.ID {
	id, ok := w.ids[name]
	if !ok {
		panic("no " + name)
	}
	return id
}

var (
	key       = volume.Key{Set: 7, Intent: 1 << 40, Part: 3}
	key2      = volume.Key{Set: 7, Intent: 1 << 40, Part: 4}
	newborn   = volume.ID{0: 0xee, 15: 2}
	elsewhere = volume.Pointer{ID: volume.ID{0: 0xfe, 15: 9}, Mode: unix.S_IFREG, Held: 9}
)

// base makes what every scene begins with: files a and b, directories d (with a
// file f and a subdirectory sub) and e (empty), a pointer p.
func base(t *testing.T, s *Store, w *world) {
	w.ids["a"] = create(t, s, volume.Root, "a", "alpha")
	w.ids["b"] = create(t, s, volume.Root, "b", "beta")
	w.ids["d"] = mkdir(t, s, volume.Root, "d")
	w.ids["e"] = mkdir(t, s, volume.Root, "e")
	w.ids["f"] = create(t, s, w.id("d"), "f", "phi")
	w.ids["sub"] = mkdir(t, s, w.id("d"), "sub")
	check(t, s.Put(ctx, volume.Root, "p", elsewhere, volume.ID{}, volume.Key{}))
}

// opens opens a file for the scene.
func opens(name string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		h, err := s.Open(ctx, w.id(name), volume.Read|volume.Write)
		if err == nil {
			w.open = append(w.open, h)
		}
		return err
	}
}

// then makes one operation of several.
func then(ops ...func(s *Store, w *world) error) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		for _, op := range ops {
			if err := op(s, w); err != nil {
				return err
			}
		}
		return nil
	}
}

func closeAll(s *Store, w *world) error {
	for _, h := range w.open {
		h.Close()
	}
	w.open = nil
	return nil
}

func ren(oldDir, oldName, newDir, newName string, flags volume.RenameFlags) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		return s.Rename(ctx, w.dir(oldDir), oldName, w.dir(newDir), newName, flags)
	}
}

func (w *world) dir(name string) volume.ID {
	if name == "/" {
		return volume.Root
	}
	return w.id(name)
}

func makes(dir, name string, n volume.Node) func(s *Store, w *world) error {
	n.ID = newborn
	return func(s *Store, w *world) error {
		_, err := s.Make(volume.WithCred(ctx, volume.Cred{UID: 3, GID: 4}), w.dir(dir), name, n)
		return err
	}
}

func unlinks(dir, name string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error { return s.Unlink(ctx, w.dir(dir), name) }
}

func puts(name string, e string, old string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		p := elsewhere
		if e != "" {
			p = volume.Pointer{ID: w.id(e), Mode: unix.S_IFREG}
		}
		o := volume.ID{}
		if old == "p" {
			o = elsewhere.ID
		} else if old != "" {
			o = w.id(old)
		}
		return s.Put(ctx, volume.Root, name, p, o, key)
	}
}

func discards(name string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		id := elsewhere.ID
		if name != "p" {
			id = w.id(name)
		}
		return s.Discard(ctx, volume.Root, name, id, key)
	}
}

func purges(s *Store, w *world) error   { return s.Purge(ctx, key) }
func restores(s *Store, w *world) error { return s.Restore(ctx, key) }

// during makes an operation part of the setup.
func during(ops ...func(s *Store, w *world) error) func(t *testing.T, s *Store, w *world) {
	return func(t *testing.T, s *Store, w *world) {
		t.Helper()
		check(t, then(ops...)(s, w))
	}
}

var copyOf = volume.Copy{ID: newborn, Mode: unix.S_IFDIR | 0o2750, UID: 8, GID: 9, Version: 17, Home: 5, BirthTime: volume.Time{Sec: 1000}}

func copies(s *Store, w *world) error { return s.MakeCopy(ctx, w.id("d"), "copy", copyOf) }

// bornThen is what files are made with in scenes that begin with "bear".
var bornThen = volume.Change{Mask: volume.SetMinimalACL | volume.SetUID | volume.SetMtime, Mode: 0o640, UID: 5, Mtime: volume.Time{Sec: 1000, Nsec: 7}}

var scenes = []scene{
	{"create", nil, makes("d", "new", volume.Node{Mode: unix.S_IFREG | 0o6755})},
	{"bear", nil, makes("d", "new", volume.Node{Mode: unix.S_IFREG | 0o6755, Data: []byte("nu"), Then: bornThen})},
	{"bear below a default ACL", during(func(s *Store, w *world) error {
		return s.Setxattr(ctx, w.id("d"), attrDefaultACL, testACL, 0)
	}), makes("d", "new", volume.Node{Mode: unix.S_IFREG | 0o6777, Data: []byte("nu"), Then: bornThen})},
	{"bear as fixed, in a directory with a group", during(func(s *Store, w *world) error {
		_, err := s.Setattr(ctx, w.id("d"), volume.Change{Mask: volume.SetMode | volume.SetGID, Mode: 0o2775, GID: 9})
		return err
	}), func(s *Store, w *world) error {
		n := volume.Node{ID: newborn, Mode: unix.S_IFREG | 0o600, Data: []byte("nu"), Then: bornThen}
		_, err := s.Make(volume.WithFixed(ctx, volume.Fixed{Now: volume.Time{Sec: 2000}}), w.id("d"), "new", n)
		return err
	}},
	{"mkdir", nil, makes("d", "new", volume.Node{Mode: unix.S_IFDIR | 0o755})},
	{"symlink", nil, makes("d", "new", volume.Node{Mode: unix.S_IFLNK | 0o777, Target: "x"})},
	{"fifo", nil, makes("d", "new", volume.Node{Mode: unix.S_IFIFO | 0o644})},
	{"mkdir below a default ACL", during(func(s *Store, w *world) error {
		return s.Setxattr(ctx, w.id("d"), attrDefaultACL, testACL, 0)
	}), makes("d", "new", volume.Node{Mode: unix.S_IFDIR | 0o755})},
	{"link", nil, func(s *Store, w *world) error { _, err := s.Link(ctx, w.id("a"), w.id("d"), "a2"); return err }},
	{"unlink", nil, unlinks("d", "f")},
	{"unlink one of two", during(func(s *Store, w *world) error { _, err := s.Link(ctx, w.id("a"), w.id("d"), "a2"); return err }), unlinks("/", "a")},
	{"unlink open", nil, then(opens("f"), unlinks("d", "f"), closeAll)},
	{"unlink pointer", nil, unlinks("/", "p")},
	{"rmdir", nil, func(s *Store, w *world) error { return s.Rmdir(ctx, volume.Root, "e") }},
	{"rename", nil, ren("/", "a", "d", "a2", 0)},
	{"rename over", nil, ren("/", "a", "d", "f", 0)},
	{"rename over open", nil, then(opens("f"), ren("/", "a", "d", "f", 0), closeAll)},
	{"rename exchange", nil, ren("/", "a", "d", "f", volume.RenameExchange)},
	{"rename directory", nil, ren("/", "d", "e", "d2", 0)},
	{"rename directory over", nil, ren("/", "d", "/", "e", 0)},
	{"rename directories exchange", nil, ren("d", "sub", "/", "e", volume.RenameExchange)},
	{"rename directory and file exchange", nil, ren("/", "a", "d", "sub", volume.RenameExchange)},
	{"setattr", nil, func(s *Store, w *world) error {
		_, err := s.Setattr(ctx, w.id("a"), volume.Change{Mask: volume.SetMode | volume.SetUID | volume.SetSize | volume.SetMtime, Mode: 0o4711, UID: 5, Size: 3})
		return err
	}},
	{"setattr directory", nil, func(s *Store, w *world) error {
		_, err := s.Setattr(ctx, w.id("d"), volume.Change{Mask: volume.SetMode | volume.SetGID, Mode: 0o2711, GID: 5})
		return err
	}},
	{"make copy", nil, copies},
	{"refresh copy", during(copies), func(s *Store, w *world) error {
		c := copyOf
		c.Version, c.Default = 18, testACL
		return s.RefreshCopy(ctx, c)
	}},
	{"put pointer", nil, puts("new", "", "")},
	{"put link", nil, puts("new", "a", "")},
	{"put pointer over file", nil, puts("a", "", "a")},
	{"put pointer over open file", nil, then(opens("a"), puts("a", "", "a"), closeAll)},
	{"put pointer over directory", nil, puts("e", "", "e")},
	{"put link over pointer", nil, puts("p", "a", "p")},
	{"put link over file", nil, puts("b", "a", "b")},
	{"put nameless", during(discards("b")), func(s *Store, w *world) error {
		return s.Put(ctx, volume.Root, "a", volume.Pointer{ID: w.id("b"), Mode: unix.S_IFREG}, w.id("a"), key2)
	}},
	{"discard file", nil, discards("a")},
	{"discard directory", nil, discards("e")},
	{"discard pointer", nil, discards("p")},
	{"purge file", during(discards("a")), purges},
	{"purge open file", nil, then(opens("a"), discards("a"), purges, closeAll)},
	{"purge directory", during(discards("e")), purges},
	{"purge pointer", during(discards("p")), purges},
	{"restore file", during(discards("a")), restores},
	{"restore file, name taken", during(discards("a"), makes("/", "a", volume.Node{Mode: unix.S_IFREG | 0o600})), restores},
	{"restore directory", during(discards("e")), restores},
	{"restore directory, name taken", during(discards("e"), makes("/", "e", volume.Node{Mode: unix.S_IFREG | 0o600})), restores},
	{"restore pointer", during(discards("p")), restores},
	{"orphans", during(opens("a"), unlinks("/", "a")), func(s *Store, w *world) error { return s.Orphans(ctx) }},
	{"journal", nil, func(s *Store, w *world) error {
		j := s.Journal()
		if err := j.Append(context.Background(), []byte("one")); err != nil {
			return err
		}
		if err := j.Rewrite([][]byte{[]byte("two"), []byte("three")}); err != nil {
			return err
		}
		return j.Append(context.Background(), []byte("four"))
	}},
}

// testACL gives user 1000 rwx (acl(5), version 2).
var testACL = []byte{2, 0, 0, 0,
	1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
	0x10, 0, 7, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}

// onMemory mounts a tmpfs, on which thousands of bricks are made quickly.
func onMemory(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	check(t, unix.Mount("tmpfs", at, "tmpfs", 0, "size=256m"))
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount %s: %v: something is open there", at, err)
			unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	return at
}

// play makes a brick, lets the scene begin on it, with empty caches, and stops
// or fails its n-th system call. It returns what the operation returned and
// the call that failed, "" if there was none.
func (sc *scene) play(t *testing.T, at string, w *world, n int, crash bool, errno unix.Errno) (path, failed string, s *Store, err error) {
	t.Helper()
	path, e := os.MkdirTemp(at, "brick")
	check(t, e)
	check(t, Init(ctx, path, testIdentity))
	w.ids, w.open = map[string]volume.ID{}, nil
	first, e := Open(path, Options{})
	check(t, e)
	base(t, first, w)
	if sc.setup != nil {
		sc.setup(t, first, w)
	}
	w.open = nil
	check(t, first.Close())
	f := &sys.Faulty{Sys: sys.Real{}}
	s, e = Open(path, Options{sys: f})
	check(t, e)
	if crash {
		f.Crash(n)
	} else {
		f.Fail(n, errno)
	}
	err = sc.op(s, w)
	failed = f.Failed()
	if !crash {
		f.Fail(0, 0)
		closeAll(s, w)
	}
	return path, failed, s, err
}

// TestCrash stops every operation before each of its system calls, and the
// Open after it before each of its own, and proves the brick whole after the next.
func TestCrash(t *testing.T) {
	at := onMemory(t)
	for _, sc := range scenes {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			for n := 1; ; n++ {
				path, failed, s, err := sc.play(t, at, &world{}, n, true, 0)
				check(t, s.Close())
				if failed == "" {
					check(t, err)
					sc.recovered(t, path, "")
					return
				}
				// The Open that mends is stopped as well, at every call in turn.
				for m := 1; ; m++ {
					f := &sys.Faulty{Sys: sys.Real{}}
					f.Crash(m)
					if s, err := Open(path, Options{sys: f}); err == nil {
						check(t, s.Close())
						break
					}
				}
				sc.recovered(t, path, fmt.Sprintf("stopped before call %d, %s", n, failed))
				check(t, os.RemoveAll(path))
				if t.Failed() {
					return
				}
			}
		})
	}
}

// recovered opens the brick and proves that all is well.
func (sc *scene) recovered(t *testing.T, path, when string) {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	defer s.Close()
	check(t, s.Orphans(ctx))
	lookAtAll(t, s, volume.Root)
	check(t, s.Journal().Replay(func([]byte) error { return nil }))
	sc.whole(t, s)
	fsck(t, path)
	if t.Failed() {
		t.Logf("%s: %s", sc.name, when)
	}
}

// whole checks that what must survive every scene has: each of the names, or
// what the scene turns it into, with all of its contents.
func (sc *scene) whole(t *testing.T, s *Store) {
	t.Helper()
	var names []string
	ents, _, err := s.ReadDir(ctx, volume.Root, 0, 100, true)
	check(t, err)
	for _, e := range ents {
		names = append(names, e.Name)
		if e.Held == 0 && e.Mode&unix.S_IFMT == unix.S_IFREG && e.ID != newborn {
			got := contents(t, s, e.ID)
			if !slices.Contains([]string{"alpha", "beta", "phi", "alp"}, got) {
				t.Errorf("%s contains %q", e.Name, got)
			}
		}
	}
	if strings.HasPrefix(sc.name, "bear") {
		bornWhole(t, s)
	}
	ds, err := s.Discards(ctx)
	check(t, err)
	for _, want := range []string{"a", "b", "d", "e", "p"} {
		if slices.Contains(names, want) || strings.Contains(sc.name, "rename") || strings.Contains(sc.name, "unlink") ||
			len(ds) > 0 || strings.HasPrefix(sc.name, "purge") || sc.name == "rmdir" || sc.name == "orphans" {
			continue
		}
		t.Errorf("%s is gone; there are %q", want, names)
	}
}

// bornWhole checks that a file that was made with what is in it has all of that, or no name.
func bornWhole(t *testing.T, s *Store) {
	t.Helper()
	d, err := s.Lookup(ctx, volume.Root, "d")
	check(t, err)
	a, err := s.Lookup(ctx, d.ID, "new")
	if volume.ErrnoOf(err) == unix.ENOENT {
		_, err := s.Getattr(ctx, newborn)
		wants(t, err, unix.ESTALE)
		return
	}
	check(t, err)
	if got := contents(t, s, newborn); got != "nu" || a.ID != newborn || a.Mode&0o777 != 0o640 || a.Mode&unix.S_ISUID != 0 || a.UID != bornThen.UID || a.Mtime != bornThen.Mtime {
		t.Errorf("it has its name, %q and %+v", got, a)
	}
	_, err = s.Getxattr(ctx, newborn, attrACL)
	wants(t, err, unix.ENODATA)
}

// TestFailures lets each system call of every operation fail alone: the store
// goes on, and after a restart the brick is whole too.
func TestFailures(t *testing.T) {
	at := onMemory(t)
	for _, sc := range scenes {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			for n := 1; ; n++ {
				path, failed, s, err := sc.play(t, at, &world{}, n, false, unix.ENOSPC)
				if failed == "" {
					check(t, err)
				}
				lookAtAll(t, s, volume.Root)
				check(t, s.Close())
				sc.recovered(t, path, fmt.Sprintf("call %d, %s, failed", n, failed))
				check(t, os.RemoveAll(path))
				if failed == "" || t.Failed() {
					return
				}
			}
		})
	}
}
