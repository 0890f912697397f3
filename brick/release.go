package brick

import (
	"context"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Release removes what has no name. A directory must not be placed meanwhile,
// nor anything below it.
func (s *Store) Release(ctx context.Context, id volume.ID) error {
	const op = "release"
	if err := start(ctx, op); err != nil {
		return err
	}
	st := s.objs.stripe(id)
	st.Lock()
	e := st.extra[id]
	var err error
	if e.held {
		st.unhold(id)
	}
	if e.kept && st.open[id] == nil {
		err = s.removeKept(st, id)
	}
	st.Unlock()
	if err != nil {
		return fail(op, id.String(), err)
	}
	if e.kept || id == volume.Root {
		return nil
	}
	s.tree.RLock()
	parent, _, err := s.placeOf(op, id)
	s.tree.RUnlock()
	if volume.ErrnoOf(err) == unix.ESTALE || err == nil && parent != nowhere {
		return nil
	}
	if err != nil {
		if t, e := s.target(op, id); e == nil { // a symbolic link of its own
			defer s.release(&t)
			if t.d == nil {
				return nil
			}
		}
		return err
	}
	return s.releaseDir(ctx, op, id)
}

// level is a directory that is being removed with all below it.
type level struct {
	id    volume.ID
	name  string   // in the directory above, its ID in .mortar/open
	names []string // that were read and not removed yet
}

// releaseDir removes a directory without a name, from the bottom up: stopped, it
// is still there, and goes on when called again.
func (s *Store) releaseDir(ctx context.Context, op string, id volume.ID) error {
	stack := []level{{id: id, name: id.String()}}
	for len(stack) > 0 {
		if err := start(ctx, op); err != nil {
			return err
		}
		top := &stack[len(stack)-1]
		below, empty, err := s.releaseIn(op, top)
		switch {
		case err != nil:
			return err
		case below != nil:
			stack = append(stack, *below)
			continue
		case !empty:
			continue
		}
		above := nowhere
		if len(stack) > 1 {
			above = stack[len(stack)-2].id
		}
		if err := s.releaseEmpty(op, above, top); err != nil {
			return err
		}
		stack = stack[:len(stack)-1]
	}
	return nil
}

// releaseIn removes what is in a directory until it meets a directory, which it
// returns, or has done all the names that one reading gives. empty: there are none.
func (s *Store) releaseIn(op string, l *level) (below *level, empty bool, err error) {
	d, err := s.dir(op, l.id)
	if err != nil {
		return nil, volume.ErrnoOf(err) == unix.ESTALE, dropStale(err)
	}
	defer s.dirs.put(d)
	if len(l.names) == 0 {
		const most = 1000
		err := s.eachName(d, 16<<10, func(n string) bool { l.names = append(l.names, n); return len(l.names) < most })
		if err != nil || len(l.names) == 0 {
			return nil, err == nil, dropStale(err)
		}
	}
	for len(l.names) > 0 {
		name := l.names[0]
		l.names = l.names[1:]
		if below, err = s.releaseName(op, d, name); below != nil || err != nil {
			return below, false, err
		}
	}
	return nil, false, nil
}

// releaseName removes what a directory calls name, or returns it if it is a directory itself.
func (s *Store) releaseName(op string, d *dir, name string) (below *level, err error) {
	l := s.names.one(d.id, name)
	l.Lock()
	defer l.Unlock()
	f, err := s.find(op, d, name)
	if volume.ErrnoOf(err) == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f.isDir() {
		return &level{id: f.ID, name: name}, nil
	}
	if err := s.removeLink(d.fd, name, &f, fixed{is: true}); err != nil && err != unix.ENOENT {
		return nil, fail(op, name, err)
	}
	d.list.remove(name)
	return nil, nil
}

// releaseEmpty removes a directory that has become empty, as Rmdir does.
func (s *Store) releaseEmpty(op string, above volume.ID, l *level) (err error) {
	fd := s.openFD
	if above != nowhere {
		d, err := s.dir(op, above)
		if err != nil {
			return dropStale(err)
		}
		defer s.dirs.put(d)
		defer func() {
			if err == nil {
				d.list.remove(l.name)
			}
		}()
		fd = d.fd
	}
	m := s.names.one(above, l.name)
	m.Lock()
	defer m.Unlock()
	s.tree.Lock()
	defer s.tree.Unlock()
	info, err := s.sys.Stat(fd, l.name, noFollow)
	if err == nil {
		err = s.takeFromIndex(l.id)
	}
	if err == nil {
		if err = s.sys.Unlink(fd, l.name, unix.AT_REMOVEDIR); err != nil {
			s.backToIndex(l.id)
		}
	}
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fail(op, l.id.String(), err)
	}
	f := found{info: info, node: node{Pointer: volume.Pointer{ID: l.id, Mode: unix.S_IFDIR}}}
	s.dirGone(&f)
	return nil
}

// dropStale is err, or nil if it says that what was to be removed is not there.
func dropStale(err error) error {
	if volume.ErrnoOf(err) == unix.ESTALE {
		return nil
	}
	return err
}
