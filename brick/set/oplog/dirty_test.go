package oplog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func openDirty(t testing.TB, k sys.Sys) *Dirty {
	t.Helper()
	d, err := OpenDirty("log", DirtyOptions{Sys: k})
	check(t, err)
	return d
}

// changeOf lists keys as a change does that is applied at once.
func changeOf(t testing.TB, d *Dirty, h Hold) {
	t.Helper()
	check(t, d.Sync(ctx, h))
	d.Release(h)
}

func dirtyIs(t *testing.T, d *Dirty, want ...Key) {
	t.Helper()
	if got := d.Keys(); !slices.Equal(got, want) {
		t.Errorf("listed is %v, not %v", got, want)
	}
}

func settled(context.Context) error { return nil }

func TestDirty(t *testing.T) {
	disk := newMemDisk()
	d := openDirty(t, disk)
	began := time.Now()
	if d.Since().After(began) {
		t.Error("since is in the future")
	}
	changeOf(t, d, d.Add(objectKey(1)))
	syncs := disk.syncs
	changeOf(t, d, d.Add(objectKey(1)))
	if disk.syncs != syncs {
		t.Error("the same once more costs an fdatasync")
	}
	// A failed checkpoint leaves all to the next one.
	broken := errors.New("broken")
	if err := d.Checkpoint(ctx, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	changeOf(t, d, d.Add(objectKey(2)))
	dirtyIs(t, d, objectKey(1), objectKey(2))
	disk.powerLoss(seeded(t))
	d = openDirty(t, disk)
	dirtyIs(t, d, objectKey(1), objectKey(2))
	if s := d.Since(); s.After(began) || s.Before(began.Add(-time.Minute)) {
		t.Errorf("since %v", s)
	}
	check(t, d.Checkpoint(ctx, func(context.Context) error {
		changeOf(t, d, d.Add(objectKey(3)))
		dirtyIs(t, d, objectKey(1), objectKey(2), objectKey(3))
		return nil
	}))
	dirtyIs(t, d, objectKey(3))
	if len(disk.names) != 1 {
		t.Errorf("files: %v", disk.names)
	}
	check(t, d.Checkpoint(ctx, settled))
	dirtyIs(t, d)
	syncs = disk.syncs
	check(t, d.Checkpoint(ctx, func(context.Context) error { t.Error("settles nothing"); return nil }))
	if disk.syncs != syncs {
		t.Error("a checkpoint of nothing costs an fsync")
	}
	check(t, d.Close())
	if len(disk.fds) != 0 {
		t.Errorf("%d descriptors are open", len(disk.fds))
	}
}

// TestDirtyBorn unpacks a tree.
func TestDirtyBorn(t *testing.T) {
	disk := newMemDisk()
	d := openDirty(t, disk)
	all := Key{Kind: EntryKey, ID: id(1)}
	changeOf(t, d, d.Born(id(100), id(1), entryKey(1, "tree"), objectKey(1), objectKey(100)))
	dirtyIs(t, d, all, objectKey(1))
	syncs := disk.syncs
	for n := range 50 {
		f := 101 + n
		changeOf(t, d, d.Born(id(f), id(100), entryKey(100, fmt.Sprint(n)), objectKey(100), objectKey(f)))
		changeOf(t, d, d.Add(Key{Kind: ExtentKey, ID: id(f)}, objectKey(f)))
		changeOf(t, d, d.Add(entryKey(1, fmt.Sprint(n)), entryKey(100, fmt.Sprint(n)))) // moved up
	}
	if disk.syncs != syncs {
		t.Errorf("%d fdatasyncs", disk.syncs-syncs)
	}
	dirtyIs(t, d, all, objectKey(1))
	check(t, d.Checkpoint(ctx, settled))
	changeOf(t, d, d.Add(objectKey(101))) // an old one now
	dirtyIs(t, d, objectKey(101))

	d.opt.Born = 1 // more are not known: they are listed like others
	changeOf(t, d, d.Born(id(200), id(1), objectKey(200)))
	changeOf(t, d, d.Born(id(201), id(1), objectKey(201)))
	dirtyIs(t, d, all, objectKey(101), objectKey(201))
	d.opt.Born = 100
	d.mu.now.since = time.Now().Add(time.Hour) // the clock was set back
	changeOf(t, d, d.Born(id(202), id(1), objectKey(202)))
	if !d.mu.now.set.Has(objectKey(202)) {
		t.Error("dated before the generation and not listed")
	}
}

// TestDirtyBornDurable makes a file in a newborn directory whose own listing is not durable yet.
func TestDirtyBornDurable(t *testing.T) {
	disk := newMemDisk()
	d := openDirty(t, disk)
	d.Born(id(2), id(1))
	h := d.Born(id(3), id(2), objectKey(3))
	if h.until == 0 {
		t.Fatal("counts as durable")
	}
	check(t, d.Sync(ctx, h))
	disk.powerLoss(seeded(t))
	dirtyIs(t, openDirty(t, disk), Key{Kind: EntryKey, ID: id(1)})
}

// TestCheckpointWaits has a change under way while a checkpoint begins.
func TestCheckpointWaits(t *testing.T) {
	d := openDirty(t, newMemDisk())
	h := d.Add(objectKey(1))
	check(t, d.Sync(ctx, h))
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	err := d.Checkpoint(short, func(context.Context) error { t.Error("settles before the change is applied"); return nil })
	cancel()
	if volume.ErrnoOf(err) != unix.ETIMEDOUT {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- d.Checkpoint(ctx, settled) }()
	select {
	case err := <-done:
		t.Errorf("a checkpoint passed a change: %v", err)
	case <-time.After(time.Millisecond):
	}
	d.Release(h)
	check(t, <-done)
	dirtyIs(t, d)
}

// TestDirtyCrash is killed before each call of changes and checkpoints, and loses its power.
func TestDirtyCrash(t *testing.T) {
	r := seeded(t)
	for n := 1; ; n++ {
		disk := newMemDisk()
		f := &sys.Faulty{Sys: disk}
		f.Crash(n)
		applied := map[int]bool{} // but not settled: must be listed
		if d, err := OpenDirty("log", DirtyOptions{Sys: f}); err == nil {
			for i := range 9 {
				h := d.Add(objectKey(i))
				if d.Sync(ctx, h) == nil {
					applied[i] = true
				}
				d.Release(h)
				if i%3 == 2 {
					d.Checkpoint(ctx, func(context.Context) error { clear(applied); return nil })
				}
			}
		}
		failed := f.Failed()
		disk.powerLoss(r)
		for m := 1; ; m++ {
			f.Crash(m)
			if _, err := OpenDirty("log", DirtyOptions{Sys: f}); err == nil {
				break
			}
			disk.powerLoss(r)
		}
		disk.powerLoss(r)
		d := openDirty(t, disk)
		for i := range applied {
			if !slices.Contains(d.Keys(), objectKey(i)) {
				t.Fatalf("call %d, %s: %d is not listed, only %v", n, failed, i, d.Keys())
			}
		}
		if d.Damage() != nil {
			t.Fatalf("call %d, %s: %v", n, failed, d.Damage())
		}
		check(t, d.Checkpoint(ctx, settled))
		dirtyIs(t, d)
		if failed == "" {
			return
		}
	}
}

func TestDirtyConcurrent(t *testing.T) {
	d := openDirty(t, newMemDisk())
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for n := range 100 {
				h := d.Born(id(1000*g+n), id(g), objectKey(g))
				if err := d.Sync(ctx, h); err != nil {
					t.Error(err)
				}
				d.Release(h)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := d.Checkpoint(ctx, settled); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	check(t, d.Checkpoint(ctx, settled))
	dirtyIs(t, d)
}
