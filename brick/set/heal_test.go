package set

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestHealShapes heals changes of all shapes, and looks that nothing is copied that need not be.
func TestHealShapes(t *testing.T) {
	big := bytes.Repeat([]byte("big!"), 300<<10) // larger than birthMax
	for _, c := range []struct {
		name   string
		before func(s *scene) // healed
		change func(s *scene)
		copied int64 // bytes at most; -1: any number
	}{
		{"create", nil, func(s *scene) {
			d := s.mkdir(volume.Root, "d")
			s.create(d, "empty", nil)
			s.create(d, "small", []byte("hello"))
			s.create(d, "big", big)
		}, -1},
		{"all types", nil, func(s *scene) {
			for i, mode := range []uint32{syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFCHR, syscall.S_IFBLK} {
				s.must(&change{kind: doMake, dir: volume.Root, name: fmt.Sprint(i), node: volume.Node{ID: volume.NewID(testSet), Mode: mode | 0o604, Rdev: 0x103}})
			}
			s.must(&change{kind: doMake, dir: volume.Root, name: "link", node: volume.Node{ID: volume.NewID(testSet), Mode: syscall.S_IFLNK | 0o777, Target: "x/y"}})
		}, 0},
		{"rename", func(s *scene) {
			d := s.mkdir(volume.Root, "d")
			s.create(d, "big", big)
		}, func(s *scene) {
			d := s.id(volume.Root, "d")
			e := s.mkdir(volume.Root, "e")
			s.rename(s.id(d, "big"), d, "big", e, "other", volume.ID{}, 0)
		}, 0},
		{"directory renamed", func(s *scene) {
			d := s.mkdir(s.mkdir(volume.Root, "c"), "d")
			s.create(d, "big", big)
		}, func(s *scene) {
			c := s.id(volume.Root, "c")
			s.rename(s.id(c, "d"), c, "d", volume.Root, "e", volume.ID{}, 0)
			s.must(&change{kind: doRmdir, dir: volume.Root, name: "c", id: c})
		}, 0},
		{"changed places", func(s *scene) {
			a := s.mkdir(volume.Root, "a")
			b := s.mkdir(a, "b")
			s.create(b, "big", big)
		}, func(s *scene) { // a/b becomes b/a
			a := s.id(volume.Root, "a")
			b := s.id(a, "b")
			s.rename(b, a, "b", volume.Root, "b", volume.ID{}, 0)
			s.rename(a, volume.Root, "a", b, "a", volume.ID{}, 0)
		}, 0},
		{"changed names", func(s *scene) {
			a := s.mkdir(volume.Root, "a")
			s.create(a, "big", big)
			s.mkdir(s.mkdir(a, "b"), "c")
		}, func(s *scene) { // a/b/c becomes a/b/c upside down: c/b/a under the old names
			a := s.id(volume.Root, "a")
			b := s.id(a, "b")
			c := s.id(b, "c")
			s.rename(c, b, "c", volume.Root, "x", volume.ID{}, 0)
			s.rename(b, a, "b", c, "b", volume.ID{}, 0)
			s.rename(a, volume.Root, "a", b, "c", volume.ID{}, 0)
			s.rename(c, volume.Root, "x", volume.Root, "a", volume.ID{}, 0)
		}, 0},
		{"exchange", func(s *scene) {
			d := s.mkdir(volume.Root, "d")
			s.create(d, "f", []byte("below"))
			s.create(volume.Root, "big", big)
		}, func(s *scene) {
			s.rename(s.id(volume.Root, "d"), volume.Root, "d", volume.Root, "big", s.id(volume.Root, "big"), volume.RenameExchange)
		}, 0},
		{"file to directory", func(s *scene) { s.create(volume.Root, "x", big) }, func(s *scene) {
			s.must(&change{kind: doUnlink, dir: volume.Root, name: "x", id: s.id(volume.Root, "x")})
			s.create(s.mkdir(volume.Root, "x"), "f", []byte("1"))
		}, 1},
		{"directory to file", func(s *scene) { s.create(s.mkdir(volume.Root, "x"), "f", []byte("1")) }, func(s *scene) {
			x := s.id(volume.Root, "x")
			s.must(&change{kind: doUnlink, dir: x, name: "f", id: s.id(x, "f")})
			s.must(&change{kind: doRmdir, dir: volume.Root, name: "x", id: x})
			s.create(volume.Root, "x", []byte("2"))
		}, 1},
		{"hard links", func(s *scene) { s.create(volume.Root, "a", big) }, func(s *scene) {
			a := s.id(volume.Root, "a")
			d := s.mkdir(volume.Root, "d")
			s.must(&change{kind: doLink, id: a, dir: d, name: "b"})
			s.must(&change{kind: doLink, id: a, dir: d, name: "c"})
			s.must(&change{kind: doUnlink, id: a, dir: volume.Root, name: "a"})
			n := s.create(d, "new", []byte("new"))
			s.must(&change{kind: doLink, id: n, dir: volume.Root, name: "new"})
		}, 6},
		{"attributes", func(s *scene) { s.create(volume.Root, "a", []byte("a")); s.mkdir(volume.Root, "d") }, func(s *scene) {
			for _, n := range []string{"a", "d"} {
				id := s.id(volume.Root, n)
				s.must(&change{kind: doSetxattr, id: id, name: "user.x", value: []byte("value")})
				s.must(&change{kind: doSetattr, id: id, set: volume.Change{Mask: volume.SetMode | volume.SetUID | volume.SetMtime, Mode: 0o2751, UID: 12, Mtime: volume.Time{Sec: 5, Nsec: 6}}})
			}
		}, 0},
		{"pointers", func(s *scene) { s.create(volume.Root, "f", []byte("f")) }, func(s *scene) {
			p := volume.Pointer{ID: volume.NewID(2), Mode: syscall.S_IFREG, Held: 2}
			s.must(&change{kind: doPut, dir: volume.Root, name: "p", ptr: p})
			s.must(&change{kind: doPut, dir: volume.Root, name: "f", ptr: p, old: s.id(volume.Root, "f"), key: volume.Key{Set: 1, Intent: 3}})
			s.must(&change{kind: doPurge, key: volume.Key{Set: 1, Intent: 3}})
		}, 0},
		{"directory that came and went", nil, func(s *scene) {
			d := s.mkdir(volume.Root, "d")
			f := s.create(d, "f", []byte("x"))
			s.must(&change{kind: doUnlink, dir: d, name: "f", id: f})
			s.must(&change{kind: doRmdir, dir: volume.Root, name: "d", id: d})
		}, 0},
		{"journal", func(s *scene) { s.must(&change{kind: doJournal, value: []byte("one")}) }, func(s *scene) {
			s.must(&change{kind: doJournal, value: bytes.Repeat([]byte("two"), 20000)})
		}, 60004},
		{"journal rewritten", func(s *scene) { s.must(&change{kind: doJournal, value: []byte("one")}) }, func(s *scene) {
			s.must(&change{kind: doJournalRewrite, data: packRecords([][]byte{[]byte("three"), []byte("four")})})
		}, -1},
		{"discards", func(s *scene) {
			s.create(volume.Root, "f", []byte("f"))
			s.create(volume.Root, "g", []byte("g"))
			s.mkdir(volume.Root, "d")
		}, func(s *scene) {
			for i, n := range []string{"f", "g", "d"} {
				s.must(&change{kind: doDiscard, dir: volume.Root, name: n, id: s.id(volume.Root, n), key: volume.Key{Set: 1, Intent: 9, Part: uint8(i)}})
			}
			s.create(volume.Root, "f", []byte("another"))
			s.must(&change{kind: doRestore, dir: volume.Root, name: "g", key: volume.Key{Set: 1, Intent: 9, Part: 1}})
		}, 7},
		{"discards that came back", func(s *scene) {
			s.create(volume.Root, "f", big)
			s.mkdir(volume.Root, "d")
			for i, n := range []string{"f", "d"} {
				s.must(&change{kind: doDiscard, dir: volume.Root, name: n, id: s.id(volume.Root, n), key: volume.Key{Set: 1, Intent: 9, Part: uint8(i)}})
			}
		}, func(s *scene) {
			for i, n := range []string{"f", "d"} {
				s.must(&change{kind: doRestore, dir: volume.Root, name: n, key: volume.Key{Set: 1, Intent: 9, Part: uint8(i)}})
			}
		}, 0},
		{"new discards", nil, func(s *scene) {
			s.create(volume.Root, "f", []byte("f"))
			s.mkdir(volume.Root, "d")
			for i, n := range []string{"f", "d"} {
				s.must(&change{kind: doDiscard, dir: volume.Root, name: n, id: s.id(volume.Root, n), key: volume.Key{Set: 1, Intent: 9, Part: uint8(i)}})
			}
		}, -1},
		{"open without a name", func(s *scene) { s.create(volume.Root, "f", big) }, func(s *scene) {
			for _, n := range []string{"f", "g"} {
				if n == "g" {
					s.create(volume.Root, n, []byte("new"))
				}
				f, err := s.source.Open(s.ctx, s.id(volume.Root, n), volume.Write)
				must(s.t, err)
				s.t.Cleanup(func() { f.Close() })
				s.must(&change{kind: doUnlink, dir: volume.Root, name: n, id: f.ID(), keep: true})
				s.write(f.ID(), 5, []byte("changed"))
			}
		}, blockSize + 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			for round := range uint64(4) {
				s := newScene(t)
				if round > 0 {
					s = modelScene(t)
				}
				if c.before != nil {
					c.before(s)
				}
				s.heal()
				c.change(s)
				if round > 1 {
					s.keys.shuffle(rand.New(rand.NewPCG(round, 0)))
				}
				before := s.h.Progress().Copied
				s.heal()
				if n := s.h.Progress().Copied - before; c.copied >= 0 && n > c.copied {
					t.Errorf("%d bytes were copied, more than %d", n, c.copied)
				}
			}
		})
	}
}

// id is the object that a name leads to at the source.
func (s *scene) id(dir volume.ID, name string) volume.ID {
	s.t.Helper()
	a, err := s.source.Lookup(s.ctx, dir, name)
	must(s.t, err)
	return a.ID
}

// TestHealBlocks changes a part of a large, partly sparse file.
func TestHealBlocks(t *testing.T) {
	const size = 64 << 20
	s := newScene(t)
	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	id := s.create(volume.Root, "f", noise(rng, size/2))
	s.write(id, size-10, []byte("the end...")) // a hole before it
	s.heal()
	if n := s.h.Progress().Copied; n > size/2+2*chunkSize {
		t.Errorf("%d bytes copied of a file of %d with data", n, size/2)
	}
	o, err := s.target.Getattr(s.ctx, id)
	must(t, err)
	if o.Blocks*512 > size/2+4*chunkSize {
		t.Errorf("the hole was filled: %d bytes in use", o.Blocks*512)
	}
	before := s.h.Progress().Copied
	s.write(id, 3*chunkSize+777, noise(rng, 64<<10))
	s.must(&change{kind: doAllocate, id: id, flags: volume.AllocPunchHole | volume.AllocKeepSize, off: 5 * chunkSize, len: 3 * chunkSize})
	s.must(&change{kind: doSetattr, id: id, set: volume.Change{Mask: volume.SetSize, Size: size - 5*chunkSize}})
	s.heal()
	if n := s.h.Progress().Copied - before; n > 64<<10+2*blockSize {
		t.Errorf("%d bytes copied for 64 KiB changed", n)
	}
	// The queue was lost: everything is compared.
	s.write(id, 9*chunkSize+5, noise(rng, 10))
	s.keys.gens = map[Key]uint64{}
	must(t, s.keys.Add([]Key{{Kind: FullKey}}))
	before = s.h.Progress().Copied
	s.heal()
	if n := s.h.Progress().Copied - before; n > 2*blockSize {
		t.Errorf("%d bytes copied for 10 changed", n)
	}
}

// TestHealMany heals many small files.
func TestHealMany(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	s := newScene(t)
	var dirs []volume.ID
	for i := range 10 {
		dirs = append(dirs, s.mkdir(volume.Root, fmt.Sprint(i)))
	}
	for i := range n {
		s.create(dirs[i%10], fmt.Sprint("file", i), []byte("the contents of a small file"))
	}
	begin, calls := time.Now(), s.peer.total()
	s.heal()
	took := time.Since(begin)
	t.Logf("%d files, %d keys in %v, %d calls", n, s.h.Progress().Keys, took, s.peer.total()-calls)
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestRefusedIsNotHealed has the target refuse some messages of a primary, as one does that is just trying to become the primary itself, and obey
// again: either healing says that it did not come to its end, or the members are equal.
func TestRefusedIsNotHealed(t *testing.T) {
	for _, partial := range []bool{false, true} {
		for _, refusal := range []error{outdated(7, 8), &volume.Error{Op: "member", Errno: syscall.ESTALE, Reason: volume.Outdated}} {
			for first := 1; ; first++ {
				s := modelScene(t)
				dir, gone := s.mkdir(volume.Root, "d"), s.mkdir(volume.Root, "gone")
				a, b := s.create(dir, "a", noise(rand.New(rand.NewPCG(1, 1)), 50_000)), s.create(gone, "b", []byte("b"))
				s.heal()
				s.write(a, 20_000, []byte("new"))
				s.must(&change{kind: doSetattr, id: a, set: volume.Change{Mask: volume.SetMode, Mode: 0o600}})
				s.rename(b, gone, "b", dir, "c", volume.ID{}, 0)
				s.must(&change{kind: doRmdir, dir: volume.Root, name: "gone", id: gone})
				s.create(s.mkdir(dir, "e"), "f", []byte("f"))
				s.h.partial = partial
				calls := 0
				s.peer.fail = func() error {
					if calls++; calls >= first && calls < first+3 {
						return refusal
					}
					return nil
				}
				s.h.workers = 1
				left, err := s.h.Drain(s.ctx)
				if err == nil && left == 0 {
					s.equal()
				}
				if calls < first {
					break // it was healed before
				}
				s.peer.fail, s.h.partial = nil, false
				s.heal()
			}
		}
	}
}
