package set

import (
	"log/slog"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestQueueOfOneWhoCameBack has a member take its seat, and its queue deleted, while a change
// that was queued for it is being made durable.
func TestQueueOfOneWhoCameBack(t *testing.T) {
	l, err := openLedger(t.TempDir(), "m0", slog.New(slog.DiscardHandler))
	must(t, err)
	defer l.close()
	must(t, l.begin(t.Context(), "m1", nil))
	must(t, l.setAbsent([]string{"m1"}))
	c := &change{kind: doUnlink, dir: volume.Root, name: "a", id: volume.NewID(1)}
	n, err := l.record(t.Context(), 1, 1, 0, c.touches(), c)
	must(t, err)
	l.release(&n)
	must(t, l.keepQueues(nil))
	if err := l.sync(t.Context(), &n); err != nil {
		t.Fatalf("the queue of a member that is in sync: %v", err)
	}
}
