package fuse

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// hookFS is an FS in which a test can get hold of single calls, and which
// counts them by name.
type hookFS struct {
	volume.FS
	getattr func(context.Context, volume.ID) error
	lookup  func(context.Context, string) error
	open    func(volume.ID)
	readAt  func(context.Context) error
	append  func() error
	created func(a *volume.Attr) // may change what a Create tells
	late    bool                 // its files can delay appends; they don't
	copies  bool                 // its files can copy
	tells   bool                 // the attributes of what it opens
	readDir func(entries []volume.Entry) []volume.Entry
	mu      struct {
		sync.Mutex
		calls map[string]int
	}
}

func (h *hookFS) count(op string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.calls == nil {
		h.mu.calls = map[string]int{}
	}
	h.mu.calls[op]++
}

// take returns how often op was called since the last take.
func (h *hookFS) take(op string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.mu.calls[op]
	h.mu.calls[op] = 0
	return n
}

func (h *hookFS) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	h.count("getattr")
	if h.getattr != nil {
		if err := h.getattr(ctx, id); err != nil {
			return volume.Attr{}, err
		}
	}
	return h.FS.Getattr(ctx, id)
}

func (h *hookFS) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	h.count("lookup")
	if h.lookup != nil {
		if err := h.lookup(ctx, name); err != nil {
			return volume.Attr{}, err
		}
	}
	return h.FS.Lookup(ctx, dir, name)
}

func (h *hookFS) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	h.count("getxattr")
	return h.FS.Getxattr(ctx, id, name)
}

func (h *hookFS) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	h.count("readdir")
	e, end, err := h.FS.ReadDir(ctx, dir, after, max, attrs)
	if h.readDir != nil {
		e = h.readDir(e)
	}
	return e, end, err
}

func (h *hookFS) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	h.count("create")
	file, a, err := h.FS.Create(ctx, dir, name, n, f)
	if err != nil {
		return nil, a, err
	}
	if h.created != nil {
		h.created(&a)
	}
	return h.file(file), a, nil
}

func (h *hookFS) file(under volume.File) volume.File {
	f := &hookFile{under, h}
	if h.late {
		return lateFile{f}
	}
	if h.copies {
		return &copierFile{*f}
	}
	return f
}

// lateFile is a hookFile that can delay appends, and does not.
type lateFile struct{ *hookFile }

func (f lateFile) AppendLater(ctx context.Context, p []byte, end int64, w volume.WriteFlags, moved func(int64)) error {
	at, err := f.Append(ctx, p, w)
	if err == nil && at != end {
		moved(at)
	}
	return err
}

func (h *hookFS) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	h.count("open")
	if h.open != nil {
		h.open(id)
	}
	file, err := h.FS.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	if b := volume.BesideOf(ctx); b != nil && h.tells {
		b.File, err = file.Getattr(ctx)
	}
	return h.file(file), err
}

type hookFile struct {
	volume.File
	h *hookFS
}

func (f *hookFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.h.count("read")
	if f.h.readAt != nil {
		if err := f.h.readAt(ctx); err != nil {
			return 0, err
		}
	}
	return f.File.ReadAt(ctx, p, off)
}

func (f *hookFile) WriteAt(ctx context.Context, p []byte, off int64, w volume.WriteFlags) (int, error) {
	f.h.count("write")
	return f.File.WriteAt(ctx, p, off, w)
}

func (f *hookFile) Append(ctx context.Context, p []byte, w volume.WriteFlags) (int64, error) {
	f.h.count("append")
	if f.h.append != nil {
		if err := f.h.append(); err != nil {
			return 0, err
		}
	}
	return f.File.Append(ctx, p, w)
}

func (f *hookFile) Sync(ctx context.Context, dataOnly bool) error {
	f.h.count("sync")
	return f.File.Sync(ctx, dataOnly)
}

func (f *hookFile) Flush(ctx context.Context) error {
	f.h.count("flush")
	return f.File.Flush(ctx)
}

func (f *hookFile) Close() error {
	f.h.count("close")
	return f.File.Close()
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
	}
}
