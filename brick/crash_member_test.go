package brick

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// memberScene is a scene of what makes members equal. Whenever it is stopped,
// no object is lost but those that it is to release, and it can be repeated.
type memberScene struct {
	scene
	gone  string // what the operation removes, by name
	once  bool   // it can't be repeated
	after func(t *testing.T, s *Store, w *world)
}

func ofID(id volume.ID, o volume.Object) volume.Object {
	o.Attr.ID = id
	return o
}

var (
	someFile = volume.Object{
		Attr:   volume.Attr{Mode: unix.S_IFREG | 0o6711, UID: 4, GID: 5, Size: 3, Atime: volume.Time{Sec: 7}, Mtime: volume.Time{Sec: 8, Nsec: 9}},
		Xattrs: []volume.Xattr{{Name: "trusted.a", Value: []byte("1")}, {Name: "trusted.b", Value: []byte("2")}},
	}
	someDir = volume.Object{
		Attr:   volume.Attr{Mode: unix.S_IFDIR | 0o2750, GID: 5, Mtime: volume.Time{Sec: 8}},
		Xattrs: []volume.Xattr{{Name: attrDefaultACL, Value: testACL}, {Name: attrDir, Value: encodeDirMeta(dirMeta{77, 3})}},
	}
	someLink = volume.Object{Attr: volume.Attr{Mode: unix.S_IFLNK | 0o777, UID: 4}, Target: strings.Repeat("long", 1000)}
)

func installs(name string, o volume.Object) func(s *Store, w *world) error {
	return func(s *Store, w *world) error { return s.Install(ctx, ofID(w.named(name), o)) }
}

// named is id, or newborn for the empty name.
func (w *world) named(name string) volume.ID {
	if name == "" {
		return newborn
	}
	return w.dir(name)
}

// described checks that an installed object is as it should be.
func described(name string, want volume.Object) func(t *testing.T, s *Store, w *world) {
	return func(t *testing.T, s *Store, w *world) {
		t.Helper()
		got, err := s.Describe(ctx, w.named(name))
		if err != nil || got.Attr.Mode != want.Attr.Mode || got.Attr.UID != want.Attr.UID || got.Attr.GID != want.Attr.GID ||
			got.Attr.Mtime != want.Attr.Mtime || len(got.Xattrs) != len(want.Xattrs) || got.Target != want.Target {
			t.Errorf("described as %+v, %v", got, err)
		}
	}
}

// places is Place; what is "" for none, "pointer" for one.
func places(dir, name, what string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error {
		p := volume.Pointer{}
		switch what {
		case "":
		case "pointer":
			p = volume.Pointer{ID: volume.ID{0: 0xfd}, Mode: unix.S_IFREG, Held: 3}
		default:
			p.ID = w.id(what)
		}
		return s.Place(ctx, w.dir(dir), name, p)
	}
}

// leads checks what a name leads to, and that just these objects have none.
func leads(dir, name, what string, nameless ...string) func(t *testing.T, s *Store, w *world) {
	return func(t *testing.T, s *Store, w *world) {
		t.Helper()
		a, err := s.Lookup(ctx, w.dir(dir), name)
		switch what {
		case "":
			if volume.ErrnoOf(err) != unix.ENOENT {
				t.Errorf("%s leads to %v, %v", name, a.ID, err)
			}
		case "pointer":
			if err != nil || a.Held != 3 {
				t.Errorf("%s leads to %+v, %v", name, a, err)
			}
		default:
			if err != nil || a.ID != w.id(what) {
				t.Errorf("%s leads to %v, %v", name, a.ID, err)
			}
		}
		got, err := s.Nameless(ctx)
		check(t, err)
		var want []volume.ID
		for _, n := range nameless {
			want = append(want, w.id(n))
		}
		slices.SortFunc(want, func(a, b volume.ID) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, want) {
			t.Errorf("nameless are %v, want %v", got, want)
		}
	}
}

func releases(name string) func(s *Store, w *world) error {
	return func(s *Store, w *world) error { return s.Release(ctx, w.id(name)) }
}

// keeping is an operation of which the primary decided.
var keeping = volume.WithFixed(ctx, volume.Fixed{Now: volume.Time{Sec: 1e9}, Keep: true})

var memberScenes = []memberScene{
	{scene: scene{"install file", nil, installs("", someFile)}, after: described("", someFile)},
	{scene: scene{"install directory", nil, installs("", someDir)}, after: described("", someDir)},
	{scene: scene{"install link", nil, installs("", someLink)}, after: described("", someLink)},
	{scene: scene{"install over file", nil, installs("a", ofID(volume.ID{}, someFile))}, after: described("a", someFile)},
	{scene: scene{"install over directory", nil, installs("d", someDir)}, after: described("d", someDir)},
	{scene: scene{"install link over file", nil, installs("a", someLink)}, gone: "a", after: described("a", someLink)},
	{scene: scene{"install file over directory", nil, installs("d", someFile)}, gone: "d f sub", after: described("d", someFile)},
	{scene: scene{"install directory over file", nil, installs("f", someDir)}, gone: "f", after: described("f", someDir)},
	{scene: scene{"place at a free name", nil, places("d", "new", "a")}, after: leads("d", "new", "a")},
	{scene: scene{"place over a file", nil, places("/", "b", "a")}, after: leads("/", "b", "a", "b")},
	{scene: scene{"place over a pointer", nil, places("/", "p", "a")}, after: leads("/", "p", "a")},
	{scene: scene{"place over a directory", nil, places("/", "d", "a")}, after: leads("/", "d", "a", "d")},
	{scene: scene{"place a pointer over a file", nil, places("/", "a", "pointer")}, after: leads("/", "a", "pointer", "a")},
	{scene: scene{"place a pointer over a pointer", nil, places("/", "p", "pointer")}, after: leads("/", "p", "pointer")},
	{scene: scene{"place a pointer over a directory", nil, places("d", "sub", "pointer")}, after: leads("d", "sub", "pointer", "sub")},
	{scene: scene{"clear a file", nil, places("d", "f", "")}, after: leads("d", "f", "", "f")},
	{scene: scene{"clear a directory", nil, places("/", "d", "")}, after: leads("/", "d", "", "d")},
	{scene: scene{"clear a pointer", nil, places("/", "p", "")}, after: leads("/", "p", "")},
	{scene: scene{"place a nameless file", during(places("/", "a", "")), places("d", "a", "a")}, after: leads("d", "a", "a")},
	{scene: scene{"place a nameless file over a file", during(places("/", "a", "")), places("/", "b", "a")}, after: leads("/", "b", "a", "b")},
	{scene: scene{"place a nameless directory", during(places("/", "d", "")), places("e", "d", "d")}, after: leads("e", "d", "d")},
	{scene: scene{"move a directory", nil, places("e", "sub", "sub")}, after: leads("e", "sub", "sub")},
	{scene: scene{"move a directory over another", nil, places("/", "e", "sub")}, after: leads("/", "e", "sub", "e")},
	{scene: scene{"move a directory over the one above", nil, places("/", "d", "sub")}, after: leads("/", "d", "sub", "d")},
	{scene: scene{"move a directory over a file", nil, places("/", "a", "d")}, after: leads("/", "a", "d", "a")},
	{scene: scene{"release a file", during(places("/", "a", "")), releases("a")}, gone: "a", after: leads("/", "a", "")},
	{scene: scene{"release an open file", during(places("/", "a", "")), then(opens("a"), releases("a"), closeAll)}, gone: "a", once: true, after: leads("/", "a", "")},
	{scene: scene{"release a directory", during(places("/", "d", "")), releases("d")}, gone: "d f sub", after: leads("/", "d", "")},
	{scene: scene{"keep at unlink", nil, func(s *Store, w *world) error { return s.Unlink(keeping, volume.Root, "a") }}, once: true, after: leads("/", "a", "", "a")},
	{scene: scene{"keep at rename", nil, func(s *Store, w *world) error {
		return s.Rename(keeping, volume.Root, "a", volume.Root, "b", 0)
	}}, once: true, after: leads("/", "b", "a", "b")},
	{scene: scene{"keep at discard", nil, func(s *Store, w *world) error { return s.Discard(keeping, volume.Root, "a", w.id("a"), key) }}, after: leads("/", "a", "", "a")},
	{scene: scene{"keep at put", nil, func(s *Store, w *world) error {
		return s.Put(keeping, volume.Root, "a", volume.Pointer{ID: w.id("b")}, w.id("a"), key)
	}}, after: leads("/", "a", "b", "a")},
	{scene: scene{"keep at purge", during(discards("a")), func(s *Store, w *world) error { return s.Purge(keeping, key) }}, after: leads("/", "a", "", "a")},
	{scene: scene{"create at a time", nil, func(s *Store, w *world) error {
		_, err := s.Make(keeping, w.id("d"), "new", volume.Node{ID: newborn, Mode: unix.S_IFREG | 0o644})
		return err
	}}, once: true, after: func(t *testing.T, s *Store, w *world) {
		for _, id := range []volume.ID{newborn, w.id("d")} {
			if a, err := s.Getattr(ctx, id); err != nil || a.Mtime.Sec != 1e9 {
				t.Errorf("%v has mtime %v, %v", id, a.Mtime, err)
			}
		}
	}},
}

// TestCrashMember stops every operation before each of its system calls, and
// the Open after it before each of its own; TestFailuresMember lets each fail.
func TestCrashMember(t *testing.T) {
	at := onMemory(t)
	for _, sc := range memberScenes {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			for n := 1; ; n++ {
				w := &world{}
				path, failed, s, err := sc.play(t, at, w, n, true, 0)
				check(t, s.Close())
				for m := 1; failed != ""; m++ {
					f := &sys.Faulty{Sys: sys.Real{}}
					f.Crash(m)
					if s, err := Open(path, Options{sys: f}); err == nil {
						check(t, s.Close())
						break
					}
				}
				s, e := Open(path, Options{})
				check(t, e)
				s.Hold()
				sc.recovered(t, s, w, err, failed == "")
				check(t, s.Close())
				fsck(t, path)
				check(t, os.RemoveAll(path))
				if t.Failed() {
					t.Fatalf("stopped before call %d, %s", n, failed)
				}
				if failed == "" {
					return
				}
			}
		})
	}
}

func TestFailuresMember(t *testing.T) {
	at := onMemory(t)
	for _, sc := range memberScenes {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			for n := 1; ; n++ {
				w := &world{}
				path, failed, s, err := sc.play(t, at, w, n, false, unix.ENOSPC)
				sc.recovered(t, s, w, err, failed == "")
				check(t, s.Close())
				again, e := Open(path, Options{})
				check(t, e)
				lookAtAll(t, again, volume.Root)
				check(t, again.Close())
				fsck(t, path)
				check(t, os.RemoveAll(path))
				if t.Failed() {
					t.Fatalf("call %d, %s, failed: %v", n, failed, err)
				}
				if failed == "" {
					return
				}
			}
		})
	}
}

// recovered proves that nothing is lost, and that the operation can be repeated.
func (sc *memberScene) recovered(t *testing.T, s *Store, w *world, err error, finished bool) {
	t.Helper()
	lookAtAll(t, s, volume.Root)
	gone := strings.Fields(sc.gone)
	for name, id := range w.ids {
		if slices.Contains(gone, name) {
			continue
		}
		if _, err := s.Describe(ctx, id); err != nil {
			t.Errorf("%s is lost: %v", name, err)
		}
	}
	if finished {
		check(t, err)
	}
	if sc.once && !finished {
		return
	}
	if !sc.once {
		if err := sc.op(s, w); err != nil {
			t.Errorf("repeated: %v", fmt.Errorf("%s: %w", sc.name, err))
		}
	}
	sc.after(t, s, w)
}
