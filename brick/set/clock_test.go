package set

import (
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestTimesAfterAFasterClock has a primary whose clock is ten seconds ahead end, and times set by its successor. What the
// successor decides is later, whatever its clock says: it was ignored, as if it had been overtaken, until its clock had come as far.
func TestTimesAfterAFasterClock(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, onBricks)
	first, s := c.primary(10 * time.Second)
	first.set.reignNow().clock.Store(time.Now().Add(10 * time.Second).UnixNano())
	dir, err := s.Make(t.Context(), volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	must(t, err)
	f, id := newFile(t, s, "a", "hello")
	must(t, f.Close())
	_, err = s.Make(t.Context(), dir.ID, "b", volume.Node{Mode: syscall.S_IFREG | 0o644})
	must(t, err)
	first.end(true)
	_, s = c.otherThan(first, 8*time.Second)
	want := volume.Time{Sec: 1400000001, Nsec: 7}
	for _, id := range []volume.ID{id, dir.ID} {
		_, err := s.Setattr(t.Context(), id, volume.Change{Mask: volume.SetMtime, Mtime: want})
		must(t, err)
	}
	first.start()
	c.allInSync(10 * time.Second)
	for _, n := range c.nodes {
		for _, id := range []volume.ID{id, dir.ID} {
			a, err := n.member.Getattr(t.Context(), id)
			must(t, err)
			if a.Mtime != want {
				t.Errorf("%s: mtime %v of %s, want %v", n.id, a.Mtime, id, want)
			}
		}
	}
}
