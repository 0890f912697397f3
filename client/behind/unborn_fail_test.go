package behind

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestUnbornFails: a file that can't be made says so once, wherever it is asked first, and there is none.
func TestUnbornFails(t *testing.T) { untimed(inUnbornFails)(t) }

// inUnbornFails is TestUnbornFails.
func inUnbornFails(t *testing.T) {
	full := &volume.Error{Op: "make", Errno: syscall.ENOSPC}
	for name, tell := range map[string]func(n *nursery, f volume.File) error{
		"flush": func(n *nursery, f volume.File) error { return f.Flush(n.ctx) },
		"fsync": func(n *nursery, f volume.File) error { return f.Sync(n.ctx, false) },
		"write": func(n *nursery, f volume.File) error {
			n.fs.settle(f.ID())
			_, err := f.WriteAt(n.ctx, []byte("cd"), 2, 0)
			return err
		},
		"a write that does not fit": func(n *nursery, f volume.File) error {
			_, err := f.WriteAt(n.ctx, []byte("cd"), 7, 0)
			return err
		},
		"append": func(n *nursery, f volume.File) error { _, err := f.Append(n.ctx, []byte("cd"), 0); return err },
		"append, later": func(n *nursery, f volume.File) error {
			n.fs.settle(f.ID())
			return f.(volume.LateAppender).AppendLater(n.ctx, []byte("cd"), 2, 0, nil)
		},
		"after others": func(n *nursery, f volume.File) error {
			for what, err := range n.all(f) {
				if volume.ErrnoOf(err) != syscall.ESTALE || !errors.Is(err, syscall.ENOSPC) && !strings.HasPrefix(what, "fs:") {
					t.Errorf("%s: %v, want ESTALE because of ENOSPC", what, err)
				}
			}
			if _, err := n.fs.Lookup(n.ctx, volume.Root, "f"); volume.ErrnoOf(err) != syscall.ENOENT {
				t.Errorf("lookup: %v", err)
			}
			return f.Flush(n.ctx)
		},
	} {
		n := newNursery(t)
		f, _ := n.create("f", volume.Read|volume.Write)
		n.write(f, "ab", 0)
		n.w.failMaking(full, false)
		if err := tell(n, f); !errors.Is(err, full) || volume.ErrnoOf(err) != syscall.ENOSPC {
			t.Errorf("%s: %v, want ENOSPC", name, err)
		}
		if err := f.Flush(n.ctx); err != nil {
			t.Errorf("%s, once more: %v", name, err)
		}
		n.fs.tight.Store(0)
		if _, err := f.WriteAt(n.ctx, []byte("ef"), 0, 0); volume.ErrnoOf(err) != syscall.ESTALE {
			t.Errorf("%s, then a write: %v, want ESTALE", name, err)
		}
		if err := f.Sync(n.ctx, true); volume.ErrnoOf(err) != syscall.ESTALE {
			t.Errorf("%s, then fsync: %v, want ESTALE", name, err)
		}
		n.ok(f.Close())
		n.w.failMaking(nil, false)
		if _, err := n.w.FS.Lookup(n.ctx, volume.Root, "f"); volume.ErrnoOf(err) != syscall.ENOENT {
			t.Errorf("%s: lookup: %v", name, err)
		}
		n.over()
	}
}

// all asks for what can't be had of a file that is not there.
func (n *nursery) all(f volume.File) map[string]error {
	errs := map[string]error{}
	_, errs["read"] = f.ReadAt(n.ctx, make([]byte, 1), 0)
	_, errs["seek"] = f.Seek(n.ctx, 0, volume.SeekData)
	errs["allocate"] = f.Allocate(n.ctx, 0, 0, 1)
	errs["lock"] = f.Lock(n.ctx, lockAll, false)
	_, errs["test lock"] = f.TestLock(n.ctx, lockAll)
	_, errs["fs: getattr of file"] = f.Getattr(n.ctx)
	_, errs["fs: setattr of file"] = f.Setattr(n.ctx, times)
	_, errs["fs: getattr"] = n.fs.Getattr(n.ctx, f.ID())
	_, errs["fs: setattr"] = n.fs.Setattr(n.ctx, f.ID(), times)
	_, errs["fs: open"] = n.fs.Open(n.ctx, f.ID(), volume.Read)
	return errs
}

// TestUnbornClosed: close tells if nobody was told before, and a full volume says so at create after that.
func TestUnbornClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNursery(t)
		f, _ := n.create("f", volume.Write)
		n.w.failMaking(syscall.ENOSPC, false)
		if err := f.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("close: %v", err)
		}
		n.w.forget()
		f, _ = n.create("g", volume.Write)
		n.w.expect(t, "a create after that", "create g")
		n.ok(f.Close())
		<-time.After(tightAfter + 1)
		n.w.failMaking(nil, false)
		f, _ = n.create("h", volume.Write)
		n.ok(f.Close())
		n.w.expect(t, "and long after", "reserve h", "bear h 0 then 0")

		f, _ = n.create("i", volume.Write) // the timer hears of it first
		n.w.failMaking(syscall.ENOSPC, false)
		<-time.After(2 * Delay)
		synctest.Wait()
		if err := f.Flush(n.ctx); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("flush: %v", err)
		}
		n.ok(f.Close())
		n.over()
	})
}

// TestUnbornTaken: somebody else may make the name once the reservation is over.
func TestUnbornTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNursery(t)
		f, _ := n.create("f", volume.Write)
		n.write(f, "ab", 0)
		other, err := n.w.FS.Make(n.ctx, volume.Root, "f", volume.Node{Mode: syscall.S_IFREG})
		n.ok(err)
		err = f.Flush(n.ctx)
		if volume.ErrnoOf(err) != syscall.EIO || !strings.Contains(fmt.Sprint(err), "somebody else") {
			t.Errorf("flush: %v", err)
		}
		n.ok(f.Close())
		if a, err := n.fs.Lookup(n.ctx, volume.Root, "f"); err != nil || a.ID != other.ID {
			t.Errorf("the other one is %+v, %v", a, err)
		}
		n.over()
	})
}

// TestUnbornUnknown: a file that may have been made is not said to have been, and seen if it was.
func TestUnbornUnknown(t *testing.T) { untimed(inUnbornUnknown)(t) }

// inUnbornUnknown is TestUnbornUnknown.
func inUnbornUnknown(t *testing.T) {
	n := newNursery(t)
	f, _ := n.create("f", volume.Write)
	n.write(f, "ab", 0)
	unknown := &volume.Error{Op: "make", Errno: syscall.EIO, Reason: volume.Unknown}
	n.w.failMaking(unknown, true)
	if err := f.Flush(n.ctx); !errors.Is(err, unknown) {
		t.Errorf("flush: %v", err)
	}
	if a, err := n.fs.Getattr(n.ctx, f.ID()); err != nil || a.Size != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := f.WriteAt(n.ctx, []byte("c"), 2, 0); volume.ErrnoOf(err) != syscall.ESTALE {
		t.Errorf("write: %v", err)
	}
	n.ok(f.Close())
	n.over()
}
