package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// held makes Unlink, Append and ReadAt of the backend wait; the function lets them go.
func (w *world) holdBack() (release func()) {
	hold := make(chan struct{})
	w.hold.Store(&hold)
	return sync.OnceFunc(func() { close(hold) })
}

// start runs f and returns a channel with its error.
func start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// ends fails the test unless the error comes soon.
func ends(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the call does not return")
		return nil
	}
}

// A request whose connection is cut while it runs is executed once, and its reply arrives.
func TestCutWhileRunning(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	for _, size := range []int{10, 100 << 10} {
		release := w.holdBack()
		w.appends.Store(0)
		done := start(func() error {
			_, err := f.Append(w.ctx, bytes.Repeat([]byte("x"), size), 0)
			return err
		})
		<-w.held
		for range 3 {
			before := w.proxy.dialed.Load()
			w.proxy.cut()
			eventually(t, "reconnected", func() bool { return w.proxy.dialed.Load() > before && w.remote.Up() })
		}
		release()
		if err := ends(t, done); err != nil {
			t.Errorf("append of %d bytes: %v", size, err)
		}
		if n := w.appends.Load(); n != 1 {
			t.Errorf("append of %d bytes was executed %d times", size, n)
		}
	}
	a, err := f.Getattr(w.ctx)
	if err != nil || a.Size != 10+100<<10 {
		t.Errorf("size %d, %v", a.Size, err)
	}
}

// A reply that is lost on its way is remembered and given again.
func TestReplyLost(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	for i, size := range []int{10, 100 << 10} {
		w.appends.Store(0)
		if _, err := f.ReadAt(w.ctx, make([]byte, size), 0); err != nil {
			t.Fatal(err)
		}
		w.proxy.stall(false, true)
		done := start(func() error {
			_, err := f.Append(w.ctx, make([]byte, size), 0)
			return err
		})
		eventually(t, "executed", func() bool {
			a, err := w.FS.Getattr(w.ctx, f.ID())
			return err == nil && a.Size >= int64([]int{10, 10 + 100<<10}[i])
		})
		w.proxy.cut()
		w.proxy.stall(false, false)
		if err := ends(t, done); err != nil {
			t.Errorf("append of %d bytes: %v", size, err)
		}
		if n := w.appends.Load(); n != 1 {
			t.Errorf("append of %d bytes was executed %d times", size, n)
		}
	}
}

// Without cuts, replies that were acknowledged are forgotten: the session
// lives through far more requests than it may remember.
func TestAcknowledged(t *testing.T) {
	w := newWorld(t)
	for i := range 10 * wire.InFlightMin {
		a, err := w.remote.Make(w.ctx, volume.Root, fmt.Sprint(i), volume.Node{Mode: syscall.S_IFIFO | 0o600})
		if err != nil || a.Type() != syscall.S_IFIFO {
			t.Fatal(i, err)
		}
	}
	if n := w.proxy.dialed.Load(); n != 2 { // the Session and a lane
		t.Errorf("%d connections", n)
	}
}

// A new process does not know what the old one did: what may be repeated is,
// the rest fails with Unknown, and files are open again.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	gone := w.create(t, "gone")
	if _, err := f.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
		t.Fatal(err)
	}
	release := w.holdBack()
	p, big := make([]byte, 7), make([]byte, 64<<10)
	reading := start(func() error { _, err := f.ReadAt(w.ctx, p, 0); return err })
	readingBig := start(func() error { _, err := f.ReadAt(w.ctx, big, 0); return err })
	unlinking := start(func() error { return w.remote.Unlink(w.ctx, volume.Root, "file") })
	appending := start(func() error { _, err := f.Append(w.ctx, big, 0); return err })
	for range 4 {
		<-w.held
	}
	w.proxy.refuse.Store(true)
	w.proxy.cut()
	eventually(t, "disconnected", func() bool { return !w.remote.Up() })
	unsent := start(func() error {
		_, err := w.remote.Make(w.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		return err
	})
	if err := w.FS.Unlink(w.ctx, volume.Root, "gone"); err != nil {
		t.Fatal(err)
	}
	w.restart(t, nil)
	release()
	w.proxy.refuse.Store(false)
	for what, done := range map[string]<-chan error{"read": reading, "large read": readingBig, "unsent mkdir": unsent} {
		if err := ends(t, done); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if string(p) != "content" || string(big[:7]) != "content" {
		t.Errorf("read %q, %q", p, big[:7])
	}
	for what, done := range map[string]<-chan error{"unlink": unlinking, "large append": appending} {
		if err := ends(t, done); volume.ReasonOf(err) != volume.Unknown || volume.ErrnoOf(err) != syscall.EIO {
			t.Errorf("%s: %v, want EIO, unknown", what, err)
		}
	}
	if _, err := f.WriteAt(w.ctx, []byte("C"), 0, 0); err != nil {
		t.Errorf("write to the file that was opened again: %v", err)
	}
	if _, err := gone.Getattr(w.ctx); volume.ErrnoOf(err) != syscall.ESTALE {
		t.Errorf("file that is gone: %v, want ESTALE", err)
	}
}

// After a reboot of the brick's machine a file with unsynced writes says so, once.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	dirty, clean := w.create(t, "dirty"), w.create(t, "clean")
	for _, f := range []volume.File{dirty, clean} {
		if _, err := f.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := clean.Sync(w.ctx, false); err != nil {
		t.Fatal(err)
	}
	w.restart(t, func(c *server.Config) { c.Boot = wire.SessionID{1} })
	w.reconnected(t)
	if err := clean.Sync(w.ctx, false); err != nil {
		t.Errorf("file without unsynced writes: %v", err)
	}
	if err := dirty.Sync(w.ctx, false); volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("file with unsynced writes: %v, want EIO", err)
	}
	if err := dirty.Sync(w.ctx, false); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// What was written with WriteSynced is durable, and all that was written before it, also at a
// brick that does not know the flag: after a reboot nothing is missed.
func TestRebootAfterSynced(t *testing.T) {
	for _, version := range []uint16{2, wire.Version} {
		w := newWorld(t)
		written, appended, dirty := w.create(t, "written"), w.create(t, "appended"), w.create(t, "dirty")
		w.remote.SpeaksVersion(version) // it is connected by now
		for _, f := range []volume.File{written, appended, dirty} {
			if _, err := f.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := written.WriteAt(w.ctx, []byte("more"), 7, volume.WriteDataSync); err != nil {
			t.Fatal(err)
		}
		if _, err := appended.Append(w.ctx, []byte("more"), volume.WriteFullSync); err != nil {
			t.Fatal(err)
		}
		w.restart(t, func(c *server.Config) { c.Boot = wire.SessionID{1} })
		w.reconnected(t)
		for name, f := range map[string]volume.File{"written": written, "appended": appended} {
			if err := f.Sync(w.ctx, false); err != nil {
				t.Errorf("version %d, %s: %v", version, name, err)
			}
		}
		if err := dirty.Sync(w.ctx, false); volume.ErrnoOf(err) != syscall.EIO {
			t.Errorf("version %d, a file with unsynced writes: %v, want EIO", version, err)
		}
	}
}

// A write that is overtaken by a later one is not repeated at a new process.
func TestOvertakenWrite(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	release := make(chan struct{})
	slow := &slowWrite{backend: w.backend, release: release, begun: make(chan struct{}, 1)}
	w.server.Stop()
	var addr string
	w.server, addr = serve(t, slow, nil)
	w.proxy.target.Store(&addr)
	first := start(func() error { _, err := f.WriteAt(w.ctx, []byte("first"), 0, 0); return err })
	<-slow.begun
	if _, err := f.WriteAt(w.ctx, []byte("SECOND"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(w.ctx, []byte("elsewhere"), 100, 0); err != nil {
		t.Fatal(err)
	}
	w.proxy.refuse.Store(true)
	w.proxy.cut()
	eventually(t, "disconnected", func() bool { return !w.remote.Up() })
	close(release)
	w.restart(t, nil)
	w.proxy.refuse.Store(false)
	if err := ends(t, first); volume.ReasonOf(err) != volume.Unknown {
		t.Errorf("overtaken write: %v, want unknown", err)
	}
	p := make([]byte, 6)
	if _, err := f.ReadAt(w.ctx, p, 0); err != nil || string(p) != "SECOND" {
		t.Errorf("read %q, %v", p, err)
	}
}

// slowWrite never executes writes of "first".
type slowWrite struct {
	*backend
	release, begun chan struct{}
}

func (s *slowWrite) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := s.backend.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return slowFile{file, s}, nil
}

type slowFile struct {
	volume.File
	s *slowWrite
}

func (f slowFile) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	if string(p) == "first" {
		f.s.begun <- struct{}{}
		<-f.s.release
		return 0, errors.New("never")
	}
	return f.File.WriteAt(ctx, p, off, flags)
}

// A write that sets attributes is one request, or several to a brick that does not know of that: what comes out is the same.
func TestWriteSetVersions(t *testing.T) {
	mt := volume.Time{Sec: 5, Nsec: 6}
	for _, version := range []uint16{2, 3, wire.Version} {
		w := newWorld(t)
		f := w.create(t, "file")
		w.remote.SpeaksVersion(version)
		acl := volume.Change{Mask: volume.SetMinimalACL | volume.SetMtime, Mode: 0o640, Mtime: mt}
		if n, err := f.WriteSet(w.ctx, []byte("content"), 0, volume.WriteFullSync, acl); n != 7 || err != nil {
			t.Errorf("version %d: %d, %v", version, n, err)
		}
		a, err := f.Getattr(w.ctx)
		if err != nil || a.Size != 7 || a.Mode&0o7777 != 0o640 || a.Mtime != mt {
			t.Errorf("version %d: %+v, %v", version, a, err)
		}
		acl.Mode = 0o600
		if a, err = w.remote.Setattr(w.ctx, f.ID(), acl); err != nil || a.Mode&0o7777 != 0o600 {
			t.Errorf("version %d: setattr: mode %o, %v", version, a.Mode, err)
		}
		if _, err := f.WriteSet(w.ctx, []byte("x"), 0, 0, volume.Change{Mask: volume.SetSize}); volume.ErrnoOf(err) != syscall.EINVAL {
			t.Errorf("version %d: with a size: %v", version, err)
		}
	}
}
