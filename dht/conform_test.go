package dht

import (
	"fmt"
	"testing"

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

func TestRandom(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		cfg := fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }}
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { fstest.Random(t, cfg, 3000) })
		t.Run(fmt.Sprintf("%d sets concurrent", n), func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
	}
}
