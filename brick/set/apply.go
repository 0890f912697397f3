package set

import (
	"context"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// apply carries a change out on a member. It is what makes all of them alike:
// the primary comes here too, but for what it opens on the way.
func apply(ctx context.Context, m volume.Member, files *files, c *change) (o Outcome, err error) {
	if c.kind.numbered() {
		ctx = c.fixed(ctx)
	}
	switch c.kind {
	case doSetattr:
		o.Attr, err = m.Setattr(ctx, c.id, c.set)
	case doMake:
		o.Attr, err = m.Make(ctx, c.dir, c.name, c.born())
	case doLink:
		o.Attr, err = m.Link(ctx, c.id, c.dir, c.name)
	case doUnlink:
		err = files.without(c.id, func() error { return m.Unlink(ctx, c.dir, c.name) })
	case doRmdir:
		err = m.Rmdir(ctx, c.dir, c.name)
	case doRename:
		err = files.without(c.old, func() error {
			return m.Rename(ctx, c.dir, c.name, c.dir2, c.name2, volume.RenameFlags(c.flags))
		})
	case doSetxattr:
		err = m.Setxattr(ctx, c.id, c.name, c.value, volume.XattrFlags(c.flags))
	case doRemovexattr:
		err = m.Removexattr(ctx, c.id, c.name)
	case doMakeCopy:
		err = m.MakeCopy(ctx, c.dir, c.name, c.copy)
	case doRefreshCopy:
		err = m.RefreshCopy(ctx, c.copy)
	case doPut:
		err = m.Put(ctx, c.dir, c.name, c.ptr, c.old, c.key)
	case doDiscard:
		err = m.Discard(ctx, c.dir, c.name, c.id, c.key)
	case doPurge:
		err = files.without(c.id, func() error { return m.Purge(ctx, c.key) })
	case doRestore:
		err = m.Restore(ctx, c.key)
	case doRelease:
		err = files.without(c.id, func() error { return m.Release(ctx, c.id) })
	case doJournal:
		err = m.Journal().Append(ctx, c.value)
	case doJournalRewrite:
		var recs [][]byte
		if recs, err = unpackRecords(c.data); err == nil {
			err = m.Journal().Rewrite(recs)
		}
	case doSync:
		err = m.Sync(ctx, c.id)
	case doSettle:
		err = m.Settle(ctx)
	case doJournalSync:
		err = m.Journal().Sync(ctx)
	case doWrite, doAllocate, doFileSync:
		o, err = applyToFile(ctx, m, files, c)
	default:
		err = malformed("change")
	}
	return o, err
}

// applyToFile is apply for what needs an open file.
func applyToFile(ctx context.Context, m volume.Member, files *files, c *change) (o Outcome, err error) {
	f, err := files.get(ctx, m, c.id)
	if err != nil {
		return o, err
	}
	defer files.put(f)
	switch c.kind {
	case doWrite:
		_, err = c.writeTo(ctx, f)
	case doAllocate:
		err = f.Allocate(ctx, c.flags, c.off, c.len)
	case doFileSync:
		err = f.Sync(ctx, c.flags != 0)
	}
	return o, err
}

// writeTo carries a write out on a member's file, with what goes with it.
func (c *change) writeTo(ctx context.Context, f volume.File) (n int, err error) {
	if c.set.Mask == 0 {
		n, err = f.WriteAt(ctx, c.data, c.off, volume.WriteFlags(c.flags))
	} else {
		n, err = f.WriteSet(ctx, c.data, c.off, volume.WriteFlags(c.flags), c.set)
	}
	if err == nil && c.sync != 0 {
		err = f.Sync(ctx, c.sync == 1)
	}
	return n, err
}

// applyHollow applies what has contents on an arbiter, which has sizes and times but no contents.
func applyHollow(ctx context.Context, m volume.Member, _ *files, c *change) (o Outcome, err error) {
	ctx = c.fixed(ctx)
	if c.kind == doMake {
		return c.bearHollow(ctx, m)
	}
	a, err := m.Getattr(ctx, c.id)
	if err != nil {
		return o, err
	}
	ch := volume.Change{Mask: volume.SetMtimeNow}
	if end := c.off + c.len; end > a.Size {
		ch.Mask, ch.Size = ch.Mask|volume.SetSize, end
	}
	if volume.WriteFlags(c.flags)&volume.WriteKillPriv != 0 {
		ch.Mask |= volume.ClearPriv
	}
	if _, err = m.Setattr(ctx, c.id, ch); err == nil && c.set.Mask != 0 {
		_, err = m.Setattr(ctx, c.id, c.set)
	}
	return o, err
}

// bearHollow makes a file on an arbiter. A crash on the way leaves it with another size: until the change is finished that is told to
// whoever is the primary then, as all that the change touches.
func (c *change) bearHollow(ctx context.Context, m volume.Member) (o Outcome, err error) {
	if o.Attr, err = m.Make(ctx, c.dir, c.name, c.node); err != nil {
		return o, err
	}
	ch := volume.Change{Mask: volume.SetSize | volume.SetMtimeNow, Size: c.len}
	if c.cred.UID != 0 { // its owner has written it
		ch.Mask |= volume.ClearPriv
	}
	if o.Attr, err = m.Setattr(ctx, c.node.ID, ch); err == nil && c.set.Mask != 0 {
		o.Attr, err = m.Setattr(ctx, c.node.ID, c.set)
	}
	return o, err
}

// files are the open files of a member for the changes that it applies: opened
// when first needed, and closed when many others were needed since.
type files struct {
	mu struct {
		sync.Mutex
		open  map[volume.ID]*openFile
		clock uint64
		drops uint64 // how many times drop was called
	}
}

type openFile struct {
	volume.File
	refs int
	used uint64
	gone bool // not in the table any more: close it with the last reference
}

// filesMax is how many are kept open.
const filesMax = 512

func newFiles() *files {
	f := &files{}
	f.mu.open = map[volume.ID]*openFile{}
	return f
}

// get returns the open file; put must follow.
func (t *files) get(ctx context.Context, m volume.Member, id volume.ID) (*openFile, error) {
	t.mu.Lock()
	t.mu.clock++
	if f := t.mu.open[id]; f != nil {
		f.refs++
		f.used = t.mu.clock
		t.mu.Unlock()
		return f, nil
	}
	drops := t.mu.drops
	t.mu.Unlock()
	opened, err := m.Open(ctx, id, volume.Read|volume.Write)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if f := t.mu.open[id]; f != nil { // somebody else was faster
		f.refs++
		t.mu.Unlock()
		_ = opened.Close()
		return f, nil
	}
	f := &openFile{File: opened, refs: 1, used: t.mu.clock}
	if f.gone = t.mu.drops != drops; f.gone { // perhaps of this one, which has lost its name since: nobody would close it
		t.mu.Unlock()
		return f, nil
	}
	t.mu.open[id] = f
	old := t.excessLocked()
	t.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return f, nil
}

// excessLocked takes the file out that was not needed for longest, if there are too many.
func (t *files) excessLocked() volume.File {
	if len(t.mu.open) <= filesMax {
		return nil
	}
	var oldest volume.ID
	var found *openFile
	for id, f := range t.mu.open {
		if f.refs == 0 && (found == nil || f.used < found.used) {
			oldest, found = id, f
		}
	}
	if found == nil {
		return nil
	}
	delete(t.mu.open, oldest)
	return found.File
}

func (t *files) put(f *openFile) {
	t.mu.Lock()
	f.refs--
	last := f.gone && f.refs == 0
	t.mu.Unlock()
	if last {
		_ = f.File.Close()
	}
}

// without carries out what may take a file's last name away, with the file closed: an open one would be
// kept. Somebody may open it on the way, to heal it or to sync it, so it is closed again afterwards.
func (t *files) without(id volume.ID, f func() error) error {
	t.drop(id)
	defer t.drop(id)
	return f()
}

// drop closes a file, as soon as nobody needs it.
func (t *files) drop(id volume.ID) {
	t.mu.Lock()
	t.mu.drops++
	f := t.mu.open[id]
	delete(t.mu.open, id)
	last := f != nil && f.refs == 0
	if f != nil {
		f.gone = true
	}
	t.mu.Unlock()
	if last {
		_ = f.File.Close()
	}
}

func (t *files) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, f := range t.mu.open {
		delete(t.mu.open, id)
		f.gone = true
		if f.refs == 0 {
			_ = f.File.Close()
		}
	}
}
