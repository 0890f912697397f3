package dht

import (
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// What the storm with crashes found.

// without runs f while steps of the kinds that drop says are lost.
func (w *world) without(drop func(from *life, to volume.SetID, s *step) bool, f func()) {
	net := network(func(from *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		if s, err := decodeStep(b); err == nil && drop(from, to, s) {
			return nil, errDown
		}
		return send()
	})
	w.net.Store(&net)
	f()
	w.net.Store(nil)
}

// TestMoveWithoutParent: a set that has no copy of the directory into which
// another is moved, and can't ask its home, does not think that it was lost.
func TestMoveWithoutParent(t *testing.T) {
	w := newWorld(t)
	w.without(func(_ *life, to volume.SetID, s *step) bool { return s.op == opCopy && to == 3 }, func() { w.mkdir(w.dir, 2, "parent") })
	parent, name := w.ids["parent"], w.mkdir(w.dir, 1, "d")
	w.without(func(from *life, to volume.SetID, s *step) bool {
		return s.op == opFetch && to == 2 && from == w.nodes[3].life.Load()
	}, func() { w.must(w.fs.Rename(w.ctx, w.dir, name, parent, w.owned(parent, 1, "new"), 0)) })
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestRingOfMoves: at a set that has yet to be told that two directories were
// exchanged, a file and one of these are, and each is in the place of the next.
func TestRingOfMoves(t *testing.T) {
	w := newWorld(t)
	x, y, f := w.mkdir(w.dir, 1, "x"), w.mkdir(w.dir, 1, "y"), w.file(w.dir, 2, "f")
	w.without(func(_ *life, to volume.SetID, s *step) bool { return s.op == opFinish && to == 2 }, func() {
		w.must(w.fs.Rename(w.ctx, w.dir, x, w.dir, y, volume.RenameExchange))
		w.must(w.fs.Rename(w.ctx, w.dir, f, w.dir, y, volume.RenameExchange))
	})
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if a, err := w.fs.Lookup(w.ctx, w.dir, x); err != nil || a.Type() != syscall.S_IFDIR || a.ID != w.ids["y"] {
		t.Errorf("%s: %v %v", x, a.ID, err)
	}
}

// TestGivenUpInOrder: of an exchange that is given up, the old name's owner gives
// the name free when the set with the data has undone its part, and not before.
func TestGivenUpInOrder(t *testing.T) {
	w := newWorld(t)
	from, to := w.pointed(w.dir, 2, 3, "old"), w.pointed(w.sub, 1, 3, "new")
	w.quiet()
	w.nodes[1].noPut.Store(true)
	done := make(chan struct{})
	w.without(func(_ *life, to volume.SetID, s *step) bool { return s.op == opAbort && to == 3 }, func() {
		if err := w.fs.Rename(w.ctx, w.dir, from, w.sub, to, volume.RenameExchange); !isErrno(err, syscall.ENOSPC) {
			t.Errorf("an exchange without room: %v", err)
		}
		w.lookup(w.dir, from) // it can be read
		go func() {
			defer close(done)
			if err := w.fs.Unlink(w.ctx, w.dir, from); err != nil {
				t.Error(err)
			}
		}()
		for range 20 {
			w.pause()
		}
	})
	<-done
	w.nodes[1].noPut.Store(false)
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}
