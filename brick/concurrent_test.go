package brick

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestListing lists a large directory while others create, remove and rename:
// what is there throughout comes exactly once.
func TestListing(t *testing.T) {
	s := newStore(t)
	d := mkdir(t, s, volume.Root, "d")
	const stay = 20000
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < stay; i += 4 {
				if _, err := s.Make(ctx, d, fmt.Sprintf("stay-%d", i), volume.Node{Mode: unix.S_IFREG | 0o600}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var stop atomic.Bool
	for part := range 2 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				name := fmt.Sprintf("come-and-go-%d-%d", part, i%100)
				if _, err := s.Make(ctx, d, name, volume.Node{Mode: unix.S_IFREG | 0o600}); err != nil {
					t.Error(err)
					return
				}
				if err := s.Rename(ctx, d, name, d, name+"x", 0); err != nil {
					t.Error(err)
				}
				if err := s.Unlink(ctx, d, name+"x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for round := range 3 {
		seen := map[string]int{}
		var after volume.Cookie
		for end := false; !end; {
			var ents []volume.Entry
			var err error
			ents, end, err = s.ReadDir(ctx, d, after, 1+rand.IntN(3000), round == 1)
			check(t, err)
			for _, e := range ents {
				if e.Cookie < after || e.Cookie != volume.CookieOf(e.Name) {
					t.Fatalf("cookie %d of %s after %d", e.Cookie, e.Name, after)
				}
				after = e.Cookie
				seen[e.Name]++
			}
		}
		for i := range stay {
			if n := seen[fmt.Sprintf("stay-%d", i)]; n != 1 {
				t.Fatalf("round %d: stay-%d was listed %d times", round, i, n)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestSortedNames compares the chunked order with a sorted slice.
func TestSortedNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	have := map[string]bool{}
	var begin []named
	for i := range 700 {
		n := fmt.Sprint(i)
		have[n] = true
		begin = append(begin, named{volume.CookieOf(n), n})
	}
	s := newSortedNames(append(begin, begin[:5]...))
	for range 20000 {
		c := change{fmt.Sprint(rng.IntN(3000)), rng.IntN(2) == 0}
		s.apply(c)
		if have[c.name] = c.present; !c.present {
			delete(have, c.name)
		}
	}
	var want []named
	for n := range have {
		want = append(want, named{volume.CookieOf(n), n})
	}
	slices.SortFunc(want, compareNamed)
	var got []named
	var after volume.Cookie
	for end := false; !end; {
		var page []named
		page, end = s.page(after, 37)
		got = append(got, page...)
		if len(page) > 0 {
			after = page[len(page)-1].cookie
		}
	}
	if !slices.Equal(got, want) || s.n != len(want) {
		t.Errorf("%d names, %d counted, want %d", len(got), s.n, len(want))
	}
	// Equal cookies are not divided.
	s = &sortedNames{chunks: [][]named{{{5, "a"}, {7, "b"}}, {{7, "c"}, {7, "d"}}, {{9, "e"}}}, n: 5}
	if page, end := s.page(0, 2); len(page) != 4 || end {
		t.Errorf("page %v", page)
	}
	if page, end := s.page(7, 2); len(page) != 1 || !end {
		t.Errorf("page %v", page)
	}
}

// TestListingsBound: indexes beyond the bound go, and listings work all the same.
func TestListingsBound(t *testing.T) {
	s := openBrick(t, newBrick(t), Options{Listed: 50, Directories: 64})
	var dirs []volume.ID
	for i := range 100 {
		d := mkdir(t, s, volume.Root, fmt.Sprint(i))
		dirs = append(dirs, d)
		for j := range 10 {
			create(t, s, d, fmt.Sprint(j), "")
		}
	}
	for range 2 {
		for _, d := range dirs {
			ents, end, err := s.ReadDir(ctx, d, 0, 100, false)
			check(t, err)
			if len(ents) != 10 || !end {
				t.Errorf("%d entries", len(ents))
			}
		}
	}
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	if s.listings.mu.names > 60 {
		t.Errorf("%d names are kept", s.listings.mu.names)
	}
}

// TestEverythingAtOnce lets many goroutines do everything in a few directories,
// then checks the disk.
func TestEverythingAtOnce(t *testing.T) {
	path := newBrick(t)
	s := openBrick(t, path, Options{Directories: 8, Inodes: 64})
	dirs := []volume.ID{volume.Root, mkdir(t, s, volume.Root, "d1"), mkdir(t, s, volume.Root, "d2")}
	dirs = append(dirs, mkdir(t, s, dirs[1], "d3"))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			w := worker{s: s, rng: rand.New(rand.NewPCG(uint64(g), 7)), dirs: dirs, key: volume.Key{Set: volume.SetID(g + 1)}}
			for range 1500 {
				if err := w.step(); volume.ReasonOf(err) == volume.Damaged {
					t.Error(err)
				}
			}
			w.finish()
		})
	}
	wg.Wait()
	lookAtAll(t, s, volume.Root)
	check(t, s.Orphans(ctx))
	for _, k := range must(s.Discards(ctx)) {
		check(t, s.Purge(ctx, k.Key))
	}
	clean(t, s)
	check(t, s.Close())
	fsck(t, path)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type worker struct {
	s    *Store
	rng  *rand.Rand
	dirs []volume.ID
	ids  []volume.ID
	open []volume.File
	key  volume.Key
}

func (w *worker) step() error {
	s, dir, name := w.s, w.dirs[w.rng.IntN(len(w.dirs))], string('a'+rune(w.rng.IntN(6)))
	to, toName := w.dirs[w.rng.IntN(len(w.dirs))], string('a'+rune(w.rng.IntN(6)))
	// What is made has an ID that was never used, as the contract wants; an ID
	// in use for something new is refused, which other tests check.
	fresh, id := volume.NewID(2), volume.NewID(2)
	if len(w.ids) > 0 && w.rng.IntN(2) == 0 {
		id = w.ids[w.rng.IntN(len(w.ids))]
	}
	switch w.rng.IntN(14) {
	case 0, 1, 2:
		h, a, err := s.Create(ctx, dir, name, volume.Node{ID: fresh, Mode: unix.S_IFREG | 0o644}, volume.Read|volume.Write)
		if h != nil {
			w.open, w.ids = append(w.open, h), append(w.ids, a.ID)
		}
		return err
	case 3:
		a, err := s.Make(ctx, dir, name, volume.Node{ID: fresh, Mode: unix.S_IFDIR | 0o755})
		w.ids = append(w.ids, a.ID)
		return err
	case 4:
		return s.Unlink(ctx, dir, name)
	case 5:
		return s.Rmdir(ctx, dir, name)
	case 6, 7:
		return s.Rename(ctx, dir, name, to, toName, volume.RenameFlags(w.rng.IntN(3)))
	case 8:
		_, err := s.Link(ctx, id, dir, name)
		return err
	case 9:
		_, _, err := s.ReadDir(ctx, dir, 0, 100, true)
		return err
	case 10:
		a, _ := s.Lookup(ctx, dir, name)
		w.key.Intent++
		e := volume.Pointer{ID: id, Mode: unix.S_IFREG, Held: volume.SetID(w.rng.IntN(2) * 9)}
		return s.Put(ctx, dir, name, e, a.ID, w.key)
	case 11:
		a, err := s.Lookup(ctx, dir, name)
		if err == nil {
			w.key.Intent++
			err = s.Discard(ctx, dir, name, a.ID, w.key)
		}
		return err
	case 12:
		k := w.key
		k.Intent -= uint64(w.rng.IntN(4))
		if w.rng.IntN(2) == 0 {
			return s.Restore(ctx, k)
		}
		return s.Purge(ctx, k)
	}
	if len(w.open) > 3 {
		w.open[0].Close()
		w.open = w.open[1:]
	}
	_, err := s.Setattr(ctx, id, volume.Change{Mask: volume.SetMode | volume.SetMtimeNow, Mode: 0o700})
	return err
}

func (w *worker) finish() {
	for _, h := range w.open {
		h.Close()
	}
}

// TestBehindOurBack: what others do in the brick harms nothing.
func TestBehindOurBack(t *testing.T) {
	path := newBrick(t)
	s := openBrick(t, path, Options{})
	d := mkdir(t, s, volume.Root, "d")
	id := create(t, s, d, "f", "text")
	check(t, os.WriteFile(filepath.Join(path, "d", "foreign"), []byte("x"), 0o644))
	check(t, os.Mkdir(filepath.Join(path, "lost+found"), 0o700))
	_, err := s.Lookup(ctx, d, "foreign")
	wants(t, err, unix.EIO)
	_, err = s.Make(ctx, d, "foreign", volume.Node{Mode: unix.S_IFREG | 0o644})
	wants(t, err, unix.EEXIST)
	ents, _, err := s.ReadDir(ctx, d, 0, 10, true)
	check(t, err)
	if len(ents) != 1 {
		t.Errorf("listed %+v", ents)
	}
	// A copy with all attributes has the ID of the original: it is none of ours.
	run(t, "cp", "-a", filepath.Join(path, "d"), filepath.Join(path, "copy"))
	for range 2 {
		_, err = s.Lookup(ctx, volume.Root, "copy")
		wants(t, err, unix.EIO)
	}
	if got := contents(t, s, id); got != "text" {
		t.Errorf("contents %q", got)
	}
	// A directory that was moved by hand is found again where it is looked up.
	check(t, os.RemoveAll(filepath.Join(path, "copy")))
	s.Close()
	check(t, os.Rename(filepath.Join(path, "d"), filepath.Join(path, "moved")))
	s = openBrick(t, path, Options{})
	_, err = s.Getattr(ctx, d)
	wants(t, err, unix.ESTALE)
	a, err := s.Lookup(ctx, volume.Root, "moved")
	check(t, err)
	if a.ID != d {
		t.Errorf("found %s", a.ID)
	}
	_, err = s.Lookup(ctx, d, "f")
	check(t, err)
	// An index that leads elsewhere leads nowhere.
	index := filepath.Join(path, volume.Reserved, indexDir, indexPath(d))
	s.Close()
	for _, target := range []string{"/etc", "../../../../../../etc", placeTarget(d, "x"), placeTarget(volume.Root, "lost+found"), "x"} {
		check(t, os.Remove(index))
		check(t, os.Symlink(target, index))
		s := openBrick(t, path, Options{})
		_, _, err := s.ReadDir(ctx, d, 0, 10, false)
		if e := volume.ErrnoOf(err); e != unix.ESTALE && e != unix.EIO {
			t.Errorf("%s: %v", target, err)
		}
		s.Close()
	}
}
