package fstest_test

import (
	"context"
	"os"
	"testing"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// TestRandomStoreOnDisk compares the brick's store with the model's; it is here
// and not in package brick since it says as much about the model.
func TestRandomStoreOnDisk(t *testing.T) {
	var path string
	open := func(t *testing.T) *brick.Store {
		s, err := brick.Open(path, brick.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var last *brick.Store
	t.Cleanup(func() {
		if last != nil {
			if err := last.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	closeLast := func(t *testing.T) {
		if last == nil {
			return
		}
		if err := last.Close(); err != nil {
			t.Fatal(err)
		}
		last = nil
	}
	fstest.RandomStore(t, fstest.StoreConfig{
		New: func(t *testing.T) volume.Store {
			closeLast(t)
			path = t.TempDir()
			id := brick.Identity{
				VolumeID: "3f0c8a52-6f6e-4d0e-9c5b-0d9a3a9f1c11", Volume: "v", Set: 1,
				BrickID: "9b1d40ce-2f3f-4f7e-8a34-55d3a1a0a2b7",
			}
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := brick.Init(context.Background(), path, id); err != nil {
				t.Fatal(err)
			}
			last = open(t)
			return last
		},
		Restart: func(t *testing.T, s volume.Store) volume.Store {
			closeLast(t)
			last = open(t)
			return last
		},
	}, 2000)
}
