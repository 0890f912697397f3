package remote_test

import (
	"context"
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// Calls wait for a connection up to the timeout; after that they fail at once. Step never waits.
func TestNobodyThere(t *testing.T) {
	const timeout = time.Second
	for _, addr := range []string{"", "127.0.0.1:1"} {
		r := connect(t, addr, func(c *remote.Config) { c.Timeout = timeout })
		begin := time.Now()
		if _, err := r.Step(t.Context(), nil); volume.ReasonOf(err) != volume.Unavailable || time.Since(begin) > timeout/2 {
			t.Errorf("%q: step: %v after %v", addr, err, time.Since(begin))
		}
		_, err := r.Getattr(t.Context(), volume.Root)
		if took := time.Since(begin); took < timeout-100*time.Millisecond || took > timeout+time.Second {
			t.Errorf("%q: a call took %v", addr, took)
		}
		if volume.ErrnoOf(err) != syscall.EIO || volume.ReasonOf(err) != volume.Unavailable {
			t.Errorf("%q: %v", addr, err)
		}
		eventually(t, "calls fail at once", func() bool {
			begin := time.Now()
			_, err := r.Getattr(t.Context(), volume.Root)
			return volume.ReasonOf(err) == volume.Unavailable && time.Since(begin) < 50*time.Millisecond
		})
		if r.Up() {
			t.Errorf("%q: it says that it is up", addr)
		}
	}
}

// Every kind of call ends within its deadline though the server never answers.
func TestNoAnswer(t *testing.T) {
	const timeout = time.Second
	w := newWorld(t)
	r := connect(t, w.proxy.addr(), func(c *remote.Config) { c.Timeout = timeout })
	f, _, err := r.Create(w.ctx, volume.Root, "file", regular, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 1<<20)
	if _, err := f.WriteAt(w.ctx, big, 0, 0); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(context.Context) error{
		"getattr": func(ctx context.Context) error { _, err := r.Getattr(ctx, volume.Root); return err },
		"unlink":  func(ctx context.Context) error { return r.Unlink(ctx, volume.Root, "file") },
		"step":    func(ctx context.Context) error { _, err := r.Step(ctx, nil); return err },
		"read":    func(ctx context.Context) error { _, err := f.ReadAt(ctx, big[:1<<19], 0); return err },
		"write":   func(ctx context.Context) error { _, err := f.WriteAt(ctx, big[1<<19:], 0, 0); return err },
	}
	for _, ways := range [][2]bool{{true, false}, {false, true}, {true, true}} {
		w.proxy.stall(ways[0], ways[1])
		begin := time.Now()
		all := map[string]<-chan error{}
		for what, call := range calls {
			all[what] = start(func() error { return call(w.ctx) })
		}
		ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
		defer cancel()
		short := start(func() error { return calls["read"](ctx) })
		if err := ends(t, short); volume.ErrnoOf(err) != syscall.ETIMEDOUT || time.Since(begin) > time.Second {
			t.Errorf("stalled %v: a context of 100 ms: %v after %v", ways, err, time.Since(begin))
		}
		for what, done := range all {
			err := ends(t, done)
			if took := time.Since(begin); took > timeout+time.Second {
				t.Errorf("stalled %v: %s took %v", ways, what, took)
			}
			if volume.ReasonOf(err) != volume.Unavailable {
				t.Errorf("stalled %v: %s: %v", ways, what, err)
			}
		}
		w.proxy.cut()
		w.proxy.stall(false, false)
		eventually(t, "well again", func() bool { return calls["write"](w.ctx) == nil && calls["read"](w.ctx) == nil })
	}
}

// A connection that stalls is replaced, and the calls that waited on it succeed.
func TestStall(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string][2]bool{"up": {true, false}, "down": {false, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := connect(t, w.proxy.addr(), func(c *remote.Config) { c.Timeout = 30 * time.Second })
			f, _, err := r.Create(w.ctx, volume.Root, "file", regular, volume.Read|volume.Write)
			if err != nil {
				t.Fatal(err)
			}
			big := make([]byte, 1<<18)
			if _, err := f.WriteAt(w.ctx, big, 0, 0); err != nil {
				t.Fatal(err)
			}
			w.proxy.stall(ways[0], ways[1])
			small := start(func() error { _, err := r.Getattr(w.ctx, volume.Root); return err })
			read := start(func() error { _, err := f.ReadAt(w.ctx, big, 0); return err })
			before := w.proxy.dialed.Load()
			eventually(t, "connected anew", func() bool { return w.proxy.dialed.Load() > before })
			w.proxy.stall(false, false)
			if err := errors.Join(ends(t, small), ends(t, read)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A slow brick is no stalled connection: a call may take longer than a stall.
func TestSlowIsNoStall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := connect(t, w.proxy.addr(), func(c *remote.Config) { c.Timeout = 30 * time.Second })
	f, _, err := r.Create(w.ctx, volume.Root, "file", regular, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(w.ctx, make([]byte, 1<<20), 0, 0); err != nil {
		t.Fatal(err)
	}
	release := w.holdBack()
	small := start(func() error { _, err := f.ReadAt(w.ctx, make([]byte, 10), 0); return err })
	large := start(func() error { _, err := f.ReadAt(w.ctx, make([]byte, 1<<20), 0); return err })
	<-w.held
	<-w.held
	before := w.proxy.dialed.Load()
	timer := time.NewTimer(wire.StallAfter + 2*time.Second)
	defer timer.Stop()
	<-timer.C
	release()
	if err := errors.Join(ends(t, small), ends(t, large)); err != nil {
		t.Error(err)
	}
	if n := w.proxy.dialed.Load() - before; n > 0 {
		t.Errorf("%d new connections", n)
	}
}

// A cancelled call returns EINTR soon, and the brick's operation is cancelled.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	release := w.holdBack()
	defer release()
	calls := map[string]func(context.Context) error{
		"unlink":     func(ctx context.Context) error { return w.remote.Unlink(ctx, volume.Root, "file") },
		"read":       func(ctx context.Context) error { _, err := f.ReadAt(ctx, make([]byte, 10), 0); return err },
		"large read": func(ctx context.Context) error { _, err := f.ReadAt(ctx, make([]byte, 1<<20), 0); return err },
	}
	for what, call := range calls {
		ctx, cancel := context.WithCancel(w.ctx)
		done := start(func() error { return call(ctx) })
		<-w.held
		begin := time.Now()
		cancel()
		if err := ends(t, done); volume.ErrnoOf(err) != syscall.EINTR {
			t.Errorf("%s: %v, want EINTR", what, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s: EINTR came after %v", what, took)
		}
	}
	// The operations at the brick are over, too: their slots are free, their file can be closed.
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is closed", func() bool { return w.closes.Load() == 1 })
}

// Files are closed when their client closes them, says bye, or stays away.
func TestFilesAreClosed(t *testing.T) {
	w := newWorld(t)
	w.restart(t, func(c *server.Config) { c.Grace = 300 * time.Millisecond })
	w.reconnected(t)
	_, f := w.create(t, "a"), w.create(t, "b")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed by its client", func() bool { return w.closes.Load() == 1 })
	w.proxy.cut()
	if _, err := w.remote.Getattr(w.ctx, volume.Root); err != nil {
		t.Fatal(err)
	}
	if n := w.closes.Load(); n != 1 {
		t.Errorf("a cut closed files: %d", n)
	}
	w.proxy.refuse.Store(true)
	w.proxy.cut()
	eventually(t, "closed after the grace period", func() bool { return w.closes.Load() == 2 })
	eventually(t, "the session is gone", func() bool { return len(w.server.Clients()) == 0 })
	w.proxy.refuse.Store(false)
	w.create(t, "c")
	w.restart(t, nil)
	w.reconnected(t)
	w.create(t, "d")
	closed := w.closes.Load()
	if err := w.remote.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed by bye", func() bool { return w.closes.Load() > closed && len(w.server.Clients()) == 0 })
	if _, err := w.remote.Getattr(w.ctx, volume.Root); volume.ReasonOf(err) != volume.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

// An abandoned open leaves no file open at the brick.
func TestAbandonedOpen(t *testing.T) {
	w := newWorld(t)
	w.create(t, "file")
	w.proxy.stall(false, true)
	ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
	defer cancel()
	if _, _, err := w.remote.Create(ctx, volume.Root, "other", regular, volume.Write); err == nil {
		t.Fatal("it succeeded")
	}
	w.proxy.stall(false, false)
	eventually(t, "closed", func() bool { return w.closes.Load() == 1 })
	if c := w.server.Clients(); len(c) != 1 || c[0].Files != 1 {
		t.Errorf("%+v", c)
	}
}

// The brick comes up at another address: it is connected to at once.
func TestMoved(t *testing.T) {
	b := newBackend()
	_, one := serve(t, b, nil)
	r := connect(t, "127.0.0.1:1", func(c *remote.Config) { c.Timeout = 30 * time.Second })
	done := start(func() error { _, err := r.Getattr(t.Context(), volume.Root); return err })
	r.SetTargets([]remote.Target{{Addr: one, BrickID: brickID}}, 0)
	if err := ends(t, done); err != nil {
		t.Fatal(err)
	}
	s, two := serve(t, b, nil)
	r.SetTargets([]remote.Target{{Addr: two, BrickID: brickID}}, 0)
	eventually(t, "moved", func() bool { return len(s.Clients()) == 1 })
	if _, err := r.Getattr(t.Context(), volume.Root); err != nil {
		t.Error(err)
	}
}

// Close leaves no goroutine behind.
func TestNoGoroutineLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	b := newBackend()
	s, addr := serve(t, b, nil)
	r := connect(t, addr, nil)
	f, _, err := r.Create(t.Context(), volume.Root, "file", regular, volume.Read|volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(t.Context(), make([]byte, 1<<20), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// Several calls, one after the other, to a brick that has fallen silent wait
// about the timeout together, not each.
func TestSilence(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	w := newWorld(t)
	r := connect(t, w.proxy.addr(), func(c *remote.Config) { c.Timeout = timeout })
	if _, err := r.Getattr(w.ctx, volume.Root); err != nil {
		t.Fatal(err)
	}
	w.proxy.stall(true, true)
	begin := time.Now()
	for i := range 10 {
		if _, err := r.Getattr(w.ctx, volume.Root); volume.ReasonOf(err) != volume.Unavailable {
			t.Errorf("call %d: %v", i, err)
		}
	}
	// Half a second for what was heard just before, and for looking every tick.
	if took := time.Since(begin); took > timeout+timeout/2+500*time.Millisecond {
		t.Errorf("ten calls took %v", took)
	}
}
