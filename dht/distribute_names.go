package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Lookup implements volume.FS.
func (d *Distribute) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	var a volume.Attr
	for try := 0; ; try++ {
		var v *view
		err := d.nameOp(ctx, "lookup", dir, name, func(ctx context.Context, s volume.Set) (err error) {
			v = d.view.Load()
			a, err = s.Lookup(ctx, dir, name)
			return err
		})
		if err != nil {
			return a, err
		}
		d.see(dir, name, a)
		switch {
		case a.IsDir():
			return d.dirAttr(ctx, v, a.ID, v.owner(dir, name), a, name)
		case v.single:
			return a, nil
		case a.Held == 0:
			if d.heard.isScattered(dir) {
				d.held.put(nameID(dir, name), v.owner(dir, name))
			}
			d.learn(v, a, v.owner(dir, name))
			return a, nil
		}
		d.elsewhere.put(a.ID, a.Held)
		d.heard.scatter(dir)
		d.held.put(nameID(dir, name), a.Held)
		s, err := v.set("lookup", a.Held)
		if err != nil {
			return volume.Attr{}, err
		}
		b, err := s.Getattr(ctx, a.ID)
		if !isErrno(err, syscall.ESTALE) {
			return b, err
		}
		// Removed, replaced or moved since the owner answered: it says which. Or somebody had begun to replace it when the owner failed
		// over, and that will be undone where it lies.
		if try == triesMax {
			bound, cancel := bounded(ctx)
			defer cancel()
			ctx = bound
		}
		if try >= triesMax && !waited(ctx, lookAgain) {
			return volume.Attr{}, &volume.Error{Op: "lookup", Where: name, Errno: syscall.EIO, Reason: volume.Damaged, Err: err}
		}
	}
}

// withVersion runs a creating operation with the version of the directory that
// we assume, and again with a newer one if a set says that ours is old.
func (d *Distribute) withVersion(ctx context.Context, op string, dir volume.ID, name string, n *volume.Node, f func(ctx context.Context, v *view, s volume.Set) error) error {
	if err := volume.CheckName(op, name); err != nil {
		return err
	}
	chosen := n.ID.IsZero()
	for try := 0; ; try++ {
		v := d.view.Load()
		s, err := v.set(op, v.owner(dir, name))
		if err != nil {
			return err
		}
		if chosen && n.ID.Born() != v.owner(dir, name) {
			n.ID = volume.NewID(v.owner(dir, name))
		}
		if n.Parent == 0 && !v.single {
			n.Parent = d.version(ctx, dir)
		}
		err = f(d.stamp(ctx, v), v, s)
		if !isOutdated(err) || try >= triesMax {
			return d.final(d.noDir(ctx, v, op, err, dir))
		}
		d.versions.drop(dir)
		n.Parent = 0
		if try > 1 { // the directory's version was fetched anew, so it must be the layout's
			d.awaitUpdate(ctx, v)
		}
	}
}

// version returns the version of a directory's attributes, 0 if it can't be
// had: then it is not checked, which is what a home that is down allows.
func (d *Distribute) version(ctx context.Context, dir volume.ID) uint64 {
	if version, ok := d.versions.get(dir); ok {
		return version
	}
	v := d.view.Load()
	s, err := v.set("getattr", v.home(dir))
	if err != nil {
		return 0
	}
	a, err := s.Getattr(ctx, dir)
	if err != nil || !a.IsDir() {
		return 0
	}
	d.versions.put(dir, a.Version)
	return a.Version
}

// Make implements volume.FS.
func (d *Distribute) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	var a volume.Attr
	err := d.withVersion(ctx, "make", dir, name, &n, func(ctx context.Context, v *view, s volume.Set) (err error) {
		at := v.owner(dir, name)
		making, change := d.heard.begin(ctx, dir, v.single)
		a, err = d.make(making, s, dir, name, n)
		if home := v.home(dir); home == at {
			d.heard.changed(change, at)
		} else { // it counts the links; a set that only takes a new directory's copy keeps its own parent's times
			d.heard.changed(change, at, home)
		}
		if err != nil {
			return err
		}
		if a.Held != 0 {
			d.heard.forget(dir)
			at = a.Held
			if s, err = v.set("make", at); err == nil {
				a, err = s.Getattr(ctx, a.ID)
			}
		}
		d.see(dir, name, a)
		d.learn(v, a, at)
		return err
	})
	return a, err
}

// Create implements volume.FS: one request to the owner, unless the data is
// elsewhere.
func (d *Distribute) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	var file volume.File
	var a volume.Attr
	err := d.withVersion(ctx, "create", dir, name, &n, func(ctx context.Context, v *view, s volume.Set) (err error) {
		for try := 0; ; try++ {
			creating, change := d.heard.begin(ctx, dir, v.single)
			file, a, err = d.create(creating, s, dir, name, n, f)
			change.only = err == nil && file != nil // else it may be a pointer
			d.heard.changed(change, v.owner(dir, name))
			if err != nil {
				return err
			}
			d.see(dir, name, a)
			if file != nil {
				d.learn(v, a, v.owner(dir, name))
				return nil
			}
			d.heard.forget(dir)
			file, a, err = d.openHeld(ctx, v, a, f)
			if !isErrno(err, syscall.ESTALE) || try >= triesMax {
				return err
			}
		}
	})
	return file, a, err
}

// openHeld opens the file behind a pointer.
func (d *Distribute) openHeld(ctx context.Context, v *view, p volume.Attr, f volume.Flags) (volume.File, volume.Attr, error) {
	if a := p.Type(); a != syscall.S_IFREG {
		errno := syscall.ENXIO
		if a == syscall.S_IFLNK {
			errno = syscall.ELOOP
		}
		return nil, volume.Attr{}, fail("create", p.ID.String(), errno)
	}
	d.elsewhere.put(p.ID, p.Held)
	s, err := v.set("create", p.Held)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	file, err := s.Open(ctx, p.ID, f&^volume.Excl)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	a, err := file.Getattr(ctx)
	if err != nil {
		file.Close()
		return nil, volume.Attr{}, err
	}
	return file, a, nil
}

// Link implements volume.FS.
func (d *Distribute) Link(ctx context.Context, id, dir volume.ID, name string) (volume.Attr, error) {
	var a volume.Attr
	err := d.nameOp(ctx, "link", dir, name, func(ctx context.Context, s volume.Set) (err error) {
		a, err = d.link(ctx, s, id, dir, name)
		d.held.drop(nameID(dir, name))
		d.heard.forget(dir)
		return err
	})
	return a, err
}

// Unlink implements volume.FS.
func (d *Distribute) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return d.nameOp(ctx, "unlink", dir, name, func(ctx context.Context, s volume.Set) error {
		v := d.view.Load()
		key, owner := nameID(dir, name), v.owner(dir, name)
		held, known := d.held.get(key)
		removing, change := d.heard.begin(ctx, dir, v.single)
		err := d.remove(ctx, s, dir, name, func() error { return s.Unlink(removing, dir, name) })
		if change.only = known; known && held != owner {
			d.heard.changed(change, owner, held)
		} else {
			d.heard.changed(change, owner)
		}
		d.held.drop(key)
		return err
	})
}

// Rmdir implements volume.FS.
func (d *Distribute) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return d.nameOp(ctx, "rmdir", dir, name, func(ctx context.Context, s volume.Set) error {
		v := d.view.Load()
		was, seen := d.seen.get(nameID(dir, name))
		removing, change := d.heard.begin(ctx, dir, v.single)
		err := d.remove(ctx, s, dir, name, func() error { return s.Rmdir(removing, dir, name) })
		if seen && v.single {
			d.heard.forget(was.id)
			d.heard.changed(change, v.owner(dir, name))
		} else {
			d.heard.forgetAll()
		}
		return err
	})
}

// Rename implements volume.FS. The owner of the new name coordinates.
func (d *Distribute) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, f volume.RenameFlags) error {
	if err := volume.CheckName("rename", oldName); err != nil {
		return err
	}
	return d.nameOp(ctx, "rename", newDir, newName, func(ctx context.Context, s volume.Set) error {
		old, new := nameKey{oldDir, oldName}, nameKey{newDir, newName}
		renaming, forget := d.renaming(ctx, old, new, f)
		err := d.rename(renaming, s, old, new, f)
		forget(err)
		return d.noDir(ctx, d.view.Load(), "rename", err, oldDir)
	})
}

// renaming returns the context to rename with, and what to call after it to forget what it has changed of
// what was heard, but for what the new name's owner told of the new name's directory. That is everything if directories may have moved or gone. Of a file
// it is known whose words on its two directories do not hold any more: those of the
// names' owners and of the set where it lies. A file that it replaces may lie on yet another,
// but that one's names, which nobody is shown, changed with the owner's: its time
// for the directory is not the latest.
func (d *Distribute) renaming(ctx context.Context, old, new nameKey, f volume.RenameFlags) (context.Context, func(err error)) {
	was, seen := d.seen.get(nameID(old.dir, old.name))
	v := d.view.Load()
	from, to := v.owner(old.dir, old.name), v.owner(new.dir, new.name)
	lies, known := d.held.get(nameID(old.dir, old.name))
	if !known && !d.heard.isScattered(old.dir) {
		lies, known = from, true
	}
	_, left := d.heard.begin(ctx, old.dir, v.single)
	ctx, entered := d.heard.begin(ctx, new.dir, v.single)
	return ctx, func(err error) {
		d.held.drop(nameID(old.dir, old.name))
		d.held.drop(nameID(new.dir, new.name))
		if err != nil || !seen || was.isDir || !known || f&volume.RenameExchange != 0 {
			d.heard.forgetAll()
			return
		}
		left.only, entered.only = true, true
		if old.dir == new.dir {
			d.heard.changed(entered, to, from, lies)
		} else {
			d.heard.changed(left, from, lies)
			d.heard.changed(entered, to, lies)
		}
		if lies != to {
			d.heard.scatter(new.dir)
		}
		if d.heard.isScattered(new.dir) {
			d.held.put(nameID(new.dir, new.name), lies)
		}
	}
}
