package dht

import (
	"fmt"
	"syscall"
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
	t.Run("concurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
}

// TestTold: what the owner of a name tells of the directory when the name is
// made spares asking it, unless two changes meet.
func TestTold(t *testing.T) {
	c := newCluster(t, 3, false)
	c.fs.heard.believe = time.Hour
	ctx := t.Context()
	v := c.fs.view.Load()
	for i := range 20 {
		if _, err := c.fs.Getattr(ctx, volume.Root); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(i)
		f, _, err := c.fs.Create(ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o600}, volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		for _, set := range v.ids {
			if !c.fs.heard.knows(volume.Root, set) {
				t.Errorf("after making %s, set %d must be asked", name, set)
			}
		}
	}
	_, one := c.fs.heard.begin(ctx, volume.Root)
	_, two := c.fs.heard.begin(ctx, volume.Root)
	for i, change := range []*change{one, two} {
		change.beside.Dir.ID = volume.Root
		c.fs.heard.changed(change, v.ids[0])
		if knows := c.fs.heard.knows(volume.Root, v.ids[0]); knows != (i == 0) {
			t.Errorf("change %d of two at a time: known: %v", i, knows)
		}
	}
}

func TestRandom(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		cfg := fstest.Config{New: func(t *testing.T) volume.FS { return newCluster(t, n, false).fs }}
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { fstest.Random(t, cfg, 3000) })
		t.Run(fmt.Sprintf("%d sets concurrent", n), func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
	}
}
