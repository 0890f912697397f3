package brick

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// warmed makes a file and syncs it until it is in logged mode; it returns a handle.
func warmed(t *testing.T, s *Store, name string) volume.File {
	t.Helper()
	h, _, err := s.Create(ctx, volume.Root, name, volume.Node{ID: volume.NewID(2), Mode: unix.S_IFREG | 0o644}, volume.Read|volume.Write|volume.Excl)
	check(t, err)
	check(t, h.Close())
	h, err = s.Open(ctx, h.ID(), volume.Read|volume.Write)
	check(t, err)
	t.Cleanup(func() { h.Close() })
	warm(t, s, h)
	return h
}

func warm(t *testing.T, s *Store, h volume.File) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !logged(s, h.ID()); {
		check(t, h.Sync(ctx, false))
		if time.Now().After(deadline) {
			t.Fatal("it does not get into logged mode")
		}
	}
}

// logged reports whether an object is in logged mode.
func logged(s *Store, id volume.ID) bool {
	o := s.fsyncs.hold(id)
	defer s.fsyncs.drop(o)
	return s.fsyncs.isLogged(o)
}

// syncs records the calls that make files durable and those that write, by the name of the file (of objects: the ID). It fails them at will.
type syncs struct {
	sys.Sys
	mu    sync.Mutex
	calls []string
	fail  func(call string) error
}

func (c *syncs) note(what string, fd int) error {
	name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	call := what + " " + filepath.Base(strings.TrimSuffix(name, " (deleted)"))
	c.mu.Lock()
	c.calls = append(c.calls, call)
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail(call)
	}
	return nil
}

// before has fail called before each call from now on; nil: nothing.
func (c *syncs) before(fail func(call string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

// since returns what was recorded since it was called last, each call once, without what follows "fsync-" of a name.
func (c *syncs) since() (calls []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls, c.calls = c.calls, nil
	for i, call := range calls {
		calls[i] = strings.NewReplacer("fsync-0", "log", "fsync-1", "log").Replace(call)
	}
	return calls
}

func (c *syncs) Pwrite(fd int, p []byte, off int64, flags int) (int, error) {
	if err := c.note("write", fd); err != nil {
		return 0, err
	}
	return c.Sys.Pwrite(fd, p, off, flags)
}

func (c *syncs) Fsync(fd int) error {
	if err := c.note("fsync", fd); err != nil {
		return err
	}
	return c.Sys.Fsync(fd)
}

func (c *syncs) Fdatasync(fd int) error {
	if err := c.note("fdatasync", fd); err != nil {
		return err
	}
	return c.Sys.Fdatasync(fd)
}

// TestSyncByLog: which calls make a file durable, by what was done to it before.
func TestSyncByLog(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: c, fsyncIdle: time.Hour})
	var h volume.File
	add := func() error { _, err := h.Append(ctx, []byte("x"), 0); return err }
	fsync := func() error { return h.Sync(ctx, false) }
	set := func(ch volume.Change) func() error {
		return func() error { _, err := h.Setattr(ctx, ch); return err }
	}
	byLog, left := "write ID|write log|fdatasync log", "fsync ID|write log|fdatasync log"
	for name, sc := range map[string]struct {
		do   []func() error
		want string
	}{
		"append":            {[]func() error{add, fsync}, byLog},
		"fdatasync":         {[]func() error{add, func() error { return h.Sync(ctx, true) }}, byLog},
		"nothing":           {[]func() error{fsync}, ""},
		"again":             {[]func() error{add, fsync, fsync}, byLog},
		"synced write":      {[]func() error{func() error { _, err := h.WriteAt(ctx, []byte("y"), 3, volume.WriteDataSync); return err }}, byLog},
		"chmod":             {[]func() error{add, set(volume.Change{Mask: volume.SetMode, Mode: 0o600}), fsync}, "write ID|write log|fsync ID|write log|fdatasync log"},
		"chmod, fdatasync":  {[]func() error{set(volume.Change{Mask: volume.SetMode, Mode: 0o600}), func() error { return h.Sync(ctx, true) }, fsync}, "fsync ID"},
		"attribute":         {[]func() error{func() error { return s.Setxattr(ctx, h.ID(), "user.a", []byte("b"), 0) }, fsync}, "fsync ID"},
		"link":              {[]func() error{func() error { _, err := s.Link(ctx, h.ID(), volume.Root, "g"); return err }, fsync}, "fsync ID"},
		"rename":            {[]func() error{func() error { return s.Rename(ctx, volume.Root, "f", volume.Root, "g", 0) }, fsync}, "fsync ID"},
		"truncate":          {[]func() error{add, set(volume.Change{Mask: volume.SetSize}), fsync}, "write ID|write log|" + left + "|fsync ID"},
		"truncate, unread":  {[]func() error{set(volume.Change{Mask: volume.SetSize}), fsync}, "fsync ID"},
		"utimes":            {[]func() error{add, set(volume.Change{Mask: volume.SetMtime}), fsync}, "write ID|write log|" + left + "|fsync ID"},
		"write much":        {[]func() error{add, func() error { _, err := h.WriteAt(ctx, make([]byte, 65<<10), 0, 0); return err }, fsync}, "write ID|write log|fsync ID|write log|fdatasync log|write ID|fsync ID"},
		"punch":             {[]func() error{add, func() error { return h.Allocate(ctx, volume.AllocPunchHole|volume.AllocKeepSize, 0, 1) }, fsync}, "write ID|write log|" + left + "|fsync ID"},
		"the whole by name": {[]func() error{add, func() error { return s.Sync(ctx, h.ID()) }}, byLog},
	} {
		h = warmed(t, s, "f")
		c.since()
		for _, f := range sc.do {
			check(t, f())
		}
		got := strings.ReplaceAll(strings.Join(c.since(), "|"), h.ID().String(), "ID")
		if got != sc.want {
			t.Errorf("%s: %q, want %q", name, got, sc.want)
		}
		s.Unlink(ctx, volume.Root, "f")
		s.Unlink(ctx, volume.Root, "g")
	}
}

// TestSyncHandlesByLog: handles that make every write durable do so by the log, too.
func TestSyncHandlesByLog(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: c, fsyncIdle: time.Hour})
	id := warmed(t, s, "f").ID()
	for _, flag := range []volume.Flags{volume.DataSync, volume.FullSync} {
		h, err := s.Open(ctx, id, volume.Write|flag)
		check(t, err)
		c.since()
		_, err = h.WriteAt(ctx, []byte("x"), 5, 0)
		check(t, err)
		if got := strings.Join(c.since(), "|"); got != "write "+id.String()+"|write log|fdatasync log" {
			t.Errorf("flag %#x: %q", flag, got)
		}
		check(t, h.Close())
	}
}

// crashed ends a store as the end of its process does.
func crashed(t *testing.T, f *sys.Faulty, s *Store) {
	t.Helper()
	f.Crash(1)
	check(t, s.Close())
}

// TestSameBoot: after the end of the process alone the log is not written to its objects, which may be newer; they are synced, and it is empty.
func TestSameBoot(t *testing.T) {
	path := newBrick(t)
	f := &sys.Faulty{Sys: sys.Real{}}
	s := openBrick(t, path, Options{sys: f, Boot: "one", fsyncIdle: time.Hour})
	h := warmed(t, s, "f")
	_, err := h.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
	check(t, err)
	crashed(t, f, s)
	check(t, os.WriteFile(path+"/f", []byte("of an operation under way"), 0))
	c := &syncs{Sys: sys.Real{}}
	s = openBrick(t, path, Options{sys: c, Boot: "one"})
	if got := c.since(); !slices.Contains(got, "fsync "+h.ID().String()) || slices.Contains(got, "write "+h.ID().String()) {
		t.Errorf("%q", got)
	}
	check(t, s.Close())
	c.since()
	s = openBrick(t, path, Options{sys: c, Boot: "two"})
	if got := contents(t, s, h.ID()); got != "of an operation under way" {
		t.Errorf("it has %q", got)
	}
	if got := strings.Join(c.since(), "|"); strings.Contains(got, h.ID().String()) {
		t.Errorf("of the log that was emptied %q was done", got)
	}
}

// TestOtherBoot: after a boot what the log has is written to the objects, with the mtime; those that have gone are left out.
func TestOtherBoot(t *testing.T) {
	path := newBrick(t)
	f := &sys.Faulty{Sys: sys.Real{}}
	s := openBrick(t, path, Options{sys: f, Boot: "one", fsyncIdle: time.Hour})
	h, gone := warmed(t, s, "f"), warmed(t, s, "g")
	_, err := h.WriteAt(volume.WithFixed(ctx, volume.Fixed{Now: volume.Time{Sec: 1e9, Nsec: 8}}), []byte("promised"), 0, volume.WriteFullSync)
	check(t, err)
	_, err = gone.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
	check(t, err)
	check(t, gone.Close())
	check(t, s.Unlink(ctx, volume.Root, "g"))
	crashed(t, f, s)
	check(t, os.Truncate(path+"/f", 0)) // as if it had never been written
	s = openBrick(t, path, Options{Boot: "two"})
	a, err := s.Getattr(ctx, h.ID())
	if got := contents(t, s, h.ID()); err != nil || got != "promised" || a.Mtime != (volume.Time{Sec: 1e9, Nsec: 8}) {
		t.Errorf("it has %q, mtime %v, %v", got, a.Mtime, err)
	}
	_, err = s.Getattr(ctx, gone.ID())
	wants(t, err, unix.ESTALE)
}

// TestCloseEmptiesLog: a brick that was closed is not changed by its next opening, wherever that is.
func TestCloseEmptiesLog(t *testing.T) {
	path := newBrick(t)
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, path, Options{sys: c, Boot: "one", fsyncIdle: time.Hour})
	h := warmed(t, s, "f")
	_, err := h.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
	check(t, err)
	c.since()
	check(t, s.Close())
	if got := c.since(); !slices.Contains(got, "fsync "+h.ID().String()) {
		t.Errorf("%q", got)
	}
	check(t, os.WriteFile(path+"/f", []byte("newer"), 0))
	s = openBrick(t, path, Options{Boot: "two"})
	if got := contents(t, s, h.ID()); got != "newer" {
		t.Errorf("it has %q", got)
	}
}

// TestIdleLeaves: what is not used any more leaves logged mode by itself, durable.
func TestIdleLeaves(t *testing.T) {
	c := &syncs{Sys: sys.Real{}}
	s := openBrick(t, newBrick(t), Options{sys: c, fsyncIdle: 400 * time.Millisecond})
	h := warmed(t, s, "f")
	_, err := h.WriteAt(ctx, []byte("x"), 0, volume.WriteFullSync)
	check(t, err)
	for deadline := time.Now().Add(20 * time.Second); logged(s, h.ID()); {
		if time.Now().After(deadline) {
			t.Fatal("it stays in logged mode")
		}
	}
	if s.inLiveLog(h.ID()) || s.fsyncs.logged.Load() != 0 || !slices.Contains(c.since(), "fsync "+h.ID().String()) {
		t.Error("it has left, and is not durable")
	}
	check(t, h.Sync(ctx, false))
	if !logged(s, h.ID()) {
		t.Error("the next fsync does not put it back")
	}
}

// TestEmptied: what is in a segment that was emptied is in the objects.
func TestEmptied(t *testing.T) {
	disk := sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(1, 1)))
	f := &sys.Faulty{Sys: disk}
	path := newBrick(t)
	s := openBrick(t, path, Options{sys: f, Boot: "one", segment: smallSegment, fsyncIdle: time.Hour})
	h := warmed(t, s, "f")
	want := []byte{}
	for i := range 4 * smallSegment / 4096 {
		p := bytes.Repeat([]byte{byte(i)}, 100)
		_, err := h.Append(ctx, p, volume.WriteFullSync)
		check(t, err)
		want = append(want, p...)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, full := s.fsyncs.log.ToEmpty(); !full {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the segment is not emptied")
		}
	}
	crashed(t, f, s)
	check(t, disk.Lose())
	s = openBrick(t, path, Options{Boot: "two"})
	if got := contents(t, s, h.ID()); got != string(want) {
		t.Errorf("%d bytes differ from %d from byte %d", len(got), len(want), differs([]byte(got), want))
	}
}

// TestBounded: no more objects are logged, nor remembered, than are meant to be.
func TestBounded(t *testing.T) {
	s := openBrick(t, newBrick(t), Options{fsyncIdle: time.Hour})
	warmed(t, s, "first")
	for i := range fsyncLogged + 500 {
		h, _, err := s.Create(ctx, volume.Root, fmt.Sprint(i), volume.Node{Mode: unix.S_IFREG | 0o644}, volume.Write)
		check(t, err)
		check(t, h.Sync(ctx, false))
		check(t, h.Sync(ctx, false))
		check(t, h.Close())
	}
	known := 0
	for i := range s.fsyncs.shards {
		known += len(s.fsyncs.shards[i].m)
	}
	if n := s.fsyncs.logged.Load(); n != fsyncLogged || known > fsyncLogged+fsyncShards*fsyncKnown {
		t.Errorf("%d are logged, %d known", n, known)
	}
}

// TestMuchIsLeft: a file that is written without a Sync, or changed otherwise between Syncs, is not kept in logged mode.
func TestMuchIsLeft(t *testing.T) {
	s := openBrick(t, newBrick(t), Options{fsyncIdle: time.Hour})
	h := warmed(t, s, "f")
	for range fsyncLong/(32<<10) + 2 {
		_, err := h.Append(ctx, make([]byte, 32<<10), 0)
		check(t, err)
	}
	if logged(s, h.ID()) {
		t.Error("it is logged still")
	}
	left := 0
	for range 64 {
		was := logged(s, h.ID())
		_, err := h.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: 0})
		check(t, err)
		if was {
			left++
		}
		for range 4 {
			_, err = h.Append(ctx, []byte("x"), 0)
			check(t, err)
			check(t, h.Sync(ctx, false))
		}
	}
	if left > 2 {
		t.Errorf("it was put there %d times", left)
	}
}
