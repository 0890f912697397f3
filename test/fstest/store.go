package fstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// StoreConfig says which store is tested.
type StoreConfig struct {
	// New returns an empty store; t.Cleanup takes it down.
	New func(t *testing.T) volume.Store
	// Restart ends a store as a crash of its process does and returns it as the
	// next start finds it. nil: the store is not restarted.
	Restart  func(t *testing.T, s volume.Store) volume.Store
	Features Features
}

// RandomStore does random operations on a store and on a model of one, those of
// volume.Store that an FS has not among them: pointers, discards, copies. IDs
// are chosen here and so are the same on both sides.
func RandomStore(t *testing.T, cfg StoreConfig, ops int) {
	seed, end := seedOf(t), time.Now().Add(soakOf(t))
	for round := uint64(0); round == 0 || time.Now().Before(end); round++ {
		w := &storeWalker{
			t: t, cfg: cfg, got: cfg.New(t), want: model.NewStore(storeSet), rng: rand.New(rand.NewPCG(seed+round, 0)),
			dirs: []volume.ID{volume.Root},
		}
		if err := w.walk(ops); err != nil {
			t.Fatalf("%s=%d: %v\nthe last operations:\n%s", seedVariable, seed+round, err, strings.Join(w.log[max(0, len(w.log)-recent):], "\n"))
		}
	}
}

// storeSet is the set of the stores under test.
const storeSet volume.SetID = 1

// storeWalker does random operations on both stores.
type storeWalker struct {
	t     *testing.T
	cfg   StoreConfig
	got   volume.Store
	want  *model.Store
	rng   *rand.Rand
	ctx   context.Context
	dirs  []volume.ID // directories that were made, the root first
	files []volume.ID // everything else
	log   []string
}

// walk does ops operations, comparing all that there is every now and then.
func (w *storeWalker) walk(ops int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	w.ctx = ctx
	for i := range ops {
		if err := w.step(); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		if i%50 != 49 {
			continue
		}
		if err := w.compare(); err != nil {
			return fmt.Errorf("after operation %d: %w", i, err)
		}
		if w.cfg.Restart != nil && w.rng.IntN(4) == 0 {
			w.note("restart")
			w.got = w.cfg.Restart(w.t, w.got)
			w.want.Crash()
			if err := w.compare(); err != nil {
				return fmt.Errorf("after a restart: %w", err)
			}
		}
	}
	return w.compare()
}

func (w *storeWalker) note(format string, a ...any) { w.log = append(w.log, fmt.Sprintf(format, a...)) }

// both does something on both stores and compares the errors.
func (w *storeWalker) both(f func(s volume.Store) error) error {
	return agree(f(w.got), f(w.want), false)
}

// either is both for what can fail in several ways at once.
func (w *storeWalker) either(f func(s volume.Store) error) error {
	return agree(f(w.got), f(w.want), true)
}

func (w *storeWalker) dir() volume.ID {
	if w.rng.IntN(3) == 0 {
		return volume.Root
	}
	return w.dirs[w.rng.IntN(len(w.dirs))]
}

func (w *storeWalker) file() volume.ID {
	if len(w.files) == 0 {
		return volume.NewID(storeSet)
	}
	return w.files[w.rng.IntN(len(w.files))]
}

func (w *storeWalker) aName() string { return alphabet[w.rng.IntN(6)] }

func (w *storeWalker) key() volume.Key {
	return volume.Key{Set: volume.SetID(1 + w.rng.IntN(2)), Intent: uint64(w.rng.IntN(4)), Part: uint8(w.rng.IntN(2))}
}

// led returns what a name leads to on the model, mostly; else some object.
func (w *storeWalker) led(dir volume.ID, name string) volume.ID {
	if a, err := w.want.Lookup(w.ctx, dir, name); err == nil && w.rng.IntN(8) > 0 {
		return a.ID
	}
	return w.file()
}

// step does one random operation.
func (w *storeWalker) step() error {
	d, name, k := w.dir(), w.aName(), w.key()
	switch n := w.rng.IntN(100); {
	case n < 10:
		id := volume.NewID(storeSet)
		w.note("create %v %q as %v", d, name, id)
		err := w.both(func(s volume.Store) error {
			_, err := s.Make(w.ctx, d, name, volume.Node{ID: id, Mode: syscall.S_IFREG | 0o644})
			return err
		})
		w.files = append(w.files, id)
		return err
	case n < 16:
		id := volume.NewID(storeSet)
		w.note("mkdir %v %q as %v", d, name, id)
		w.dirs = append(w.dirs, id)
		return w.both(func(s volume.Store) error {
			_, err := s.Make(w.ctx, d, name, volume.Node{ID: id, Mode: syscall.S_IFDIR | 0o755})
			return err
		})
	case n < 42:
		return w.put(d, name, k)
	case n < 52:
		id := w.led(d, name)
		w.note("discard %v %q of %v as %v", d, name, id, k)
		return w.either(func(s volume.Store) error { return s.Discard(w.ctx, d, name, id, k) })
	case n < 62:
		w.note("purge %v", k)
		return w.both(func(s volume.Store) error { return s.Purge(w.ctx, k) })
	case n < 68:
		w.note("restore %v", k)
		return w.both(func(s volume.Store) error { return s.Restore(w.ctx, k) })
	case n < 76:
		return w.rename(d, name)
	case n < 82:
		w.note("unlink %v %q", d, name)
		return w.both(func(s volume.Store) error { return s.Unlink(w.ctx, d, name) })
	case n < 85:
		w.note("rmdir %v %q", d, name)
		return w.both(func(s volume.Store) error { return s.Rmdir(w.ctx, d, name) })
	case n < 90:
		return w.create(d, name)
	case n < 93:
		id := w.file()
		w.note("link %v as %v %q", id, d, name)
		return w.either(func(s volume.Store) error { _, err := s.Link(w.ctx, id, d, name); return err })
	default:
		return w.copy(d, name)
	}
}

// put makes a name lead to a pointer or an object that is here.
func (w *storeWalker) put(d volume.ID, name string, k volume.Key) error {
	e := volume.Pointer{ID: w.file()}
	switch w.rng.IntN(4) {
	case 0:
		e = volume.Pointer{ID: volume.NewID(2), Mode: syscall.S_IFREG, Held: 2}
		w.files = append(w.files, e.ID)
	case 1: // an object lies on one set only, so never one of this
		if id := w.file(); id.Born() != storeSet {
			e = volume.Pointer{ID: id, Mode: syscall.S_IFREG, Held: id.Born()}
		}
	}
	var old volume.ID
	if w.rng.IntN(3) > 0 {
		old = w.led(d, name)
	}
	w.note("put %v %q → %+v instead of %v as %v", d, name, e, old, k)
	return w.either(func(s volume.Store) error { return s.Put(w.ctx, d, name, e, old, k) })
}

// rename renames, but not one pointer onto another of the same object: whether
// a store takes them for two names of one object or for two entries does not
// show, since owners handle names with pointers themselves.
func (w *storeWalker) rename(d volume.ID, name string) error {
	d2, name2, f := w.dir(), w.aName(), []volume.RenameFlags{0, 0, volume.RenameNoReplace, volume.RenameExchange}[w.rng.IntN(4)]
	a, _ := w.want.Lookup(w.ctx, d, name)
	b, _ := w.want.Lookup(w.ctx, d2, name2)
	if a.Held != 0 && a.ID == b.ID {
		return nil
	}
	w.note("rename %v %q to %v %q flags %d", d, name, d2, name2, f)
	return w.either(func(s volume.Store) error { return s.Rename(w.ctx, d, name, d2, name2, f) })
}

// create opens or makes a file; on a pointer nothing happens.
func (w *storeWalker) create(d volume.ID, name string) error {
	n, flags := volume.Node{ID: volume.NewID(storeSet), Mode: syscall.S_IFREG | 0o644}, volume.Write
	if w.rng.IntN(2) == 0 {
		flags |= volume.Excl
	}
	w.note("open %v %q as %v flags %b", d, name, n.ID, flags)
	w.files = append(w.files, n.ID)
	f, a, got := w.got.Create(w.ctx, d, name, n, flags)
	g, b, want := w.want.Create(w.ctx, d, name, n, flags)
	if err := agree(got, want, false); err != nil || got != nil {
		return err
	}
	if a.ID != b.ID || a.Held != b.Held || a.Type() != b.Type() || (f == nil) != (g == nil) {
		return fmt.Errorf("got %+v (open: %v), want %+v (open: %v)", a, f != nil, b, g != nil)
	}
	if f == nil {
		return nil
	}
	return agree(f.Close(), g.Close(), false)
}

// copy makes or refreshes a directory's copy.
func (w *storeWalker) copy(d volume.ID, name string) error {
	c := volume.Copy{
		ID: volume.NewID(2), Mode: syscall.S_IFDIR | uint32(w.rng.IntN(0o1000)), UID: uint32(w.rng.IntN(3)), GID: uint32(w.rng.IntN(3)),
		Version: uint64(1 + w.rng.IntN(5)), Home: 2, BirthTime: volume.Time{Sec: 1e9 + int64(w.rng.IntN(1e6)), Nsec: 7},
	}
	if w.rng.IntN(3) == 0 && !w.cfg.Features.NoACL {
		c.Default = named(7, 5, 5, 7, 0)
	}
	switch w.rng.IntN(3) {
	case 0:
		w.dirs = append(w.dirs, c.ID)
	case 1:
		c.ID = w.dirs[w.rng.IntN(len(w.dirs))]
	default:
		c.ID = w.dirs[1%len(w.dirs):][w.rng.IntN(max(1, len(w.dirs)-1))]
		w.note("refresh %+v", c)
		return w.both(func(s volume.Store) error { return s.RefreshCopy(w.ctx, c) })
	}
	w.note("make copy %v %q: %+v", d, name, c)
	return w.either(func(s volume.Store) error { return s.MakeCopy(w.ctx, d, name, c) })
}

// compare compares all that both stores say of everything ever made.
func (w *storeWalker) compare() error {
	xs, got := w.got.Discards(w.ctx)
	ys, want := w.want.Discards(w.ctx)
	if err := agree(got, want, false); err != nil {
		return err
	}
	byKey := func(a, b volume.Discarded) int { return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) }
	slices.SortFunc(xs, byKey)
	slices.SortFunc(ys, byKey)
	if !slices.Equal(xs, ys) {
		return fmt.Errorf("got discards %+v, want %+v", xs, ys)
	}
	for _, id := range w.files {
		if err := w.compareObject(id); err != nil {
			return fmt.Errorf("object %v: %w", id, err)
		}
	}
	for _, id := range w.dirs {
		if err := w.compareDirectory(id); err != nil {
			return fmt.Errorf("directory %v: %w", id, err)
		}
	}
	return nil
}

func (w *storeWalker) compareObject(id volume.ID) error {
	a, got := w.got.Getattr(w.ctx, id)
	b, want := w.want.Getattr(w.ctx, id)
	if err := agree(got, want, false); err != nil || got != nil {
		return err
	}
	if w.cfg.Features.NoDirNlink && b.IsDir() {
		a.Nlink = b.Nlink
	}
	if a.ID != b.ID || a.Mode != b.Mode || a.Nlink != b.Nlink || a.UID != b.UID || a.GID != b.GID || a.Version != b.Version {
		return fmt.Errorf("got %+v, want %+v", a, b)
	}
	return nil
}

func (w *storeWalker) compareDirectory(id volume.ID) error {
	if err := w.compareObject(id); err != nil {
		return err
	}
	keep := func(name string) bool { return name != "b" }
	xs, end, got := w.got.List(w.ctx, id, 0, volume.ReadDirMax, false, keep)
	ys, _, want := w.want.List(w.ctx, id, 0, volume.ReadDirMax, false, keep)
	if err := agree(got, want, false); err != nil || got != nil {
		return err
	}
	plain := func(es []volume.Entry) string {
		var all strings.Builder
		for _, x := range es {
			fmt.Fprintf(&all, " %q→%v %s %d", x.Name, x.ID, typeName(x.Mode), x.Held)
		}
		return all.String()
	}
	if a, b := plain(xs), plain(ys); !end || a != b {
		return fmt.Errorf("got entries (end %v)\n%s\nwant\n%s", end, a, b)
	}
	e, got := w.got.Empty(w.ctx, id, nil)
	f, want := w.want.Empty(w.ctx, id, nil)
	if got != nil || want != nil || e != f {
		return fmt.Errorf("got empty %v, %v; want %v, %v", e, got, f, want)
	}
	c, got := w.got.Copy(w.ctx, id)
	d, want := w.want.Copy(w.ctx, id)
	if got != nil || want != nil {
		return agree(got, want, false)
	}
	if c.ID != d.ID || c.Mode != d.Mode || c.UID != d.UID || c.GID != d.GID || c.Version != d.Version || c.Home != d.Home ||
		string(c.ACL) != string(d.ACL) || string(c.Default) != string(d.Default) {
		return fmt.Errorf("got copy %+v, want %+v", c, d)
	}
	p, n, got := w.got.Path(w.ctx, id)
	q, m, want := w.want.Path(w.ctx, id)
	if err := agree(got, want, false); err != nil || got == nil && (p != q || n != m) {
		return fmt.Errorf("got path %v %q %v, want %v %q %v", p, n, got, q, m, want)
	}
	return nil
}
