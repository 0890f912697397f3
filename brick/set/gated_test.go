package set

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

// gated is a node's store as one of its processes has it: see process.step.
type gated struct {
	volume.Member
	p *process
}

var _ volume.Member = gated{}

// got is step for what has a result.
func got[T any](p *process, op string, f func() (T, error)) (v T, err error) {
	err = p.step(op, func() error { v, err = f(); return err })
	return v, err
}

func (g gated) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	return got(g.p, "lookup", func() (volume.Attr, error) { return g.Member.Lookup(ctx, dir, name) })
}

func (g gated) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	return got(g.p, "getattr", func() (volume.Attr, error) { return g.Member.Getattr(ctx, id) })
}

func (g gated) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	g.p.trace(ctx, "setattr", id, c.Mask, c.Size)
	return got(g.p, "setattr", func() (volume.Attr, error) { return g.Member.Setattr(ctx, id, c) })
}

func (g gated) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	g.p.trace(ctx, "make", dir, name, n.ID)
	return got(g.p, "make", func() (volume.Attr, error) { return g.Member.Make(ctx, dir, name, n) })
}

func (g gated) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, fl volume.Flags) (f volume.File, a volume.Attr, err error) {
	g.p.trace(ctx, "create", dir, name, n.ID, fl)
	err = g.p.step("create", func() error { f, a, err = g.Member.Create(ctx, dir, name, n, fl); return err })
	if f != nil {
		f = gatedFile{f, g.p}
	}
	return f, a, err
}

func (g gated) Open(ctx context.Context, id volume.ID, fl volume.Flags) (volume.File, error) {
	g.p.trace(ctx, "open", id, fl)
	f, err := got(g.p, "open", func() (volume.File, error) { return g.Member.Open(ctx, id, fl) })
	if f != nil {
		f = gatedFile{f, g.p}
	}
	return f, err
}

func (g gated) Readlink(ctx context.Context, id volume.ID) (string, error) {
	return got(g.p, "readlink", func() (string, error) { return g.Member.Readlink(ctx, id) })
}

func (g gated) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	g.p.trace(ctx, "link", id, dir, name)
	return got(g.p, "link", func() (volume.Attr, error) { return g.Member.Link(ctx, id, dir, name) })
}

func (g gated) Unlink(ctx context.Context, dir volume.ID, name string) error {
	g.p.trace(ctx, "unlink", dir, name)
	return g.p.step("unlink", func() error { return g.Member.Unlink(ctx, dir, name) })
}

func (g gated) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	g.p.trace(ctx, "rmdir", dir, name)
	return g.p.step("rmdir", func() error { return g.Member.Rmdir(ctx, dir, name) })
}

func (g gated) Rename(ctx context.Context, dir volume.ID, name string, dir2 volume.ID, name2 string, fl volume.RenameFlags) error {
	g.p.trace(ctx, "rename", dir, name, dir2, name2, fl)
	return g.p.step("rename", func() error { return g.Member.Rename(ctx, dir, name, dir2, name2, fl) })
}

func (g gated) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) (es []volume.Entry, end bool, err error) {
	err = g.p.step("readdir", func() error { es, end, err = g.Member.ReadDir(ctx, dir, after, max, attrs); return err })
	return es, end, err
}

func (g gated) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	return got(g.p, "getxattr", func() ([]byte, error) { return g.Member.Getxattr(ctx, id, name) })
}

func (g gated) Setxattr(ctx context.Context, id volume.ID, name string, v []byte, fl volume.XattrFlags) error {
	g.p.trace(ctx, "setxattr", id, name)
	return g.p.step("setxattr", func() error { return g.Member.Setxattr(ctx, id, name, v, fl) })
}

func (g gated) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	return got(g.p, "listxattr", func() ([]string, error) { return g.Member.Listxattr(ctx, id) })
}

func (g gated) Removexattr(ctx context.Context, id volume.ID, name string) error {
	g.p.trace(ctx, "removexattr", id, name)
	return g.p.step("removexattr", func() error { return g.Member.Removexattr(ctx, id, name) })
}

func (g gated) Sync(ctx context.Context, id volume.ID) error {
	return g.p.step("sync", func() error { return g.Member.Sync(ctx, id) })
}

func (g gated) Settle(ctx context.Context) error {
	return g.p.step("settle", func() error { return g.Member.Settle(ctx) })
}

func (g gated) Statfs(ctx context.Context) (volume.Statfs, error) {
	return got(g.p, "statfs", func() (volume.Statfs, error) { return g.Member.Statfs(ctx) })
}

func (g gated) Orphans(ctx context.Context) error {
	return g.p.step("orphans", func() error { return g.Member.Orphans(ctx) })
}

func (g gated) MakeCopy(ctx context.Context, parent volume.ID, name string, c volume.Copy) error {
	return g.p.step("makecopy", func() error { return g.Member.MakeCopy(ctx, parent, name, c) })
}

func (g gated) RefreshCopy(ctx context.Context, c volume.Copy) error {
	return g.p.step("refreshcopy", func() error { return g.Member.RefreshCopy(ctx, c) })
}

func (g gated) Put(ctx context.Context, dir volume.ID, name string, e volume.Pointer, old volume.ID, k volume.Key) error {
	return g.p.step("put", func() error { return g.Member.Put(ctx, dir, name, e, old, k) })
}

func (g gated) Discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key) error {
	return g.p.step("discard", func() error { return g.Member.Discard(ctx, dir, name, id, k) })
}

func (g gated) Purge(ctx context.Context, k volume.Key) error {
	return g.p.step("purge", func() error { return g.Member.Purge(ctx, k) })
}

func (g gated) Restore(ctx context.Context, k volume.Key) error {
	return g.p.step("restore", func() error { return g.Member.Restore(ctx, k) })
}

func (g gated) Describe(ctx context.Context, id volume.ID) (volume.Object, error) {
	return got(g.p, "describe", func() (volume.Object, error) { return g.Member.Describe(ctx, id) })
}

func (g gated) Install(ctx context.Context, o volume.Object) error {
	g.p.trace(ctx, "install", o.Attr.ID, o.Attr.Size)
	return g.p.step("install", func() error { return g.Member.Install(ctx, o) })
}

func (g gated) Place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error {
	g.p.trace(ctx, "place", dir, name, p.ID)
	return g.p.step("place", func() error { return g.Member.Place(ctx, dir, name, p) })
}

func (g gated) Release(ctx context.Context, id volume.ID) error {
	g.p.trace(ctx, "release", id)
	return g.p.step("release", func() error { return g.Member.Release(ctx, id) })
}

func (g gated) Nameless(ctx context.Context) ([]volume.ID, error) {
	return got(g.p, "nameless", func() ([]volume.ID, error) { return g.Member.Nameless(ctx) })
}

func (g gated) Sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error) {
	return got(g.p, "sums", func() ([]uint64, error) { return g.Member.Sums(ctx, id, first, n, size) })
}

func (g gated) Journal() volume.Journal { return gatedJournal{g.Member.Journal(), g.p} }

type gatedJournal struct {
	volume.Journal
	p *process
}

func (j gatedJournal) Append(ctx context.Context, rec []byte) error {
	return j.p.step("journal", func() error { return j.Journal.Append(ctx, rec) })
}

func (j gatedJournal) Sync(ctx context.Context) error {
	return j.p.step("journal sync", func() error { return j.Journal.Sync(ctx) })
}

func (j gatedJournal) Rewrite(recs [][]byte) error {
	return j.p.step("journal rewrite", func() error { return j.Journal.Rewrite(recs) })
}

// gatedFile is an open file of one process.
type gatedFile struct {
	volume.File
	p *process
}

func (f gatedFile) Unwrap() volume.File { return f.File } // which is lent: reads by a descriptor pass no gate

func (f gatedFile) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	return got(f.p, "read", func() (int, error) { return f.File.ReadAt(ctx, b, off) })
}

func (f gatedFile) WriteAt(ctx context.Context, b []byte, off int64, fl volume.WriteFlags) (int, error) {
	f.p.trace(ctx, "writeat", f.ID(), len(b), off)
	return got(f.p, "write", func() (int, error) { return f.File.WriteAt(ctx, b, off, fl) })
}

func (f gatedFile) WriteSet(ctx context.Context, b []byte, off int64, fl volume.WriteFlags, c volume.Change) (int, error) {
	f.p.trace(ctx, "writeset", f.ID(), len(b), off, c.Mask)
	return got(f.p, "write", func() (int, error) { return f.File.WriteSet(ctx, b, off, fl, c) })
}

func (f gatedFile) Append(ctx context.Context, b []byte, fl volume.WriteFlags) (int64, error) {
	return got(f.p, "append", func() (int64, error) { return f.File.Append(ctx, b, fl) })
}

func (f gatedFile) Getattr(ctx context.Context) (volume.Attr, error) {
	return got(f.p, "getattr", func() (volume.Attr, error) { return f.File.Getattr(ctx) })
}

func (f gatedFile) Setattr(ctx context.Context, c volume.Change) (volume.Attr, error) {
	return got(f.p, "setattr", func() (volume.Attr, error) { return f.File.Setattr(ctx, c) })
}

func (f gatedFile) Allocate(ctx context.Context, mode uint32, off, n int64) error {
	f.p.trace(ctx, "allocate", f.ID(), mode, off, n)
	return f.p.step("allocate", func() error { return f.File.Allocate(ctx, mode, off, n) })
}

func (f gatedFile) Sync(ctx context.Context, dataOnly bool) error {
	return f.p.step("fsync", func() error { return f.File.Sync(ctx, dataOnly) })
}

// Close does nothing once the process is dead: Crash tells the store.
func (f gatedFile) Close() error {
	f.p.alive.RLock()
	defer f.p.alive.RUnlock()
	if f.p.dead {
		return nil
	}
	return f.File.Close()
}
