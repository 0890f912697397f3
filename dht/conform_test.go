package dht

import (
	"fmt"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

func TestConformance(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) {
			fstest.Run(t, fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }})
		})
	}
}

// believing is a cluster whose client believes what it heard of directories for
// longer than the test lasts: whatever it does itself it must see at once.
func believing(t *testing.T, sets int) volume.FS {
	c := newCluster(t, sets, false)
	c.fs.heard.believe = time.Hour
	return c.fs
}

func TestBelieving(t *testing.T) {
	cfg := fstest.Config{New: func(t *testing.T) volume.FS { return believing(t, 3) }}
	t.Run("conformance", func(t *testing.T) { fstest.Run(t, cfg) })
	t.Run("random", func(t *testing.T) { fstest.Random(t, cfg, 3000) })
}

func TestRandom(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		cfg := fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }}
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { fstest.Random(t, cfg, 3000) })
		t.Run(fmt.Sprintf("%d sets concurrent", n), func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
	}
}
