package behind

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

const (
	unbornMax   = 256                    // files that are unborn at once
	refusedFor  = 250 * time.Millisecond // for how long a directory is not asked again for a name that could not be reserved
	refusingMax = 256                    // directories of which that is known
)

// place is a name in a directory.
type place struct {
	dir  volume.ID
	name string
}

// birth says how a file is made whose name is reserved.
type birth struct {
	node         volume.Node
	atime, mtime volume.Time // as they were foreseen
	told         bool        // to somebody, who shall not see others unless something happens to the file
}

// delaying reports whether anything may be kept back.
func (f *FS) delaying() bool {
	return !f.off.Load() && f.kept.Load() < keptMax && f.tight.Load() < time.Now().UnixNano()
}

// conceive creates a file that is unborn, if that can be.
func (f *FS) conceive(ctx context.Context, dir volume.ID, name string, n volume.Node, flags volume.Flags) (volume.File, volume.Attr, bool) {
	const regular, privileges = syscall.S_IFREG, syscall.S_ISUID | syscall.S_ISGID
	var none volume.Attr
	cred, kind := volume.CredOf(ctx), n.Mode&syscall.S_IFMT
	switch {
	case f.reserver == nil, flags&volume.Write == 0, flags&atOnce != 0, kind != 0 && kind != regular, !f.delaying():
		return nil, none, false
	case cred.UID != 0 && n.Mode&privileges != 0: // which it would lose with its contents, though nobody has asked for that
		return nil, none, false
	case len(n.Data) > 0, n.Then.Mask != 0, f.refuses(dir, time.Now()):
		return nil, none, false
	}
	if f.unborn.Add(1) > unbornMax {
		f.unborn.Add(-1)
		return nil, none, false
	}
	n.Mode = n.Mode&0o7777 | regular
	release, err := f.claim(ctx, "create", place{dir, name})
	if err != nil {
		f.unborn.Add(-1)
		return nil, none, false
	}
	defer release()
	a, err := f.reserver.Reserve(ctx, dir, name, n)
	if n.ID.IsZero() {
		n.ID = a.ID
	}
	if err == nil && !n.ID.IsZero() {
		o, first := f.object(n.ID)
		if first {
			a.ID, a.Foreseen, a.Btime = n.ID, true, volume.Time{} // the time of birth can't be told before
			return o.conceive(cred, place{dir, name}, n, flags, a), a, true
		}
		f.release(n.ID, o) // whoever chose that ID has a file with it open
	}
	f.unborn.Add(-1)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		f.noteRefused(dir, time.Now())
	}
	return nil, none, false
}

// conceive makes an object that nobody else knows an unborn one, and returns its file. It is counted already.
func (o *object) conceive(cred volume.Cred, at place, n volume.Node, flags volume.Flags, a volume.Attr) *file {
	h := &file{o: o, flags: flags &^ (volume.Truncate | volume.Excl | volume.KillPriv)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.place, o.maker, o.attr = at, h, a
	if o.known.CompareAndSwap(false, true) {
		o.fs.born.Add(1)
	}
	o.run.birth = &birth{node: n, atime: a.Atime, mtime: a.Mtime}
	o.unborn.Store(true)
	o.beginLocked(h, cred, 0)
	o.fs.enter(o)
	return h
}

// bearLocked makes the object as what its run says. It is not open below after that.
func (o *object) bearLocked(ctx context.Context, r *run) error {
	n := r.birth.node
	n.Data, n.Then = r.data, r.birth.change(r.then, len(r.data) > 0)
	a, err := o.fs.FS.Make(ctx, o.place.dir, o.place.name, n)
	if volume.ErrnoOf(err) == syscall.EEXIST {
		err = &volume.Error{Op: "create", Where: o.place.name, Errno: syscall.EIO,
			Err: fmt.Errorf("somebody else made what has this name, before it was made here: %w", err)}
	}
	o.fs.noteHanded(o.place.dir) // before it is not unborn any more
	o.unborn.Store(false)
	o.fs.unborn.Add(-1)
	if err != nil {
		o.lost = err
		o.fs.leave(o)
		return err
	}
	o.attr, o.latent = a, r.file
	o.timer.Reset(Delay)
	return nil
}

// change returns the change that a file is made with: what was told of its times, and nothing that was done
// since has changed, is to stay.
func (b *birth) change(c volume.Change, written bool) volume.Change {
	if b.told && c.Mask&volume.SetAtime == 0 {
		c.Mask, c.Atime = c.Mask|volume.SetAtime, b.atime
	}
	if b.told && c.Mask&volume.SetMtime == 0 && !written {
		c.Mask, c.Mtime = c.Mask|volume.SetMtime, b.mtime
	}
	return c
}

// plainLocked reports whether the object is unborn, and has no privileges that writing would clear.
func (o *object) plainLocked() bool {
	const privileges = syscall.S_ISUID | syscall.S_ISGID
	b, then := o.run.birth, &o.run.then
	return b != nil && b.node.Mode&privileges == 0 && (then.Mask&volume.SetMode == 0 || then.Mode&privileges == 0)
}

// foreseen returns the attributes of what is unborn, if nothing has been done to it: programs ask right after creating,
// before they write (cp does). What is told of its times then stays right (birth.change), but for the ctime.
func (o *object) foreseen() (a volume.Attr, ok bool) {
	if !o.unborn.Load() {
		return a, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.run.birth
	if b == nil || len(o.run.data) > 0 || o.run.then.Mask != 0 {
		return a, false
	}
	b.told = true
	return o.attr, true
}

// tick does what is due after Delay: it hands the run on. A file that is still open then will be so for longer, so it is opened
// below, too: its names may go at any time.
func (o *object) tick() { o.rouse(context.Background()) }

// rouse has the object made, if it is not, and open below if somebody has it open: then it may lose its name.
func (o *object) rouse(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.handLocked(0) // the file tells
	if o.latent != nil {
		_, _ = o.latent.belowLocked(ctx) // who needs it tries again, and tells
	}
}

// belowLocked returns the file of the layer below; it is opened if the object was made with it. The object is not unborn.
func (f *file) belowLocked(ctx context.Context) (volume.File, error) {
	if u := f.under.Load(); u != nil {
		return *u, nil
	}
	o := f.o
	if o.lost != nil {
		return nil, &volume.Error{Op: "open", Where: o.place.name, Errno: syscall.ESTALE, Err: fmt.Errorf("it could not be made: %w", o.lost)}
	}
	u, err := o.fs.FS.Open(ctx, o.id, f.flags)
	if err != nil {
		return nil, err
	}
	f.under.Store(&u)
	o.openedLocked()
	return u, nil
}

// openedLocked notes that the object is not latent any more.
func (o *object) openedLocked() {
	o.latent = nil
	o.fs.leave(o)
}

// refuses reports whether names in a directory could not be reserved lately.
func (f *FS) refuses(dir volume.ID, now time.Time) bool {
	if f.refusing.Load() == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	until, ok := f.mu.refused[dir]
	if ok && now.After(until) {
		delete(f.mu.refused, dir)
		f.refusing.Store(int64(len(f.mu.refused)))
		ok = false
	}
	return ok
}

// noteRefused notes that a name in a directory could not be reserved.
func (f *FS) noteRefused(dir volume.ID, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.refused) >= refusingMax {
		clear(f.mu.refused)
	}
	f.mu.refused[dir] = now.Add(refusedFor)
	f.refusing.Store(int64(len(f.mu.refused)))
}
