package set

import (
	"context"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// file is an open file of the set, at its primary.
type file struct {
	store
	id     volume.ID
	local  volume.File // the primary's own; its flags are the handle's, but for what makes writes durable
	flags  volume.Flags
	closed sync.Once
	lent   bool // its object has a word of the reign's window for its sake; guarded by reign.mu
}

var (
	_ volume.File   = (*file)(nil)
	_ volume.Sharer = (*file)(nil)
)

// localFlags are those with which the primary's own file is opened: what all
// members must do is not its affair.
const localFlags = ^(volume.Truncate | volume.Excl | volume.KillPriv | volume.DataSync | volume.FullSync)

// Create implements volume.FS.
func (s store) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	if n.ID.IsZero() {
		n.ID = volume.NewID(s.r.s.cfg.Set)
	}
	n.Mode = n.Mode&^syscall.S_IFMT | syscall.S_IFREG
	if err := n.CheckEmpty("create", name); err != nil {
		return nil, volume.Attr{}, err
	}
	c := &change{kind: doMake, dir: dir, name: name, node: n}
	at := entryOf(dir, name, false)
	if err := s.lock(ctx, "create", at); err != nil {
		return nil, volume.Attr{}, err
	}
	a, err := s.member().Lookup(ctx, dir, name)
	if err == nil {
		s.r.s.locks.unlock(at)
		return s.openInstead(ctx, name, a, f)
	} // if it is not free either, the change fails as it should
	defer s.r.s.locks.unlock(at)
	var local volume.File
	err = s.r.change(ctx, c, func(ctx context.Context) (o Outcome, err error) {
		local, o.Attr, err = s.member().Create(c.fixed(ctx), dir, name, n, f&localFlags|volume.Excl)
		a = o.Attr
		return o, err
	})
	if err != nil {
		if local != nil {
			_ = local.Close()
		}
		return nil, volume.Attr{}, err
	}
	s.r.noteBorn(a.ID)
	return s.opened(local, a.ID, f), a, nil
}

// openInstead is Create of a name that exists.
func (s store) openInstead(ctx context.Context, name string, a volume.Attr, f volume.Flags) (volume.File, volume.Attr, error) {
	refuse := func(errno syscall.Errno) (volume.File, volume.Attr, error) {
		if err := s.r.lease(ctx, "create"); err != nil {
			return nil, volume.Attr{}, err
		}
		return nil, volume.Attr{}, &volume.Error{Op: "create", Where: name, Errno: errno}
	}
	switch {
	case f&volume.Excl != 0:
		return refuse(syscall.EEXIST)
	case a.Held != 0:
		return nil, a, s.r.lease(ctx, "create")
	case a.IsDir():
		return refuse(syscall.EISDIR)
	case a.Type() == syscall.S_IFLNK:
		return refuse(syscall.ELOOP)
	case !a.IsRegular():
		return refuse(syscall.ENXIO)
	}
	file, err := s.Open(ctx, a.ID, f)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	if a, err = file.Getattr(ctx); err != nil {
		_ = file.Close()
		return nil, volume.Attr{}, err
	}
	return file, a, nil
}

// Open implements volume.FS.
func (s store) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	cut := f&volume.Truncate != 0
	at := whole(id, !cut)
	if err := s.lock(ctx, "open", at); err != nil {
		return nil, err
	}
	defer s.r.s.locks.unlock(at)
	local, err := s.openHere(ctx, id, f)
	if err == nil && cut {
		ch := volume.Change{Mask: volume.SetSize | volume.SetMtimeNow}
		if f&volume.KillPriv != 0 {
			ch.Mask |= volume.ClearPriv
		}
		c := &change{kind: doSetattr, id: id, set: ch}
		var o Outcome
		if err = s.r.change(ctx, c, s.here(c, &o)); err != nil {
			_ = local.Close()
		}
	}
	if err == nil {
		err = s.r.lease(ctx, "open")
		if err != nil {
			_ = local.Close()
		}
	}
	if err != nil {
		if s.r.deposed() {
			return nil, s.r.refuse("open")
		}
		return nil, err
	}
	return s.opened(local, id, f), nil
}

// openHere opens the primary's own file, if all members have the object.
func (s store) openHere(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	local, err := s.member().Open(ctx, id, f&localFlags)
	if err != nil {
		return nil, err
	}
	gone, err := s.r.nobodys(ctx, local)
	if err == nil && gone {
		err = &volume.Error{Op: "open", Where: id.String(), Errno: syscall.ESTALE}
	}
	if err != nil {
		_ = local.Close()
		return nil, err
	}
	return local, nil
}

func (r *reign) noteDiscard(k volume.Key, id volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.discards[k] = id
}

func (r *reign) discard(k volume.Key) volume.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.discards[k]
}

func (r *reign) forgetDiscard(k volume.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.discards, k)
}

// ID implements volume.File.
func (f *file) ID() volume.ID { return f.id }

// ReadAt implements volume.File.
func (f *file) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 || off > maxOffset {
		return f.local.ReadAt(ctx, p, off)
	}
	err = f.ask(ctx, "read", func() error { n, err = f.local.ReadAt(ctx, p, off); return err }, contentsOf(f.id, off, int64(len(p)), true))
	return n, err
}

// maxOffset is the largest offset of a file's contents.
const maxOffset = 1<<63 - 1 - volume.IOMax

// durability is what the handle asks of each write, or its flags of this one.
func (f *file) durability(flags volume.WriteFlags) uint8 {
	switch {
	case f.flags&volume.FullSync != 0 || flags&volume.WriteFullSync != 0:
		return 2
	case f.flags&volume.DataSync != 0 || flags&volume.WriteDataSync != 0:
		return 1
	}
	return 0
}

// check says why the handle can't be written, as the local one would.
func (f *file) check(op string, off int64, n int) error {
	switch {
	case f.flags&volume.Write == 0:
		return &volume.Error{Op: op, Where: f.id.String(), Errno: syscall.EBADF}
	case off < 0 || n > volume.IOMax:
		return &volume.Error{Op: op, Where: f.id.String(), Errno: syscall.EINVAL}
	case off > maxOffset:
		return &volume.Error{Op: op, Where: f.id.String(), Errno: syscall.EFBIG}
	}
	return nil
}

// WriteAt implements volume.File.
func (f *file) WriteAt(ctx context.Context, p []byte, off int64, flags volume.WriteFlags) (int, error) {
	if err := f.check("write", off, len(p)); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, f.nothing(ctx, flags)
	}
	at := contentsOf(f.id, off, int64(len(p)), false)
	if flags&volume.WriteKillPriv != 0 {
		at = whole(f.id, false) // it changes the mode
	}
	n := 0
	c := f.write(p, off, flags)
	err := f.changeUnder(ctx, c, f.writeHere(c, &n), at)
	return n, err
}

// WriteSet implements volume.File.
func (f *file) WriteSet(ctx context.Context, p []byte, off int64, flags volume.WriteFlags, set volume.Change) (int, error) {
	if err := f.check("write", off, len(p)); err != nil {
		return 0, err
	}
	if set.Mask&volume.SetSize != 0 {
		return 0, &volume.Error{Op: "setattr", Where: f.id.String(), Errno: syscall.EINVAL}
	}
	if set.Mask == 0 {
		return f.WriteAt(ctx, p, off, flags)
	}
	if len(p) == 0 {
		if _, err := f.Setattr(ctx, set); err != nil {
			return 0, err
		}
		return 0, f.nothing(ctx, flags)
	}
	n := 0
	c := f.write(p, off, flags)
	c.set = set
	err := f.changeUnder(ctx, c, f.writeHere(c, &n), whole(f.id, false))
	return n, err
}

// nothing is a write of no bytes.
func (f *file) nothing(ctx context.Context, flags volume.WriteFlags) error {
	if flags&volume.WriteSynced == 0 {
		return nil
	}
	return f.Sync(ctx, flags&volume.WriteFullSync == 0)
}

// write is a write, as a change.
func (f *file) write(p []byte, off int64, flags volume.WriteFlags) *change {
	return &change{kind: doWrite, id: f.id, off: off, len: int64(len(p)), flags: uint32(flags &^ volume.WriteSynced), sync: f.durability(flags), data: p}
}

// writeHere writes at the primary.
func (f *file) writeHere(c *change, n *int) func(context.Context) (Outcome, error) {
	return func(ctx context.Context) (Outcome, error) {
		var err error
		*n, err = c.writeTo(c.fixed(ctx), f.local)
		return Outcome{}, err
	}
}

// Append implements volume.File.
func (f *file) Append(ctx context.Context, p []byte, flags volume.WriteFlags) (int64, error) {
	if err := f.check("append", 0, len(p)); err != nil {
		return 0, err
	}
	at := whole(f.id, false)
	if err := f.lock(ctx, "append", at); err != nil {
		return 0, err
	}
	defer f.r.s.locks.unlock(at)
	a, err := f.local.Getattr(ctx)
	if err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return a.Size, f.nothing(ctx, flags)
	}
	if err := f.check("append", a.Size, len(p)); err != nil {
		return 0, err
	}
	n := 0
	c := f.write(p, a.Size, flags)
	c.appends = true
	if err := f.r.change(ctx, c, f.writeHere(c, &n)); err != nil {
		return 0, err
	}
	return a.Size, nil
}

// Getattr implements volume.File.
func (f *file) Getattr(ctx context.Context) (a volume.Attr, err error) {
	err = f.ask(ctx, "getattr", func() error { a, err = f.local.Getattr(ctx); return err }, whole(f.id, true))
	return a, err
}

// Setattr implements volume.File.
func (f *file) Setattr(ctx context.Context, ch volume.Change) (volume.Attr, error) {
	if ch.Mask&volume.SetSize != 0 && f.flags&volume.Write == 0 {
		return f.local.Setattr(ctx, ch) // it says what is wrong
	}
	return f.store.Setattr(ctx, f.id, ch)
}

// Allocate implements volume.File.
func (f *file) Allocate(ctx context.Context, mode uint32, off, length int64) error {
	if f.flags&volume.Write == 0 || off < 0 || length <= 0 || off > maxOffset || length > maxOffset-off {
		return f.local.Allocate(ctx, mode, off, length) // it says what is wrong
	}
	c := &change{kind: doAllocate, id: f.id, flags: mode, off: off, len: length}
	return f.changeUnder(ctx, c, func(ctx context.Context) (Outcome, error) {
		return Outcome{}, f.local.Allocate(c.fixed(ctx), mode, off, length)
	}, whole(f.id, false))
}

// Seek implements volume.File.
func (f *file) Seek(ctx context.Context, off int64, whence int) (at int64, err error) {
	err = f.ask(ctx, "seek", func() error { at, err = f.local.Seek(ctx, off, whence); return err }, whole(f.id, true))
	return at, err
}

// Sync implements volume.File.
func (f *file) Sync(ctx context.Context, dataOnly bool) error {
	c := &change{kind: doFileSync, id: f.id}
	if dataOnly {
		c.flags = 1
	}
	return f.r.durable(ctx, c, func(ctx context.Context) error { return f.local.Sync(ctx, dataOnly) })
}

// Lock implements volume.File: this member's store has the locks of those who use a set
// without a server. Those of clients are the server's, see Lockers.
func (f *file) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	return f.local.Lock(ctx, l, wait)
}

// TestLock implements volume.File.
func (f *file) TestLock(ctx context.Context, l volume.Lock) (volume.Lock, error) {
	return f.local.TestLock(ctx, l)
}

// Flush implements volume.File.
func (f *file) Flush(ctx context.Context) error { return f.local.Flush(ctx) }
