package brick

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestBaseIsQuiet: an fsync while something is under way with the file, or begins, does not put it into logged mode.
func TestBaseIsQuiet(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: c, fsyncIdle: time.Hour})
	warmed(t, s, "first")
	id := create(t, s, volume.Root, "f", "")
	h, err := s.Open(ctx, id, volume.Read|volume.Write)
	check(t, err)
	defer h.Close()
	write := func() error { _, err := h.WriteAt(ctx, []byte("x"), 0, 0); return err }
	fsync := func() error { return h.Sync(ctx, false) }
	check(t, fsync())
	for _, sc := range []struct {
		at           string
		outer, inner func() error
	}{{"fsync ", fsync, write}, {"write ", write, fsync}, {"fsync ", fsync, func() error {
		_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetMode, Mode: 0o600})
		return err
	}}} {
		c.before(func(call string) error {
			if call != sc.at+id.String() {
				return nil
			}
			c.before(nil)
			return sc.inner()
		})
		check(t, sc.outer())
		if logged(s, id) {
			t.Errorf("it is logged although something happened at %s", sc.at)
		}
	}
	for range 2 {
		check(t, fsync())
	}
	if !logged(s, id) {
		t.Error("it is not logged although nothing happened")
	}
}

// TestMarkSparesLater: a real fsync of a logged file voids no record of a write that came after it had begun.
func TestMarkSparesLater(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: c, fsyncIdle: time.Hour})
	h := warmed(t, s, "f")
	write := func() error { _, err := h.WriteAt(ctx, []byte("x"), 0, 0); return err }
	for _, later := range []bool{false, true} {
		check(t, write())
		_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetMode, Mode: 0o600})
		check(t, err)
		c.before(func(call string) error {
			if call != "fsync "+h.ID().String() || !later {
				return nil
			}
			c.before(nil)
			return write()
		})
		check(t, h.Sync(ctx, false))
		if s.inLiveLog(h.ID()) != later {
			t.Errorf("a write during the fsync: %v; the log has something: %v", later, !later)
		}
	}
}

// TestNoRoomForLog: on a file system that is nearly full fsync is the real one.
func TestNoRoomForLog(t *testing.T) {
	k := full{sys.Real{}}
	path := newBrick(t)
	s := openBrick(t, path, Options{sys: k})
	id := create(t, s, volume.Root, "f", "x")
	for range 5 {
		check(t, s.Sync(ctx, id))
	}
	check(t, s.Close()) // which waits for whoever makes it
	if files, _ := filepath.Glob(filepath.Join(path, volume.Reserved, logDir, "fsync-*")); len(files) > 0 {
		t.Errorf("there are %q", files)
	}
}

type full struct{ sys.Real }

func (k full) Statfs(fd int) (sys.FileSystem, error) {
	f, err := k.Real.Statfs(fd)
	f.Available = 100
	return f, err
}

// TestLogFails: when the log can't be forced its objects are synced really, it is removed, and nothing is lost.
func TestLogFails(t *testing.T) {
	for _, what := range []string{"write fsync-0", "fdatasync fsync-0"} {
		c := &syncs{Sys: sys.Real{}}
		path := newBrick(t)
		s := openBrick(t, path, Options{sys: c, Boot: "one", fsyncIdle: time.Hour})
		f, g := warmed(t, s, "f"), warmed(t, s, "g")
		_, err := g.WriteAt(ctx, []byte("x"), 0, volume.WriteFullSync)
		check(t, err)
		c.before(func(call string) error {
			if call == what {
				return unix.EIO
			}
			return nil
		})
		c.since()
		_, err = f.WriteAt(ctx, []byte("x"), 0, volume.WriteFullSync)
		check(t, err)
		_, err = g.WriteAt(ctx, []byte("y"), 0, volume.WriteFullSync)
		check(t, err)
		got := c.since()
		if !slices.Contains(got, "fsync "+f.ID().String()) || !slices.Contains(got, "fsync "+g.ID().String()) || s.Unhealthy() != nil {
			t.Errorf("%s: %q, unhealthy: %v", what, got, s.Unhealthy())
		}
		if files, _ := filepath.Glob(filepath.Join(path, volume.Reserved, logDir, "fsync-*")); len(files) > 0 {
			t.Errorf("%s: there are %q", what, files)
		}
		check(t, s.Close())
	}
}

// TestLogStaysWhenFsyncFails: what can't be fsynced really stays in the log, for the next boot to replay, and all else in it promises nothing more.
func TestLogStaysWhenFsyncFails(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	path := newBrick(t)
	s := openBrick(t, path, Options{sys: c, Boot: "one", fsyncIdle: time.Hour})
	f, g := warmed(t, s, "f"), warmed(t, s, "g")
	for _, h := range []volume.File{f, g} {
		_, err := h.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
		check(t, err)
	}
	c.before(func(call string) error {
		if call == "fsync "+f.ID().String() || strings.HasPrefix(call, "fdatasync fsync") {
			return unix.EIO
		}
		return nil
	})
	_, err := g.WriteAt(ctx, []byte("refused"), 0, volume.WriteFullSync)
	wants(t, err, unix.EIO)
	wants(t, f.Sync(ctx, false), unix.EIO)
	if s.Unhealthy() == nil {
		t.Error("it thinks that it is well")
	}
	check(t, s.Close())
	check(t, os.Truncate(path+"/f", 0))
	s = openBrick(t, path, Options{Boot: "two"})
	if got := contents(t, s, f.ID()); got != "promised" {
		t.Errorf("it has %q", got)
	}
}

// TestIDAnew: what the log has of an object that was removed does not come to one that has got its ID since.
func TestIDAnew(t *testing.T) {
	path := newBrick(t)
	f := &sys.Faulty{Sys: sys.Real{}}
	s := openBrick(t, path, Options{sys: f, Boot: "one", fsyncIdle: time.Hour})
	h, g := warmed(t, s, "f"), warmed(t, s, "g")
	for _, h := range []volume.File{h, g} {
		_, err := h.WriteAt(ctx, []byte("of the old one"), 0, volume.WriteFullSync)
		check(t, err)
		check(t, h.Close())
	}
	check(t, s.Unlink(ctx, volume.Root, "f"))
	check(t, s.Unlink(ctx, volume.Root, "g"))
	check(t, s.Install(ctx, volume.Object{Attr: volume.Attr{ID: h.ID(), Mode: unix.S_IFREG | 0o644}}))
	_, err := s.Make(ctx, volume.Root, "g", volume.Node{ID: g.ID(), Mode: unix.S_IFREG | 0o644})
	check(t, err)
	crashed(t, f, s)
	s = openBrick(t, path, Options{Boot: "two"})
	s.Hold()
	for _, id := range []volume.ID{h.ID(), g.ID()} {
		if a, err := s.Getattr(ctx, id); err != nil || a.Size != 0 {
			t.Errorf("it has %d bytes, %v", a.Size, err)
		}
	}
}
