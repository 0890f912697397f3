package cluster

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/treecmp"
)

// What a member missed while it was away costs what it is worth: many small
// files in a minute, of a big file only what was changed. A soak has the full sizes.
func TestSoakHealFigures(t *testing.T) {
	t.Parallel()
	files, size := 1000, int64(64<<20)
	if soaking() {
		files, size = 10000, 1<<30
	}
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", 1)
	mount := c.Mount(0, "v")
	away := c.Servers[2]
	phase := Phases(t)

	small := func(round int) {
		for i := range files {
			path := filepath.Join(mount, "small", strconv.Itoa(i%100), strconv.Itoa(i))
			if err := os.WriteFile(path, fmt.Appendf(nil, "%d in round %d", i, round), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 100 {
		if err := os.MkdirAll(filepath.Join(mount, "small", strconv.Itoa(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	small(1)
	big := filepath.Join(mount, "big")
	writeBig(t, big, size)
	phase("written")

	c.leave(away)
	small(2)
	phase(fmt.Sprintf("%d small files changed while a member is away", files))
	h, took := c.comeBack(away)
	t.Logf("%d small files changed while a member was away: healed in %v (%d files, %d bytes)", files, took.Round(time.Millisecond), h.HealedFiles, h.HealedBytes)
	if took > time.Minute {
		t.Errorf("it took %v, want at most 1 m", took)
	}

	c.leave(away)
	changed := changeBig(t, big, size)
	h, took = c.comeBack(away)
	t.Logf("%d of %d bytes of a file changed while a member was away: %d bytes copied in %v", changed, size, h.HealedBytes, took.Round(time.Millisecond))
	if limit := uint64(4 * changed); h.HealedBytes > limit || h.HealedBytes < uint64(changed) {
		t.Errorf("%d bytes copied, want %d to %d", h.HealedBytes, changed, limit)
	}
	c.AwaitEqual("v")
	phase("compared")
}

// writeBig writes a file of random blocks.
func writeBig(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dice := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(b)) {
		dice.Read(b)
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
}

// changeBig changes a thousandth of a file, in 16 places, and returns how many bytes.
func changeBig(t *testing.T, path string, size int64) int64 {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const places = 16
	b := make([]byte, size/1024/places)
	for i := range int64(places) {
		rand.NewChaCha8([32]byte{2, byte(i)}).Read(b)
		if _, err := f.WriteAt(b, i*(size/places)+size/places/3/4096*4096); err != nil {
			t.Fatal(err)
		}
	}
	return places * int64(len(b))
}

// leave takes a server's power and waits until its member is out of sync.
func (c *Cluster) leave(s *Server) {
	c.t.Helper()
	s.PowerOff()
	c.awaitOut(s)
}

// awaitOut waits until the member on a server is out of sync.
func (c *Cluster) awaitOut(s *Server) {
	c.t.Helper()
	Eventually(c.t, s.Name+" is out of sync", func() error {
		heals, err := c.Servers[0].Heals("v")
		for _, h := range heals {
			if h.Host == s.Name && h.Role == "out of sync" {
				return nil
			}
		}
		return fmt.Errorf("%+v, %w", heals, err)
	})
}

// comeBack gives a server its power back and returns how its member was healed,
// and how long that took from the moment at which it ran again.
func (c *Cluster) comeBack(s *Server) (Heal, time.Duration) {
	c.t.Helper()
	s.PowerOn()
	s.AwaitAnswer()
	begin := time.Now()
	c.AwaitInSync("v")
	took := time.Since(begin)
	heals, err := c.Servers[0].Heals("v")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range heals {
		if h.Host == s.Name {
			return h, took
		}
	}
	c.t.Fatalf("%s has no member: %+v", s.Name, heals)
	return Heal{}, 0
}

// A member loses its disk, its server or its mind, and becomes equal to the
// others again, by the commands that are there for that.
func TestSetRepaired(t *testing.T) {
	t.Parallel()
	c := New(t, 4)
	c.Pool()
	c.Replicated("v", 1, c.Servers[:3]...)
	mount := c.Mount(0, "v")
	tree(t, mount)
	load := StartLoad(t, mount)
	defer load.end()

	t.Run("reset-brick", func(t *testing.T) { resetEmptied(c.In(t)) })
	t.Run("damaged", func(t *testing.T) { damaged(c.In(t)) })
	t.Run("replace-brick", func(t *testing.T) { replaced(c.In(t)) })
	load.Finish(10 * time.Second)
	c.AwaitInSync("v")
	c.AwaitEqual("v")
	if sum := sumOf(t, filepath.Join(mount, "tree", "data")); sum != sha256.Sum256(treeData()) {
		t.Error("the tree's data have changed")
	}
}

// tree makes a little of everything.
func tree(t *testing.T, mount string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(mount, "tree", name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(at("a/b/c"), 0o750))
	must(os.WriteFile(at("data"), treeData(), 0o640))
	must(os.WriteFile(at("lost"), []byte("lost and found"), 0o644))
	must(os.WriteFile(at("short"), treeData()[:100000], 0o600))
	must(os.WriteFile(at("unlinked"), []byte("no ID link"), 0o644))
	must(os.Link(at("data"), at("a/b/c/second")))
	must(os.Symlink("a/b", at("link")))
	must(unix.Mkfifo(at("pipe"), 0o600))
	must(unix.Setxattr(at("data"), "user.colour", []byte("blue"), 0))
	must(os.Chown(at("short"), 1234, 5678))
	for i := range 200 {
		must(os.WriteFile(at(fmt.Sprintf("a/%d", i)), fmt.Append(nil, i), 0o644))
	}
	sparse, err := os.Create(at("sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("end"), 10<<20)
	must(err)
	must(sparse.Close())
}

func treeData() []byte {
	b := make([]byte, 300000)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func sumOf(t *testing.T, path string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return sha256.Sum256(b)
}

// resetEmptied empties a brick that was taken out of service for that.
func resetEmptied(c *Cluster) {
	s := c.Servers[1]
	brick := s.Host + ":" + s.BrickDir("v", 0)
	c.Servers[0].Must("volume", "reset-brick", "v", brick, "start")
	c.awaitOut(s)
	s.WipeBricks("v")
	c.Servers[0].Must("volume", "reset-brick", "v", brick, brick, "commit", "force")
	c.AwaitInSync("v")
}

// damaged changes files on a backup's disk, and has that found.
func damaged(c *Cluster) {
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	primary := c.AwaitPrimary("v", 1)
	var backup Member
	members, err := c.Members("v")
	must(err)
	for _, m := range members {
		if m.Path != primary.Path {
			backup = m
		}
	}
	at := func(name string) string { return filepath.Join(backup.Path, "tree", name) }
	var id [16]byte
	_, err = unix.Getxattr(at("unlinked"), "trusted.mortar.id", id[:])
	must(err)
	hex := fmt.Sprintf("%x", id)
	links, err := filepath.Glob(filepath.Join(backup.Path, ".mortar", "id", hex[:2], "*"))
	must(err)
	var st, other unix.Stat_t
	must(unix.Stat(at("unlinked"), &st))
	for _, l := range links {
		if unix.Lstat(l, &other) == nil && other.Ino == st.Ino {
			must(os.Remove(l))
		}
	}
	must(os.Remove(at("lost")))
	must(os.Truncate(at("short"), 500))
	f, err := os.OpenFile(at("data"), os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteAt([]byte("altered"), 200000)
	must(err)
	must(f.Close())
	must(os.Chmod(at("a/7"), 0o777))
	must(unix.Setxattr(at("data"), "user.colour", []byte("red"), 0))

	c.Servers[0].Must("volume", "heal", "v", "full")
	EventuallyIn(c.t, healDeadline, "the damage is mended", func() error {
		var st unix.Stat_t
		if err := unix.Stat(at("short"), &st); err != nil || st.Size != 100000 {
			return fmt.Errorf("short has %d bytes, %w", st.Size, err)
		}
		if err := unix.Stat(at("a/7"), &st); err != nil || st.Mode&0o777 != 0o644 {
			return fmt.Errorf("a/7 has mode %o, %w", st.Mode, err)
		}
		if _, err := os.Stat(at("lost")); err != nil {
			return err
		}
		if b, err := os.ReadFile(at("data")); err != nil || sha256.Sum256(b) != sha256.Sum256(treeData()) {
			return fmt.Errorf("data differ, %w", err)
		}
		if differ, err := treecmp.Compare(filepath.Join(primary.Path, "tree"), filepath.Join(backup.Path, "tree"), treecmp.Options{Mtime: true}); err != nil || len(differ) > 0 {
			return fmt.Errorf("%v, %w", differ, err)
		}
		return c.inSync("v")
	})
}

// replaced has a server die for good, and another take its brick's place.
func replaced(c *Cluster) {
	gone, coming := c.Servers[2], c.Servers[3]
	gone.PowerOff()
	c.awaitOut(gone)
	c.Servers[0].Must("volume", "replace-brick", "v", gone.Host+":"+gone.BrickDir("v", 0), coming.Bricks("v", 1)[0], "commit", "force")
	c.AwaitInSync("v")
	if pid := c.AwaitPrimary("v", 1).PID; syscall.Kill(pid, 0) != nil {
		c.t.Errorf("the primary %d does not run", pid)
	}
}
