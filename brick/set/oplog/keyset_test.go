package oplog

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var ctx = context.Background()

func entryKey(n int, name string) Key { return Key{Kind: EntryKey, ID: id(n), Name: name} }
func objectKey(n int) Key             { return Key{Kind: ObjectKey, ID: id(n)} }

// blocks is the extent of an object's blocks from off to before end; end 0: to the end.
func blocks(n int, off, end int64) Key {
	k := Key{Kind: ExtentKey, ID: id(n), Off: off * grain}
	if end > 0 {
		k.Len = (end - off) * grain
	}
	return k
}

func openSet(t testing.TB, k sys.Sys, limit int) *KeySet {
	t.Helper()
	s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: k, Limit: limit})
	check(t, err)
	return s
}

func keysAre(t *testing.T, s *KeySet, want ...Key) {
	t.Helper()
	if got := s.Keys(); !slices.Equal(got, want) || s.Len() < len(want) {
		t.Errorf("the keys are %v, %d, not %v", got, s.Len(), want)
	}
}

func TestKeySet(t *testing.T) {
	dir := t.TempDir() // the real calls
	open := func() *KeySet {
		t.Helper()
		s, err := OpenKeySet(dir, "queue.a", SetOptions{})
		check(t, err)
		return s
	}
	s := open()
	a, b, j := entryKey(1, "a"), objectKey(2), Key{Kind: JournalKey}
	stamp := s.Add(a, b, a)
	if stamp == 0 || s.Add(a) != stamp {
		t.Error("what is not durable yet has no stamp")
	}
	check(t, s.Sync(ctx, stamp))
	if s.Add(a, b) != 0 {
		t.Error("what is durable has a stamp")
	}
	check(t, s.Sync(ctx, s.Add(j, blocks(3, 0, 0))))
	keysAre(t, s, a, b, blocks(3, 0, 0), j)

	ts := s.Take(2)
	if len(ts) != 2 || ts[0].Key != a || ts[1].Key != b || !s.Has(a) {
		t.Errorf("taken: %v", ts)
	}
	if s.Add(b) != 0 {
		t.Error("a key that is out is not durable")
	}
	s.Done(ts...)
	keysAre(t, s, b, blocks(3, 0, 0), j)
	s.Done(ts...) // once more: nothing happens
	if rest := s.Take(10); len(rest) != 3 {
		t.Errorf("taken: %v", rest)
	} else {
		s.Back(rest[0])
		s.Done(rest[1:]...)
	}
	check(t, s.SyncAll(ctx))
	check(t, s.Close())
	check(t, s.Close())
	if err := s.Sync(ctx, 1000); volume.ErrnoOf(err) != unix.EBADF {
		t.Errorf("sync of a closed set: %v", err)
	}
	s = open()
	if s.Len() != 1 || s.Damage() != nil {
		t.Errorf("%v after opening again, damage %v", s.Keys(), s.Damage())
	}
	if names := must(Sets(nil, dir, "queue.")); !slices.Equal(names, []string{"queue.a"}) {
		t.Errorf("sets: %v", names)
	}
	check(t, s.Delete())
	if names := must(Sets(nil, dir, "")); len(names) != 0 {
		t.Errorf("sets: %v", names)
	}
	for _, name := range []string{"", ".", "a/b", "a.tmp"} {
		if _, err := OpenKeySet(dir, name, SetOptions{}); volume.ErrnoOf(err) != unix.EINVAL {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestExtents(t *testing.T) {
	for _, c := range []struct {
		name   string
		add    []Key
		remove Key
		want   []Key
	}{
		{"apart", []Key{blocks(1, 4, 5), blocks(1, 0, 1)}, Key{}, []Key{blocks(1, 0, 1), blocks(1, 4, 5)}},
		{"touching", []Key{blocks(1, 1, 2), blocks(1, 0, 1)}, Key{}, []Key{blocks(1, 0, 2)}},
		{"bridging", []Key{blocks(1, 0, 2), blocks(1, 5, 7), blocks(1, 1, 6)}, Key{}, []Key{blocks(1, 0, 7)}},
		{"within", []Key{blocks(1, 0, 9), blocks(1, 5, 7)}, Key{}, []Key{blocks(1, 0, 9)}},
		{"to the end", []Key{blocks(1, 5, 6), blocks(1, 3, 0)}, Key{}, []Key{blocks(1, 3, 0)}},
		{"rounded", []Key{{Kind: ExtentKey, ID: id(1), Off: 5, Len: 1}}, Key{}, []Key{blocks(1, 0, 1)}},
		{"rounded over a border", []Key{{Kind: ExtentKey, ID: id(1), Off: grain - 1, Len: 2}}, Key{}, []Key{blocks(1, 0, 2)}},
		{"at the end of the world", []Key{{Kind: ExtentKey, ID: id(1), Off: math.MaxInt64 - 2, Len: 2}}, Key{}, []Key{blocks(1, math.MaxInt64/grain, 0)}},
		{"beyond", []Key{{Kind: ExtentKey, ID: id(1), Off: math.MaxInt64, Len: math.MaxInt64}}, Key{}, []Key{blocks(1, math.MaxInt64/grain, 0)}},
		{"two files", []Key{blocks(1, 0, 1), blocks(2, 1, 2)}, Key{}, []Key{blocks(1, 0, 1), blocks(2, 1, 2)}},
		{"less the middle", []Key{blocks(1, 0, 9)}, blocks(1, 3, 4), []Key{blocks(1, 0, 3), blocks(1, 4, 9)}},
		{"less the end", []Key{blocks(1, 0, 0)}, blocks(1, 3, 0), []Key{blocks(1, 0, 3)}},
		{"less part of a block", []Key{blocks(1, 0, 2)}, Key{Kind: ExtentKey, ID: id(1), Off: 1, Len: 2*grain - 2}, []Key{blocks(1, 0, 2)}},
		{"less all", []Key{blocks(1, 0, 2)}, blocks(1, 0, 0), nil},
		{"no key", []Key{{Kind: ExtentKey, ID: id(1), Off: -1}}, Key{}, []Key{Full}},
	} {
		s := openSet(t, newMemDisk(), 0)
		s.Add(c.add...)
		s.Remove(c.remove)
		if got := s.Keys(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
		if n := s.Len(); n != len(c.want) {
			t.Errorf("%s: %d keys", c.name, n)
		}
		for _, k := range c.want {
			if !s.Has(k) {
				t.Errorf("%s: has not %v", c.name, k)
			}
		}
	}
	d := newMemDisk()
	s := openSet(t, d, 0)
	for n := range int64(spansMax) {
		s.Add(blocks(1, 2*n, 2*n+1))
	}
	if s.Len() != spansMax {
		t.Errorf("%d ranges", s.Len())
	}
	check(t, s.Sync(ctx, s.Add(blocks(1, 1000, 1001))))
	keysAre(t, s, blocks(1, 0, 1001))
	if s.Add(blocks(1, 500, 501)) != 0 {
		t.Error("what lies between is not covered")
	}
	d.powerLoss(seeded(t))
	keysAre(t, openSet(t, d, 0), blocks(1, 0, 1001))
}

// TestTakenExtents adds to ranges that are out.
func TestTakenExtents(t *testing.T) {
	d := newMemDisk()
	s := openSet(t, d, 0)
	check(t, s.Sync(ctx, s.Add(blocks(1, 0, 10), blocks(1, 20, 30))))
	ts := s.Take(1)
	if len(ts) != 2 {
		t.Fatalf("taken %v", ts)
	}
	if s.Add(blocks(1, 5, 6)) != 0 {
		t.Error("what is out is not covered")
	}
	check(t, s.Sync(ctx, s.Add(blocks(1, 8, 12))))
	if more := s.Take(1); more != nil {
		t.Errorf("taken from a file that is out: %v", more)
	}
	s.Done(ts...)
	want := []Key{blocks(1, 5, 6), blocks(1, 8, 12)}
	keysAre(t, s, want...)
	check(t, s.SyncAll(ctx))
	d.powerLoss(seeded(t))
	s = openSet(t, d, 0)
	keysAre(t, s, want...)
	ts = s.Take(9)
	s.Remove(blocks(1, 0, 9)) // one that is out goes, of the other nothing
	keysAre(t, s, blocks(1, 8, 12))
	s.Back(ts...)
	keysAre(t, s, blocks(1, 8, 12))
	check(t, s.Close())
	keysAre(t, openSet(t, d, 0), blocks(1, 8, 12))
}

// TestBegin makes a set that has keys from the first moment on.
func TestBegin(t *testing.T) {
	d := newMemDisk()
	for range 2 {
		s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: d, Begin: []Key{Full}})
		check(t, err)
		keysAre(t, s, Full)
		if s.Add(Full) != 0 {
			t.Error("it is not durable")
		}
		d.powerLoss(seeded(t))
	}
	s, err := OpenKeySet("log", "queue.m", SetOptions{Sys: d, Begin: []Key{objectKey(1)}})
	check(t, err)
	s.Done(s.Take(1)...) // nothing is added to one that is there
	keysAre(t, s)
}

func TestFull(t *testing.T) {
	d := newMemDisk()
	s := openSet(t, d, 10)
	for n := range 11 {
		s.Add(objectKey(n))
	}
	keysAre(t, s, Full)
	check(t, s.Sync(ctx, s.Add(objectKey(99))))
	d.powerLoss(seeded(t))
	s = openSet(t, d, 10)
	keysAre(t, s, Full)
	ts := s.Take(5)
	if len(ts) != 1 || ts[0].Key != Full {
		t.Fatalf("taken %v", ts)
	}
	if s.Add(objectKey(1), blocks(1, 1, 2)) != 0 { // after what was compared, perhaps
		t.Error("not covered by what is out")
	}
	s.Done(ts...)
	keysAre(t, s, objectKey(1), blocks(1, 1, 2))
	d.powerLoss(seeded(t)) // Done wrote it anew
	s = openSet(t, d, 10)
	keysAre(t, s, objectKey(1), blocks(1, 1, 2))
	s.Add(Full)
	ts = s.Take(1)
	for n := range 12 {
		s.Add(objectKey(n))
	}
	s.Done(ts...)
	keysAre(t, s, Full)
	s.Back(s.Take(1)...)
	keysAre(t, s, Full)
	s.Remove(Full)
	keysAre(t, s)
	check(t, s.Close())
	keysAre(t, openSet(t, d, 10))
}

// TestWrittenAnew adds and removes: the file does not grow without end.
func TestWrittenAnew(t *testing.T) {
	d := newMemDisk()
	s := openSet(t, d, 0)
	s.Add(objectKey(1))
	s.Take(1)
	for n := range 100_000 {
		s.Add(objectKey(2 + n%1000))
		s.Done(s.Take(1)...)
	}
	check(t, s.SyncAll(ctx))
	if size := len(d.names["queue.m"].data); size > 2*anewMin {
		t.Errorf("%d bytes", size)
	}
	if len(s.mu.c.order) > 5000 {
		t.Errorf("%d in order", len(s.mu.c.order))
	}
	d.powerLoss(seeded(t))
	keysAre(t, openSet(t, d, 0), objectKey(1))
}

// TestNoSync adds without ever syncing, past what is kept for writing.
func TestNoSync(t *testing.T) {
	d := newMemDisk()
	s := openSet(t, d, 100)
	for n := range 5000 {
		s.Add(objectKey(n % 90))
		s.Remove(objectKey(n % 90))
	}
	s.Add(objectKey(7))
	check(t, s.SyncAll(ctx))
	d.powerLoss(seeded(t))
	keysAre(t, openSet(t, d, 100), objectKey(7))
}

// slowDisk waits in each fdatasync.
type slowDisk struct {
	*memDisk
	enter, leave chan struct{}
}

func (d slowDisk) Fdatasync(fd int) error {
	d.enter <- struct{}{}
	<-d.leave
	return d.memDisk.Fdatasync(fd)
}

// TestGroupCommit lets many sync at once: two fdatasyncs serve all, and who needs none does not wait.
func TestGroupCommit(t *testing.T) {
	d := slowDisk{newMemDisk(), make(chan struct{}), make(chan struct{})}
	s := openSet(t, d.memDisk, 0)
	check(t, s.Sync(ctx, s.Add(objectKey(1))))
	s.sys = d
	var wg sync.WaitGroup
	sync := func(n int) {
		stamp := s.Add(objectKey(n))
		wg.Go(func() {
			if err := s.Sync(ctx, stamp); err != nil {
				t.Error(err)
			}
		})
	}
	before := d.syncs
	sync(2)
	<-d.enter // the first is in its fdatasync
	for n := range 50 {
		sync(10 + n)
	}
	check(t, s.Sync(ctx, s.Add(objectKey(1)))) // durable already
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	if err := s.Sync(short, s.Add(objectKey(2))); volume.ErrnoOf(err) != unix.ETIMEDOUT {
		t.Errorf("cancelled: %v", err)
	}
	cancel()
	d.leave <- struct{}{}
	<-d.enter
	d.leave <- struct{}{}
	wg.Wait()
	if n := d.syncs - before; n != 2 {
		t.Errorf("%d fdatasyncs", n)
	}
}
