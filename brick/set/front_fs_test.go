package set

import (
	"bytes"
	"context"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.FS = (*front)(nil)

func (f *front) attr(ctx context.Context, how ask, do func(ctx context.Context, s volume.Store) (volume.Attr, error)) (volume.Attr, error) {
	return call(ctx, f, how, func(ctx context.Context, s *served) (volume.Attr, error) { return do(ctx, s.store) }, attrTold)
}

func (f *front) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	return f.attr(ctx, repeat, func(ctx context.Context, s volume.Store) (volume.Attr, error) { return s.Lookup(ctx, dir, name) })
}

func (f *front) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	return f.attr(ctx, repeat, func(ctx context.Context, s volume.Store) (volume.Attr, error) { return s.Getattr(ctx, id) })
}

func (f *front) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	return f.attr(ctx, prefer, func(ctx context.Context, s volume.Store) (volume.Attr, error) { return s.Setattr(ctx, id, c) })
}

func (f *front) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	return f.attr(ctx, decide, func(ctx context.Context, s volume.Store) (volume.Attr, error) { return s.Make(ctx, dir, name, n) })
}

func (f *front) Link(ctx context.Context, id, dir volume.ID, name string) (volume.Attr, error) {
	return f.attr(ctx, decide, func(ctx context.Context, s volume.Store) (volume.Attr, error) { return s.Link(ctx, id, dir, name) })
}

func (f *front) Unlink(ctx context.Context, dir volume.ID, name string) error {
	if f.next.Load()%2 == 0 {
		return f.unlinkTogether(ctx, dir, name)
	}
	return plain(ctx, f, decide, func(ctx context.Context, s *served) error { return s.store.Unlink(ctx, dir, name) })
}

// unlinkTogether is Unlink together with whatever else is removed so at the time.
func (f *front) unlinkTogether(ctx context.Context, dir volume.ID, name string) error {
	return plain(ctx, f, decide, func(ctx context.Context, s *served) error { return s.unlinkTogether(ctx, dir, name) })
}

func (f *front) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return plain(ctx, f, decide, func(ctx context.Context, s *served) error { return s.store.Rmdir(ctx, dir, name) })
}

func (f *front) Rename(ctx context.Context, dir volume.ID, name string, dir2 volume.ID, name2 string, fl volume.RenameFlags) error {
	return plain(ctx, f, decide, func(ctx context.Context, s *served) error { return s.store.Rename(ctx, dir, name, dir2, name2, fl) })
}

func (f *front) Setxattr(ctx context.Context, id volume.ID, name string, v []byte, fl volume.XattrFlags) error {
	how := repeat
	if fl != 0 {
		how = decide
	}
	v = bytes.Clone(v)
	return plain(ctx, f, how, func(ctx context.Context, s *served) error { return s.store.Setxattr(ctx, id, name, v, fl) })
}

func (f *front) Removexattr(ctx context.Context, id volume.ID, name string) error {
	return plain(ctx, f, decide, func(ctx context.Context, s *served) error { return s.store.Removexattr(ctx, id, name) })
}

func (f *front) Sync(ctx context.Context, id volume.ID) error {
	return plain(ctx, f, repeat, func(ctx context.Context, s *served) error { return s.store.Sync(ctx, id) })
}

func (f *front) Readlink(ctx context.Context, id volume.ID) (string, error) {
	return call(ctx, f, repeat, func(ctx context.Context, s *served) (string, error) { return s.store.Readlink(ctx, id) }, nil)
}

func (f *front) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	return call(ctx, f, repeat, func(ctx context.Context, s *served) ([]byte, error) { return s.store.Getxattr(ctx, id, name) }, nil)
}

func (f *front) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	return call(ctx, f, repeat, func(ctx context.Context, s *served) ([]string, error) { return s.store.Listxattr(ctx, id) }, nil)
}

func (f *front) Statfs(ctx context.Context) (volume.Statfs, error) {
	return call(ctx, f, repeat, func(ctx context.Context, s *served) (volume.Statfs, error) { return s.store.Statfs(ctx) }, nil)
}

func (f *front) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	type page struct {
		es  []volume.Entry
		end bool
	}
	p, err := call(ctx, f, repeat, func(ctx context.Context, s *served) (p page, err error) {
		p.es, p.end, err = s.store.ReadDir(ctx, dir, after, max, attrs)
		return p, err
	}, nil)
	return p.es, p.end, err
}

// reopenFlags are what a file is opened with again.
const reopenFlags = ^(volume.Truncate | volume.Excl | volume.KillPriv)

// made is what Create and Open give at a primary.
type made struct {
	h    volume.File
	attr volume.Attr
	s    *served
}

// opened enters a file of which a primary has given a handle; false: it is one of a primary that is over.
func (f *front) opened(m made, fl volume.Flags) (*frontFile, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.s != f.adopted {
		return nil, false
	}
	file := &frontFile{f: f, id: m.h.ID(), flags: fl & reopenFlags, local: m.h}
	f.files[file] = true
	return file, true
}

func (f *front) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, fl volume.Flags) (volume.File, volume.Attr, error) {
	if n.ID.IsZero() {
		n.ID = volume.NewID(1) // as the distribute layer does
	}
	m, err := call(ctx, f, decide, func(ctx context.Context, s *served) (m made, err error) {
		m.s = s
		if m.h, m.attr, err = s.store.Create(ctx, dir, name, n, fl); err == nil {
			s.keep(m.h)
		}
		return m, err
	}, func(ctx context.Context, s *served, o Outcome) (m made, err error) {
		if m.attr, err = attrTold(ctx, s, o); err != nil {
			return m, err
		}
		m.s = s
		if m.h, err = s.store.Open(ctx, m.attr.ID, fl&reopenFlags); err == nil {
			s.keep(m.h)
		}
		return m, err
	})
	if err != nil {
		return nil, m.attr, err
	}
	if file, ok := f.opened(m, fl); ok {
		return file, m.attr, nil
	}
	file, err := f.Open(ctx, m.attr.ID, fl&reopenFlags) // it changes primaries just now
	return file, m.attr, err
}

func (f *front) Open(ctx context.Context, id volume.ID, fl volume.Flags) (volume.File, error) {
	for {
		m, err := call(ctx, f, repeat, func(ctx context.Context, s *served) (m made, err error) {
			m.s = s
			if m.h, err = s.store.Open(ctx, id, fl); err == nil {
				s.keep(m.h)
			}
			return m, err
		}, nil)
		if err != nil {
			return nil, err
		}
		if file, ok := f.opened(m, fl); ok {
			return file, nil
		}
		fl &= reopenFlags
	}
}

// frontFile is an open file of a front.
type frontFile struct {
	f     *front
	id    volume.ID
	flags volume.Flags
	local volume.File // at f.adopted; guarded by f.mu
}

func (h *frontFile) ID() volume.ID { return h.id }

// at returns the handle at a primary.
func (h *frontFile) at(s *served) (volume.File, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if h.f.adopted != s {
		return nil, notPrimary("file")
	}
	if h.local == nil {
		return nil, &volume.Error{Op: "file", Errno: estale}
	}
	return h.local, nil
}

// fileCall is call for an open file.
func fileCall[T any](ctx context.Context, h *frontFile, how ask, do func(ctx context.Context, l volume.File) (T, error), told func(o Outcome) T) (T, error) {
	return call(ctx, h.f, how, func(ctx context.Context, s *served) (v T, err error) {
		l, err := h.at(s)
		if err != nil {
			return v, err
		}
		return do(ctx, l)
	}, func(_ context.Context, _ *served, o Outcome) (T, error) { return told(o), nil })
}

func (h *frontFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	b, err := fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) ([]byte, error) {
		b := make([]byte, len(p))
		n, err := l.ReadAt(ctx, b, off)
		return b[:n], err
	}, nil)
	return copy(p, b), err
}

func (h *frontFile) WriteAt(ctx context.Context, p []byte, off int64, fl volume.WriteFlags) (int, error) {
	p = bytes.Clone(p)
	return fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) (int, error) { return l.WriteAt(ctx, p, off, fl) }, nil)
}

func (h *frontFile) WriteSet(ctx context.Context, p []byte, off int64, fl volume.WriteFlags, c volume.Change) (int, error) {
	p = bytes.Clone(p)
	return fileCall(ctx, h, prefer, func(ctx context.Context, l volume.File) (int, error) { return l.WriteSet(ctx, p, off, fl, c) },
		func(Outcome) int { return len(p) })
}

func (h *frontFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, fl volume.WriteFlags) (int64, error) {
	return call(ctx, h.f, repeat, func(ctx context.Context, s *served) (int64, error) {
		to, err := h.at(s)
		if err != nil {
			return 0, err
		}
		l, err := src.(*frontFile).at(s)
		if err != nil {
			return 0, err
		}
		return volume.CopyFrom(ctx, to, l, from, off, n, fl)
	}, nil)
}

func (h *frontFile) Append(ctx context.Context, p []byte, fl volume.WriteFlags) (int64, error) {
	p = bytes.Clone(p)
	return fileCall(ctx, h, decide, func(ctx context.Context, l volume.File) (int64, error) { return l.Append(ctx, p, fl) },
		func(o Outcome) int64 { return o.Offset })
}

func (h *frontFile) Getattr(ctx context.Context) (volume.Attr, error) {
	return fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) (volume.Attr, error) { return l.Getattr(ctx) }, nil)
}

func (h *frontFile) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	return fileCall(ctx, h, prefer, func(ctx context.Context, l volume.File) (volume.Attr, error) { return l.Setattr(ctx, c) },
		func(o Outcome) volume.Attr { return o.Attr })
}

func (h *frontFile) Allocate(ctx context.Context, mode uint32, off, n int64) error {
	how := repeat
	if mode&(volume.AllocCollapseRange|volume.AllocInsertRange) != 0 {
		how = decide
	}
	_, err := fileCall(ctx, h, how, func(ctx context.Context, l volume.File) (none, error) { return none{}, l.Allocate(ctx, mode, off, n) },
		func(Outcome) none { return none{} })
	return err
}

func (h *frontFile) Seek(ctx context.Context, off int64, whence int) (int64, error) {
	return fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) (int64, error) { return l.Seek(ctx, off, whence) }, nil)
}

func (h *frontFile) Sync(ctx context.Context, dataOnly bool) error {
	_, err := fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) (none, error) { return none{}, l.Sync(ctx, dataOnly) }, nil)
	return err
}

// Lock and TestLock: locks are a server's, which stands above the set, and a client declares them again.
func (h *frontFile) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	if wait {
		return h.f.locks.Wait(ctx, h.id, l)
	}
	return h.f.locks.Set(h.id, l)
}

func (h *frontFile) TestLock(_ context.Context, l volume.Lock) (volume.Lock, error) {
	return h.f.locks.Test(h.id, l)
}

func (h *frontFile) Flush(ctx context.Context) error {
	_, err := fileCall(ctx, h, repeat, func(ctx context.Context, l volume.File) (none, error) { return none{}, l.Flush(ctx) }, nil)
	return err
}

func (h *frontFile) Close() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	delete(h.f.files, h)
	if s := h.f.adopted; h.local != nil && s != nil {
		s.drop(h.local)
	}
	return nil
}
