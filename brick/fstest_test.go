package brick

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// each calls f with what makes empty stores on every file system.
func each(t *testing.T, f func(t *testing.T, kind string, newStore func(t *testing.T) *Store)) {
	for kind := range fileSystems {
		t.Run(kind, func(t *testing.T) {
			at := onImage(t, kind, 512)
			f(t, kind, func(t *testing.T) *Store {
				path, err := os.MkdirTemp(at, "brick")
				check(t, err)
				path = filepath.Clean(path)
				check(t, Init(ctx, path, testIdentity))
				return openBrick(t, path, Options{})
			})
		})
	}
}

// TestConformance holds the store to the contract on every file system.
func TestConformance(t *testing.T) {
	each(t, func(t *testing.T, kind string, newStore func(t *testing.T) *Store) {
		cfg := fstest.Config{
			New: func(t *testing.T) volume.FS { return newStore(t) },
			// Btrfs does not count subdirectories, and can't shift ranges.
			Features: fstest.Features{NoDirNlink: kind == "btrfs", NoShift: kind == "btrfs"},
		}
		fstest.Run(t, cfg)
		t.Run("random", func(t *testing.T) { fstest.Random(t, cfg, 2000) })
		t.Run("randomConcurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000) })
	})
}
