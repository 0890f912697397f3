package set

import (
	"context"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// TestConformance holds sets of one to three members to the contract.
func TestConformance(t *testing.T) {
	for members := 1; members <= 3; members++ {
		t.Run(map[int]string{1: "one", 2: "two", 3: "three"}[members], func(t *testing.T) {
			var last *cluster
			cfg := fstest.Config{New: func(t *testing.T) volume.FS {
				c := newCluster(t, members, inMemory)
				for _, n := range c.nodes {
					n.start()
				}
				c.allInSync(10 * time.Second)
				_, s := c.primary(10 * time.Second)
				last = c
				return s
			}}
			fstest.Run(t, cfg)
			t.Run("random", func(t *testing.T) { fstest.Random(t, cfg, 1000); last.equal() })
			t.Run("randomConcurrent", func(t *testing.T) { fstest.RandomConcurrent(t, cfg, 1000); last.equal() })
		})
	}
}

// TestMembersComeAndGo loses and takes back members under way.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := newCluster(t, 3, inMemory)
	for _, n := range c.nodes {
		n.start()
	}
	c.allInSync(10 * time.Second)
	for round := range 6 {
		p, s := c.primary(10 * time.Second)
		name := string(rune('a' + round))
		f, _, err := s.Create(ctx, volume.Root, name, volume.Node{Mode: 0o644}, volume.Read|volume.Write)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(ctx, []byte("hello "+name), 0, 0); err != nil {
			t.Fatal(err)
		}
		victim := p
		if round%2 == 1 {
			victim = c.nodes[(p.i+1)%3]
		}
		victim.stop()
		began := time.Now()
		_, s = c.primary(20 * time.Second)
		if _, err := s.Make(ctx, volume.Root, "dir-"+name, volume.Node{Mode: 0o40755}); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %s lost, service again after %v", round, victim.id, time.Since(began))
		a, err := s.Lookup(ctx, volume.Root, name)
		if err != nil || a.Size != 7 {
			t.Fatalf("%s: %+v %v", name, a, err)
		}
		victim.start()
		c.allInSync(20 * time.Second)
		c.equal()
	}
}
