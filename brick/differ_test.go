package brick

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// twins are a store on the disk and the model's, to which the same is done.
type twins struct {
	t     *testing.T
	path  string
	disk  *Store
	model *model.Store
	rng   *rand.Rand
	ids   []volume.ID // that were ever made
	open  [][2]volume.File
	trace []string
}

// TestDiffer does the same random operations of volume.Store on both and
// compares every answer. MORTAR_SEED repeats a run.
func TestDiffer(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("MORTAR_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	w := &twins{t: t, path: newBrick(t), model: model.NewStore(2), rng: rand.New(rand.NewPCG(seed, 1)), ids: []volume.ID{volume.Root}}
	w.disk = openBrick(t, w.path, Options{})
	t.Cleanup(func() { w.disk.Close() })
	for n := range 4000 {
		w.step()
		if n%50 == 49 {
			w.compare()
		}
		if t.Failed() {
			t.Logf("MORTAR_SEED=%d", seed)
			for _, l := range w.trace[max(0, len(w.trace)-60):] {
				t.Log(l)
			}
			return
		}
	}
}

// refusals are errors of operations on what is gone or of another type: which
// of several reasons is told is not settled by the contract.
var refusals = []unix.Errno{unix.ESTALE, unix.ENOTDIR, unix.EISDIR, unix.EPERM, unix.ELOOP, unix.ENXIO}

// both does one operation on both and compares what they say.
func (w *twins) both(what string, op func(s volume.Store) (string, error)) {
	w.t.Helper()
	got, gotErr := op(w.disk)
	want, wantErr := op(w.model)
	w.trace = append(w.trace, fmt.Sprintf("%s: %s %v", what, want, wantErr))
	if slices.Contains(refusals, volume.ErrnoOf(gotErr)) && slices.Contains(refusals, volume.ErrnoOf(wantErr)) {
		return
	}
	if volume.ErrnoOf(gotErr) != volume.ErrnoOf(wantErr) || volume.ReasonOf(gotErr) != volume.ReasonOf(wantErr) {
		w.t.Errorf("%s: the disk says %v, the model %v", what, gotErr, wantErr)
	} else if got != want {
		w.t.Errorf("%s: the disk says\n%s, the model\n%s", what, got, want)
	}
}

func (w *twins) id() volume.ID {
	if w.rng.IntN(20) == 0 {
		return volume.Root
	}
	return w.ids[max(0, len(w.ids)-1-w.rng.IntN(14))]
}

func (w *twins) fresh() volume.ID {
	id := volume.NewID(2)
	w.ids = append(w.ids, id)
	return id
}

func (w *twins) name() string { return string('a' + rune(w.rng.IntN(4))) }

func (w *twins) key() volume.Key { return volume.Key{Set: 3, Intent: uint64(w.rng.IntN(6))} }

// current returns what a name leads to in the model, mostly.
func (w *twins) current(dir volume.ID, name string) volume.ID {
	a, err := w.model.Lookup(ctx, dir, name)
	if err != nil || w.rng.IntN(8) == 0 {
		return w.id()
	}
	return a.ID
}

// plain is what both must agree on: times, sizes of directories and birth times are their own.
func plain(a volume.Attr) string {
	if a.Held != 0 {
		return fmt.Sprintf("%s→%d %o", a.ID, a.Held, a.Mode&unix.S_IFMT)
	}
	return fmt.Sprintf("%s %o nlink %d %d:%d version %d", a.ID, a.Mode, a.Nlink, a.UID, a.GID, a.Version)
}

func (w *twins) step() {
	dir, name, id, k := w.id(), w.name(), w.id(), w.key()
	what := func(op string, a ...any) string { return fmt.Sprintf("%s %s/%s %v", op, dir.String()[:6], name, a) }
	switch w.rng.IntN(16) {
	case 0, 1:
		n := volume.Node{ID: w.fresh(), Mode: []uint32{unix.S_IFREG | 0o644, unix.S_IFDIR | 0o755, unix.S_IFDIR | 0o755, unix.S_IFIFO | 0o600, unix.S_IFLNK | 0o777}[w.rng.IntN(5)]}
		if n.Mode&unix.S_IFMT == unix.S_IFLNK {
			n.Target = "t"
		}
		w.both(what("make", n.ID.String()[:6], n.Mode), func(s volume.Store) (string, error) {
			a, err := s.Make(ctx, dir, name, n)
			return plain(a), err
		})
	case 2:
		w.both(what("unlink"), func(s volume.Store) (string, error) { return "", s.Unlink(ctx, dir, name) })
	case 3:
		w.both(what("rmdir"), func(s volume.Store) (string, error) { return "", s.Rmdir(ctx, dir, name) })
	case 4, 5:
		to, toName, flags := w.id(), w.name(), volume.RenameFlags(max(0, w.rng.IntN(6)-3))
		w.both(what("rename", to.String()[:6], toName, flags), func(s volume.Store) (string, error) {
			return "", s.Rename(ctx, dir, name, to, toName, flags)
		})
	case 6:
		w.both(what("link", id.String()[:6]), func(s volume.Store) (string, error) {
			a, err := s.Link(ctx, id, dir, name)
			return plain(a), err
		})
	case 7, 8, 9:
		e := volume.Pointer{ID: id, Mode: unix.S_IFREG}
		if w.rng.IntN(2) == 0 {
			e = volume.Pointer{ID: w.ids[max(0, len(w.ids)-1-w.rng.IntN(3))], Mode: unix.S_IFREG, Held: 9}
		}
		old := volume.ID{}
		if w.rng.IntN(4) > 0 {
			old = w.current(dir, name)
		}
		w.both(what("put", e, old.String()[:6], k), func(s volume.Store) (string, error) { return "", s.Put(ctx, dir, name, e, old, k) })
	case 10:
		old := w.current(dir, name)
		w.both(what("discard", old.String()[:6], k), func(s volume.Store) (string, error) { return "", s.Discard(ctx, dir, name, old, k) })
	case 11:
		w.both(what("purge", k), func(s volume.Store) (string, error) { return "", s.Purge(ctx, k) })
	case 12:
		w.both(what("restore", k), func(s volume.Store) (string, error) { return "", s.Restore(ctx, k) })
	case 13:
		c := volume.Copy{ID: id, Mode: unix.S_IFDIR | 0o700, Version: uint64(w.rng.IntN(9)), Home: 4, UID: 1, BirthTime: volume.Time{Sec: 5}}
		if w.rng.IntN(3) == 0 {
			c.ID = w.fresh()
		}
		if w.rng.IntN(2) == 0 {
			w.both(what("copy", c.ID.String()[:6], c.Version), func(s volume.Store) (string, error) { return "", s.MakeCopy(ctx, dir, name, c) })
		} else {
			w.both(what("refresh", c.ID.String()[:6], c.Version), func(s volume.Store) (string, error) { return "", s.RefreshCopy(ctx, c) })
		}
	case 14:
		w.opens(id)
	case 15:
		if w.rng.IntN(10) == 0 {
			w.restart()
		}
	}
}

// opens opens a file on both, or closes one.
func (w *twins) opens(id volume.ID) {
	if len(w.open) > 0 && w.rng.IntN(2) == 0 {
		i := w.rng.IntN(len(w.open))
		w.trace = append(w.trace, "close "+w.open[i][0].ID().String()[:6])
		w.open[i][0].Close()
		w.open[i][1].Close()
		w.open = slices.Delete(w.open, i, i+1)
		return
	}
	var pair [2]volume.File
	w.both("open "+id.String()[:6], func(s volume.Store) (string, error) {
		h, err := s.Open(ctx, id, volume.Read)
		if err == nil {
			pair[map[bool]int{true: 0, false: 1}[s == volume.Store(w.disk)]] = h
		}
		return "", err
	})
	if pair[0] != nil && pair[1] != nil {
		w.open = append(w.open, pair)
	}
}

// restart ends both processes and starts them again.
func (w *twins) restart() {
	w.trace = append(w.trace, "restart")
	w.open = nil
	w.disk.Close()
	fsck(w.t, w.path)
	w.disk = openBrick(w.t, w.path, Options{})
	w.model.Crash()
	if w.rng.IntN(2) == 0 {
		w.both("orphans", func(s volume.Store) (string, error) { return "", s.Orphans(ctx) })
	}
}

// compare compares everything.
func (w *twins) compare() {
	w.both("discards", func(s volume.Store) (string, error) {
		d, err := s.Discards(ctx)
		return fmt.Sprintf("%+v", d), err
	})
	for _, id := range w.ids[max(0, len(w.ids)-60):] {
		w.both("getattr "+id.String()[:6], func(s volume.Store) (string, error) { a, err := s.Getattr(ctx, id); return plain(a), err })
		w.both("path "+id.String()[:6], func(s volume.Store) (string, error) {
			p, n, err := s.Path(ctx, id)
			return p.String() + n, err
		})
		w.both("empty "+id.String()[:6], func(s volume.Store) (string, error) { e, err := s.Empty(ctx, id, nil); return fmt.Sprint(e), err })
		w.both("copy of "+id.String()[:6], func(s volume.Store) (string, error) {
			c, err := s.Copy(ctx, id)
			c.BirthTime = volume.Time{}
			if id == volume.Root {
				c.Home = 0 // the map's affair
			}
			return fmt.Sprintf("%+v", c), err
		})
		w.both("list "+id.String()[:6], func(s volume.Store) (string, error) {
			ents, end, err := s.List(ctx, id, 0, 100, true, func(n string) bool { return n != "b" })
			text := fmt.Sprint(end)
			for _, e := range ents {
				text += fmt.Sprintf("\n%s %d %s %v %d %o", e.Name, e.Cookie, e.ID, e.HasAttr, e.Held, e.Mode&unix.S_IFMT)
				if e.HasAttr {
					text += " " + plain(e.Attr)
				}
			}
			return text, err
		})
	}
}
