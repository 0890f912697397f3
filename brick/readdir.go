package brick

import (
	"context"
	"errors"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// direntBuffer is what one getdents64(2) fills, in bytes.
const direntBuffer = 64 << 10

// ReadDir lists a directory.
func (s *Store) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, limit int, attrs bool) ([]volume.Entry, bool, error) {
	return s.List(ctx, dir, after, limit, attrs, nil)
}

// List lists the names of a directory for which keep is true; a nil keep keeps all.
func (s *Store) List(ctx context.Context, dir volume.ID, after volume.Cookie, limit int, attrs bool, keep func(string) bool) ([]volume.Entry, bool, error) {
	const op = "readdir"
	if err := start(ctx, op); err != nil {
		return nil, false, err
	}
	if limit < 1 || limit > volume.ReadDirMax {
		return nil, false, volume.Errorf(op, dir.String(), unix.EINVAL, "%d entries", limit)
	}
	if after >= volume.CookieLast {
		return nil, true, nil
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return nil, false, err
	}
	defer s.dirs.put(d)
	var out []volume.Entry
	for len(out) < limit {
		names, end, err := s.page(ctx, op, d, after, limit-len(out))
		if err != nil {
			return nil, false, err
		}
		if out == nil {
			out = make([]volume.Entry, 0, len(names))
		}
		for _, x := range names {
			after = x.cookie
			if keep != nil && !keep(x.name) {
				continue
			}
			if out, err = s.appendEntry(op, d, x, attrs, out); err != nil {
				return nil, false, err
			}
		}
		if end {
			return out, true, nil
		}
		if err := start(ctx, op); err != nil {
			return nil, false, err
		}
	}
	return out, false, nil
}

// appendEntry appends the entry of a name, if it is still there and an object.
func (s *Store) appendEntry(op string, d *dir, x named, attrs bool, out []volume.Entry) ([]volume.Entry, error) {
	l := s.names.one(d.id, x.name)
	l.RLock()
	defer l.RUnlock()
	f, err := s.find(op, d, x.name)
	switch {
	case volume.ErrnoOf(err) == unix.ENOENT:
		return out, nil
	case errors.As(err, new(noObject)):
		s.log.Debug("a name is left out of a listing", "brick", s.path, "directory", d.id, "name", x.name, "err", err)
		return out, nil
	case err != nil:
		return out, err
	}
	e := volume.Entry{Name: x.name, Cookie: x.cookie, ID: f.ID, Mode: f.info.Mode, Held: f.Held}
	switch {
	case f.isPointer():
		e.Mode = f.Mode
	case attrs:
		if e.Attr, err = s.attr(f, d.fd, x.name); err != nil {
			return out, err
		}
		e.HasAttr = true
	}
	return append(out, e), nil
}

// page returns the next names of a directory, from its index, which it makes if there is none.
func (s *Store) page(ctx context.Context, op string, d *dir, after volume.Cookie, limit int) ([]named, bool, error) {
	for {
		if names, end, all, ok := d.list.page(after, limit); ok {
			s.listings.used(&d.list, all)
			return names, end, nil
		}
		if err := s.buildListing(ctx, op, d); err != nil {
			return nil, false, err
		}
	}
}

// buildListing makes a directory's index, or waits for who is making it.
func (s *Store) buildListing(ctx context.Context, op string, d *dir) error {
	l := &d.list
	l.mu.Lock()
	if l.mu.sorted != nil {
		l.mu.Unlock()
		return nil
	}
	if done := l.mu.building; done != nil {
		l.mu.Unlock()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return start(ctx, op)
		}
	}
	done := make(chan struct{})
	l.mu.building = done
	l.mu.Unlock()

	names, err := s.readNames(op, d)
	var sorted *sortedNames
	if err == nil {
		sorted = newSortedNames(names)
	}
	l.mu.Lock()
	if sorted != nil {
		for _, c := range l.mu.aside {
			sorted.apply(c)
		}
	}
	l.mu.sorted, l.mu.building, l.mu.aside = sorted, nil, nil
	l.mu.Unlock()
	close(done)
	return err
}

// readNames reads all names of a directory.
func (s *Store) readNames(op string, d *dir) ([]named, error) {
	var names []named
	err := s.eachName(d, direntBuffer, func(name string) bool {
		names = append(names, named{volume.CookieOf(name), name})
		return true
	})
	if err != nil {
		return nil, s.failIn(op, d, d.id.String(), err)
	}
	return names, nil
}

// eachName calls f with the names of a directory, Mortar's own left out, until f returns false.
func (s *Store) eachName(d *dir, buffer int, f func(name string) bool) error {
	// A descriptor of its own: the place in the listing belongs to it.
	fd, err := s.sys.Open(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer s.sys.Close(fd)
	buf := make([]byte, buffer)
	for {
		ents, more, err := s.sys.Names(fd, buf)
		if err != nil {
			return err
		}
		for _, e := range ents {
			if !hidden(d.id, e.Name) && !f(e.Name) {
				return nil
			}
		}
		if !more {
			return nil
		}
	}
}

// Empty reports whether a directory has no name, but for those of which but is true.
func (s *Store) Empty(ctx context.Context, dir volume.ID, but func(string) bool) (bool, error) {
	const op = "empty"
	if err := start(ctx, op); err != nil {
		return false, err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return false, err
	}
	defer s.dirs.put(d)
	empty, err := s.empty(d, but)
	if err != nil {
		return false, s.failIn(op, d, dir.String(), err)
	}
	return empty, nil
}

func (s *Store) empty(d *dir, but func(string) bool) (bool, error) {
	empty := true
	err := s.eachName(d, 4<<10, func(name string) bool {
		empty = but != nil && but(name)
		return empty
	})
	return empty, err
}
