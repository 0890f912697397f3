package set

import (
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// content reads a file of a store by its ID.
func content(t *testing.T, s volume.Store, id volume.ID) string {
	t.Helper()
	f, err := s.Open(t.Context(), id, volume.Read)
	must(t, err)
	defer f.Close()
	p := make([]byte, 100)
	n, err := f.ReadAt(t.Context(), p, 0)
	must(t, err)
	return string(p[:n])
}

// newFile makes a file with a content, and leaves it open.
func newFile(t *testing.T, s volume.Store, name, content string) (volume.File, volume.ID) {
	t.Helper()
	f, a, err := s.Create(t.Context(), volume.Root, name, volume.Node{Mode: 0o644}, volume.Read|volume.Write)
	must(t, err)
	_, err = f.WriteAt(t.Context(), []byte(content), 0, 0)
	must(t, err)
	return f, a.ID
}

// otherThan waits until another node than n serves.
func (c *cluster) otherThan(n *node, within time.Duration) (*node, volume.Store) {
	c.t.Helper()
	var s *served
	c.eventually("another member serves", within, func() bool {
		s = c.serving()
		return s != nil && s.p.n != n
	})
	return s.p.n, s.store
}

// TestOpenAtOneDeposed has a primary that hangs until another has taken over, and then closes what its
// clients had open, as its service does: what has no name stays there, for they are at the next one.
func TestOpenAtOneDeposed(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	first, s := c.primary(10 * time.Second)
	f, id := newFile(t, s, "a", "hello")
	must(t, s.Unlink(t.Context(), volume.Root, "a"))
	first.proc.pause()
	second := c.nodes[1-first.i]
	c.eventually("the other one takes over", 8*time.Second, func() bool { return second.set.reignNow() != nil })
	first.proc.resume()
	c.otherThan(first, 8*time.Second)
	c.eventually("the first has noticed", 8*time.Second, func() bool { return first.set.reignNow() == nil || first.set.reignNow().deposed() })
	must(t, f.Close())
	c.allInSync(10 * time.Second)
	second.end(true)
	third, s := c.otherThan(second, 8*time.Second)
	if got := content(t, s, id); third != first || got != "hello" {
		t.Errorf("at %s: %q", third.id, got)
	}
}

// TestUnlinkedBeforeItIsOpenedAgain has a file unlinked, after a failover, before the client comes back
// that has it open.
func TestUnlinkedBeforeItIsOpenedAgain(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	first, s := c.primary(10 * time.Second)
	_, id := newFile(t, s, "a", "hello")
	_, young := newFile(t, s, "b", "") // has a last handle in the new reign
	first.end(true)
	_, s = c.otherThan(first, 8*time.Second)
	must(t, s.Unlink(t.Context(), volume.Root, "a"))
	must(t, s.Unlink(t.Context(), volume.Root, "b"))
	g, err := s.Open(t.Context(), young, volume.Read)
	must(t, err)
	must(t, g.Close())
	h, err := s.Open(t.Context(), id, volume.Read)
	must(t, err)
	if got := content(t, s, id); got != "hello" {
		t.Errorf("it has %q", got)
	}
	// What is made and unlinked in this reign has nobody to wait for.
	i, born := newFile(t, s, "c", "")
	must(t, i.Close())
	must(t, s.Unlink(t.Context(), volume.Root, "c"))
	if _, err := s.Getattr(t.Context(), born); volume.ErrnoOf(err) != estale {
		t.Errorf("what was born in this reign, and unlinked: %v", err)
	}
	must(t, s.Orphans(t.Context()))
	if _, err := s.Getattr(t.Context(), young); volume.ErrnoOf(err) != estale {
		t.Errorf("what nobody has come back for: %v", err)
	}
	if got := content(t, s, id); got != "hello" {
		t.Errorf("after the time to come back it has %q", got)
	}
	must(t, h.Close())
	if _, err := s.Getattr(t.Context(), id); volume.ErrnoOf(err) != estale {
		t.Errorf("after its last handle was closed: %v", err)
	}
	first.start()
	c.allInSync(10 * time.Second)
	for _, n := range c.nodes {
		c.eventually("nothing is left", 5*time.Second, func() bool {
			ids, err := n.member.Nameless(t.Context())
			must(t, err)
			return len(ids) == 0
		})
	}
}

// TestReplacedSoonAfterItsRenaming has a file that somebody has open renamed, as over several sets, so that its former name is
// kept aside for a while, and its new name replaced within that while. It is there for who opens it again, whoever has become the primary.
func TestReplacedSoonAfterItsRenaming(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, onBricks)
	first, s := c.primary(10 * time.Second)
	_, id := newFile(t, s, "old", "hello")
	_, err := s.Link(t.Context(), id, volume.Root, "new")
	must(t, err)
	k := volume.Key{Set: 1, Intent: 1}
	must(t, s.Discard(t.Context(), volume.Root, "old", id, k))
	_, err = s.Make(t.Context(), volume.Root, "next", volume.Node{Mode: syscall.S_IFREG | 0o644})
	must(t, err)
	must(t, s.Rename(t.Context(), volume.Root, "next", volume.Root, "new", 0))

	first.end(true)
	second, s := c.otherThan(first, 8*time.Second)
	if got := content(t, s, id); got != "hello" {
		t.Errorf("after a failover: %q", got)
	}
	must(t, s.Purge(t.Context(), k))
	first.start()
	c.allInSync(10 * time.Second)
	second.end(true)
	_, s = c.otherThan(second, 8*time.Second)
	if got := content(t, s, id); got != "hello" {
		t.Errorf("after another: %q", got)
	}
	must(t, s.Orphans(t.Context()))
	if _, err := s.Getattr(t.Context(), id); volume.ErrnoOf(err) != estale {
		t.Errorf("nobody came back for it: %v", err)
	}
}

// TestGoneThoughAMemberHasItOpen opens a file by its ID after it has lost its last name, while nobody had it open, at a primary that as a backup
// has written to it, and has it open for that still. It is not to be had: the other members do not keep it.
func TestGoneThoughAMemberHasItOpen(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, onBricks)
	first, s := c.primary(10 * time.Second)
	f, id := newFile(t, s, "a", "hello")
	must(t, f.Close())
	must(t, s.Discard(t.Context(), volume.Root, "a", id, volume.Key{Set: 1, Intent: 1}))
	first.end(true)
	_, s = c.otherThan(first, 8*time.Second)
	if f, err := s.Open(t.Context(), id, volume.Read); volume.ErrnoOf(err) != estale {
		t.Errorf("it was opened: %v", err)
		must(t, f.Close())
	}
}
