package dht

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestMendAtOnce: several who find at the same time that a set lacks its copy of
// a directory get it made once, and all go on.
func TestMendAtOnce(t *testing.T) {
	c := newCluster(t, 2, false)
	ctx := t.Context()
	for round := range 200 {
		name := fmt.Sprint("dir-", round)
		dir, err := c.fs.Make(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		if err != nil {
			t.Fatal(err)
		}
		v := c.fs.view.Load()
		for _, set := range c.ids {
			if set != v.home(dir.ID) {
				if err := c.nodes[set].store.Rmdir(ctx, volume.Root, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 8 {
			wg.Go(func() {
				<-begin
				f, _, err := c.fs.Create(ctx, dir.ID, fmt.Sprint(i), volume.Node{Mode: syscall.S_IFREG | 0o600}, volume.Write)
				if err != nil {
					t.Errorf("round %d, file %d: %v", round, i, err)
					return
				}
				f.Close()
			})
		}
		close(begin)
		wg.Wait()
	}
}
