package oplog

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// setModel is a key set in a simple way: of atoms, an extent being one for each of its blocks.
type setModel struct {
	r       *rand.Rand
	objects int
	blocks  int64
	exact   bool // the set has nothing that was not added: no limit is reached
	clock   int
	added   map[Key]int  // when an atom was last added
	durable map[Key]bool // of these: it survives a loss of power
	out     []Taken
	taken   map[Taken]int // when
}

func newSetModel(r *rand.Rand, exact bool) *setModel {
	w := &setModel{r: r, objects: 2, blocks: 200, exact: exact}
	if exact {
		w.blocks = 40
	}
	w.forget()
	return w
}

func (w *setModel) forget() {
	w.added, w.durable, w.out, w.taken = map[Key]int{}, map[Key]bool{}, nil, map[Taken]int{}
}

// atoms returns those that k covers.
func (w *setModel) atoms(k Key) []Key {
	switch k.Kind {
	case FullKey:
		var all []Key
		for o := range w.objects {
			all = append(all, objectKey(o), entryKey(o, "a"), entryKey(o, "b"))
			for b := range w.blocks {
				all = append(all, blocks(o, b, b+1))
			}
		}
		return append(all, Key{Kind: JournalKey})
	case ExtentKey:
		var all []Key
		for b := range w.blocks {
			if k.Off <= b*grain && (b+1)*grain <= k.end() {
				a := Key{Kind: ExtentKey, ID: k.ID, Off: b * grain, Len: grain}
				all = append(all, a)
			}
		}
		return all
	}
	return []Key{k}
}

// key makes a random key.
func (w *setModel) key() Key {
	o := w.r.IntN(w.objects)
	switch w.r.IntN(12) {
	case 0:
		return objectKey(o)
	case 1:
		return entryKey(o, string(rune('a'+w.r.IntN(2))))
	case 2:
		return Key{Kind: JournalKey}
	case 3:
		return blocks(o, w.r.Int64N(w.blocks), 0)
	}
	b := w.r.Int64N(w.blocks)
	return blocks(o, b, b+1+w.r.Int64N(3))
}

// step makes a random call; false: the set has failed for good.
func (w *setModel) step(t *testing.T, s *KeySet) bool {
	w.clock++
	switch w.r.IntN(10) {
	case 0, 1, 2, 3:
		var keys []Key
		for range 1 + w.r.IntN(3) {
			keys = append(keys, w.key())
		}
		stamp := s.Add(keys...)
		var atoms []Key
		for _, k := range keys {
			for _, a := range w.atoms(k) {
				w.added[a] = w.clock
				atoms = append(atoms, a)
			}
		}
		if w.r.IntN(2) == 0 {
			return w.sync(t, s, stamp, atoms)
		} else if stamp == 0 {
			w.survive(atoms)
		}
	case 4, 5:
		for _, x := range s.Take(w.r.IntN(4)) {
			w.taken[x] = w.clock
			w.out = append(w.out, x)
		}
	case 6, 7:
		w.finish(s)
	case 8:
		if !w.exact && w.r.IntN(3) == 0 {
			k := w.key()
			s.Remove(k)
			for _, a := range w.atoms(k) {
				delete(w.added, a)
				delete(w.durable, a)
			}
		}
	case 9:
		all := make([]Key, 0, len(w.added))
		for a := range w.added {
			all = append(all, a)
		}
		return w.sync(t, s, s.mu.added, all)
	}
	return true
}

func (w *setModel) survive(atoms []Key) {
	for _, a := range atoms {
		w.durable[a] = true
	}
}

func (w *setModel) sync(t *testing.T, s *KeySet, stamp Stamp, atoms []Key) bool {
	err := s.Sync(ctx, stamp)
	if volume.ErrnoOf(err) == unix.ENOSPC {
		err = s.Sync(ctx, stamp)
	}
	if err != nil {
		return false
	}
	w.survive(atoms)
	return true
}

// finish gives some of what is out back.
func (w *setModel) finish(s *KeySet) {
	var ts []Taken
	for range min(len(w.out), 1+w.r.IntN(3)) {
		i := w.r.IntN(len(w.out))
		ts = append(ts, w.out[i])
		w.out = slices.Delete(w.out, i, i+1)
	}
	if w.r.IntN(3) == 0 {
		s.Back(ts...)
		return
	}
	s.Done(ts...)
	for _, x := range ts {
		for _, a := range w.atoms(x.Key) {
			if when, ok := w.added[a]; ok && when <= w.taken[x] {
				delete(w.added, a)
				delete(w.durable, a)
			}
		}
	}
}

// compare holds the set against the model.
func (w *setModel) compare(t *testing.T, s *KeySet, crashed bool) {
	t.Helper()
	if err := s.Damage(); err != nil {
		t.Fatal(err)
	}
	for _, a := range w.atoms(Full) {
		_, added := w.added[a]
		if has := s.Has(a); !has && (w.durable[a] || added && !crashed) || has && !added && w.exact && !crashed {
			t.Fatalf("crashed %v: %v is in the set: %v; added %v, durable %v; %v", crashed, a, has, added, w.durable[a], s.Keys())
		}
	}
	if n := len(s.Keys()); n > s.Len() {
		t.Fatalf("%d keys, %d told", n, s.Len())
	}
}

// opened lets the model begin with what the set has.
func (w *setModel) opened(s *KeySet) {
	w.forget()
	for _, a := range w.atoms(Full) {
		if s.Has(a) {
			w.added[a], w.durable[a] = w.clock, true
		}
	}
}

// TestKeySetModel makes random calls, and the process is killed or loses its power at a random system call.
func TestKeySetModel(t *testing.T) {
	r := seeded(t)
	for round := range 150 {
		exact := round%2 == 0
		limit := 0
		if !exact && r.IntN(3) == 0 {
			limit = 20 + r.IntN(30)
		}
		d, w := newMemDisk(), newSetModel(r, exact)
		for range 6 {
			f := &sys.Faulty{Sys: d}
			switch r.IntN(3) {
			case 0:
				f.Crash(5 + r.IntN(60))
			case 1:
				f.Fail(5+r.IntN(60), unix.ENOSPC)
			}
			if s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: f, Limit: limit}); err == nil {
				w.opened(s)
				ok := true
				for n := r.IntN(120); n > 0 && ok; n-- {
					if ok = w.step(t, s); ok && r.IntN(10) == 0 {
						w.compare(t, s, false)
					}
				}
				if ok && r.IntN(2) == 0 {
					check(t, s.Close())
				}
			}
			if r.IntN(2) == 0 {
				d.powerLoss(r)
			} else {
				d.kill()
			}
			w.compare(t, openSet(t, d, limit), true)
			d.kill()
		}
	}
}

// TestKeySetCrash is killed before each call of a fixed course, and in the Open after it, and loses its power.
func TestKeySetCrash(t *testing.T) {
	r := seeded(t)
	for n := 1; ; n++ {
		d := newMemDisk()
		f := &sys.Faulty{Sys: d}
		f.Crash(n)
		must, may := 0, 0 // this many keys are durable; this many may be there
		if s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: f}); err == nil {
			for i := range 6 {
				may++
				if s.Sync(ctx, s.Add(objectKey(i))) != nil {
					break
				}
				must++
				if i == 3 { // a file written anew
					s.mu.c.rewrite = true
				}
			}
			s.Close()
		}
		failed := f.Failed()
		d.powerLoss(r)
		for m := 1; ; m++ {
			f.Crash(m)
			if _, err := OpenKeySet("log", "queue.m", SetOptions{Sys: f}); err == nil {
				break
			}
			d.powerLoss(r)
		}
		d.powerLoss(r)
		s := openSet(t, d, 0)
		if s.Damage() != nil || s.Len() < must || s.Len() > may {
			t.Fatalf("call %d, %s: %d keys, %d … %d are right; %v", n, failed, s.Len(), must, may, s.Damage())
		}
		if failed == "" {
			return
		}
	}
}

// TestKeySetDamaged changes single bytes in what was durable: nothing is lost in silence, but at the very end.
func TestKeySetDamaged(t *testing.T) {
	d := newMemDisk()
	s := openSet(t, d, 0)
	for n := range 20 {
		check(t, s.Sync(ctx, s.Add(objectKey(n))))
	}
	data := d.names["queue.m"].data
	last := frameHead + 1 + 8 + 1 + 1 + 16
	for at := range data {
		d := newMemDisk()
		d.names["queue.m"] = &inode{data: slices.Clone(data)}
		d.names["queue.m"].data[at] ^= 0x10
		s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: d})
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		switch {
		case at < len(data)-last && (s.Damage() == nil || !slices.Equal(s.Keys(), []Key{Full})):
			t.Fatalf("byte %d: damage %v, %v", at, s.Damage(), s.Keys())
		case at >= len(data)-last && (s.Damage() != nil || s.Len() != 19):
			t.Fatalf("byte %d: damage %v, %v", at, s.Damage(), s.Keys())
		}
		d.kill()
		if s2 := openSet(t, d, 0); s2.Len() != s.Len() || s2.Damage() != nil {
			t.Fatalf("byte %d: opened again: %v, %v", at, s2.Damage(), s2.Keys())
		}
	}
}

// TestBrokenDisk fails an fdatasync: no later one says that all is well.
func TestBrokenDisk(t *testing.T) {
	f := &sys.Faulty{Sys: newMemDisk()}
	s := openSet(t, f, 0)
	f.Fail(2, unix.EIO)
	stamp := s.Add(objectKey(1))
	if err := s.Sync(ctx, stamp); volume.ErrnoOf(err) != unix.EIO || f.Failed() != "fdatasync" {
		t.Errorf("%v, at %s", err, f.Failed())
	}
	for range 2 {
		if err := s.Sync(ctx, s.Add(objectKey(1))); volume.ErrnoOf(err) != unix.EIO || volume.ReasonOf(err) != volume.Damaged {
			t.Error(err)
		}
	}
	check(t, s.Close())
}
