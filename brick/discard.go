package brick

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// A discard k is two entries of .mortar/discard:
//
//	<k>      what was discarded: a link, a pointer's file, an empty directory
//	<k>.at   a symbolic link "<directory's ID>/<its ID>.<its set>/<name>": where
//	         it was and what it was
//
// k is the set, the intent and the part in 4, 16 and 2 hexadecimal digits, the
// set of an object that lies here is 0000. The .at comes first and goes last. A
// .at alone, or with a k that is not what it says, is of a Put or Discard that
// was stopped before it took effect: the next Open removes both.
const (
	keyLen   = 4 + 16 + 2
	atSuffix = ".at"
)

func keyName(k volume.Key) string { return fmt.Sprintf("%04x%016x%02x", k.Set, k.Intent, k.Part) }

// parseKey reads what keyName returned.
func parseKey(s string) (k volume.Key, ok bool) {
	if len(s) != keyLen {
		return k, false
	}
	set, err1 := strconv.ParseUint(s[:4], 16, 16)
	intent, err2 := strconv.ParseUint(s[4:20], 16, 64)
	part, err3 := strconv.ParseUint(s[20:], 16, 8)
	k = volume.Key{Set: volume.SetID(set), Intent: intent, Part: uint8(part)}
	return k, err1 == nil && err2 == nil && err3 == nil && keyName(k) == s
}

// discarded is a discard's record.
type discarded struct {
	dir  volume.ID
	name string
	what volume.Pointer // Mode is not in the record: it is the file's
}

func (r *discarded) encode() string {
	return fmt.Sprintf("%s/%s.%04x/%s", r.dir, r.what.ID, uint16(r.what.Held), r.name)
}

// parseDiscarded reads what encode returned.
func parseDiscarded(s string) (r discarded, ok bool) {
	dir, rest, _ := strings.Cut(s, "/")
	what, name, _ := strings.Cut(rest, "/")
	id, held, _ := strings.Cut(what, ".")
	var err1, err2, err3 error
	r.name = name
	r.dir, err1 = volume.ParseID(dir)
	r.what.ID, err2 = volume.ParseID(id)
	set, err3 := strconv.ParseUint(held, 16, 16)
	r.what.Held = volume.SetID(set)
	ok = err1 == nil && err2 == nil && err3 == nil && volume.CheckName("", name) == nil && r.encode() == s
	return r, ok
}

// discardTable is what .mortar/discard holds.
type discardTable struct {
	mu struct {
		sync.Mutex
		m map[volume.Key]discarded
	}
}

func (t *discardTable) get(k volume.Key) (discarded, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.mu.m[k]
	return r, ok
}

func (t *discardTable) set(k volume.Key, r discarded) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.m == nil {
		t.mu.m = make(map[volume.Key]discarded)
	}
	t.mu.m[k] = r
}

func (t *discardTable) drop(k volume.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.m, k)
}

// has reports whether an object that lies here is discarded.
func (t *discardTable) has(id volume.ID) bool {
	_, ok := t.find(id)
	return ok
}

// find returns a discard of an object that lies here. It is asked where an ID
// is about to be made, which is seldom: it looks through all.
func (t *discardTable) find(id volume.ID) (volume.Key, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.mu.m {
		if r.what.ID == id && r.what.Held == 0 {
			return k, true
		}
	}
	return volume.Key{}, false
}

// keyLock is the lock of a discard among the names.
func keyLock(k volume.Key) lockName { return lockName{volume.ID{}, keyName(k)} }

// Discards lists all discards, in order of their keys.
func (s *Store) Discards(ctx context.Context) ([]volume.Discarded, error) {
	if err := start(ctx, "discards"); err != nil {
		return nil, err
	}
	s.discards.mu.Lock()
	defer s.discards.mu.Unlock()
	out := make([]volume.Discarded, 0, len(s.discards.mu.m))
	for k, r := range s.discards.mu.m {
		out = append(out, volume.Discarded{Key: k, Dir: r.dir, Name: r.name, Pointer: r.what})
	}
	slices.SortFunc(out, func(a, b volume.Discarded) int {
		return cmp.Or(cmp.Compare(a.Key.Set, b.Key.Set), cmp.Compare(a.Key.Intent, b.Key.Intent), cmp.Compare(a.Key.Part, b.Key.Part))
	})
	return out, nil
}

// Discard takes what a name leads to out of the tree and keeps it.
func (s *Store) Discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key) error {
	const op = "discard"
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkOld(op, dir, name); err != nil {
		return err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return err
	}
	defer s.dirs.put(d)
	defer s.names.lock(lockName{dir, name}, keyLock(k))()
	_, done := s.discards.get(k)
	f, err := s.find(op, d, name)
	switch {
	case done && (volume.ErrnoOf(err) == unix.ENOENT || err == nil && f.ID != id):
		return nil
	case volume.ErrnoOf(err) == unix.ENOENT, err == nil && f.ID != id:
		return volume.Errorf(op, name, unix.ESTALE, "it does not lead to %s", id)
	case err != nil:
		return err
	case done:
		return volume.Errorf(op, name, unix.EEXIST, "there is a discard %s already", keyName(k))
	}
	key := keyName(k)
	fx := fixedOf(ctx)
	err = s.takeOut(op, d, name, &f, k, volume.ID{}, fx, func() error {
		return s.sys.Rename(d.fd, name, s.discardFD, key, unix.RENAME_NOREPLACE)
	})
	if err != nil {
		return s.failIn(op, d, name, err)
	}
	d.list.remove(name)
	s.stampDirs(fx, d)
	return nil
}

// takeOut makes the record of a discard, then moves f, called name in d, to it
// by move. Both are locked. A directory must be empty, and leaves the index:
// it is not here any more. also is another object whose links move changes, or zero.
func (s *Store) takeOut(op string, d *dir, name string, f *found, k volume.Key, also volume.ID, fx fixed, move func() error) error {
	r := discarded{d.id, name, f.Pointer}
	var gone *dir
	if f.isDir() {
		s.tree.Lock()
		defer s.tree.Unlock()
		var err error
		if gone, err = s.resolve(op, f.ID, 0); err != nil {
			return err
		}
		defer s.dirs.put(gone)
	}
	defer lockAttrs(gone, d)()
	if d.in.gone {
		return stale(op, d.id)
	}
	if gone != nil {
		if empty, err := s.empty(gone, nil); err != nil {
			return err
		} else if !empty {
			return unix.ENOTEMPTY
		}
	}
	if err := s.sys.Symlink(r.encode(), s.discardFD, keyName(k)+atSuffix); err != nil {
		return err
	}
	ids := []volume.ID{also}
	counts := gone == nil && !f.isPointer()
	if counts {
		ids = append(ids, f.ID)
	}
	defer s.touch(ids...)()
	defer s.objs.lock(ids...)()
	undo := func() {}
	if counts {
		var err error
		if undo, err = s.countDiscard(f.ID, fx); err != nil {
			s.sys.Unlink(s.discardFD, keyName(k)+atSuffix, 0)
			return err
		}
	}
	if err := move(); err != nil {
		undo()
		s.sys.Unlink(s.discardFD, keyName(k)+atSuffix, 0)
		return err
	}
	s.discards.set(k, r)
	if gone != nil {
		s.dirTaken(gone)
	}
	return nil
}

// countDiscard notes that a name of an object becomes a discard; undo takes it
// back. If it is the last and the object is to be kept, .mortar/open gets a link
// of it first. The stripe is locked.
func (s *Store) countDiscard(id volume.ID, fx fixed) (undo func(), err error) {
	st := s.objs.stripe(id)
	kept := false
	if fx.Keep && !st.extra[id].kept {
		info, err := s.sys.Stat(s.indexFD, indexPath(id), noFollow)
		if err != nil {
			return nil, err
		}
		if kept = lastName(&info, st.extra[id]); kept {
			if err := s.sys.Link(s.indexFD, indexPath(id), s.openFD, id.String(), 0); err != nil && err != unix.EEXIST {
				return nil, err
			}
			st.hold(id)
		}
	}
	st.addDiscards(id, 1)
	return func() {
		st.addDiscards(id, -1)
		if kept {
			s.unkeep(st, id)
		}
	}, nil
}

// lastName reports whether an object that is as info says has one name and no
// more; links that are Mortar's own do not count.
func lastName(info *sys.Info, e extra) bool { return info.Nlink <= 2+e.links() }

// dirTaken finishes the discarding of a directory: the tree and its attr are locked.
func (s *Store) dirTaken(d *dir) {
	if err := s.sys.Unlink(s.indexFD, indexPath(d.id), 0); err != nil {
		s.log.Warn("a discarded directory's place in the index stays until the next start", "brick", s.path, "id", d.id, "err", err)
	}
	d.in.gone = true
	s.dirs.drop(d.id)
}

// Purge removes a discard for good.
func (s *Store) Purge(ctx context.Context, k volume.Key) error {
	const op = "purge"
	if err := start(ctx, op); err != nil {
		return err
	}
	defer s.names.lock(keyLock(k))()
	return s.purge(op, k, fixedOf(ctx))
}

// purge is Purge with the key locked.
func (s *Store) purge(op string, k volume.Key, fx fixed) error {
	r, ok := s.discards.get(k)
	if !ok {
		return nil
	}
	key := keyName(k)
	err := s.removeDiscard(op, key, &r, fx)
	if err != nil && err != unix.ENOENT {
		return fail(op, key, err)
	}
	s.discards.drop(k)
	if err := s.sys.Unlink(s.discardFD, key+atSuffix, 0); err != nil && err != unix.ENOENT {
		return fail(op, key, err) // the next Open removes it
	}
	return nil
}

// removeDiscard removes what is discarded as key.
func (s *Store) removeDiscard(op, key string, r *discarded, fx fixed) error {
	f := found{node: node{Pointer: r.what}}
	if r.what.Held == 0 && r.what.Mode == unix.S_IFDIR {
		return s.sys.Unlink(s.discardFD, key, unix.AT_REMOVEDIR)
	}
	if f.isPointer() {
		return s.sys.Unlink(s.discardFD, key, 0)
	}
	if err := s.removeLink(s.discardFD, key, &f, fx); err != nil {
		return err
	}
	st := s.objs.stripe(r.what.ID)
	st.Lock()
	st.addDiscards(r.what.ID, -1)
	st.Unlock()
	return nil
}
