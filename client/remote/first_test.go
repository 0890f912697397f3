package remote_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// reader opens a file for reading and returns what reading it gives.
func (w *world) reader(t *testing.T, id volume.ID) (volume.File, func(n int) string) {
	t.Helper()
	f, err := w.remote.Open(w.ctx, id, volume.Read)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, func(n int) string {
		p := make([]byte, n)
		n, err := f.ReadAt(w.ctx, p, 0)
		if err != nil {
			t.Error(err)
		}
		return string(p[:n])
	}
}

// What is in a small file comes with its opening.
func TestFirst(t *testing.T) {
	w := newWorld(t)
	file := w.create(t, "file")
	if _, err := file.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
		t.Fatal(err)
	}
	spared := false
	for range 100 { // a read that comes late is asked for, which is no error
		f, read := w.reader(t, file.ID())
		before := w.requests(t)
		if got := read(4); got != "cont" {
			t.Fatalf("%q", got)
		}
		if n, err := f.ReadAt(w.ctx, make([]byte, 9), 4); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := f.ReadAt(w.ctx, make([]byte, 9), 9); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		spared = spared || w.requests(t) == before
	}
	if !spared {
		t.Error("each of 100 readers had to ask")
	}
}

func (w *world) requests(t *testing.T) uint64 {
	t.Helper()
	return w.server.Clients()[0].Requests
}

// Whoever has a file open sees what its own client changes at once, and another's change soon.
func TestFirstIsVoid(t *testing.T) {
	w := newWorld(t)
	file := w.create(t, "file")
	if _, err := file.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		change func() error
		want   string
	}{
		"write":  {func() error { _, err := file.WriteAt(w.ctx, []byte("C"), 0, 0); return err }, "Content"},
		"append": {func() error { _, err := file.Append(w.ctx, []byte("!"), 0); return err }, "content!"},
		"cut": {func() error {
			_, err := w.remote.Setattr(w.ctx, file.ID(), volume.Change{Mask: volume.SetSize, Size: 3})
			return err
		}, "con"},
		"cut by opening": {func() error {
			f, err := w.remote.Open(w.ctx, file.ID(), volume.Write|volume.Truncate)
			if err == nil {
				err = f.Close()
			}
			return err
		}, ""},
	} {
		if _, err := file.Setattr(w.ctx, volume.Change{Mask: volume.SetSize}); err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
			t.Fatal(err)
		}
		_, read := w.reader(t, file.ID())
		if err := test.change(); err != nil {
			t.Fatal(what, err)
		}
		if got := read(100); got != test.want {
			t.Errorf("%s: read %q, want %q", what, got, test.want)
		}
	}
	_, read := w.reader(t, file.ID())
	direct, err := w.FS.Open(w.ctx, file.ID(), volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if _, err := direct.WriteAt(w.ctx, []byte("another's"), 0, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another's change is seen", func() bool { return read(100) == "another's" })
}

// A write that began before the opening and ended after it voids what the opening brought.
func TestFirstUnderWrite(t *testing.T) {
	w := newWorld(t)
	file := w.create(t, "file")
	if _, err := file.WriteAt(w.ctx, []byte("content"), 0, 0); err != nil {
		t.Fatal(err)
	}
	release := w.holdBack()
	appending := start(func() error { _, err := file.Append(w.ctx, []byte("!"), 0); return err })
	<-w.held
	_ = start(func() error { release(); return nil }) // the opening reads, which would wait, too
	_, read := w.reader(t, file.ID())
	if err := ends(t, appending); err != nil {
		t.Fatal(err)
	}
	if got := read(100); got != "content!" {
		t.Errorf("read %q", got)
	}
}

// Large files and such as are opened for writing bring nothing.
func TestFirstOfSmallOnly(t *testing.T) {
	w := newWorld(t)
	file := w.create(t, "file")
	large := bytes.Repeat([]byte("x"), 1<<20)
	if _, err := file.WriteAt(w.ctx, large, 0, 0); err != nil {
		t.Fatal(err)
	}
	_, read := w.reader(t, file.ID())
	before := w.server.Clients()[0].BytesRead
	if got := read(1 << 20); got != string(large) {
		t.Errorf("%d bytes", len(got))
	}
	if n := w.server.Clients()[0].BytesRead - before; n != 1<<20 {
		t.Errorf("the brick has sent %d bytes", n)
	}
	if f, err := w.remote.Open(w.ctx, volume.Root, volume.Read); err == nil || volume.ErrnoOf(err) != syscall.EISDIR {
		t.Errorf("a directory: %v, %v", f, err)
	}
}
