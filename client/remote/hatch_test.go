package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// nearBrick is a brick with a server on its own socket, and how often that is asked to read.
type nearBrick struct {
	*brick.Store
	id     string
	path   string
	reads  atomic.Int64
	window *window.Window // that is lent with the word of each object; nil: none
	order  sync.RWMutex   // who reads by a request waits for who writes, as in a set
}

func (b *nearBrick) Step(context.Context, []byte) ([]byte, error) { return nil, nil }

func (b *nearBrick) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := b.Store.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return &nearFile{file, b}, nil
}

func (b *nearBrick) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	file, a, err := b.Store.Create(ctx, dir, name, n, f)
	if err != nil {
		return nil, a, err
	}
	return &nearFile{file, b}, a, nil
}

type nearFile struct {
	volume.File
	b *nearBrick
}

func (f *nearFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.b.reads.Add(1)
	f.b.order.RLock()
	defer f.b.order.RUnlock()
	return f.File.ReadAt(ctx, p, off)
}

// WriteAt counts as a set does.
func (f *nearFile) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	f.b.order.Lock()
	defer f.b.order.Unlock()
	f.b.window.Begin(f.ID())
	defer f.b.window.End(f.ID())
	return f.File.WriteAt(ctx, p, off, flags)
}

func (f *nearFile) Share() (s volume.Shared, err error) {
	if s, err = f.File.(volume.Sharer).Share(); err != nil || f.b.window == nil {
		return s, err
	}
	slot, ok := f.b.window.Take(f.ID())
	if !ok {
		return s, errors.New("no words are left")
	}
	s.Slot = slot
	s.Window, err = f.b.window.File()
	return s, err
}

var nearBricks atomic.Int64

// newNearBrick makes a brick and opens it.
func newNearBrick(t testing.TB) *nearBrick {
	t.Helper()
	b := &nearBrick{id: fmt.Sprintf("test-%d-%d", os.Getpid(), nearBricks.Add(1)), path: t.TempDir()}
	must(t, os.Chmod(b.path, 0o755))
	must(t, brick.Init(t.Context(), b.path, brick.Identity{VolumeID: volumeID, Volume: "v", Set: 1, BrickID: brickID}))
	b.openStore(t)
	return b
}

func (b *nearBrick) openStore(t testing.TB) {
	t.Helper()
	store, err := brick.Open(b.path, brick.Options{})
	must(t, err)
	b.Store = store
	t.Cleanup(func() { store.Close() })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serveNear starts a server on the brick's own socket.
func serveNear(t testing.TB, b *nearBrick) *server.Server {
	t.Helper()
	l, err := wire.ListenLocal(b.id)
	must(t, err)
	s := server.New(server.Config{Set: b, VolumeID: volumeID, BrickID: brickID, Logger: logger(t)})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

// connectNear returns a Remote of it.
func connectNear(t testing.TB, id string, localIO bool) *remote.Remote {
	return connect(t, "", func(c *remote.Config) {
		c.LocalIO, c.Addr = localIO, "local"
		c.Dial = func(ctx context.Context, _ string) (net.Conn, error) { return wire.DialLocal(ctx, id) }
	})
}

// hello makes a file with contents, and opens it.
func hello(t testing.TB, fs volume.FS, name string) volume.File {
	t.Helper()
	f, _, err := fs.Create(t.Context(), volume.Root, name, regular, volume.Read|volume.Write)
	must(t, err)
	_, err = f.WriteAt(t.Context(), []byte("hello"), 0, 0)
	must(t, err)
	return f
}

// readIs reads and compares.
func readIs(t testing.TB, f volume.File, want string) {
	t.Helper()
	b := make([]byte, 100)
	n, err := f.ReadAt(t.Context(), b, 0)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("read %q, %v; want %q", b[:n], err, want)
	}
}

// asked reads once and reports whether that was by a request.
func (b *nearBrick) asked(t testing.TB, f volume.File, want string) bool {
	t.Helper()
	before := b.reads.Load()
	readIs(t, f, want)
	return b.reads.Load() != before
}

// untilLocal reads until it is without a request.
func (b *nearBrick) untilLocal(t testing.TB, f volume.File, want string) {
	t.Helper()
	eventually(t, "a read without a request", func() bool { return !b.asked(t, f, want) })
}

// lends has the brick lend with a window of its own, for so many objects, which is open.
func (b *nearBrick) lends(t testing.TB, objects int) *window.Window {
	t.Helper()
	w, err := window.New(objects)
	must(t, err)
	t.Cleanup(w.Close)
	w.SetUntil(window.Always)
	b.window = w
	return w
}

// held are the files on the brick of which this process has descriptors.
func (b *nearBrick) held(t testing.TB) (files []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range list {
		fd := filepath.Join("/proc/self/fd", e.Name())
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, b.path) {
			continue
		}
		if info, err := os.Stat(fd); err == nil && info.Mode().IsRegular() {
			files = append(files, strings.TrimPrefix(to, b.path))
		}
	}
	return files
}

func TestLocalReads(t *testing.T) {
	b := newNearBrick(t)
	serveNear(t, b)
	r := connectNear(t, b.id, true)
	f := hello(t, r, "a")
	for range 4 {
		if !b.asked(t, f, "hello") {
			t.Fatal("a file that was hardly read is borrowed")
		}
	}
	b.untilLocal(t, f, "hello")
	for range 100 {
		if b.asked(t, f, "hello") {
			t.Error("a read by request, of a file that is borrowed")
		}
	}
	_, err := f.WriteAt(t.Context(), []byte("HELLO, world"), 0, 0)
	must(t, err)
	if b.asked(t, f, "HELLO, world") {
		t.Error("a read by request after a write")
	}
	p := make([]byte, 4)
	if n, err := f.ReadAt(t.Context(), p, 100); n != 0 || err != nil {
		t.Errorf("past the end: %d, %v", n, err)
	}
	must(t, r.Unlink(t.Context(), volume.Root, "a"))
	if b.asked(t, f, "HELLO, world") {
		t.Error("a read by request of a file without a name")
	}
	if _, err := f.ReadAt(t.Context(), p, -1); volume.ErrnoOf(err) != syscall.EINVAL {
		t.Errorf("before the beginning: %v, want EINVAL", err)
	}
}

// TestLocalReadsGivenBack closes files, and turns the option off and on.
func TestLocalReadsGivenBack(t *testing.T) {
	b := newNearBrick(t)
	serveNear(t, b)
	r := connectNear(t, b.id, true)
	f := hello(t, r, "a")
	before := len(b.held(t))
	b.untilLocal(t, f, "hello")
	if n := len(b.held(t)); n != before+1 {
		t.Errorf("%d descriptors more, want 1", n-before)
	}
	r.SetLocalIO(false)
	if n := len(b.held(t)); n != before {
		t.Errorf("%d descriptors more when it is turned off", n-before)
	}
	for range 50 {
		if !b.asked(t, f, "hello") {
			t.Fatal("read without a request, though that is turned off")
		}
	}
	r.SetLocalIO(true)
	b.untilLocal(t, f, "hello")
	must(t, f.Close())
	readIs(t, hello(t, r, "b"), "hello") // tells the brick
	eventually(t, "nothing more is held", func() bool { return len(b.held(t)) == before })
	g := hello(t, connectNear(t, b.id, false), "c")
	for range 50 {
		if !b.asked(t, g, "hello") {
			t.Fatal("read without a request, though that was never turned on")
		}
	}
}

// TestLocalReadsOverTCP has a brick that may be on another machine.
func TestLocalReadsOverTCP(t *testing.T) {
	b := newNearBrick(t)
	_, addr := serve(t, b, nil)
	r := connect(t, addr, func(c *remote.Config) { c.LocalIO = true })
	f := hello(t, r, "a")
	for range 50 {
		if !b.asked(t, f, "hello") {
			t.Fatal("read without a request")
		}
	}
}

// TestLocalReadsAsk has the brick say, in its window, that what is read does not count.
func TestLocalReadsAsk(t *testing.T) {
	b := newNearBrick(t)
	w := b.lends(t, 10)
	serveNear(t, b)
	r := connectNear(t, b.id, true)
	f := hello(t, r, "a")
	b.untilLocal(t, f, "hello")
	w.Begin(f.ID())
	if !b.asked(t, f, "hello") {
		t.Error("read without a request while a change is under way")
	}
	w.End(f.ID())
	if b.asked(t, f, "hello") {
		t.Error("read by request when it is over")
	}
	w.SetUntil(window.Now() + 50*time.Millisecond)
	eventually(t, "the time is over", func() bool { return b.asked(t, f, "hello") })
	w.SetUntil(window.Always)
	if b.asked(t, f, "hello") {
		t.Error("read by request when the time has been extended")
	}
	w.Shut()
	if !b.asked(t, f, "hello") {
		t.Error("read without a request from who serves no more")
	}
}

// TestLocalReadsHangUp has the brick's end of the hatch gone, and nothing else yet: that alone makes the client ask.
func TestLocalReadsHangUp(t *testing.T) {
	b := newNearBrick(t)
	serveNear(t, b)
	var last atomic.Pointer[net.UnixConn] // of the client's connections: the hatch's, when it is there
	r := connect(t, "", func(c *remote.Config) {
		c.LocalIO, c.Addr = true, "local"
		c.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := wire.DialLocal(ctx, b.id)
			if err == nil {
				last.Store(conn.(*net.UnixConn))
			}
			return conn, err
		}
	})
	f := hello(t, r, "a")
	b.untilLocal(t, f, "hello")
	must(t, last.Load().CloseRead()) // as if it came from the other end
	for range 20 {
		if !b.asked(t, f, "hello") {
			t.Fatal("read without a request from a brick that may be gone")
		}
	}
	if !r.Up() {
		t.Error("the client has lost the brick")
	}
}

// TestLocalReadsEnd has another brick serve, and the same one again in a new session.
func TestLocalReadsEnd(t *testing.T) {
	b := newNearBrick(t)
	s := serveNear(t, b)
	r := connectNear(t, b.id, true)
	f := hello(t, r, "a")
	before := len(b.held(t))
	for range 3 {
		b.untilLocal(t, f, "hello")
		s.SetBackend(b)
		if !b.asked(t, f, "hello") {
			t.Fatal("read without a request in a session that is over")
		}
	}
	b.untilLocal(t, f, "hello")
	eventually(t, "one descriptor more than at first is held", func() bool { return len(b.held(t)) == before+1 })
	must(t, r.Close())
	if all := s.Clients(); len(all) > 0 {
		t.Errorf("sessions of a client that is closed: %+v", all)
	}
	eventually(t, "nothing is held", func() bool { return len(b.held(t)) < before })
}
