package behind

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// below is a volume that notes the writes and syncs that reach it, and fails writes on demand.
type below struct {
	volume.FS
	looked func() // called when a lookup, a listing or a create has been carried out
	mu     struct {
		sync.Mutex
		calls []string
		fail  error
	}
}

type belowFile struct {
	volume.File
	b *below
}

func (b *below) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.calls = append(b.mu.calls, fmt.Sprintf(format, args...))
	return b.mu.fail
}

func (b *below) failWith(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.fail = err
}

// expect compares what has reached the volume since the last time.
func (b *below) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.mu.calls, want) {
		t.Errorf("%s: the layer below saw %q, want %q", what, b.mu.calls, want)
	}
	b.mu.calls = nil
}

func (b *below) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	file, a, err := b.FS.Create(ctx, dir, name, n, f)
	b.hasLooked()
	if err != nil {
		return nil, a, err
	}
	return &belowFile{file, b}, a, nil
}

func (b *below) hasLooked() {
	if b.looked != nil {
		b.looked()
	}
}

func (b *below) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	a, err := b.FS.Lookup(ctx, dir, name)
	b.hasLooked()
	return a, err
}

func (b *below) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	entries, end, err := b.FS.ReadDir(ctx, dir, after, max, attrs)
	b.hasLooked()
	return entries, end, err
}

func (b *below) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := b.FS.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return &belowFile{file, b}, nil
}

func (f *belowFile) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	if err := f.b.note("write %d at %d flags %d", len(p), off, flags); err != nil {
		return 0, err
	}
	return f.File.WriteAt(ctx, p, off, flags)
}

func (f *belowFile) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, c volume.Change) (int, error) {
	if err := f.b.note("write %d at %d flags %d, set %d", len(p), off, flags, c.Mask); err != nil {
		return 0, err
	}
	return f.File.WriteSet(ctx, p, off, flags, c)
}

func (f *belowFile) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	if err := f.b.note("set %d", c.Mask); err != nil {
		return volume.Attr{}, err
	}
	return f.File.Setattr(ctx, c)
}

func (f *belowFile) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	if err := f.b.note("append %d flags %d", len(p), flags); err != nil {
		return 0, err
	}
	return f.File.Append(ctx, p, flags)
}

func (f *belowFile) Sync(ctx context.Context, dataOnly bool) error {
	_ = f.b.note("sync")
	return f.File.Sync(ctx, dataOnly)
}

func (f *belowFile) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	_ = f.b.note("lock type %d", l.Type)
	return f.File.Lock(ctx, l, wait)
}

// world is a layer over a volume with an open file.
type world struct {
	t    *testing.T
	ctx  context.Context
	b    *below
	fs   *FS
	file volume.File
	id   volume.ID
}

func newWorld(t *testing.T, flags volume.Flags) *world {
	w := &world{t: t, ctx: t.Context(), b: &below{FS: model.New()}}
	w.fs = New(w.b)
	f, a, err := w.fs.Create(w.ctx, volume.Root, "f", volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write|flags)
	if err != nil {
		t.Fatal(err)
	}
	w.file, w.id = f, a.ID
	return w
}

func (w *world) write(p string, at int64) {
	w.t.Helper()
	if n, err := w.file.WriteAt(w.ctx, []byte(p), at, 0); n != len(p) || err != nil {
		w.t.Fatalf("write: %d, %v", n, err)
	}
}

// contents are what another client reads.
func (w *world) contents() string {
	w.t.Helper()
	f, err := w.b.FS.Open(w.ctx, w.id, volume.Read)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	n, err := f.ReadAt(w.ctx, b, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b[:n])
}

// CopyFrom implements volume.Copier.
func (f *belowFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*belowFile)
	if !ok {
		return 0, volume.Apart(f)
	}
	return volume.CopyFrom(ctx, f.File, s.File, from, off, n, flags)
}
