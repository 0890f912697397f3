package remote_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

func TestBearVersions(t *testing.T) {
	then := volume.Change{Mask: volume.SetMinimalACL | volume.SetMtime | volume.SetUID, Mode: 0o640, UID: 7, Mtime: volume.Time{Sec: 5, Nsec: 6}}
	for _, version := range []uint16{2, 3, wire.Version} {
		w := newWorld(t)
		w.create(t, "there")
		w.remote.SpeaksVersion(version)
		n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o600, Data: []byte("content"), Then: then}
		a, err := w.remote.Make(w.ctx, volume.Root, "file", n)
		if err != nil || a.ID != n.ID || a.Size != 7 || a.Mode != syscall.S_IFREG|0o640 || a.UID != 7 || a.Mtime != then.Mtime {
			t.Errorf("version %d: %+v, %v", version, a, err)
		}
		if b, err := w.FS.Lookup(w.ctx, volume.Root, "file"); err != nil || b != a {
			t.Errorf("version %d: there it is %+v, %v", version, b, err)
		}
		if _, err := w.remote.Make(w.ctx, volume.Root, "there", n); volume.ErrnoOf(err) != syscall.EEXIST {
			t.Errorf("version %d: over another: %v", version, err)
		}
	}
}

// TestBearUnheard makes a file by the first request of all, when nobody knows what the brick speaks.
func TestBearUnheard(t *testing.T) {
	b := newBackend()
	_, addr := serve(t, b, nil)
	r := connect(t, addr, nil)
	if _, err := r.Make(t.Context(), volume.Root, "file", volume.Node{Mode: syscall.S_IFREG | 0o600, Data: []byte("content")}); err != nil {
		t.Fatal(err)
	}
	if n := b.closes.Load(); n != 0 {
		t.Error("it was made in steps")
	}
}

// TestBearNothing has what is to be in a file not fit: it has no name then, at a brick of whatever version.
func TestBearNothing(t *testing.T) {
	for _, version := range []uint16{3, wire.Version} {
		fs := model.New(model.WithCapacity(100 << 10))
		_, addr := serve(t, &backend{FS: fs}, nil)
		r := connect(t, addr, nil)
		if _, err := r.Getattr(t.Context(), volume.Root); err != nil {
			t.Fatal(err)
		}
		r.SpeaksVersion(version)
		_, err := r.Make(t.Context(), volume.Root, "file", volume.Node{Mode: syscall.S_IFREG | 0o600, Data: make([]byte, 200<<10)})
		if volume.ErrnoOf(err) != syscall.ENOSPC {
			t.Errorf("version %d: %v, want ENOSPC", version, err)
		}
		if _, err := fs.Lookup(t.Context(), volume.Root, "file"); volume.ErrnoOf(err) != syscall.ENOENT {
			t.Errorf("version %d: it has its name: %v", version, err)
		}
	}
}

// TestBearReplyLost: as for other requests that must not be repeated, the reply is remembered.
func TestBearReplyLost(t *testing.T) {
	w := newWorld(t)
	f := w.create(t, "file")
	for _, size := range []int{10, 100 << 10, volume.IOMax} {
		data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		if _, err := f.Getattr(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.proxy.stall(false, true)
		n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o600, Data: bytes.Clone(data)}
		done := start(func() error {
			a, err := w.remote.Make(w.ctx, volume.Root, n.ID.String(), n)
			if err == nil && a.ID != n.ID {
				err = errors.New("another file")
			}
			return err
		})
		eventually(t, "executed", func() bool { _, err := w.FS.Getattr(w.ctx, n.ID); return err == nil })
		w.proxy.cut()
		w.proxy.stall(false, false)
		if err := ends(t, done); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		clear(n.Data) // it is ours again
		got := make([]byte, volume.IOMax)
		h, err := w.FS.Open(w.ctx, n.ID, volume.Read)
		if err != nil {
			t.Fatal(err)
		}
		m, err := h.ReadAt(w.ctx, got, 0)
		if err != nil || !bytes.Equal(got[:m], data) {
			t.Errorf("%d bytes: %d others are there: %v", size, m, err)
		}
		_ = h.Close()
	}
}

// BenchmarkSmallFile makes files of 4 KiB, at once and as was usual.
func BenchmarkSmallFile(b *testing.B) {
	_, addr := serve(b, &backend{FS: model.New()}, nil)
	for name, do := range map[string]func(r *remote.Remote, n volume.Node, name string) error{
		"create, write, close": func(r *remote.Remote, n volume.Node, name string) error {
			f, _, err := r.Create(b.Context(), volume.Root, name, n.Plain(), volume.Write|volume.Excl)
			if err != nil {
				return err
			}
			if _, err = f.WriteSet(b.Context(), n.Data, 0, 0, n.Then); err != nil {
				return err
			}
			return f.Close()
		},
		"at once": func(r *remote.Remote, n volume.Node, name string) error {
			_, err := r.Make(b.Context(), volume.Root, name, n)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			r := connect(b, addr, nil)
			n := volume.Node{Mode: syscall.S_IFREG | 0o644, Data: make([]byte, 4096), Then: volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 5}}}
			for b.Loop() {
				if err := do(r, n, volume.NewID(1).String()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
