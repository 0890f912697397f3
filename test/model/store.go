package model

import (
	"bytes"
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Store is one member's store in memory. It implements volume.Member; its FS
// methods are FS's, which take entries with Held set as the contract of a
// Store says.
type Store struct {
	*FS
	journal *journal
}

var _ volume.Member = (*Store)(nil)

// NewStore returns an empty store of a member of set.
func NewStore(set volume.SetID, opts ...Option) *Store {
	s := &FS{set: set, clock: time.Now, capacity: defaultCapacity}
	for _, o := range opts {
		o(s)
	}
	s.start()
	return &Store{FS: s, journal: &journal{}}
}

// Crash simulates the end of the process and its next start: what was applied
// is kept, open handles fail from now on, and what was open without a name
// waits for those who had it, until Orphans.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.leave()
	s.mu.boot++
	s.locks.Drop(func(volume.LockOwner) bool { return true })
	s.mu.restart()
}

// List implements volume.Store.
func (s *Store) List(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool, keep func(name string) bool) ([]volume.Entry, bool, error) {
	return s.list(ctx, dir, after, max, attrs, keep)
}

// Empty implements volume.Store.
func (s *Store) Empty(ctx context.Context, dir volume.ID, but func(string) bool) (bool, error) {
	if err := s.enter(ctx, "empty", dir.String()); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	d, err := s.mu.directory("empty", dir)
	if err != nil {
		return false, err
	}
	for name := range d.children {
		if but == nil || !but(name) {
			return false, nil
		}
	}
	return true, nil
}

// Copy implements volume.Store.
func (s *Store) Copy(ctx context.Context, dir volume.ID) (volume.Copy, error) {
	if err := s.enter(ctx, "copy", dir.String()); err != nil {
		return volume.Copy{}, err
	}
	defer s.mu.Unlock()
	d, err := s.mu.directory("copy", dir)
	if err != nil {
		return volume.Copy{}, err
	}
	return volume.Copy{
		ID: d.id, Mode: d.mode, UID: d.uid, GID: d.gid, Version: d.version,
		ACL: bytes.Clone(d.xattrs[aclAccess]), Default: bytes.Clone(d.xattrs[aclDefault]),
		Home: d.home, BirthTime: d.btime,
	}, nil
}

// MakeCopy implements volume.Store. The parent's times stay: they changed when
// the directory was made at its home.
func (s *Store) MakeCopy(ctx context.Context, parent volume.ID, name string, c volume.Copy) error {
	if err := s.enter(ctx, "makecopy", name); err != nil {
		return err
	}
	defer s.leave()
	if c.Mode&syscall.S_IFMT != syscall.S_IFDIR || c.ID.IsZero() {
		return fail("makecopy", name, syscall.EINVAL)
	}
	d, p, err := s.mu.place("makecopy", parent, name)
	switch {
	case err != nil:
		return err
	case p == volume.Pointer{ID: c.ID, Mode: syscall.S_IFDIR}:
		refresh(s.mu.objects[c.ID], c, s.now())
		return nil
	case !p.ID.IsZero(), s.mu.objects[c.ID] != nil:
		return fail("makecopy", name, syscall.EEXIST)
	}
	t := c.BirthTime
	if t == (volume.Time{}) {
		t = s.now().present()
	}
	o := &object{
		id: c.ID, mode: c.Mode & (syscall.S_IFMT | 0o7777), uid: c.UID, gid: c.GID, version: c.Version, home: c.Home,
		atime: t, mtime: t, ctime: t, btime: t,
		xattrs: map[string][]byte{}, children: map[string]volume.Pointer{},
	}
	setCopyACLs(o, c)
	s.mu.objects[c.ID] = o
	s.mu.insert(d, name, volume.Pointer{ID: c.ID, Mode: syscall.S_IFDIR})
	return nil
}

// RefreshCopy implements volume.Store.
func (s *Store) RefreshCopy(ctx context.Context, c volume.Copy) error {
	if err := s.enter(ctx, "refreshcopy", c.ID.String()); err != nil {
		return err
	}
	defer s.leave()
	d, err := s.mu.directory("refreshcopy", c.ID)
	if err != nil {
		return err
	}
	refresh(d, c, s.now())
	return nil
}

// refresh sets what a copy takes from its home, if the home's is newer.
func refresh(d *object, c volume.Copy, now moment) {
	if c.Version <= d.version {
		return
	}
	d.mode = syscall.S_IFDIR | c.Mode&0o7777
	d.uid, d.gid, d.version, d.ctime = c.UID, c.GID, c.Version, now.Time
	setCopyACLs(d, c)
}

// setCopyACLs stores a copy's ACLs as they are.
func setCopyACLs(d *object, c volume.Copy) {
	for name, v := range map[string][]byte{aclAccess: c.ACL, aclDefault: c.Default} {
		delete(d.xattrs, name)
		if len(v) > 0 {
			d.xattrs[name] = bytes.Clone(v)
		}
	}
}

// Path implements volume.Store.
func (s *Store) Path(ctx context.Context, dir volume.ID) (volume.ID, string, error) {
	if err := s.enter(ctx, "path", dir.String()); err != nil {
		return volume.ID{}, "", err
	}
	defer s.mu.Unlock()
	d, err := s.mu.directory("path", dir)
	if err == nil && dir == volume.Root {
		err = fail("path", dir.String(), syscall.EINVAL)
	}
	if err == nil && d.names == 0 {
		err = fail("path", dir.String(), syscall.ENOENT)
	}
	if err != nil {
		return volume.ID{}, "", err
	}
	return d.parent, d.name, nil
}

// Settle implements volume.Store.
func (s *Store) Settle(ctx context.Context) error {
	if err := s.enter(ctx, "settle", ""); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.durable()
	return nil
}

// Orphans implements volume.Store.
func (s *Store) Orphans(ctx context.Context) error {
	if err := s.enter(ctx, "orphans", ""); err != nil {
		return err
	}
	defer s.leave()
	for id, o := range s.mu.objects {
		if o.orphan && o.opens == 0 {
			o.orphan = false
			s.mu.reap(volume.Pointer{ID: id})
		}
	}
	return nil
}

// Journal implements volume.Store.
func (s *Store) Journal() volume.Journal { return s.journal }
