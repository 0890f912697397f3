package model

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/mortarfs/mortar/volume"
)

// What makes one member equal to another. An object that is held has no name
// and stays nevertheless, until Release: it was installed and has none yet, or its last was
// taken by Place, or by an operation with volume.Fixed.Keep.

// dirAttr is the attribute in which members tell of a directory's version and
// home, as package brick has it: byte 1, uint64 version, uint16 home set, big-endian.
const dirAttr = own + "dir"

func encodeDir(version uint64, home volume.SetID) []byte {
	b := binary.BigEndian.AppendUint64([]byte{1}, version)
	return binary.BigEndian.AppendUint16(b, uint16(home))
}

func decodeDir(b []byte) (version uint64, home volume.SetID, ok bool) {
	if len(b) != 11 || b[0] != 1 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b[1:]), volume.SetID(binary.BigEndian.Uint16(b[9:])), true
}

// here returns an object that is here, whether callers may see it or not. A
// directory that is a discard is not.
func (t *tree) here(op string, id volume.ID) (*object, error) {
	if o := t.objects[id]; o != nil && (o.alive() || !o.isDir()) {
		return o, nil
	}
	return nil, fail(op, id.String(), syscall.ESTALE)
}

// Describe implements volume.Member.
func (s *Store) Describe(ctx context.Context, id volume.ID) (volume.Object, error) {
	if err := s.enter(ctx, "describe", id.String()); err != nil {
		return volume.Object{}, err
	}
	defer s.mu.Unlock()
	o := s.mu.objects[id]
	if o == nil {
		return volume.Object{}, fail("describe", id.String(), syscall.ESTALE)
	}
	x := volume.Object{Attr: o.attr(), Target: o.target}
	for _, name := range slices.Sorted(maps.Keys(o.xattrs)) {
		x.Xattrs = append(x.Xattrs, volume.Xattr{Name: name, Value: bytes.Clone(o.xattrs[name])})
	}
	if o.isDir() {
		x.Xattrs = append(x.Xattrs, volume.Xattr{Name: dirAttr, Value: encodeDir(o.version, o.home)})
	}
	slices.SortFunc(x.Xattrs, func(a, b volume.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return x, nil
}

// mayInstall says what is impossible about an object, 0 for nothing.
func mayInstall(x volume.Object) syscall.Errno {
	a := x.Attr
	switch a.Type() {
	case syscall.S_IFDIR, syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFCHR, syscall.S_IFBLK:
	case syscall.S_IFLNK:
		if x.Target == "" || len(x.Target) > volume.TargetMax || strings.Contains(x.Target, "\x00") {
			return syscall.EINVAL
		}
	default:
		return syscall.EINVAL
	}
	if a.ID.IsZero() || a.Held != 0 || a.Size < 0 || a.ID == volume.Root && !a.IsDir() || a.Atime.Nsec > 999_999_999 || a.Mtime.Nsec > 999_999_999 {
		return syscall.EINVAL
	}
	meta := false
	for _, v := range x.Xattrs {
		switch {
		case v.Name == dirAttr:
			if _, _, meta = decodeDir(v.Value); !meta {
				return syscall.EINVAL
			}
		case checkXattr(v.Name) != 0, strings.HasPrefix(v.Name, own), len(v.Value) > volume.XattrValueMax:
			return syscall.EINVAL
		}
	}
	if meta != a.IsDir() {
		return syscall.EINVAL
	}
	return 0
}

// Install implements volume.Member.
func (s *Store) Install(ctx context.Context, x volume.Object) error {
	id := x.Attr.ID
	if err := s.enter(ctx, "install", id.String()); err != nil {
		return err
	}
	defer s.leave()
	if errno := mayInstall(x); errno != 0 {
		return fail("install", id.String(), errno)
	}
	o := s.mu.objects[id]
	if o != nil && (o.mode&syscall.S_IFMT != x.Attr.Type() || o.target != x.Target || o.rdev != x.Attr.Rdev) {
		if o.opens > 0 {
			return fail("install", id.String(), syscall.EBUSY)
		}
		s.erase(o)
		o = nil
	}
	now := s.now().Time
	if o == nil {
		o = &object{id: id, btime: now, held: true}
		if x.Attr.IsDir() {
			o.children = map[string]volume.Pointer{}
		}
		s.mu.objects[id] = o
	}
	o.held = o.nameless() || o.isDir() && !o.alive() // a directory that is a discard is not here
	o.mode, o.uid, o.gid, o.target = x.Attr.Mode, x.Attr.UID, x.Attr.GID, x.Target
	if t := x.Attr.Type(); t == syscall.S_IFCHR || t == syscall.S_IFBLK {
		o.rdev = x.Attr.Rdev
	}
	if o.isRegular() && o.data.size != x.Attr.Size {
		s.resize(o, func(d *data) { d.truncate(x.Attr.Size) })
	}
	o.xattrs = map[string][]byte{}
	for _, v := range x.Xattrs {
		if v.Name == dirAttr {
			o.version, o.home, _ = decodeDir(v.Value)
			continue
		}
		o.xattrs[v.Name] = append([]byte{}, v.Value...)
	}
	o.atime, o.mtime, o.ctime, o.at = x.Attr.Atime, x.Attr.Mtime, now, volume.Time{}
	return nil
}

// erase forgets an object with its names and discards, and what is in it.
func (s *Store) erase(o *object) {
	for _, d := range s.mu.objects {
		for name, p := range d.children {
			if p.ID == o.id && p.Held == 0 {
				delete(d.children, name)
			}
		}
	}
	for k, x := range s.mu.discards {
		if x.ptr.ID == o.id && x.ptr.Held == 0 {
			delete(s.mu.discards, k)
		}
	}
	o.names, o.keeps = 0, 0
	s.let(o)
}

// let lets a nameless object go, a directory with what is in it.
func (s *Store) let(o *object) {
	o.orphan, o.held = false, false
	for name, p := range o.children {
		s.mu.as = nil // nothing below is held
		s.remove(o, name)
		if c := s.mu.objects[p.ID]; p.Held == 0 && c.isDir() {
			s.let(c)
		} else {
			s.mu.reap(p)
		}
	}
	s.mu.reap(volume.Pointer{ID: o.id})
}

// Place implements volume.Member.
func (s *Store) Place(ctx context.Context, dir volume.ID, name string, p volume.Pointer) error {
	if err := s.enter(ctx, "place", name); err != nil {
		return err
	}
	defer s.leave()
	p.Mode &= syscall.S_IFMT
	if p.Held != 0 && (p.ID.IsZero() || p.Mode == 0) {
		return fail("place", name, syscall.EINVAL)
	}
	if p.Held == 0 && !p.ID.IsZero() {
		o, err := s.mu.here("place", p.ID)
		if err != nil {
			return err
		}
		p.Mode = o.mode & syscall.S_IFMT
	}
	d, old, err := s.mu.place("place", dir, name)
	moves := p.Held == 0 && p.Mode == syscall.S_IFDIR
	switch {
	case err != nil:
		return err
	case old.ID == p.ID && old.Held == p.Held:
		return nil
	case moves && s.mu.within(dir, p.ID):
		return fail("place", name, syscall.ELOOP)
	}
	now := s.now()
	if !old.ID.IsZero() {
		s.clear(d, name, old)
	}
	if o := s.mu.objects[p.ID]; moves && o.names > 0 {
		from := s.mu.objects[o.parent]
		s.remove(from, o.name)
		from.touch(now)
		s.tie(from.id, dir)
	}
	if !p.ID.IsZero() {
		s.mu.insert(d, name, p)
		s.mu.changed(p, now)
	}
	d.touch(now)
	return nil
}

// clear takes a name away; what has no other is held.
func (s *Store) clear(d *object, name string, p volume.Pointer) {
	s.remove(d, name)
	if o := s.mu.objects[p.ID]; p.Held == 0 && o.names == 0 {
		o.held = true
	}
}

// nameless reports whether the object is here without a name, and not just as a discard.
func (o *object) nameless() bool {
	return o.names == 0 && (o.held || o.orphan || o.opens > 0 && o.keeps == 0)
}

// Nameless implements volume.Member.
func (s *Store) Nameless(ctx context.Context) ([]volume.ID, error) {
	if err := s.enter(ctx, "nameless", ""); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var ids []volume.ID
	for id, o := range s.mu.objects {
		if o.nameless() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b volume.ID) int { return slices.Compare(a[:], b[:]) })
	return ids, nil
}

// Release implements volume.Member.
func (s *Store) Release(ctx context.Context, id volume.ID) error {
	if err := s.enter(ctx, "release", id.String()); err != nil {
		return err
	}
	defer s.leave()
	if o := s.mu.objects[id]; o != nil && o.names == 0 && (!o.isDir() || o.held) {
		s.let(o)
	}
	return nil
}

// Hold is brick.Store's: what waits among the orphans is held.
func (s *Store) Hold() {
	s.mu.Lock()
	defer s.leave()
	for _, o := range s.mu.objects {
		if o.orphan {
			o.held = true
		}
	}
}

// Sums implements volume.Member.
func (s *Store) Sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error) {
	if err := s.enter(ctx, "sums", id.String()); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if first < 0 || n < 1 || n > 1<<16 || size < 1 || size > volume.IOMax || first > (1<<63-1)/int64(size)-int64(n) {
		return nil, fail("sums", id.String(), syscall.EINVAL)
	}
	o, err := s.mu.here("sums", id)
	switch {
	case err != nil:
		return nil, err
	case o.isDir():
		return nil, fail("sums", id.String(), syscall.EISDIR)
	case !o.isRegular():
		return nil, fail("sums", id.String(), syscall.EINVAL)
	}
	var sums []uint64
	block := make([]byte, size)
	for i := first; i < first+int64(n) && i*int64(size) < o.data.size; i++ {
		b := block[:o.data.read(block, i*int64(size))]
		sum := uint64(0)
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			sum = max(xxhash.Sum64(b), 1)
		}
		sums = append(sums, sum)
	}
	return sums, nil
}
