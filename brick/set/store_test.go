package set

import (
	"fmt"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// TestRandomStore does random operations of a volume.Store on sets of one to three members: pointers,
// discards and copies among them.
func TestRandomStore(t *testing.T) {
	t.Parallel()
	for members := 1; members <= 3; members++ {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			var c *cluster
			ops := 1500
			if testing.Short() {
				ops = 500
			}
			fstest.RandomStore(t, fstest.StoreConfig{
				New: func(t *testing.T) volume.Store {
					c = begunCluster(t, members, inMemory)
					_, s := c.primary(10 * time.Second)
					return s
				},
			}, ops)
			c.equal()
		})
	}
}
