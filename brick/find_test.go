package brick

import (
	"fmt"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestFind: whatever has an ID is found by a part of it, until it is removed.
func TestFind(t *testing.T) {
	s := openBrick(t, newBrick(t), Options{})
	ids := map[string]volume.ID{}
	for i := range 600 { // more than one to most of the index's directories
		name := fmt.Sprint(i)
		if i%3 == 0 {
			a, err := s.Make(ctx, volume.Root, name, volume.Node{Mode: unix.S_IFDIR | 0o755})
			check(t, err)
			ids[name] = a.ID
		} else {
			ids[name] = create(t, s, volume.Root, name, "")
		}
	}
	for name, id := range ids {
		if found, err := s.Find(ctx, id.Short()); err != nil || found != id {
			t.Fatalf("%s: %s, %v; want %s", name, found, err, id)
		}
	}
	for name, id := range ids {
		remove := s.Unlink
		if a, err := s.Getattr(ctx, id); err == nil && a.IsDir() {
			remove = s.Rmdir
		}
		check(t, remove(ctx, volume.Root, name))
		_, err := s.Find(ctx, id.Short())
		wants(t, err, unix.ESTALE)
	}
}
