package dht

import (
	"sync/atomic"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestNoLinkAgain has a coordinator end when the other name's owner has done its part and given its name free, and
// the coordinator has not recorded that. Its next life finishes the intent, but makes no link of it again: the
// name has been removed since.
func TestNoLinkAgain(t *testing.T) {
	w := newWorld(t)
	away := w.pointed(w.dir, 2, 1, "away") // after the exchange it leads to what lies on set 1, still
	own := w.file(w.sub, 1, "own")
	a, err := w.fs.Lookup(w.ctx, w.sub, own)
	w.must(err)
	_, err = w.fs.Link(w.ctx, a.ID, w.sub, w.owned(w.sub, 1, "second")) // it lives on
	w.must(err)
	w.quiet()
	var ended atomic.Bool
	var net network = func(from *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		answer, err := send()
		if s, derr := decodeStep(b); derr == nil && s.op == opFinish && s.from == 1 && to == 2 && s.flags&keep == 0 && err == nil && ended.CompareAndSwap(false, true) {
			from.dead.Store(true)
			return nil, errDown
		}
		return answer, err
	}
	w.net.Store(&net)
	_ = w.fs.Rename(w.ctx, w.dir, away, w.sub, own, volume.RenameExchange) // it has happened, or nobody knows
	w.net.Store(nil)
	if !ended.Load() {
		t.Fatal("the coordinator did not end")
	}
	w.nodes[1].noPut.Store(true) // its next life does not get to the rest at once
	w.nodes[1].restart()
	w.must(w.fs.Unlink(w.ctx, w.dir, away))
	w.nodes[1].noPut.Store(false)
	w.quiet()
	for _, wrong := range w.check() {
		t.Error(wrong)
	}
}
