package model_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

var ctx = context.Background()

// want fails the test unless err has errno.
func want(t *testing.T, err error, errno syscall.Errno) {
	t.Helper()
	if got := volume.ErrnoOf(err); got != errno {
		t.Fatalf("got %v, want errno %d (%v)", err, errno, errno)
	}
}

// create makes a file with content and returns its ID.
func create(t *testing.T, s volume.FS, name, content string) volume.ID {
	t.Helper()
	f, a, err := s.Create(ctx, volume.Root, name, volume.Node{Mode: 0o644}, volume.Write|volume.Excl)
	want(t, err, 0)
	_, err = f.WriteAt(ctx, []byte(content), 0, 0)
	want(t, err, 0)
	want(t, f.Close(), 0)
	return a.ID
}

func TestPointer(t *testing.T) {
	s := model.NewStore(1)
	p := volume.Pointer{ID: volume.NewID(2), Mode: syscall.S_IFREG, Held: 2}
	want(t, s.Put(ctx, volume.Root, "p", p, volume.ID{}, volume.Key{}), 0)
	want(t, s.Put(ctx, volume.Root, "p", p, volume.ID{}, volume.Key{}), 0) // again
	a, err := s.Lookup(ctx, volume.Root, "p")
	want(t, err, 0)
	if a.Held != 2 || a.ID != p.ID || a.Mode != syscall.S_IFREG {
		t.Errorf("lookup of a pointer: %+v", a)
	}
	_, err = s.Open(ctx, p.ID, volume.Read)
	want(t, err, syscall.ESTALE)
	f, a, err := s.Create(ctx, volume.Root, "p", volume.Node{Mode: 0o644}, volume.Read)
	want(t, err, 0)
	if f != nil || a.Held != 2 {
		t.Errorf("create on a pointer: %v %+v", f, a)
	}
	_, _, err = s.Create(ctx, volume.Root, "p", volume.Node{Mode: 0o644}, volume.Read|volume.Excl)
	want(t, err, syscall.EEXIST)
	want(t, s.Rename(ctx, volume.Root, "p", volume.Root, "q", 0), 0)
	want(t, s.Unlink(ctx, volume.Root, "q"), 0)
}

func TestDiscard(t *testing.T) {
	s := model.NewStore(1)
	k := volume.Key{Set: 1, Intent: 7}
	id := create(t, s, "a", "content")
	f, err := s.Open(ctx, id, volume.Read)
	want(t, err, 0)
	want(t, s.Discard(ctx, volume.Root, "a", id, k), 0)
	want(t, s.Discard(ctx, volume.Root, "a", id, k), 0) // again
	_, err = s.Lookup(ctx, volume.Root, "a")
	want(t, err, syscall.ENOENT)
	_, err = f.Getattr(ctx)
	want(t, err, 0)
	want(t, f.Close(), 0)
	_, err = s.Getattr(ctx, id)
	want(t, err, syscall.ESTALE)
	create(t, s, "a", "other")
	want(t, s.Restore(ctx, k), 0)
	a, err := s.Lookup(ctx, volume.Root, "a.restored-1-7-0")
	want(t, err, 0)
	if a.ID != id || a.Nlink != 1 {
		t.Errorf("restored: %+v", a)
	}
	want(t, s.Discard(ctx, volume.Root, "a.restored-1-7-0", id, k), 0)
	want(t, s.Purge(ctx, k), 0)
	want(t, s.Purge(ctx, k), 0)
	want(t, s.Put(ctx, volume.Root, "b", volume.Pointer{ID: id}, volume.ID{}, k), syscall.ESTALE)
}

func TestPutReplaces(t *testing.T) {
	s := model.NewStore(1)
	k := volume.Key{Set: 2, Intent: 1}
	id, old := create(t, s, "a", "new"), create(t, s, "b", "old")
	want(t, s.Put(ctx, volume.Root, "b", volume.Pointer{ID: id}, volume.ID{}, k), syscall.EEXIST)
	want(t, s.Put(ctx, volume.Root, "b", volume.Pointer{ID: id}, volume.NewID(1), k), syscall.ESTALE)
	want(t, s.Put(ctx, volume.Root, "b", volume.Pointer{ID: id}, old, k), 0)
	a, err := s.Lookup(ctx, volume.Root, "b")
	want(t, err, 0)
	if a.ID != id || a.Nlink != 2 {
		t.Errorf("put: %+v", a)
	}
	all, err := s.Discards(ctx)
	want(t, err, 0)
	if len(all) != 1 || all[0].Key != k || all[0].Pointer.ID != old || all[0].Name != "b" {
		t.Errorf("discards: %+v", all)
	}
	// A discard without a name can get one again.
	want(t, s.Put(ctx, volume.Root, "c", volume.Pointer{ID: old}, volume.ID{}, volume.Key{}), 0)
	want(t, s.Purge(ctx, k), 0)
	if a, err = s.Lookup(ctx, volume.Root, "c"); err != nil || a.ID != old || a.Nlink != 1 {
		t.Errorf("revived: %+v, %v", a, err)
	}
}

func TestCopies(t *testing.T) {
	home, s := model.NewStore(1), model.NewStore(2)
	a, err := home.Make(ctx, volume.Root, "d", volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFDIR | 0o750})
	want(t, err, 0)
	c, err := home.Copy(ctx, a.ID)
	want(t, err, 0)
	want(t, s.MakeCopy(ctx, volume.NewID(1), "d", c), syscall.ESTALE)
	want(t, s.MakeCopy(ctx, volume.Root, "d", c), 0)
	want(t, s.MakeCopy(ctx, volume.Root, "e", c), syscall.EEXIST)
	_, err = home.Setattr(ctx, a.ID, volume.Change{Mask: volume.SetMode, Mode: 0o700})
	want(t, err, 0)
	c, err = home.Copy(ctx, a.ID)
	want(t, err, 0)
	want(t, s.RefreshCopy(ctx, c), 0)
	b, err := s.Lookup(ctx, volume.Root, "d")
	want(t, err, 0)
	if b.Mode != syscall.S_IFDIR|0o700 || b.Version != c.Version || c.Home != 1 || b.Btime != a.Btime {
		t.Errorf("copy: %+v of %+v", b, c)
	}
	_, err = s.Make(ctx, a.ID, "f", volume.Node{Mode: syscall.S_IFREG, Parent: c.Version - 1})
	if volume.ReasonOf(err) != volume.Outdated {
		t.Errorf("make with an old version of the directory: %v", err)
	}
	parent, name, err := s.Path(ctx, a.ID)
	if parent != volume.Root || name != "d" || err != nil {
		t.Errorf("path: %v %q %v", parent, name, err)
	}
}

func TestCrash(t *testing.T) {
	s := model.NewStore(1)
	id := create(t, s, "a", "content")
	f, err := s.Open(ctx, id, volume.Read)
	want(t, err, 0)
	want(t, s.Unlink(ctx, volume.Root, "a"), 0)
	s.Crash()
	_, err = f.ReadAt(ctx, make([]byte, 8), 0)
	want(t, err, syscall.EIO)
	f, err = s.Open(ctx, id, volume.Read) // its client comes back
	want(t, err, 0)
	want(t, s.Orphans(ctx), 0)
	p := make([]byte, 8)
	n, err := f.ReadAt(ctx, p, 0)
	if string(p[:n]) != "content" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
	want(t, f.Close(), 0)
	_, err = s.Getattr(ctx, id)
	want(t, err, syscall.ESTALE)
}

// TestPowerLossOfDirectories: the sync of a directory makes its entries durable,
// but not the entry that leads to it, and what has moved is in one place.
func TestPowerLossOfDirectories(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mkdir := func(s *model.Store, dir volume.ID, name string) volume.ID {
		a, err := s.Make(ctx, dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		want(t, err, 0)
		return a.ID
	}
	seen := map[string]int{}
	for range 100 {
		s := model.NewStore(1, model.WithPowerLoss())
		old := mkdir(s, volume.Root, "old")
		moved := create(t, s, "moved", "1")
		want(t, s.Settle(ctx), 0)
		a := mkdir(s, old, "a")
		mkdir(s, a, "b")
		want(t, s.Sync(ctx, a), 0)
		want(t, s.Rename(ctx, volume.Root, "moved", old, "moved", 0), 0)
		mkdir(s, a, "c")
		if rng.IntN(2) == 0 {
			want(t, s.Sync(ctx, old), 0)
			seen["old"]++
		}
		s.PowerLoss(rng)
		_, err := s.Lookup(ctx, old, "a")
		if volume.ErrnoOf(err) == syscall.ENOENT {
			seen["lost"]++
			_, err = s.Getattr(ctx, a)
			want(t, err, syscall.ESTALE)
		} else {
			_, err = s.Lookup(ctx, a, "b")
			want(t, err, 0)
			if _, err = s.Lookup(ctx, a, "c"); err != nil {
				seen["c lost"]++
			}
		}
		x, err := s.Getattr(ctx, moved)
		want(t, err, 0)
		if x.Nlink != 1 || x.Size != 1 {
			t.Fatalf("the moved file: %+v", x)
		}
	}
	if seen["lost"] == 0 || seen["c lost"] == 0 || seen["lost"]+seen["old"] > 100 {
		t.Errorf("outcomes: %v", seen)
	}
}

func TestPowerLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[bool]int{}
	for range 50 {
		s := model.NewStore(1, model.WithPowerLoss())
		create(t, s, "synced", "1")
		want(t, s.Settle(ctx), 0)
		want(t, s.Journal().Append(t.Context(), []byte("1")), 0)
		want(t, s.Journal().Sync(ctx), 0)
		create(t, s, "lost", "2")
		want(t, s.Journal().Append(t.Context(), []byte("2")), 0)
		s.PowerLoss(rng)
		_, err := s.Lookup(ctx, volume.Root, "synced")
		want(t, err, 0)
		_, err = s.Lookup(ctx, volume.Root, "lost")
		seen[err == nil]++
		records := 0
		want(t, s.Journal().Replay(func([]byte) error { records++; return nil }), 0)
		if records < 1 {
			t.Fatal("a synced record is lost")
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("always the same outcome: %v", seen)
	}
}
