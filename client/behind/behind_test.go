package behind

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

func TestConformance(t *testing.T) {
	cfg := fstest.Config{New: func(t *testing.T) volume.FS {
		f := New(model.New())
		t.Cleanup(f.Close)
		return f
	}}
	t.Run("suite", func(t *testing.T) { fstest.Run(t, cfg) })
	t.Run("random", func(t *testing.T) { fstest.Random(t, cfg, 5000) })
	t.Run("concurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 2000) })
}

// TestRuns: what follows each other goes as one write, what does not hands the rest on first.
func TestRuns(t *testing.T) { synctest.Test(t, inRuns) } // where no time passes

// inRuns is TestRuns.
func inRuns(t *testing.T) {
	w := newWorld(t, 0)
	w.write("ab", 0)
	w.write("cd", 2)
	w.b.expect(t, "two writes that follow each other")
	w.write("x", 1)
	w.b.expect(t, "one elsewhere", "write 4 at 0 flags 0")
	if _, err := w.file.WriteAt(w.ctx, bytes.Repeat([]byte{'L'}, smallMax+1), 4, 0); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "a large one", "write 1 at 1 flags 0", fmt.Sprintf("write %d at 4 flags 0", smallMax+1))
	if _, err := w.file.WriteAt(w.ctx, []byte("y"), 0, volume.WriteKillPriv); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "one that changes the mode", "write 1 at 0 flags 1")
	for range 6 {
		w.write(string(bytes.Repeat([]byte{'m'}, smallMax)), 0)
	}
	w.b.expect(t, "the same place again and again", slices.Repeat([]string{fmt.Sprintf("write %d at 0 flags 0", smallMax)}, 5)...)
	if err := w.file.Flush(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.b.expect(t, "flush", fmt.Sprintf("write %d at 0 flags 0", smallMax))
	for i := range 6 {
		w.write(string(bytes.Repeat([]byte{'m'}, smallMax)), int64(i*smallMax))
	}
	w.b.expect(t, "more than a run takes", fmt.Sprintf("write %d at 0 flags 0", runMax))
}

// TestSynced: a run is made durable by the request that hands it on.
func TestSynced(t *testing.T) { synctest.Test(t, inSynced) } // where no time passes

// inSynced is TestSynced.
func inSynced(t *testing.T) {
	for dataOnly, flags := range map[bool]volume.WriteFlags{false: volume.WriteFullSync, true: volume.WriteDataSync} {
		w := newWorld(t, 0)
		w.write("ab", 0)
		if err := w.file.Sync(w.ctx, dataOnly); err != nil {
			t.Fatal(err)
		}
		w.b.expect(t, "sync after a write", fmt.Sprintf("write 2 at 0 flags %d", flags))
		if err := w.file.Sync(w.ctx, dataOnly); err != nil {
			t.Fatal(err)
		}
		w.b.expect(t, "sync of nothing", "sync")
		other, err := w.fs.Open(w.ctx, w.id, volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		w.write("ab", 0)
		if err := other.Sync(w.ctx, dataOnly); err != nil {
			t.Fatal(err)
		}
		w.b.expect(t, "sync by another file", "write 2 at 0 flags 0", "sync")
	}
}

// TestNotDelayed: what must be on the bricks at once, or is not wanted late.
func TestNotDelayed(t *testing.T) {
	for name, w := range map[string]*world{
		"direct": newWorld(t, volume.Direct), "data sync": newWorld(t, volume.DataSync), "full sync": newWorld(t, volume.FullSync),
		"disabled": newWorld(t, 0),
	} {
		w.fs.SetEnabled(name != "disabled")
		w.write("ab", 0)
		w.b.expect(t, name, "write 2 at 0 flags 0")
	}
	w := newWorld(t, 0)
	w.write("a", offMax)
	w.b.expect(t, "far out", fmt.Sprintf("write 1 at %d flags 0", offMax))
}

// TestNobodyNotices: whatever depends on the contents of an object sees the writes that returned before.
func TestNobodyNotices(t *testing.T) {
	w := newWorld(t, 0)
	other, err := w.fs.Open(w.ctx, w.id, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"getattr":  func() error { _, err := w.fs.Getattr(w.ctx, w.id); return err },
		"lookup":   func() error { _, err := w.fs.Lookup(w.ctx, volume.Root, "f"); return err },
		"setattr":  func() error { _, err := w.fs.Setattr(w.ctx, w.id, volume.Change{Mask: volume.SetMtimeNow}); return err },
		"link":     func() error { _, err := w.fs.Link(w.ctx, w.id, volume.Root, "g"); return err },
		"setxattr": func() error { return w.fs.Setxattr(w.ctx, w.id, "user.a", []byte("v"), 0) },
		"getxattr": func() error { _, _ = w.fs.Getxattr(w.ctx, w.id, "user.b"); return nil },
		"sync":     func() error { return w.fs.Sync(w.ctx, w.id) },
		"truncating": func() error {
			f, err := w.fs.Open(w.ctx, w.id, volume.Write|volume.Truncate)
			return errors.Join(err, f.Close())
		},
		"read":        func() error { _, err := other.ReadAt(w.ctx, make([]byte, 1), 0); return err },
		"file":        func() error { _, err := other.Getattr(w.ctx); return err },
		"file change": func() error { _, err := other.Setattr(w.ctx, volume.Change{Mask: volume.SetSize, Size: 1}); return err },
		"allocate":    func() error { return other.Allocate(w.ctx, volume.AllocKeepSize, 0, 10) },
		"seek":        func() error { _, err := other.Seek(w.ctx, 0, volume.SeekData); return err },
		"write":       func() error { _, err := other.WriteAt(w.ctx, make([]byte, smallMax+1), 0, 0); return err },
		"append":      func() error { _, err := other.Append(w.ctx, []byte("x"), 0); return err },
		"close": func() error {
			f, err := w.fs.Open(w.ctx, w.id, volume.Write)
			return errors.Join(err, f.Close(), w.file.Flush(w.ctx))
		},
	} {
		w.write("ab", 0)
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.b.mu.Lock()
		if calls := w.b.mu.calls; len(calls) == 0 || calls[0] != "write 2 at 0 flags 0" {
			t.Errorf("%s: the layer below saw %q", name, calls)
		}
		w.b.mu.calls = nil
		w.b.mu.Unlock()
	}
	w.write("ab", 0)
	entries, _, err := w.fs.ReadDir(w.ctx, volume.Root, 0, 10, true)
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if e.HasAttr && e.ID == w.id {
			t.Errorf("attributes in a listing that are not those after the write: %+v", e)
		}
	}
}

// TestDataFollowLocks: whoever gets a lock next reads what was written before it was given up, or lost its
// exclusiveness, and nothing that was written before a lock is got goes to the bricks under it.
func TestDataFollowLocks(t *testing.T) {
	w := newWorld(t, 0)
	other, err := w.fs.Open(w.ctx, w.id, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	for _, flock := range []bool{false, true} {
		for _, typ := range []volume.LockType{volume.ExclusiveLock, volume.SharedLock, volume.Unlocked} {
			for _, f := range []volume.File{w.file, other} { // the owner need not be who wrote
				w.write("ab", 0)
				l := volume.Lock{Owner: volume.LockOwner{Number: 1}, Flock: flock, Type: typ, End: volume.LockEnd}
				if err := f.Lock(w.ctx, l, false); err != nil {
					t.Fatal(err)
				}
				w.b.expect(t, "a lock", "write 2 at 0 flags 0", fmt.Sprintf("lock type %d", typ))
			}
		}
	}
}

// TestUnlockedThoughLost: a lock is given up though what was written under it is lost, of which its writer hears.
func TestUnlockedThoughLost(t *testing.T) {
	full := &volume.Error{Op: "write", Errno: syscall.ENOSPC}
	w := newWorld(t, 0)
	mine := volume.Lock{Owner: volume.LockOwner{Number: 1}, Type: volume.ExclusiveLock, End: volume.LockEnd}
	if err := w.file.Lock(w.ctx, mine, false); err != nil {
		t.Fatal(err)
	}
	w.b.failWith(full)
	w.write("ab", 0)
	given := mine
	given.Type = volume.Unlocked
	if err := w.file.Lock(w.ctx, given, false); err != nil {
		t.Error(err)
	}
	w.b.failWith(nil)
	others := mine
	others.Owner.Number = 2
	if err := w.file.Lock(w.ctx, others, false); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if err := w.file.Flush(w.ctx); !errors.Is(err, full) {
		t.Errorf("flush: %v, want ENOSPC", err)
	}
}

// TestAppends: appends gather, and who was wrong about the end is told.
func TestAppends(t *testing.T) { synctest.Test(t, inAppends) } // where no time passes

// inAppends is TestAppends.
func inAppends(t *testing.T) {
	w := newWorld(t, 0)
	var moved []int64
	add := func(p string, end int64) {
		t.Helper()
		if err := w.file.(volume.LateAppender).AppendLater(w.ctx, []byte(p), end, 0, func(at int64) { moved = append(moved, at) }); err != nil {
			t.Fatal(err)
		}
	}
	add("ab", 0)
	add("cd", 2)
	w.b.expect(t, "two appends")
	w.fs.settle(w.id)
	w.b.expect(t, "handed on", "append 4 flags 0")
	if len(moved) != 0 {
		t.Errorf("moved to %v", moved)
	}
	add("ef", 0)
	add("gh", 2)
	w.fs.settle(w.id)
	if got := w.contents(); got != "abcdefgh" || !slices.Equal(moved, []int64{4}) {
		t.Errorf("the file is %q, the caller was told %v", got, moved)
	}
	w.fs.SetEnabled(false)
	add("ij", 2)
	if got := w.contents(); got != "abcdefghij" || !slices.Equal(moved, []int64{4, 8}) {
		t.Errorf("the file is %q, the caller was told %v", got, moved)
	}
}

// TestFailures: who wrote what is lost is told once, and is not delayed for a while.
func TestFailures(t *testing.T) {
	full := &volume.Error{Op: "write", Errno: syscall.ENOSPC}
	for name, tell := range map[string]func(w *world) error{
		"flush": func(w *world) error { return w.file.Flush(w.ctx) },
		"sync":  func(w *world) error { return w.file.Sync(w.ctx, false) },
		"write": func(w *world) error {
			w.fs.settle(w.id)
			_, err := w.file.WriteAt(w.ctx, []byte("x"), 9, 0)
			return err
		},
		"append": func(w *world) error {
			w.fs.settle(w.id)
			return w.file.(volume.LateAppender).AppendLater(w.ctx, []byte("x"), 9, 0, nil)
		},
	} {
		w := newWorld(t, 0)
		w.b.failWith(full)
		w.write("ab", 0)
		if err := tell(w); !errors.Is(err, full) {
			t.Errorf("%s: %v, want ENOSPC", name, err)
		}
		w.b.failWith(nil)
		if err := w.file.Flush(w.ctx); err != nil {
			t.Errorf("%s, once more: %v", name, err)
		}
		w.b.expect(t, name, w.b.mu.calls...)
		w.write("ab", 0)
		w.b.expect(t, name+", then a write", "write 2 at 0 flags 0")
	}
}

// TestDelay: another client sees what was written after Delay.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		for i := range 5 {
			w.write("x", int64(i))
			<-time.After(Delay / 10)
			synctest.Wait()
			if got := w.contents(); got != "" {
				t.Fatalf("handed on early: %q", got)
			}
		}
		<-time.After(Delay / 2)
		synctest.Wait()
		if got := w.contents(); got != "xxxxx" {
			t.Errorf("after %v another client sees %q", Delay, got)
		}
		w.write("y", 5)
		w.fs.Close()
		if got := w.contents(); got != "xxxxxy" {
			t.Errorf("after Close another client sees %q", got)
		}
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		if len(w.fs.mu.objects) != 0 || w.fs.kept.Load() != 0 || w.fs.runs.Load() != 0 {
			t.Errorf("left behind: %d objects, %d bytes, %d runs", len(w.fs.mu.objects), w.fs.kept.Load(), w.fs.runs.Load())
		}
	})
}

// TestHandedMeanwhile has what is kept back handed on while somebody looks, after the servers have looked.
func TestHandedMeanwhile(t *testing.T) {
	for name, look := range map[string]func(w *world) int64{
		"lookup": func(w *world) int64 {
			a, err := w.fs.Lookup(w.ctx, volume.Root, "f")
			if err != nil {
				w.t.Fatal(err)
			}
			return a.Size
		},
		"readdir": func(w *world) int64 {
			entries, _, err := w.fs.ReadDir(w.ctx, volume.Root, 0, 10, true)
			if err != nil || len(entries) != 1 {
				w.t.Fatal(entries, err)
			}
			if !entries[0].HasAttr {
				return 2 // whoever needs them will ask
			}
			return entries[0].Attr.Size
		},
		"create": func(w *world) int64 {
			f, a, err := w.fs.Create(w.ctx, volume.Root, "f", volume.Node{Mode: syscall.S_IFREG}, volume.Read)
			if err != nil {
				w.t.Fatal(err)
			}
			f.Close()
			return a.Size
		},
	} {
		for _, close := range []bool{false, true} {
			w := newWorld(t, 0)
			w.write("ab", 0)
			w.b.looked = func() {
				w.b.looked = nil
				if err := w.file.Flush(w.ctx); err != nil {
					t.Error(err)
				}
				if close {
					w.file.Close()
				}
			}
			if size := look(w); size != 2 {
				t.Errorf("%s, closed %v: size %d after a write of 2 bytes", name, close, size)
			}
			if len(w.fs.mu.handed) != 0 || w.fs.mu.looks != 0 {
				t.Errorf("%s: %d looks and %d objects are remembered", name, w.fs.mu.looks, len(w.fs.mu.handed))
			}
		}
	}
}
