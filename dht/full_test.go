package dht

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestFullDisk: a rename that a full disk lets fail leaves the old name free,
// though the disks have no room for discards either.
func TestFullDisk(t *testing.T) {
	for full := volume.SetID(1); full <= 3; full++ {
		c := newCluster(t, 3, false)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		const files = 24
		for i := range files {
			if _, err := c.fs.Make(ctx, volume.Root, fmt.Sprint("a", i), volume.Node{Mode: 0o100644}); err != nil {
				t.Fatal(err)
			}
		}
		for id, n := range c.nodes {
			n.noDiscard.Store(true)
			n.noPut.Store(id == full)
		}
		failed := 0
		for i := range files {
			old := fmt.Sprint("a", i)
			v := c.fs.view.Load()
			if from, to := v.owner(volume.Root, old), v.owner(volume.Root, fmt.Sprint("b", i)); to != full || from == to {
				continue
			}
			if err := c.fs.Rename(ctx, volume.Root, old, volume.Root, fmt.Sprint("b", i), 0); err == nil {
				t.Fatal("a rename onto a full disk succeeds")
			}
			failed++
			if err := c.fs.Unlink(ctx, volume.Root, old); err != nil {
				t.Fatalf("set %d is full: unlink after a rename that failed: %v", full, err)
			}
		}
		if failed == 0 {
			t.Fatal("no rename led over two sets")
		}
		for _, n := range c.nodes {
			n.noDiscard.Store(false)
			n.noPut.Store(false)
		}
	}
}
