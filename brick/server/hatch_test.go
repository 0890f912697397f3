package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// lender is a model whose files can be lent: one of them all.
type lender struct {
	volume.FS
	file    *os.File
	closing func() // called before a file is closed
}

func (b *lender) Step(context.Context, []byte) ([]byte, error) { return nil, nil }

func (b *lender) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := b.FS.Open(ctx, id, f)
	if err != nil || f&volume.Read == 0 {
		return file, err
	}
	return &outer{&lentFile{file, b}}, nil
}

// outer is a File on another one.
type outer struct{ volume.File }

func (f *outer) Unwrap() volume.File { return f.File }

type lentFile struct {
	volume.File
	b *lender
}

func (f *lentFile) Share() (volume.Shared, error) {
	fd, err := syscall.Dup(int(f.b.file.Fd()))
	return volume.Shared{File: os.NewFile(uintptr(fd), "lent")}, err
}

func (f *lentFile) Close() error {
	if f.b.closing != nil {
		f.b.closing()
	}
	return f.File.Close()
}

// lending is a client of a server that lends.
type lending struct {
	*raw
	b    *lender
	path string // of the socket
	file volume.ID
}

func newLending(t *testing.T) *lending {
	t.Helper()
	b := &lender{FS: model.New()}
	path := filepath.Join(t.TempDir(), "contents")
	err := os.WriteFile(path, []byte("hello"), 0o600)
	if err == nil {
		b.file, err = os.Open(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.file.Close() })
	l := &lending{raw: newRaw(t, func(c *Config) { c.Set = b }), b: b, path: filepath.Join(t.TempDir(), "socket")}
	f, a, err := b.Create(t.Context(), volume.Root, "a", volume.Node{Mode: 0o600}, volume.Read)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	l.file = a.ID
	listener, err := net.Listen("unix", l.path)
	if err != nil {
		t.Fatal(err)
	}
	go l.s.Serve(listener)
	l.hello(nil)
	return l
}

// openAs opens the file under a handle.
func (l *lending) openAs(handle uint64, flags volume.Flags) {
	l.t.Helper()
	l.ask(frameOf(wire.OpOpen, handle, 0, (&wire.OpenArgs{ID: l.file, Flags: flags, Handle: handle}).Append))
	if err := l.reply(handle); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lending) hatch(h wire.LaneHello) *wire.Hatch {
	l.t.Helper()
	conn, err := net.Dial("unix", l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	w, err := wire.OpenHatch(conn, h)
	if err != nil {
		l.t.Fatal(err)
	}
	w.SetDeadline(time.Now().Add(20 * time.Second))
	l.t.Cleanup(w.Close)
	return w
}

// mine is whose the hatch is.
func (l *lending) mine() wire.LaneHello {
	return wire.LaneHello{Session: l.id, Attachment: l.welcome.Attachment}
}

func TestHatchLends(t *testing.T) {
	l := newLending(t)
	l.openAs(1, volume.Read)
	l.openAs(2, volume.Write)
	h := l.hatch(l.mine())
	var view *window.View
	for i, want := range []struct {
		handle uint64
		errno  syscall.Errno
	}{{9, syscall.EBADF}, {1, 0}, {2, syscall.EOPNOTSUPP}, {1, 0}} {
		before := window.Now()
		lent, err := h.Borrow(want.handle)
		if want.errno != 0 {
			if !errors.Is(err, wire.ErrNotLent) || !errors.Is(err, want.errno) {
				t.Errorf("handle %d: %v, want %v", want.handle, err, want.errno)
			}
			continue
		}
		if err != nil {
			t.Fatalf("handle %d: %v", want.handle, err)
		}
		if lent.Clock < before || lent.Clock > window.Now() || lent.Slot != 0 {
			t.Errorf("clock %v, word %d", lent.Clock, lent.Slot)
		}
		b := make([]byte, 5)
		if _, err := lent.File.ReadAt(b, 0); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		if (lent.Window != nil) != (i == 1) {
			t.Errorf("window %v in answer %d", lent.Window, i)
		}
		if lent.Window != nil {
			if view, err = window.Map(lent.Window); err != nil {
				t.Fatal(err)
			}
			defer view.Close()
		}
		lent.Close()
	}
	if !view.Open() || !h.Alive() {
		t.Error("what is read does not count")
	}
	l.s.SetBackend(l.b)
	if view.Open() || h.Alive() {
		t.Error("what is read counts though another is served")
	}
}

// TestHatchHangsFirst ends sessions in all ways that close their files: what was lent does not count any more before.
func TestHatchHangsFirst(t *testing.T) {
	for name, end := range map[string]func(l *lending){
		"another is served":    func(l *lending) { l.s.SetBackend(nil) },
		"the server stops":     func(l *lending) { l.s.Stop() },
		"the client says bye":  func(l *lending) { l.batch(wire.AppendEmpty(nil, wire.Bye, 0)) },
		"the session is taken": func(l *lending) { l.open(); l.hello(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLending(t)
			l.openAs(1, volume.Read)
			h := l.hatch(l.mine())
			lent, err := h.Borrow(1)
			if err != nil {
				t.Fatal(err)
			}
			defer lent.Close()
			closed := make(chan bool, 1)
			l.b.closing = func() { closed <- h.Alive() }
			end(l)
			select {
			case alive := <-closed:
				if alive {
					t.Error("the file is closed before the hatch hangs")
				}
			case <-time.After(20 * time.Second):
				t.Error("the file is not closed")
			}
		})
	}
}

// TestHatchRefused asks for what nobody should get.
func TestHatchRefused(t *testing.T) {
	l := newLending(t)
	l.openAs(1, volume.Read)
	refused := func(what string, h *wire.Hatch) {
		t.Helper()
		if lent, err := h.Borrow(1); err == nil || errors.Is(err, wire.ErrNotLent) {
			lent.Close()
			t.Errorf("%s: %v", what, err)
		}
	}
	hello := l.mine()
	refused("of no session", l.hatch(wire.LaneHello{Session: wire.SessionID{9}, Attachment: hello.Attachment}))
	refused("of another connection", l.hatch(wire.LaneHello{Session: hello.Session, Attachment: hello.Attachment + 1}))
	h := l.hatch(hello)
	if lent, err := h.Borrow(1); err != nil {
		t.Error(err)
	} else {
		lent.Close()
	}
	refused("a second one", l.hatch(hello))
	if !h.Alive() {
		t.Error("the first one is gone because of the second")
	}
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	begin := append([]byte{wire.Magic & 0xff, wire.Magic >> 8, wire.Format, 3}, make([]byte, 24)...)
	if _, err := conn.Write(begin); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("over TCP %d bytes are answered", n)
	}
}
