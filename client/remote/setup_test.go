package remote_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

const (
	volumeID = "6a3f0c9e-0000-4000-8000-000000000001"
	brickID  = "6a3f0c9e-0000-4000-8000-000000000002"
)

var regular = volume.Node{Mode: syscall.S_IFREG | 0o644}

// backend is a model with a Step, whose calls can be counted, held and broken.
type backend struct {
	volume.FS
	unlinks atomic.Int64
	appends atomic.Int64
	closes  atomic.Int64
	dated   atomic.Pointer[volume.Time]   // of the last Unlink or Rmdir; nil: it was not
	hold    atomic.Pointer[chan struct{}] // if not nil, Unlink, Rmdir, Append and ReadAt wait for it or their context
	held    chan struct{}                 // gets a value when one begins to wait
	fails   atomic.Pointer[error]         // if not nil, how Unlink ends
}

func newBackend() *backend { return &backend{FS: model.New(), held: make(chan struct{}, 1000)} }

func (b *backend) wait(ctx context.Context) error {
	hold := b.hold.Load()
	if hold == nil {
		return nil
	}
	b.held <- struct{}{}
	select {
	case <-*hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *backend) Step(ctx context.Context, step []byte) ([]byte, error) {
	if string(step) == "panic" {
		panic("as asked")
	}
	return append([]byte("re: "), step...), nil
}

// Present makes it a volume.Dater, though it dates nothing as it is told.
func (b *backend) Present() (volume.Time, bool) { return volume.TimeOf(time.Now()), true }

func (b *backend) Unlink(ctx context.Context, dir volume.ID, name string) error {
	b.unlinks.Add(1)
	b.dated.Store(nil)
	if at, dated := volume.DateOf(ctx); dated {
		b.dated.Store(&at)
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	if err := b.fails.Load(); err != nil {
		return *err
	}
	return b.FS.Unlink(ctx, dir, name)
}

func (b *backend) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	b.dated.Store(nil)
	if at, dated := volume.DateOf(ctx); dated {
		b.dated.Store(&at)
	}
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.FS.Rmdir(ctx, dir, name)
}

// RemoveAll makes it a volume.Remover.
func (b *backend) RemoveAll(ctx context.Context, all []volume.Removal) {
	for i := range all {
		all[i].Remove(ctx, b)
	}
}

func (b *backend) Empty(ctx context.Context, dir volume.ID, but func(string) bool) (bool, error) {
	entries, _, err := b.ReadDir(ctx, dir, volume.CookieStart, volume.ReadDirMax, false)
	for _, e := range entries {
		if !but(e.Name) {
			return false, err
		}
	}
	return true, err
}

func (b *backend) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := b.FS.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return &backendFile{file, b}, nil
}

func (b *backend) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	file, a, err := b.FS.Create(ctx, dir, name, n, f)
	if err != nil {
		return nil, a, err
	}
	return &backendFile{file, b}, a, nil
}

type backendFile struct {
	volume.File
	b *backend
}

func (f *backendFile) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	f.b.appends.Add(1)
	if err := f.b.wait(ctx); err != nil {
		return 0, err
	}
	return f.File.Append(ctx, p, flags)
}

func (f *backendFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.b.wait(ctx); err != nil {
		return 0, err
	}
	return f.File.ReadAt(ctx, p, off)
}

func (f *backendFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	return volume.CopyFrom(ctx, f.File, src.(*backendFile).File, from, off, n, flags)
}

func (f *backendFile) Close() error {
	f.b.closes.Add(1)
	return f.File.Close()
}

func logger(t testing.TB) *slog.Logger {
	if testing.Verbose() && os.Getenv("MORTAR_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// serve starts a server on a port of its own.
func serve(t testing.TB, b server.Backend, change func(*server.Config)) (*server.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := server.Config{Set: b, VolumeID: volumeID, BrickID: brickID, Logger: logger(t)}
	if change != nil {
		change(&conf)
	}
	s := server.New(conf)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// connect returns a Remote for addr.
func connect(t testing.TB, addr string, change func(*remote.Config)) *remote.Remote {
	t.Helper()
	conf := remote.Config{Addr: addr, VolumeID: volumeID, BrickID: brickID, Set: 1, Timeout: 5 * time.Second, Logger: logger(t)}
	if change != nil {
		change(&conf)
	}
	r := remote.New(conf)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// world is a backend, a server, a proxy and a Remote that goes through it.
type world struct {
	*backend
	server *server.Server
	proxy  *proxy
	remote *remote.Remote
	ctx    context.Context
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{backend: newBackend()}
	var addr string
	w.server, addr = serve(t, w.backend, nil)
	w.proxy = newProxy(t, addr)
	w.remote = connect(t, w.proxy.addr(), nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	return w
}

// restart puts a new server with the same backend in the place of the old one.
func (w *world) restart(t testing.TB, change func(*server.Config)) {
	t.Helper()
	w.server.Stop()
	var addr string
	w.server, addr = serve(t, w.backend, change)
	w.proxy.target.Store(&addr)
}

// reconnected waits until the Remote has noticed that the server is another.
func (w *world) reconnected(t testing.TB) {
	t.Helper()
	eventually(t, "reconnected", func() bool { return len(w.server.Clients()) > 0 && w.remote.Up() })
}

// create makes a file and opens it.
func (w *world) create(t testing.TB, name string) volume.File {
	t.Helper()
	f, _, err := w.remote.Create(w.ctx, volume.Root, name, regular, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// eventually waits until what is so.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-tick.C
	}
}
