package set

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
)

// walker makes random changes at a scene's source.
type healWalker struct {
	*scene
	rng   *rand.Rand
	dirs  []volume.ID
	files []volume.ID
	open  map[volume.ID]volume.File
	serve uint64 // number of the last intent
	log   []string
}

func newHealWalker(s *scene, rng *rand.Rand) *healWalker {
	return &healWalker{scene: s, rng: rng, dirs: []volume.ID{volume.Root}, open: map[volume.ID]volume.File{}}
}

func (w *healWalker) dir() volume.ID  { return w.dirs[w.rng.IntN(len(w.dirs))] }
func (w *healWalker) name() string    { return string(rune('a' + w.rng.IntN(5))) }
func (w *healWalker) file() volume.ID { return w.files[w.rng.IntN(len(w.files))] }

// at returns what a name leads to, the zero ID for nothing.
func (w *healWalker) at(dir volume.ID, name string) volume.Attr {
	a, err := w.source.Lookup(w.ctx, dir, name)
	if err != nil {
		return volume.Attr{}
	}
	return a
}

// change makes one and logs it. That it fails as a client's may is no matter.
func (w *healWalker) change(c *change) bool {
	_, err := w.do(c)
	w.log = append(w.log, fmt.Sprintf("%v node %v to %v/%q old %v keep %v: %v", c, c.node.ID, c.dir2, c.name2, c.old, c.keep, err))
	if volume.ErrnoOf(err) == syscall.EIO {
		w.t.Errorf("%v: %v", c, err)
	}
	return err == nil
}

// keeps reports whether an object is open.
func (w *healWalker) keeps(id volume.ID) bool { return w.open[id] != nil }

func (w *healWalker) step() {
	d, n := w.dir(), w.name()
	there := w.at(d, n)
	switch k := w.rng.IntN(22); {
	case k < 4:
		mode := []uint32{syscall.S_IFREG | 0o640, syscall.S_IFDIR | 0o750, syscall.S_IFLNK | 0o777}[w.rng.IntN(3)]
		node := volume.Node{ID: volume.NewID(testSet), Mode: mode}
		if mode&syscall.S_IFMT == syscall.S_IFLNK {
			node.Target = n + "/target"
		}
		c := &change{kind: doMake, dir: d, name: n, node: node}
		if mode&syscall.S_IFMT == syscall.S_IFREG && w.rng.IntN(2) == 0 {
			c.data = noise(w.rng, w.rng.IntN(60<<10))
			c.len = int64(len(c.data))
			c.set = volume.Change{Mask: volume.SetMtime | volume.SetMode, Mode: 0o4711, Mtime: volume.Time{Sec: w.rng.Int64N(1e9)}}
		}
		if w.change(c) {
			switch mode & syscall.S_IFMT {
			case syscall.S_IFDIR:
				w.dirs = append(w.dirs, node.ID)
			case syscall.S_IFREG:
				w.files = append(w.files, node.ID)
			}
		}
	case k < 9:
		w.fileStep()
	case k < 12: // also directories into others, over files, onto themselves
		d2, n2 := w.dir(), w.name()
		old := w.at(d2, n2)
		flags := volume.RenameFlags(w.rng.IntN(3))
		if !there.ID.IsZero() {
			w.change(&change{kind: doRename, id: there.ID, old: old.ID, dir: d, name: n, dir2: d2, name2: n2, flags: uint32(flags), keep: w.keeps(old.ID) || w.keeps(there.ID)})
		}
	case k < 13:
		w.change(&change{kind: doUnlink, dir: d, name: n, id: there.ID, keep: w.keeps(there.ID)})
	case k < 14:
		w.change(&change{kind: doRmdir, dir: d, name: n, id: there.ID})
	case k < 15 && len(w.files) > 0:
		w.change(&change{kind: doLink, id: w.file(), dir: d, name: n})
	case k < 16:
		w.change(&change{kind: doSetattr, id: d, set: volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o700 + w.rng.Uint32N(64), Mtime: volume.Time{Sec: w.rng.Int64N(1e9)}}})
	case k < 17:
		w.change(&change{kind: doPut, dir: d, name: n, ptr: volume.Pointer{ID: volume.NewID(9), Mode: syscall.S_IFREG, Held: 9}, old: there.ID, key: w.intent(), keep: w.keeps(there.ID)})
	case k < 19:
		w.change(&change{kind: doDiscard, dir: d, name: n, id: there.ID, key: w.intent(), keep: w.keeps(there.ID)})
	case k < 21:
		w.discardStep()
	default:
		w.change(&change{kind: doJournal, value: noise(w.rng, 1+w.rng.IntN(2000))})
	}
}

func (w *healWalker) intent() volume.Key {
	w.serve++
	return volume.Key{Set: testSet, Intent: w.serve, Part: uint8(w.serve)}
}

// fileStep changes a file, opens it or closes it.
func (w *healWalker) fileStep() {
	if len(w.files) == 0 {
		return
	}
	id := w.file()
	off := w.rng.Int64N(300 << 10)
	switch w.rng.IntN(8) {
	case 0:
		w.change(&change{kind: doSetattr, id: id, set: volume.Change{Mask: volume.SetSize, Size: off}})
	case 1:
		w.change(&change{kind: doSetxattr, id: id, name: "user." + w.name(), value: noise(w.rng, w.rng.IntN(50))})
	case 2:
		w.change(&change{kind: doAllocate, id: id, flags: volume.AllocPunchHole | volume.AllocKeepSize, off: off, len: 1 + w.rng.Int64N(90<<10)})
	case 3:
		if f, err := w.source.Open(w.ctx, id, volume.Read|volume.Write); err == nil {
			if w.keeps(id) {
				f.Close()
			} else {
				w.open[id] = f
			}
		}
	case 4:
		w.close(id)
	default:
		p := noise(w.rng, 1+w.rng.IntN(20<<10))
		w.change(&change{kind: doWrite, id: id, off: off, len: int64(len(p)), data: p})
	}
}

// close closes a file; without a name it goes.
func (w *healWalker) close(id volume.ID) {
	f := w.open[id]
	if f == nil {
		return
	}
	delete(w.open, id)
	w.files2(id)
	must(w.t, f.Close())
	w.change(&change{kind: doRelease, id: id})
}

// files2 closes what the changes had open of an object.
func (w *healWalker) files2(id volume.ID) { w.scene.files.drop(id) }

// discardStep purges or restores a discard.
func (w *healWalker) discardStep() {
	ds, err := w.source.Discards(w.ctx)
	must(w.t, err)
	if len(ds) == 0 {
		return
	}
	d := ds[w.rng.IntN(len(ds))]
	id := local(d.Pointer)
	if w.rng.IntN(2) == 0 || !w.at(d.Dir, d.Name).ID.IsZero() {
		w.change(&change{kind: doPurge, id: id, key: d.Key})
		return
	}
	w.change(&change{kind: doRestore, id: id, dir: d.Dir, name: d.Name, key: d.Key})
}

func (w *healWalker) end() {
	for id := range w.open {
		w.close(id)
	}
}

// eachScene runs a test on members in memory, many times, and on bricks.
func eachScene(t *testing.T, rounds int, f func(t *testing.T, s *scene, rng *rand.Rand)) {
	seed := testSeed(t)
	t.Run("model", func(t *testing.T) {
		for i := range rounds {
			if f(t, modelScene(t), rand.New(rand.NewPCG(seed, uint64(i)))); t.Failed() {
				t.Fatalf("round %d of seed %d", i, seed)
			}
		}
	})
	t.Run("brick", func(t *testing.T) {
		for i := range max(rounds/20, 1) {
			if f(t, newScene(t), rand.New(rand.NewPCG(seed, uint64(i)))); t.Failed() {
				t.Fatalf("round %d of seed %d", i, seed)
			}
		}
	})
}

// settleScene drains until nothing is left, and compares.
func (w *healWalker) settleScene(tries int) {
	w.t.Helper()
	var left int
	var err error
	for range tries {
		if left, err = w.h.Drain(w.ctx); err == nil && left == 0 {
			break
		}
	}
	w.scene.files.close()
	d := differences(w.ctx, w.source, w.target)
	if err != nil || left > 0 || len(d) > 0 {
		last := w.log[max(0, len(w.log)-60):]
		if len(d) > 0 { // rather those that are about the objects that differ
			ids := regexp.MustCompile("[0-9a-f]{28}0001").FindAllString(join(d), -1)
			last = slices.DeleteFunc(slices.Clone(w.log), func(l string) bool {
				return !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(l, id) })
			})
		}
		w.t.Fatalf("%d keys left: %v\n%d differences, the first:\n%s\nthe last changes:\n%s", left, err, len(d), join(d[:min(len(d), 10)]), join(last))
	}
}

// TestHealRandom makes random changes and heals them, again and again.
func TestHealRandom(t *testing.T) {
	eachScene(t, 100, func(t *testing.T, s *scene, rng *rand.Rand) {
		w := newHealWalker(s, rng)
		defer w.end()
		for range 4 {
			for range 1 + rng.IntN(150) {
				w.step()
			}
			w.keys.shuffle(rng)
			w.settleScene(1)
		}
	})
}

// TestHealConcurrent heals while changes go on.
func TestHealConcurrent(t *testing.T) {
	eachScene(t, 40, func(t *testing.T, s *scene, rng *rand.Rand) {
		w := newHealWalker(s, rng)
		defer w.end()
		for range 50 {
			w.step()
		}
		full := rng.IntN(2) == 0
		if full { // what is to be healed is not known
			w.keys.gens = map[Key]uint64{}
			must(t, w.keys.Add([]Key{{Kind: FullKey}}))
		}
		var wg sync.WaitGroup
		var stop atomic.Bool
		wg.Go(func() {
			for i := 0; i < 400 && !stop.Load(); i++ {
				w.step()
			}
		})
		for range 8 {
			if _, err := s.h.Drain(s.ctx); err != nil && !expected(err) {
				t.Error(err)
			}
		}
		stop.Store(true)
		wg.Wait()
		w.settleScene(1)
	})
}

// expected reports whether a key may fail so while changes go on: it stays queued.
func expected(err error) bool { return volume.ErrnoOf(err) == syscall.EAGAIN }

// TestHealCrash ends the target at random calls, before or after they took
// effect, and heals on with what keys are left.
func TestHealCrash(t *testing.T) {
	eachScene(t, 60, func(t *testing.T, s *scene, rng *rand.Rand) {
		w := newHealWalker(s, rng)
		defer w.end()
		for range 3 {
			for range 100 {
				w.step()
			}
			if rng.IntN(3) == 0 {
				must(t, w.keys.Add([]Key{{Kind: FullKey}}))
			}
			for i := 1; w.crash(1 + rng.IntN(40*i)); i++ {
			}
			w.settleScene(1)
		}
	})
}

var errCrash = &volume.Error{Op: "call", Errno: syscall.EIO, Reason: volume.Unavailable, Err: errors.New("the target has ended")}

// crash heals until n more calls were made, ends the target and starts it
// again. It reports false if all was healed before.
func (w *healWalker) crash(n int) bool {
	w.t.Helper()
	left := n
	w.peer.fail = func() error {
		w.peer.mu.Lock()
		defer w.peer.mu.Unlock()
		if left--; left < 0 {
			return errCrash
		}
		return nil
	}
	rest, err := w.h.Drain(w.ctx)
	if err == nil && rest == 0 {
		w.peer.fail = nil
		return false
	}
	if volume.ReasonOf(err) != volume.Unavailable {
		w.t.Fatalf("%d keys left: %v\n%s", rest, err, join(w.log[max(0, len(w.log)-60):]))
	}
	w.peer.files.close()
	switch m := w.target.(type) {
	case interface{ Crash() }:
		m.Crash()
	case *brick.Store:
		must(w.t, m.Close())
		w.target = openMember(w.t, w.path)
	}
	w.connect()
	return true
}
