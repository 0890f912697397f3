package set

import (
	"context"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestRestoredConfiguration rolls the configuration store back: a member that was out of
// sync must not serve what it has, though the store says that it is in sync.
func TestRestoredConfiguration(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t, 2, inMemory)
	for _, n := range c.nodes {
		n.start()
	}
	c.allInSync(10 * time.Second)
	p, _ := c.primary(10 * time.Second)
	c.auth.mu.Lock()
	old := c.auth.state // with both in sync
	c.auth.mu.Unlock()
	stale := c.nodes[1-p.i]
	stale.stop()
	// The other goes on alone, through a restart.
	p.stop()
	p.start()
	p, s := c.primary(10 * time.Second)
	if _, err := s.Make(ctx, volume.Root, "late", volume.Node{Mode: 0o40755}); err != nil {
		t.Fatal(err)
	}
	p.stop()
	c.auth.mu.Lock()
	c.auth.state, c.auth.rev = old, c.auth.rev+1
	c.auth.mu.Unlock()
	stale.start()
	p.start()
	served, s := c.primary(15 * time.Second)
	if _, err := s.Lookup(ctx, volume.Root, "late"); err != nil {
		t.Errorf("%s serves, and what was acknowledged is gone: %v", served.id, err)
	}
	c.allInSync(15 * time.Second)
	c.equal()
}
