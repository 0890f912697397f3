package dht

import (
	"testing"
	"time"
)

// TestLookupOfWhatIsToBeUndone has a rename that replaces a file end with its coordinator, undecided, when the new name is held where the data
// lie: there the old file has lost its own until that is undone. Who looks the name up meanwhile waits for it. He was told EIO.
func TestLookupOfWhatIsToBeUndone(t *testing.T) {
	w := newWorld(t)
	from, to := w.file(w.dir, 2, "new"), w.pointed(w.dir, 1, 2, "old")
	was := w.lookup(w.dir, to)
	w.quiet()
	f := &fault{}
	f.left.Store(2) // the second record of the intent, that of the decision
	w.nodes[1].fault.Store(f)
	if err := w.fs.Rename(w.ctx, w.dir, from, w.dir, to, 0); err == nil || !f.hit.Load() {
		t.Fatalf("the coordinator lives: %v", err)
	}
	stop := w.drop(2, opAbort)
	w.nodes[1].restart()
	done := make(chan error, 1)
	go func() {
		a, err := w.client().Lookup(w.ctx, w.dir, to)
		if err == nil && a.ID != was {
			t.Errorf("%s leads to %s, want %s", to, a.ID, was)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("the lookup did not wait: %v", err)
		stop()
		return
	case <-time.After(10 * lookAgain):
	}
	stop()
	w.must(<-done)
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}
