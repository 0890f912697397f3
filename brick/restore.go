package brick

import (
	"context"
	"fmt"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Restore puts a discard back under the name that it had, or, if that is taken
// and the object has no other, under one that says so.
func (s *Store) Restore(ctx context.Context, k volume.Key) error {
	const op = "restore"
	if err := start(ctx, op); err != nil {
		return err
	}
	r, ok := s.discards.get(k)
	if !ok {
		return nil
	}
	d, err := s.dir(op, r.dir)
	if err != nil {
		return err
	}
	defer s.dirs.put(d)
	suffix := fmt.Sprintf(".restored-%d-%d-%d", k.Set, k.Intent, k.Part)
	other := r.name[:min(len(r.name), volume.NameMax-len(suffix))] + suffix
	defer s.names.lock(keyLock(k), lockName{r.dir, r.name}, lockName{r.dir, other})()
	if _, ok := s.discards.get(k); !ok {
		return nil
	}
	err = s.putBack(op, d, r.name, &r, k)
	if err == unix.EEXIST {
		var needless bool
		if needless, err = s.needless(op, d, &r); err == nil && needless {
			return s.purge(op, k, fixedOf(ctx))
		}
		if err == nil {
			err = s.putBack(op, d, other, &r, k)
		}
	}
	if err != nil {
		return s.failIn(op, d, r.name, err)
	}
	s.stampDirs(fixedOf(ctx), d)
	if err := s.sys.Unlink(s.discardFD, keyName(k)+atSuffix, 0); err != nil && err != unix.ENOENT {
		return fail(op, keyName(k), err) // the next Open removes it
	}
	return nil
}

// needless reports whether a discard need not come back, its name being taken:
// the object has another name (a directory: it is here), or the name leads to the same pointer.
func (s *Store) needless(op string, d *dir, r *discarded) (bool, error) {
	if r.what.Held != 0 {
		f, err := s.find(op, d, r.name)
		return err == nil && f.leads(r.what), err
	}
	a, err := s.getattr(op, r.what.ID)
	if volume.ErrnoOf(err) == unix.ESTALE {
		return false, nil
	}
	return err == nil && (a.IsDir() || a.Nlink > 0), err
}

// putBack moves a discard to a name. The key and the name are locked. EEXIST: the name is taken.
func (s *Store) putBack(op string, d *dir, name string, r *discarded, k volume.Key) error {
	if r.what.Held == 0 && r.what.Mode == unix.S_IFDIR {
		return s.putBackDir(op, d, name, r, k)
	}
	d.attr.RLock()
	defer d.attr.RUnlock()
	if d.in.gone {
		return stale(op, d.id)
	}
	defer s.touch(r.what.ID)()
	st := s.objs.stripe(r.what.ID)
	st.Lock()
	defer st.Unlock()
	if err := s.sys.Rename(s.discardFD, keyName(k), d.fd, name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	if r.what.Held == 0 {
		st.addDiscards(r.what.ID, -1)
		s.unkeep(st, r.what.ID)
	}
	s.discards.drop(k)
	d.list.add(name)
	return nil
}

// putBackDir is putBack for a directory: it enters the index first. A directory
// of this ID that is here meanwhile stays, and the discard is not needed: EEXIST.
func (s *Store) putBackDir(op string, d *dir, name string, r *discarded, k volume.Key) error {
	s.tree.Lock()
	defer s.tree.Unlock()
	defer lockAttrs(nil, d)()
	if d.in.gone {
		return stale(op, d.id)
	}
	if here, err := s.resolve(op, r.what.ID, 0); err == nil {
		s.dirs.put(here)
		return unix.EEXIST
	}
	if err := s.setPlace(op, r.what.ID, d.id, name); err != nil {
		return err
	}
	if err := s.sys.Rename(s.discardFD, keyName(k), d.fd, name, unix.RENAME_NOREPLACE); err != nil {
		s.sys.Unlink(s.indexFD, indexPath(r.what.ID), 0)
		return err
	}
	s.discards.drop(k)
	d.list.add(name)
	return nil
}

// unkeep takes an object that has got a name again out of .mortar/open; the stripe is locked.
func (s *Store) unkeep(st *objectStripe, id volume.ID) {
	if !st.extra[id].kept {
		return
	}
	if err := s.sys.Unlink(s.openFD, id.String(), 0); err != nil && err != unix.ENOENT {
		s.log.Warn("a named object stays in .mortar/open until the next start", "brick", s.path, "id", id, "err", err)
		return
	}
	st.setKept(id, false)
}
