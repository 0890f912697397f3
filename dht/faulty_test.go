package dht

import (
	"context"
	"fmt"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// faultyStore is a node's store, which is out of reach once the node's life has
// ended, and ends it at a chosen change.
type faultyStore struct {
	volume.Store
	n    *node
	life *life
}

// change runs one change of the store, and notes the request that it decides, as
// the set below an Owner does.
func (s *faultyStore) change(ctx context.Context, f func() error, what ...any) (err error) {
	defer func() { s.n.c.note(s.n.id, err, what...) }()
	if s.life.dead.Load() || s.life.deposed.Load() {
		return errDown
	}
	at := s.n.fault.Load()
	if at != nil {
		if at.left.Add(-1) == 0 {
			defer at.hit.Store(true)
			if at.applied {
				s.n.executed(ctx, f())
			}
			if at.depose {
				s.life.deposed.Store(true)
			} else {
				s.life.dead.Store(true)
			}
			return errDown
		}
	}
	err = f()
	s.n.executed(ctx, err)
	return err
}

func (s *faultyStore) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	err = s.change(ctx, func() (err error) { a, err = s.Store.Make(ctx, dir, name, n); return err }, "Make", dir, name, n)
	return a, err
}
func (s *faultyStore) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (file volume.File, a volume.Attr, err error) {
	err = s.change(ctx, func() (err error) { file, a, err = s.Store.Create(ctx, dir, name, n, f); return err }, "Create", dir, name, n)
	if file != nil {
		file = &faultyFile{File: file, s: s}
	}
	return file, a, err
}

// Open has the file's WriteSet be a change like others.
func (s *faultyStore) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := s.Store.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, s: s}, nil
}

type faultyFile struct {
	volume.File
	s *faultyStore
}

func (f *faultyFile) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, c volume.Change) (n int, err error) {
	err = f.s.change(ctx, func() (err error) { n, err = f.File.WriteSet(ctx, p, off, flags, c); return err }, "WriteSet", f.ID())
	return n, err
}

// CopyFrom implements volume.Copier.
func (f *faultyFile) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, flags volume.WriteFlags) (int64, error) {
	s, ok := src.(*faultyFile)
	if !ok {
		return 0, volume.Apart(f)
	}
	return volume.CopyFrom(ctx, f.File, s.File, from, off, n, flags)
}

func (s *faultyStore) Link(ctx context.Context, id, dir volume.ID, name string) (a volume.Attr, err error) {
	err = s.change(ctx, func() (err error) { a, err = s.Store.Link(ctx, id, dir, name); return err }, "Link", id, dir, name)
	return a, err
}
func (s *faultyStore) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return s.change(ctx, func() error { return s.Store.Unlink(ctx, dir, name) }, "Unlink", dir, name)
}
func (s *faultyStore) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return s.change(ctx, func() error { return s.Store.Rmdir(ctx, dir, name) }, "Rmdir", dir, name)
}
func (s *faultyStore) Rename(ctx context.Context, od volume.ID, on string, nd volume.ID, nn string, f volume.RenameFlags) error {
	return s.change(ctx, func() error { return s.Store.Rename(ctx, od, on, nd, nn, f) }, "Rename", od, on, nd, nn)
}
func (s *faultyStore) MakeCopy(ctx context.Context, parent volume.ID, name string, c volume.Copy) error {
	return s.change(ctx, func() error { return s.Store.MakeCopy(ctx, parent, name, c) }, "MakeCopy", parent, name, c)
}
func (s *faultyStore) RefreshCopy(ctx context.Context, c volume.Copy) error {
	return s.change(ctx, func() error { return s.Store.RefreshCopy(ctx, c) }, "RefreshCopy", c)
}
func (s *faultyStore) Put(ctx context.Context, dir volume.ID, name string, e volume.Pointer, old volume.ID, k volume.Key) error {
	if s.n.noPut.Load() {
		return fail("put", name, syscall.ENOSPC)
	}
	return s.change(ctx, func() error { return s.Store.Put(ctx, dir, name, e, old, k) }, "Put", dir, name, e, old, k)
}
func (s *faultyStore) Discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key) error {
	if s.n.noDiscard.Load() {
		return fail("discard", name, syscall.ENOSPC)
	}
	return s.change(ctx, func() error { return s.Store.Discard(ctx, dir, name, id, k) }, "Discard", dir, name, id, k)
}
func (s *faultyStore) Purge(ctx context.Context, k volume.Key) error {
	return s.change(ctx, func() error { return s.Store.Purge(ctx, k) }, "Purge", k)
}
func (s *faultyStore) Restore(ctx context.Context, k volume.Key) error {
	return s.change(ctx, func() error { return s.Store.Restore(ctx, k) }, "Restore", k)
}
func (s *faultyStore) Settle(ctx context.Context) error {
	return s.change(ctx, func() error { return s.Store.Settle(ctx) }, "Settle")
}
func (s *faultyStore) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	if s.life.dead.Load() || s.life.deposed.Load() {
		return volume.Attr{}, errDown
	}
	return s.Store.Lookup(ctx, dir, name)
}
func (s *faultyStore) Path(ctx context.Context, dir volume.ID) (volume.ID, string, error) {
	if s.life.dead.Load() || s.life.deposed.Load() {
		return volume.ID{}, "", errDown
	}
	return s.Store.Path(ctx, dir)
}
func (s *faultyStore) Find(ctx context.Context, short uint64) (volume.ID, error) {
	if s.life.dead.Load() || s.life.deposed.Load() {
		return volume.ID{}, errDown
	}
	return volume.Find(ctx, s.Store, short)
}
func (s *faultyStore) Setattr(ctx context.Context, id volume.ID, c volume.Change) (a volume.Attr, err error) {
	err = s.change(ctx, func() (err error) { a, err = s.Store.Setattr(ctx, id, c); return err }, "Setattr", id, c)
	return a, err
}
func (s *faultyStore) Setxattr(ctx context.Context, id volume.ID, name string, v []byte, f volume.XattrFlags) error {
	return s.change(ctx, func() error { return s.Store.Setxattr(ctx, id, name, v, f) }, "Setxattr", id, name)
}
func (s *faultyStore) Journal() volume.Journal { return &faultyJournal{s.Store.Journal(), s} }

type faultyJournal struct {
	volume.Journal
	s *faultyStore
}

func (j *faultyJournal) Append(ctx context.Context, rec []byte) error {
	return j.s.change(ctx, func() error { return j.Journal.Append(ctx, rec) }, "journal", traceRecord(rec))
}
func (j *faultyJournal) Sync(ctx context.Context) error {
	return j.s.change(ctx, func() error { return j.Journal.Sync(ctx) }, "journal Sync")
}
func (j *faultyJournal) Rewrite(recs [][]byte) error {
	return j.s.change(context.Background(), func() error { return j.Journal.Rewrite(recs) }, "journal Rewrite")
}

func traceRecord(b []byte) string {
	rec, err := decodeRecord(b)
	return fmt.Sprintf("%+v %v", rec, err)
}
