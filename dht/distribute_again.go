package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// What became of a request whose reply was lost for good (Reason Unknown).
//
// The brick process died, or forgot this client, so the request is not on its
// way any more: it has happened or it never will, and intents that it began are
// finished before the names they hold can be looked up. So a look at the name
// tells, as far as IDs tell one execution from another's doing:
//
//	create, make  the name leads to the ID that we chose, or an object has it: it
//	              happened. Else it is sent again with the same ID. Names are made
//	              exclusively, so it can't happen twice side by side: a second
//	              execution finds the first one's name, or its ID in use.
//	link          the name leads to the object: it happened. Else it is sent again.
//	unlink, rmdir the name is free, and led to something when it was last seen: it
//	              happened. It still leads to what was seen: it is sent again.
//	rename        the new name leads to what was seen under the old one, which does
//	              not any more: it happened. The old one still does, and the new one
//	              does not: it is sent again.
//
// Everything else stays EIO: a name that leads to another object than the one
// seen (whether that came before us or after can't be told), one that was not
// seen lately, a directory that is gone, a set that can't be asked.
//
// Each answer above is wrong in one execution, in which another client acts on
// the very name between the death of the brick and our look, a window of less
// than a second:
//
//	create   ours happened; he removes it; it is made once more. He sees a file
//	         that he removed come back, as if we had been slower. With O_TRUNC and
//	         a file of another's: he writes after our cut, which is repeated.
//	link     he makes the same link first; both are told that they made it.
//	unlink   ours was not executed; he removes the name; both are told that they
//	         did. Or ours was, and he links the same object there again, which we remove.
//	rename   likewise, with the same rename by him, or one back.
const unknownTries = 4

func isUnknown(err error) bool { return err != nil && volume.ReasonOf(err) == volume.Unknown }

// again sends a request, and as long as what became of it is not known, asks,
// and if it did not happen, sends it again. happened returns an error of Reason
// Unknown where that can't be told. After a repetition EEXIST is asked about too:
// it may be our own doing.
func again(ctx context.Context, send func() error, happened func() (bool, error)) error {
	err := send()
	for try := 0; isUnknown(err) && try < unknownTries && ctx.Err() == nil; try++ {
		yes, herr := happened()
		if herr != nil {
			return err
		}
		if yes {
			return nil
		}
		second := send()
		if isErrno(second, syscall.EEXIST) || isErrno(second, syscall.EINVAL) { // EINVAL: the ID is in use
			if yes, herr := happened(); herr == nil && yes {
				return nil
			}
		}
		err = second
	}
	return err
}

// make is Make at the name's owner, until what became of it is known.
func (d *Distribute) make(ctx context.Context, s volume.Set, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	err = again(ctx, func() error {
		a, err = s.Make(ctx, dir, name, n)
		return err
	}, func() (yes bool, err error) {
		a, yes, err = d.made(ctx, s, dir, name, n.ID)
		return yes, err
	})
	return a, err
}

// create is Create at the name's owner, likewise. What it made it opens.
func (d *Distribute) create(ctx context.Context, s volume.Set, dir volume.ID, name string, n volume.Node, f volume.Flags) (file volume.File, a volume.Attr, err error) {
	err = again(ctx, func() error {
		file, a, err = s.Create(ctx, dir, name, n, f)
		return err
	}, func() (yes bool, err error) {
		a, yes, err = d.made(ctx, s, dir, name, n.ID)
		if !yes || err != nil || a.Held != 0 {
			return yes, err
		}
		// It was new when it was made: what has been written since stays.
		err = d.idOp(ctx, "create", n.ID, func(ctx context.Context, s volume.Set) (err error) {
			file, err = s.Open(ctx, n.ID, f&^(volume.Excl|volume.Truncate|volume.KillPriv))
			return err
		})
		return true, err
	})
	return file, a, err
}

// made reports whether an object was made with an ID of our choice, as the
// name's owner tells it, or, if it has another name by now, whoever has it. A
// directory is there if its home says so.
func (d *Distribute) made(ctx context.Context, s volume.Set, dir volume.ID, name string, id volume.ID) (volume.Attr, bool, error) {
	a, err := s.Lookup(ctx, dir, name)
	if err == nil && a.ID == id && !a.IsDir() {
		return a, true, nil
	}
	if err != nil && !isErrno(err, syscall.ENOENT) {
		return a, false, err
	}
	a, err = d.attrOf(ctx, id)
	if isErrno(err, syscall.ESTALE) {
		return a, false, nil
	}
	return a, err == nil, err
}

// link is Link, until what became of it is known.
func (d *Distribute) link(ctx context.Context, s volume.Set, id, dir volume.ID, name string) (a volume.Attr, err error) {
	err = again(ctx, func() error {
		a, err = s.Link(ctx, id, dir, name)
		return err
	}, func() (bool, error) {
		there, err := leadsTo(ctx, s, dir, name)
		if err != nil || there != id {
			return false, err
		}
		a, err = d.attrOf(ctx, id)
		return true, err
	})
	return a, err
}

// leadsTo returns the ID that a name leads to, zero if it is free.
func leadsTo(ctx context.Context, s volume.Set, dir volume.ID, name string) (volume.ID, error) {
	a, err := s.Lookup(ctx, dir, name)
	if isErrno(err, syscall.ENOENT) {
		return volume.ID{}, nil
	}
	return a.ID, err
}

// errUntold: what became of a request can't be told.
var errUntold = &volume.Error{Op: "ask again", Errno: syscall.EIO, Reason: volume.Unknown}

// remove runs an Unlink or Rmdir, until what became of it is known. It forgets
// what the name led to.
func (d *Distribute) remove(ctx context.Context, s volume.Set, dir volume.ID, name string, send func() error) error {
	was, seen := d.seen.get(nameID(dir, name))
	d.seen.drop(nameID(dir, name))
	return again(ctx, send, func() (bool, error) {
		there, err := leadsTo(ctx, s, dir, name)
		switch {
		case err != nil:
			return false, err
		case !seen, !there.IsZero() && there != was.id:
			return false, errUntold
		}
		return there.IsZero(), nil
	})
}

// rename is Rename, likewise.
func (d *Distribute) rename(ctx context.Context, s volume.Set, old, new nameKey, f volume.RenameFlags) error {
	was, seen := d.seen.get(nameID(old.dir, old.name))
	d.seen.drop(nameID(old.dir, old.name))
	d.seen.drop(nameID(new.dir, new.name))
	return again(ctx, func() error {
		return s.Rename(ctx, old.dir, old.name, new.dir, new.name, f)
	}, func() (bool, error) {
		to, err := leadsTo(ctx, s, new.dir, new.name)
		if err != nil {
			return false, err
		}
		v := d.view.Load()
		from, err := v.set("rename", v.owner(old.dir, old.name))
		if err != nil {
			return false, err
		}
		at, err := leadsTo(ctx, from, old.dir, old.name)
		switch {
		case err != nil:
			return false, err
		case !seen, (to == was.id) == (at == was.id):
			return false, errUntold
		}
		return to == was.id, nil
	})
}

// sight is what a name was seen to lead to.
type sight struct {
	id    volume.ID
	isDir bool
}

// see remembers what a name leads to, for who must know what became of a
// request to remove it.
func (d *Distribute) see(dir volume.ID, name string, a volume.Attr) {
	d.seen.put(nameID(dir, name), sight{a.ID, a.IsDir()})
}
