package dht

import (
	"context"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// What only a number is known of is found on whichever set it is; that it does not exist is said only
// if all sets have said so.
func TestFind(t *testing.T) {
	c := newCluster(t, 3, false)
	ctx := context.Background()
	dir, err := c.fs.Make(ctx, volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	below, err := c.fs.Make(ctx, dir.ID, "e", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	made := []volume.ID{dir.ID, below.ID}
	on := map[volume.SetID]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"} {
		f, err := c.fs.Make(ctx, dir.ID, name+name, volume.Node{Mode: syscall.S_IFREG | 0o644})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, f.ID)
		on[f.ID.Born()] = true
	}
	if len(on) != 3 {
		t.Fatalf("all files lie on sets %v", on)
	}
	for _, id := range made {
		if got, err := c.fs.Find(ctx, id.Short()); err != nil || got != id {
			t.Errorf("%s, %v; want %s", got, err, id)
		}
	}
	for child, want := range map[volume.ID]volume.ID{below.ID: dir.ID, dir.ID: volume.Root} {
		if got, err := c.fs.Parent(ctx, child); err != nil || got != want {
			t.Errorf("the parent: %s, %v; want %s", got, err, want)
		}
	}
	nobody := volume.NewID(1)
	if got, err := c.fs.Find(ctx, nobody.Short()); volume.ErrnoOf(err) != syscall.ESTALE {
		t.Errorf("nobody: %s, %v", got, err)
	}
	for _, id := range []volume.ID{nobody, volume.Root, made[2]} {
		if got, err := c.fs.Parent(ctx, id); volume.ErrnoOf(err) != syscall.ESTALE {
			t.Errorf("the parent of %s: %s, %v", id, got, err)
		}
	}
	c.nodes[2].life.Load().dead.Store(true)
	for _, id := range append(made, nobody) {
		got, err := c.fs.Find(ctx, id.Short())
		if found := err == nil && got == id; !found && volume.ErrnoOf(err) != syscall.EIO || id == nobody && found {
			t.Errorf("with a set away: %s, %v; want %s", got, err, id)
		}
	}
}
