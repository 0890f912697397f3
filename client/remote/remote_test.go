package remote_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// curious notes what a request carries and answers with an error.
type curious struct {
	backend
	cred     volume.Cred
	layout   volume.LayoutVersion
	deadline time.Duration
}

func (c *curious) Rmdir(ctx context.Context, _ volume.ID, _ string) error {
	c.cred, c.layout = volume.CredOf(ctx), volume.LayoutOf(ctx)
	d, _ := ctx.Deadline()
	c.deadline = time.Until(d)
	return &volume.Error{Op: "rmdir", Where: "somewhere", Errno: syscall.ESTALE, Reason: volume.Outdated, Err: errors.New("layout 7")}
}

// What travels in the context arrives, and errors come back as they are.
func TestContextAndErrors(t *testing.T) {
	c := &curious{backend: backend{FS: model.New()}}
	_, addr := serve(t, c, nil)
	r := connect(t, addr, nil)
	cred := volume.Cred{UID: 1, GID: 2, Umask: 0o22, PID: 4}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := r.Rmdir(volume.WithLayout(volume.WithCred(ctx, cred), 6), volume.Root, "d")
	if c.cred != cred || c.layout != 6 || c.deadline > 3*time.Second || c.deadline < time.Second {
		t.Errorf("arrived: %+v", c)
	}
	if err == nil || err.Error() != "rmdir somewhere: stale NFS file handle (outdated): layout 7" && err.Error() != "rmdir somewhere: stale file handle (outdated): layout 7" {
		t.Errorf("error %v", err)
	}
	if volume.ReasonOf(err) != volume.Outdated || !errors.Is(err, syscall.ESTALE) {
		t.Errorf("error %#v", err)
	}
	if err := r.Rmdir(t.Context(), volume.Root, strings.Repeat("n", 256)); volume.ErrnoOf(err) != syscall.ENAMETOOLONG {
		t.Errorf("a long name: %v", err)
	}
}

func TestStepAndPanic(t *testing.T) {
	w := newWorld(t)
	if err := w.remote.Await(w.ctx); err != nil {
		t.Fatal(err)
	}
	answer, err := w.remote.Step(w.ctx, []byte("hello"))
	if err != nil || string(answer) != "re: hello" {
		t.Errorf("%q, %v", answer, err)
	}
	if _, err := w.remote.Step(w.ctx, []byte("panic")); volume.ErrnoOf(err) != syscall.EIO || !strings.Contains(err.Error(), "as asked") {
		t.Errorf("a panic: %v", err)
	}
	if answer, err := w.remote.Step(w.ctx, make([]byte, wire.StepMax-4)); err != nil || len(answer) != wire.StepMax {
		t.Errorf("the largest step: %d bytes, %v", len(answer), err)
	}
	if n := w.proxy.dialed.Load(); n != 2 { // the Session and a lane
		t.Errorf("%d connections", n)
	}
}

// More requests than may be in flight wait for each other, and steps for none of them.
func TestInFlight(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	release := w.holdBack()
	var wg sync.WaitGroup
	for range 2 * wire.InFlightMin {
		wg.Go(func() {
			if _, err := f.ReadAt(w.ctx, make([]byte, 10), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range wire.InFlightMin {
		<-w.held
	}
	if _, err := w.remote.Step(w.ctx, nil); err != nil {
		t.Error(err)
	}
	release()
	wg.Wait()
}

func TestRefused(t *testing.T) {
	_, addr := serve(t, newBackend(), func(c *server.Config) { c.Token = "secret" })
	sealed, closed := serve(t, newBackend(), nil)
	sealed.SetAccess(server.Access{Allow: "10.0.0.1"})
	tests := map[string]struct {
		change func(*remote.Config)
		want   string
	}{
		"volume": {func(c *remote.Config) { c.VolumeID = "other" }, "the client wants volume other, this brick belongs to volume " + volumeID},
		"brick":  {func(c *remote.Config) { c.BrickID = "other" }, "the client wants brick other, this is brick " + brickID},
		"token":  {func(c *remote.Config) { c.Token = "guess" }, "token"},
		"client": {func(c *remote.Config) { c.Addr = closed }, "127.0.0.1 is not among the clients that auth.allow names"},
		"fine":   {func(c *remote.Config) { c.BrickID = "" }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := connect(t, addr, func(c *remote.Config) { c.Token = "secret"; c.Timeout = time.Second; test.change(c) })
			err := r.Await(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if _, err := r.Getattr(t.Context(), volume.Root); volume.ReasonOf(err) != volume.Unavailable || !strings.Contains(err.Error(), test.want) {
				t.Errorf("a call: %v", err)
			}
		})
	}
}

func TestClients(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	for _, size := range []int{1000, 100_000} {
		if _, err := f.WriteAt(w.ctx, make([]byte, size), 0, 0); err != nil {
			t.Fatal(err)
		}
		if n, err := f.ReadAt(w.ctx, make([]byte, 2*size), 0); err != nil || n != size {
			t.Fatal(n, err)
		}
	}
	c, err := wire.FetchClients(w.ctx, "none", w.proxy.addr())
	if err != nil {
		t.Fatal(err)
	}
	if len(c) != 1 || c[0].BytesRead != 101_000 || c[0].BytesWritten != 101_000 || c[0].Files != 1 || c[0].Requests != 5 || !c[0].Connected || c[0].Addr == "" {
		t.Errorf("%+v", c)
	}
}

// Who changes a name is told of the directory, as it is afterwards.
func TestBeside(t *testing.T) {
	w := newWorld(t)
	var id volume.ID
	for _, test := range []struct {
		what   string
		change func(ctx context.Context) error
	}{
		{"create", func(ctx context.Context) error {
			f, a, err := w.remote.Create(ctx, volume.Root, "file", regular, volume.Write)
			if err == nil {
				id, err = a.ID, f.Close()
			}
			return err
		}},
		{"make", func(ctx context.Context) error {
			_, err := w.remote.Make(ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
			return err
		}},
		{"link", func(ctx context.Context) error { _, err := w.remote.Link(ctx, id, volume.Root, "link"); return err }},
		{"unlink", func(ctx context.Context) error { return w.remote.Unlink(ctx, volume.Root, "file") }},
	} {
		var b volume.Beside
		if err := test.change(volume.WithBeside(w.ctx, &b)); err != nil {
			t.Fatal(test.what, err)
		}
		want, err := w.remote.Getattr(w.ctx, volume.Root)
		if err != nil || b.Dir != want {
			t.Errorf("%s: told %+v, it is %+v, %v", test.what, b.Dir, want, err)
		}
		b = volume.Beside{}
		if err := test.change(volume.WithBeside(w.ctx, &b)); err == nil && test.what != "create" || err != nil && !b.Dir.ID.IsZero() {
			t.Errorf("%s again: %v, told %+v", test.what, err, b.Dir)
		}
	}
}
