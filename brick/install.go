package brick

import (
	"bytes"
	"context"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// installTries bounds how often Install begins anew because another call has
// made the object meanwhile.
const installTries = 4

// Install makes an object what o says, contents and names excepted.
func (s *Store) Install(ctx context.Context, o volume.Object) error {
	const op = "install"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkObject(op, &o); err != nil {
		return err
	}
	for try := 1; ; try++ {
		t, err := s.target(op, o.Attr.ID)
		switch {
		case err == nil:
			same := s.sameKind(&t, &o)
			if same {
				err = s.installOver(op, &t, &o)
			}
			s.release(&t)
			if same {
				return err
			}
			err = s.replaceKind(ctx, op, o.Attr.ID)
		case volume.ErrnoOf(err) == unix.ESTALE:
			if err = s.installNew(op, &o); err == nil || volume.ErrnoOf(err) != unix.EEXIST {
				return err
			}
		}
		if err == nil || volume.ErrnoOf(err) == unix.EEXIST {
			err = start(ctx, op)
		}
		if err != nil {
			return err
		}
		if try == installTries {
			return damaged(op, o.Attr.ID.String(), "something that is not in the index is in its way")
		}
	}
}

// sameKind reports whether an object can become what o says without being made anew.
func (s *Store) sameKind(t *target, o *volume.Object) bool {
	switch typ := o.Attr.Type(); {
	case t.Mode != typ:
		return false
	case typ == unix.S_IFLNK:
		target, err := s.readlink(t.fd, t.path)
		return err == nil && target == o.Target
	case typ == unix.S_IFCHR, typ == unix.S_IFBLK:
		return t.info.Rdev == o.Attr.Rdev
	}
	return true
}

// installOver changes an object that is here.
func (s *Store) installOver(op string, t *target, o *volume.Object) error {
	if t.d != nil {
		t.d.attr.Lock()
		defer t.d.attr.Unlock()
		if t.d.in.gone {
			return stale(op, t.ID)
		}
		defer func() { t.d.in.known = false }()
	}
	if t.isRegular() {
		end, err := s.alter(op, t.ID)
		if err != nil {
			return err
		}
		defer end()
	}
	if t.isRegular() && t.info.Size != o.Attr.Size {
		if err := s.truncate(t, o.Attr.Size); err != nil {
			return s.failAttr(op, t, t.ID.String(), err)
		}
	}
	if err := s.dressObject(t.fd, t.path, t.proc, &t.info, o); err != nil {
		return s.failAttr(op, t, t.ID.String(), err)
	}
	s.dirty(t)
	if t.d == nil {
		st := s.objs.stripe(t.ID)
		st.Lock()
		if st.extra[t.ID].kept {
			st.hold(t.ID)
		}
		st.Unlock()
	} else {
		for _, x := range o.Xattrs {
			if x.Name == attrDir {
				t.dir, _ = decodeDirMeta(x.Value) // checkObject has
				s.inodes.change(&t.info, t.node)
			}
		}
	}
	return nil
}

// dressObject gives what lies at path, which is as info says, owner, attributes, mode and
// times. A chown takes bits of the mode and security.capability away, an ACL changes
// the mode: hence the order.
func (s *Store) dressObject(fd int, path, proc string, info *sys.Info, o *volume.Object) error {
	a := &o.Attr
	if info.UID != a.UID || info.GID != a.GID {
		if err := s.sys.Chown(fd, path, int(a.UID), int(a.GID), noFollow); err != nil {
			return err
		}
	}
	if err := s.dressXattrs(proc, o.Xattrs); err != nil {
		return err
	}
	if a.Type() != unix.S_IFLNK {
		if err := s.sys.Chmod(fd, path, a.Mode&0o7777); err != nil {
			return err
		}
	}
	return s.times.forget(a.ID, func() error {
		return s.sys.Utimens(fd, path, sys.Timespec{Time: a.Atime}, sys.Timespec{Time: a.Mtime}, noFollow)
	})
}

// dressXattrs makes the attributes that are carried those of want, which is in order.
func (s *Store) dressXattrs(proc string, want []volume.Xattr) error {
	have, err := s.xattrs(proc)
	if err != nil {
		return err
	}
	values := make(map[string][]byte, len(have))
	for _, x := range have {
		values[x.Name] = x.Value
	}
	for _, x := range want {
		old, exists := values[x.Name]
		delete(values, x.Name)
		if exists && bytes.Equal(old, x.Value) {
			continue
		}
		if err := s.sys.Lsetxattr(proc, x.Name, x.Value, 0); err != nil {
			return err
		}
	}
	for name := range values {
		if err := s.sys.Lremovexattr(proc, name); err != nil && err != unix.ENODATA {
			return err
		}
	}
	return nil
}

// installNew makes an object without a name: complete in .mortar/tmp, then moved
// to .mortar/open, with its index entry made as by bearOther. EEXIST: it is here by now.
func (s *Store) installNew(op string, o *volume.Object) error {
	id, typ := o.Attr.ID, o.Attr.Type()
	end, err := s.alter(op, id) // one of this ID may have been removed of which the log of fsyncs has something
	if err != nil {
		return err
	}
	defer end()
	tmp := s.tmpName(noteNew + id.String())
	switch typ {
	case unix.S_IFDIR:
		err = s.sys.Mkdir(s.tmpFD, tmp, 0o700)
	case unix.S_IFLNK:
		err = s.bearSymlink(&birth{node: volume.Node{Target: o.Target}}, tmp)
	default:
		err = s.sys.Mknod(s.tmpFD, tmp, typ|0o600, o.Attr.Rdev)
	}
	if err != nil {
		return fail(op, id.String(), err)
	}
	if err = s.dressNew(tmp, o); err == nil {
		if typ == unix.S_IFDIR {
			err = s.enterDir(op, o, tmp)
		} else {
			err = s.enterOther(o, tmp)
		}
	}
	if err != nil {
		s.sys.Unlink(s.tmpFD, tmp, removeFlag(typ))
		return fail(op, id.String(), err)
	}
	return nil
}

func (s *Store) dressNew(tmp string, o *volume.Object) error {
	proc := s.tmpProc + tmp
	if err := s.sys.Lsetxattr(proc, attrID, o.Attr.ID[:], 0); err != nil {
		return err
	}
	if o.Attr.IsRegular() && o.Attr.Size > 0 {
		if err := s.sys.Truncate(proc, o.Attr.Size); err != nil {
			return err
		}
	}
	return s.dressObject(s.tmpFD, tmp, proc, &sys.Info{}, o) // it is root's
}

// enterDir moves a new directory from .mortar/tmp to .mortar/open.
func (s *Store) enterDir(op string, o *volume.Object, tmp string) error {
	id := o.Attr.ID
	s.tree.Lock()
	defer s.tree.Unlock()
	if d, err := s.resolve(op, id, 0); err == nil {
		info, err := s.sys.Stat(d.fd, "", unix.AT_EMPTY_PATH)
		s.dirs.put(d)
		if err != nil || info.Nlink > 0 {
			return unix.EEXIST
		}
		s.dirs.drop(id) // others have removed it from the brick while it was open
	}
	if _, err := s.sys.Lgetxattr(s.indexProc+indexPath(id), attrID, make([]byte, idLen)); err == nil {
		return unix.EEXIST // what is no directory
	}
	st := s.objs.stripe(id)
	st.Lock()
	err := s.dropRest(st, id)
	st.Unlock()
	if err == nil {
		err = s.setPlace(op, id, nowhere, id.String())
	}
	if err != nil {
		return err
	}
	if err := s.sys.Rename(s.tmpFD, tmp, s.openFD, id.String(), unix.RENAME_NOREPLACE); err != nil {
		s.sys.Unlink(s.indexFD, indexPath(id), 0)
		return err
	}
	return nil
}

// enterOther moves anything else that is new from .mortar/tmp to .mortar/open.
// Stopped before the index has it, the next Open removes it.
func (s *Store) enterOther(o *volume.Object, tmp string) error {
	id := o.Attr.ID
	st := s.objs.stripe(id)
	st.Lock()
	defer st.Unlock()
	if err := s.dropRest(st, id); err != nil {
		return err
	}
	if err := s.sys.Rename(s.tmpFD, tmp, s.openFD, id.String(), unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	err := s.sys.Link(s.openFD, id.String(), s.indexFD, indexPath(id), 0)
	var info sys.Info
	if err == nil {
		if info, err = s.sys.Stat(s.openFD, id.String(), noFollow); err != nil {
			s.sys.Unlink(s.indexFD, indexPath(id), 0)
		}
	}
	if err != nil {
		s.sys.Unlink(s.openFD, id.String(), 0)
		return err
	}
	s.inodes.set(&info, node{Pointer: volume.Pointer{ID: id, Mode: o.Attr.Type()}})
	st.hold(id)
	return nil
}

// dropRest removes an object's link in .mortar/open that could not be removed
// when the index's was. The stripe is locked.
func (s *Store) dropRest(st *objectStripe, id volume.ID) error {
	if !st.extra[id].kept || st.open[id] != nil {
		return nil
	}
	if _, err := s.sys.Stat(s.indexFD, indexPath(id), noFollow); err != unix.ENOENT {
		return err
	}
	return s.removeKept(st, id)
}

// replaceKind removes an object, its names and its discards, in whose place one
// of another kind is to come under the same ID. Objects keep their kind for
// life, so this is for what never was right; names are looked for everywhere.
func (s *Store) replaceKind(ctx context.Context, op string, id volume.ID) error {
	st := s.objs.stripe(id)
	st.RLock()
	open := st.open[id] != nil
	st.RUnlock()
	if open {
		return volume.Errorf(op, id.String(), unix.EBUSY, "what is to be replaced is open")
	}
	if parent, name, err := s.Path(ctx, id); err == nil {
		if err := s.Place(ctx, parent, name, volume.Pointer{}); err != nil {
			return err
		}
		return s.Release(ctx, id)
	} else if volume.ErrnoOf(err) == unix.ENOENT {
		return s.Release(ctx, id)
	}
	ds, err := s.Discards(ctx)
	if err != nil {
		return err
	}
	for _, d := range ds {
		if d.Pointer.ID == id && d.Pointer.Held == 0 {
			if err := s.Purge(ctx, d.Key); err != nil {
				return err
			}
		}
	}
	if err := s.clearNames(ctx, op, id); err != nil {
		return err
	}
	return s.Release(ctx, id)
}

// isKept reports whether an object that is no directory is known to have no name.
func (s *Store) isKept(id volume.ID) bool {
	st := s.objs.stripe(id)
	st.RLock()
	defer st.RUnlock()
	return st.extra[id].kept
}

// clearNames takes all names of an object that is no directory away.
func (s *Store) clearNames(ctx context.Context, op string, id volume.ID) error {
	dirs, err := s.Nameless(ctx)
	if err != nil {
		return err
	}
	for dirs = append(dirs, volume.Root); len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for after, end := volume.CookieStart, false; !end; {
			if s.isKept(id) {
				return nil // the last has gone
			}
			var ents []volume.Entry
			if ents, end, err = s.ReadDir(ctx, dir, after, volume.ReadDirMax, false); err != nil {
				if e := volume.ErrnoOf(err); e == unix.ESTALE || e == unix.ENOTDIR {
					break
				}
				return err
			}
			for _, e := range ents {
				after = e.Cookie
				switch {
				case e.Held == 0 && e.Mode&unix.S_IFMT == unix.S_IFDIR:
					dirs = append(dirs, e.ID)
				case e.Held == 0 && e.ID == id:
					if err := s.Place(ctx, dir, e.Name, volume.Pointer{}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
