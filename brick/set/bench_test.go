package set

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
)

// onDisk makes members of bricks.
func onDisk(t testing.TB, i int) (volume.Member, string) {
	dir := t.TempDir()
	id := brick.Identity{VolumeID: "v", Volume: "v", Set: 1, BrickID: fmt.Sprintf("m%d", i)}
	if err := brick.Init(context.Background(), dir, id); err != nil {
		t.Fatal(err)
	}
	s, err := brick.Open(dir, brick.Options{Expect: id})
	if err != nil {
		t.Fatal(err)
	}
	s.Hold()
	t.Cleanup(func() { s.Close() })
	return s, dir + "/.mortar/log"
}

// BenchmarkChanges makes changes on sets of bricks whose members call each other directly:
// what a change costs beside the wire.
func BenchmarkChanges(b *testing.B) {
	for members := 1; members <= 3; members++ {
		c := newCluster(b, members, onDisk)
		for _, n := range c.nodes {
			n.start()
		}
		c.allInSync(10 * time.Second)
		_, s := c.primary(10 * time.Second)
		ctx := context.Background()
		block := make([]byte, 4096)
		f, _, err := s.Create(ctx, volume.Root, "data", volume.Node{Mode: 0o644}, volume.Read|volume.Write)
		if err != nil {
			b.Fatal(err)
		}
		serial := 0
		for _, op := range []struct {
			name string
			do   func(i int) error
		}{
			{"write4k", func(i int) error { _, err := f.WriteAt(ctx, block, int64(i%256)*4096, 0); return err }},
			{"read4k", func(i int) error { _, err := f.ReadAt(ctx, block, int64(i%256)*4096); return err }},
			{"create", func(i int) error {
				serial++
				f, _, err := s.Create(ctx, volume.Root, fmt.Sprint("f", serial), volume.Node{Mode: 0o644}, volume.Read|volume.Write)
				if err == nil {
					err = f.Close()
				}
				return err
			}},
			{"create, write and set, close", func(i int) error {
				serial++
				f, _, err := s.Create(ctx, volume.Root, fmt.Sprint("f", serial), volume.Node{Mode: 0o644}, volume.Read|volume.Write)
				if err == nil {
					_, err = f.WriteSet(ctx, block, 0, 0, volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 1000}})
				}
				if err == nil {
					err = f.Close()
				}
				return err
			}},
			{"bear", func(i int) error {
				serial++
				_, err := s.Make(ctx, volume.Root, fmt.Sprint("f", serial), volume.Node{Mode: 0o100644, Data: block,
					Then: volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 1000}}})
				return err
			}},
			{"lookup", func(i int) error { _, err := s.Lookup(ctx, volume.Root, "data"); return err }},
		} {
			b.Run(fmt.Sprintf("%s/%d", op.name, members), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := op.do(i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		for _, n := range c.nodes {
			n.stop()
		}
	}
}
