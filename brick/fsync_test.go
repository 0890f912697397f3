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

// TestUnlinkStopped: a logged object whose unlinking is stopped has its promised contents, if it has its name.
func TestUnlinkStopped(t *testing.T) {
	at := onMemory(t)
	for n := 1; ; n++ {
		path := fmt.Sprint(at, "/", n)
		check(t, os.Mkdir(path, 0o755))
		check(t, Init(ctx, path, testIdentity))
		disk := sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(1, uint64(n))))
		f := &sys.Faulty{Sys: disk}
		s := openBrick(t, path, Options{sys: f, Boot: "one", segment: smallSegment, fsyncIdle: time.Hour})
		h := warmed(t, s, "f")
		_, err := h.WriteAt(ctx, []byte("promised"), 0, volume.WriteFullSync)
		check(t, err)
		check(t, h.Close())
		f.Crash(n)
		err = s.Unlink(ctx, volume.Root, "f")
		failed := f.Failed()
		crashed(t, f, s)
		if err := os.Truncate(path+"/f", 0); !os.IsNotExist(err) { // what of it was not synced is lost
			check(t, err)
		}
		disk.Keep()
		s = openBrick(t, path, Options{Boot: "two"})
		if a, err := s.Lookup(ctx, volume.Root, "f"); err == nil {
			if got := contents(t, s, a.ID); got != "promised" {
				t.Errorf("stopped before call %d, %s: it has %q", n, failed, got)
			}
		}
		check(t, s.Close())
		if failed == "" {
			return
		}
	}
}

// TestConcurrentPromises: while many write to the same places of a file and sync it, and some change it otherwise, the log follows the
// file: what is there when all have synced is there after a power failure, and what is there after a boot without one, too.
func TestConcurrentPromises(t *testing.T) {
	at := onMemory(t)
	for seed := range uint64(12) {
		path := fmt.Sprint(at, "/", seed)
		check(t, os.Mkdir(path, 0o755))
		check(t, Init(ctx, path, testIdentity))
		disk := sys.NewLossy(sys.Real{}, rand.New(rand.NewPCG(seed, 2)))
		f := &sys.Faulty{Sys: disk}
		s := openBrick(t, path, Options{sys: f, Boot: "one", segment: smallSegment, fsyncIdle: time.Hour})
		h := warmed(t, s, "f")
		var work sync.WaitGroup
		for i := range byte(4) {
			work.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for n := range 60 {
					_, err := h.WriteAt(ctx, bytes.Repeat([]byte{1 + byte(n)*4 + i}, 1+r.IntN(3000)), int64(r.IntN(4000)), 0)
					check(t, err)
					switch r.IntN(12) {
					case 0:
						_, err = h.Setattr(ctx, volume.Change{Mask: volume.SetMode, Mode: 0o600})
					case 1:
						_, err = h.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: int64(r.IntN(6000))})
					case 2:
					default:
						err = h.Sync(ctx, r.IntN(2) == 0)
					}
					check(t, err)
				}
				if seed%2 == 0 {
					check(t, h.Sync(ctx, false))
				}
			})
		}
		work.Wait()
		want := contents(t, s, h.ID())
		crashed(t, f, s)
		if seed%2 == 0 {
			check(t, disk.Lose())
		}
		disk.Keep()
		s = openBrick(t, path, Options{Boot: "two"})
		if got := contents(t, s, h.ID()); got != want {
			t.Errorf("seed %d: it differs from byte %d", seed, differs([]byte(got), []byte(want)))
		}
		check(t, s.Close())
	}
}
