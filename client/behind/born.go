package behind

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// lateMask are the changes of attributes that may be delayed. Not those to the present time, which would
// come out as the time at which they are handed on, perhaps later than what was done after them.
const lateMask = volume.SetMode | volume.SetUID | volume.SetGID | volume.SetAtime | volume.SetMtime | volume.SetMinimalACL

const owner = volume.SetUID | volume.SetGID

// ChangeLater implements volume.LateChanger.
func (f *FS) ChangeLater(ctx context.Context, id volume.ID, c volume.Change) (a volume.Attr, late bool) {
	if c.Mask&owner != 0 {
		c.Mask &^= volume.ClearPriv // which a change of owner does by itself; the kernel asks for both
	}
	if c.Mask == 0 || c.Mask&^lateMask != 0 || f.born.Load() == 0 || !f.delaying() {
		return a, false
	}
	o := f.find(id)
	if o == nil {
		return a, false
	}
	cred := volume.CredOf(ctx)
	if c.Mask&owner != 0 && cred.UID != 0 { // what that does to the mode depends on his groups
		return a, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known.Load() || !o.run.takes(cred) {
		return a, false
	}
	then, ok := merge(o.run.then, c)
	if !ok {
		return a, false
	}
	if o.run.file == nil {
		o.beginLocked(o.maker, cred, 0)
	}
	o.run.then = then
	foresee(&o.attr, c, volume.TimeOf(time.Now()))
	a = o.attr
	a.Foreseen = true
	return a, true
}

// takes reports whether a change of attributes by someone may follow the run.
func (r *run) takes(cred volume.Cred) bool {
	switch {
	case r.file == nil:
		return true
	case r.birth != nil: // the umask was for its making
		return r.cred.UID == cred.UID && r.cred.GID == cred.GID
	}
	return r.cred == cred && r.moved == nil
}

// merge returns the change that does what a and then b do, if there is one.
func merge(a, b volume.Change) (c volume.Change, ok bool) {
	const (
		modes = volume.SetMode | volume.SetMinimalACL
		priv  = syscall.S_ISUID | syscall.S_ISGID
	)
	switch {
	case a.Mask&modes|b.Mask&modes == modes: // each leaves something that the other sets
		return c, false
	case b.Mask&owner != 0 && (a.Mask&volume.SetMinimalACL != 0 || a.Mask&volume.SetMode != 0 && a.Mode&priv != 0):
		return c, false // a change of owner clears these bits, unless the mode is set with it
	}
	c = a
	c.Mask |= b.Mask
	if b.Mask&modes != 0 {
		c.Mode = b.Mode
	}
	if b.Mask&volume.SetUID != 0 {
		c.UID = b.UID
	}
	if b.Mask&volume.SetGID != 0 {
		c.GID = b.GID
	}
	if b.Mask&volume.SetAtime != 0 {
		c.Atime = b.Atime
	}
	if b.Mask&volume.SetMtime != 0 {
		c.Mtime = b.Mtime
	}
	return c, true
}

// foresee makes a change of lateMask in attributes.
func foresee(a *volume.Attr, c volume.Change, now volume.Time) {
	if c.Mask&owner != 0 {
		a.Mode &^= syscall.S_ISUID
		if a.Mode&syscall.S_IXGRP != 0 {
			a.Mode &^= syscall.S_ISGID
		}
	}
	if c.Mask&volume.SetMode != 0 {
		a.Mode = a.Mode&syscall.S_IFMT | c.Mode&0o7777
	}
	if c.Mask&volume.SetMinimalACL != 0 {
		a.Mode = a.Mode&^0o777 | c.Mode&0o777
	}
	if c.Mask&volume.SetUID != 0 {
		a.UID = c.UID
	}
	if c.Mask&volume.SetGID != 0 {
		a.GID = c.GID
	}
	if c.Mask&volume.SetAtime != 0 {
		a.Atime = c.Atime
	}
	if c.Mask&volume.SetMtime != 0 {
		a.Mtime = c.Mtime
	}
	a.Ctime = now
}

// bear notes that the object was just made, with attributes a, through f alone.
func (o *object) bear(f *file, a volume.Attr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.maker, o.attr = f, a
	if o.known.CompareAndSwap(false, true) {
		o.fs.born.Add(1)
	}
	if o.shared.Load() { // which its setter may have seen before
		o.forgetLocked()
	}
}

// forget notes that attributes may be others than those that are known.
func (o *object) forget() {
	if !o.known.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgetLocked()
}

func (o *object) forgetLocked() {
	if o.known.CompareAndSwap(true, false) {
		o.fs.born.Add(-1)
	}
	o.maker = nil
}

// wrote notes how a write of n bytes ended that was not delayed.
func (o *object) wrote(at int64, n int, flags volume.WriteFlags, err error) {
	switch {
	case !o.known.Load():
	case err != nil, flags&volume.WriteKillPriv != 0: // which changes the mode
		o.forget()
	case n > 0:
		o.mu.Lock()
		defer o.mu.Unlock()
		o.wroteLocked(at + int64(n))
	}
}

func (o *object) wroteLocked(end int64) {
	if !o.known.Load() {
		return
	}
	now := volume.TimeOf(time.Now())
	o.attr.Size, o.attr.Mtime, o.attr.Ctime = max(o.attr.Size, end), now, now
	o.attr.Blocks = max(o.attr.Blocks, (o.attr.Size+511)/512)
}
