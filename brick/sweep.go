package brick

import (
	"strings"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// The names in .mortar/tmp that tell what was under way.
const (
	noteMove   = "mv-"  // + ID: a symbolic link, the index entry of a directory once it has moved
	noteRemove = "rm-"  // + ID: the index entry of a directory that is being removed
	noteNew    = "new-" // + ID + serial: an object to be born
)

// sweep mends what a crash has left: nobody else is about.
func (s *Store) sweep(op string) error {
	for _, step := range []func(string) error{s.sweepTmp, s.loadDiscards, s.loadKept} {
		if err := step(op); err != nil {
			return err
		}
	}
	s.waiting.Store(s.opt.Reclaim || s.hasKept())
	return nil
}

// names lists a directory of Mortar's own.
func (s *Store) ownNames(dirfd int, path string) ([]string, error) {
	d := &dir{}
	fd, err := s.sys.Open(dirfd, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer s.sys.Close(fd)
	d.fd = fd
	var names []string
	err = s.eachName(d, direntBuffer, func(n string) bool { names = append(names, n); return true })
	return names, err
}

// sweepTmp finishes or takes back what was under way: moves and removals of
// directories first, for the rest looks into the index.
func (s *Store) sweepTmp(op string) error {
	names, err := s.ownNames(s.tmpFD, ".")
	if err != nil {
		return err
	}
	var rest []string
	for _, n := range names {
		kind, idText := noteMove, strings.TrimPrefix(n, noteMove)
		if strings.HasPrefix(n, noteRemove) {
			kind, idText = noteRemove, strings.TrimPrefix(n, noteRemove)
		}
		id, err := volume.ParseID(idText)
		if !strings.HasPrefix(n, kind) || err != nil {
			rest = append(rest, n)
			continue
		}
		s.log.Info("finishing what a crash interrupted", "brick", s.path, "note", n)
		if err := s.sweepNote(op, n, id); err != nil {
			return err
		}
	}
	for _, n := range rest {
		if err := s.sweepOther(op, "", n); err != nil {
			return err
		}
	}
	return nil
}

// sweepNote keeps the index entry that a note is, if its directory is where it says.
func (s *Store) sweepNote(op, note string, id volume.ID) error {
	target, err := s.sys.Readlink(s.tmpFD, note)
	if err != nil {
		return err
	}
	there, err := s.leads(op, id, target)
	if err != nil {
		return err
	}
	if there {
		return s.sys.Rename(s.tmpFD, note, s.indexFD, indexPath(id), 0)
	}
	return s.sys.Unlink(s.tmpFD, note, 0)
}

// leads reports whether an index entry leads to the directory.
func (s *Store) leads(op string, id volume.ID, target string) (bool, error) {
	parent, name, ok := parsePlace(target)
	if !ok {
		return false, nil
	}
	fd, err := s.openPlace(op, id, parent, name, 0)
	if err == nil {
		s.sys.Close(fd)
		return true, nil
	}
	if e := volume.ErrnoOf(err); e == unix.ESTALE || e == unix.ENOTDIR {
		return false, nil
	}
	return false, err
}

// sweepOther removes anything else from .mortar/tmp: what was to be born, with
// the index entry that a directory may have had already.
func (s *Store) sweepOther(op, below, name string) error {
	path := below + name
	info, err := s.sys.Stat(s.tmpFD, path, noFollow)
	if err != nil {
		return err
	}
	if info.Mode&unix.S_IFMT != unix.S_IFDIR {
		return s.sys.Unlink(s.tmpFD, path, 0)
	}
	if text, born := strings.CutPrefix(name, noteNew); born {
		text, _, _ = strings.Cut(text, ".")
		if id, err := volume.ParseID(text); err == nil {
			if err := s.dropDangling(op, id); err != nil {
				return err
			}
		}
	}
	if below == "" { // a mould, perhaps with what was to be born in it
		names, err := s.ownNames(s.tmpFD, path)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := s.sweepOther(op, path+"/", n); err != nil {
				return err
			}
		}
	}
	return s.sys.Unlink(s.tmpFD, path, unix.AT_REMOVEDIR)
}

// dropDangling removes a directory's index entry that leads nowhere.
func (s *Store) dropDangling(op string, id volume.ID) error {
	target, err := s.sys.Readlink(s.indexFD, indexPath(id))
	if err == unix.ENOENT || err == unix.EINVAL {
		return nil
	}
	if err != nil {
		return err
	}
	if there, err := s.leads(op, id, target); err != nil || there {
		return err
	}
	return s.sys.Unlink(s.indexFD, indexPath(id), 0)
}

// loadDiscards reads .mortar/discard and removes what never took effect.
func (s *Store) loadDiscards(op string) error {
	names, err := s.ownNames(s.discardFD, ".")
	if err != nil {
		return err
	}
	for _, n := range names {
		key, isAt := strings.CutSuffix(n, atSuffix)
		k, ok := parseKey(key)
		switch {
		case !ok:
			s.log.Warn("a foreign file is left alone", "brick", s.path, "file", discardDir+"/"+n)
			continue
		case isAt:
			err = s.loadDiscard(op, k, key)
		default:
			if _, e := s.sys.Readlink(s.discardFD, key+atSuffix); e == unix.ENOENT {
				s.log.Error("a discard without its record is left alone", "brick", s.path, "file", discardDir+"/"+n)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadDiscard reads one discard by its record.
func (s *Store) loadDiscard(op string, k volume.Key, key string) error {
	text, err := s.sys.Readlink(s.discardFD, key+atSuffix)
	if err != nil {
		return err
	}
	info, err := s.sys.Stat(s.discardFD, key, noFollow)
	if err == unix.ENOENT {
		return s.sys.Unlink(s.discardFD, key+atSuffix, 0)
	}
	if err != nil {
		return err
	}
	r, ok := parseDiscarded(text)
	if !ok {
		return damaged(op, key, "the record of a discard says %q", text)
	}
	n, err := s.identify(op, s.discardProc+key, key, &info)
	if err != nil {
		return err
	}
	if n.ID != r.what.ID || n.Held != r.what.Held { // what was to come in its place
		if err := s.sys.Unlink(s.discardFD, key, 0); err != nil {
			return err
		}
		return s.sys.Unlink(s.discardFD, key+atSuffix, 0)
	}
	r.what = n.Pointer
	s.discards.set(k, r)
	switch {
	case n.Held != 0:
	case n.Mode == unix.S_IFDIR:
		return s.dropDangling(op, n.ID)
	default:
		s.objs.stripe(n.ID).addDiscards(n.ID, 1)
		if info.Nlink == 1 { // its end was begun: the index link went first
			if err := s.sys.Link(s.discardFD, key, s.indexFD, indexPath(n.ID), 0); err != unix.EEXIST {
				return err
			}
		}
	}
	return nil
}

// loadKept reads .mortar/open and removes what has a name still, and what is
// out of the index already.
func (s *Store) loadKept(op string) error {
	names, err := s.ownNames(s.openFD, ".")
	if err != nil {
		return err
	}
	for _, n := range names {
		id, err := volume.ParseID(n)
		if err != nil {
			s.log.Warn("a foreign file is left alone", "brick", s.path, "file", openDir+"/"+n)
			continue
		}
		info, err := s.sys.Stat(s.openFD, n, noFollow)
		if err != nil {
			return err
		}
		if info.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := s.loadNameless(op, id); err != nil {
				return err
			}
			continue
		}
		st := s.objs.stripe(id)
		others := info.Nlink - 1 - uint32(st.extra[id].discards) // the index's and names
		if others == 1 {
			st.setKept(id, true)
			continue
		}
		if err := s.sys.Unlink(s.openFD, n, 0); err != nil {
			return err
		}
	}
	return nil
}

// loadNameless makes the index lead to a directory in .mortar/open, unless it
// leads to it, or to another one of this ID, already.
func (s *Store) loadNameless(op string, id volume.ID) error {
	if target, err := s.sys.Readlink(s.indexFD, indexPath(id)); err == nil {
		if there, err := s.leads(op, id, target); err != nil || there {
			return err
		}
	}
	if there, err := s.leads(op, id, placeTarget(nowhere, id.String())); err != nil || !there {
		return err
	}
	return s.setPlace(op, id, nowhere, id.String())
}

func (s *Store) hasKept() bool {
	for i := range s.objs.stripes {
		for _, e := range s.objs.stripes[i].extra {
			if e.kept {
				return true
			}
		}
	}
	return false
}
