package brick

import (
	"context"
	"strings"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// enter returns what d's children inherit, with d.attr held for reading until
// the caller unlocks it. With an expected version that is not the directory's
// it fails with Reason Outdated and holds nothing.
func (s *Store) enter(op string, d *dir, version uint64) (inherit, error) {
	d.attr.RLock()
	for !d.in.known {
		d.attr.RUnlock()
		d.attr.Lock()
		err := s.loadInherit(op, d)
		d.attr.Unlock()
		if err != nil {
			return inherit{}, err
		}
		d.attr.RLock()
	}
	in := d.in
	switch {
	case in.gone:
		d.attr.RUnlock()
		return inherit{}, stale(op, d.id)
	case version != 0 && version != in.meta.Version:
		d.attr.RUnlock()
		return inherit{}, &volume.Error{Op: op, Where: d.id.String(), Errno: unix.ESTALE, Reason: volume.Outdated}
	}
	return in, nil
}

// loadInherit reads what d's children inherit; d.attr is held for writing.
func (s *Store) loadInherit(op string, d *dir) error {
	if d.in.known {
		return nil
	}
	info, err := s.sys.Stat(d.fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return fail(op, d.id.String(), err)
	}
	var buf [dirMetaLen]byte
	n, err := s.sys.Fgetxattr(d.fd, attrDir, buf[:])
	if err != nil {
		return damaged(op, d.id.String(), "reading %s: %w", attrDir, err)
	}
	in := inherit{known: true, gone: d.in.gone, gid: info.GID, setgid: info.Mode&unix.S_ISGID != 0}
	if in.meta, err = decodeDirMeta(buf[:n]); err != nil {
		return damaged(op, d.id.String(), "%w", err)
	}
	switch _, err = s.sys.Fgetxattr(d.fd, attrDefaultACL, nil); err {
	case nil:
		in.defaultACL = true
	case unix.ENODATA, unix.EOPNOTSUPP:
	default:
		return fail(op, d.id.String(), err)
	}
	d.in = in
	return nil
}

// birth is an object to be made in a directory.
type birth struct {
	op       string
	d        *dir
	in       inherit
	name     string
	node     volume.Node
	mode     uint32 // permission bits to ask the file system for
	uid, gid uint32
	home     volume.SetID // of a directory
	version  uint64       // of a directory
	fx       fixed
	by       volume.Cred
	bornGID  uint32 // of what is born with a change of attributes: its group before that
}

// newBirth works out owner and mode of what is to be made.
func (s *Store) newBirth(ctx context.Context, op string, d *dir, in inherit, name string, n volume.Node) birth {
	cred := volume.CredOf(ctx)
	b := birth{op: op, d: d, in: in, name: name, node: n, mode: n.Mode & 0o7777, uid: cred.UID, gid: cred.GID, fx: fixedOf(ctx), by: cred}
	if !in.defaultACL {
		b.mode &^= cred.Umask & 0o777
	}
	if in.setgid {
		b.gid = in.gid
		if n.Mode&unix.S_IFMT == unix.S_IFDIR {
			b.mode |= unix.S_ISGID
		}
	}
	if n.ID.IsZero() {
		b.node.ID = volume.NewID(s.identity.Set)
	}
	if b.home = b.node.ID.Born(); b.home == 0 {
		b.home = s.identity.Set
	}
	b.version = 1
	if b.node.Bears() {
		b.foresee()
	}
	return b
}

// checkNode says what is impossible about a node.
func checkNode(op, name string, n *volume.Node) error {
	bad := func(format string, a ...any) error { return volume.Errorf(op, name, unix.EINVAL, format, a...) }
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		if n.Target != "" {
			return bad("only a symbolic link has a target")
		}
	case unix.S_IFLNK:
		switch {
		case n.Target == "":
			return bad("a symbolic link needs a target")
		case len(n.Target) > volume.TargetMax:
			return &volume.Error{Op: op, Where: name, Errno: unix.ENAMETOOLONG}
		case strings.IndexByte(n.Target, 0) >= 0:
			return bad("a target can't have a zero byte")
		}
	default:
		return bad("mode %#o has no type", n.Mode)
	}
	if n.ID == volume.Root {
		return bad("the root exists")
	}
	return n.CheckBears(op, name)
}

// Make makes a directory, symbolic link, device, fifo, socket or regular file.
func (s *Store) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	const op = "make"
	if err := start(ctx, op); err != nil {
		return volume.Attr{}, err
	}
	if err := checkNew(op, dir, name); err != nil {
		return volume.Attr{}, err
	}
	if err := checkNode(op, name, &n); err != nil {
		return volume.Attr{}, err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return volume.Attr{}, err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	in, err := s.enter(op, d, n.Parent)
	if err != nil {
		return volume.Attr{}, err
	}
	defer d.attr.RUnlock()
	b := s.newBirth(ctx, op, d, in, name, n)
	var f found
	if n.Mode&unix.S_IFMT == unix.S_IFREG {
		var fd int
		if fd, f, err = s.bearFile(&b); err == nil {
			s.sys.Close(fd)
		}
	} else {
		f, err = s.bearOther(&b)
	}
	if err != nil {
		return volume.Attr{}, err
	}
	s.stampDirs(b.fx, d)
	if f.Mode == unix.S_IFLNK {
		f.info.Size = int64(len(n.Target))
	}
	return s.attrOf(&f, 0), nil
}

// bearFile makes a regular file: without a name, then with all its attributes,
// then, at once, under its name, then in the index. A file that was stopped
// short of the last has one link, by which a lookup knows it (mendIndex). It
// returns a descriptor for reading and writing. The name and d.attr are locked.
func (s *Store) bearFile(b *birth) (int, found, error) {
	end, err := s.alter(b.op, b.node.ID) // as in installNew
	if err != nil {
		return -1, found{}, err
	}
	defer end()
	fd, err := s.sys.Open(b.d.fd, ".", unix.O_TMPFILE|unix.O_RDWR, b.mode)
	if err != nil {
		return -1, found{}, s.failIn(b.op, b.d, b.name, err)
	}
	f, err := s.nameFile(b, fd)
	if err != nil {
		s.sys.Close(fd)
		return -1, found{}, err
	}
	return fd, f, nil
}

func (s *Store) nameFile(b *birth, fd int) (found, error) {
	id := b.node.ID
	if err := s.sys.Fsetxattr(fd, attrID, id[:], 0); err != nil {
		return found{}, fail(b.op, b.name, err)
	}
	if err := s.dressFile(b, fd); err != nil {
		return found{}, fail(b.op, b.name, err)
	}
	// A removal of an object of this very ID is not halfway, with its index
	// entry gone and perhaps to be put back.
	st := s.objs.stripe(id)
	st.Lock()
	defer st.Unlock()
	if err := s.sys.Link(fd, "", b.d.fd, b.name, unix.AT_EMPTY_PATH); err != nil {
		return found{}, s.failIn(b.op, b.d, b.name, err)
	}
	f := found{node: node{Pointer: volume.Pointer{ID: id, Mode: unix.S_IFREG}}}
	err := s.sys.Link(fd, "", s.indexFD, indexPath(id), unix.AT_EMPTY_PATH)
	if err == nil {
		f.info, err = s.sys.Stat(fd, "", unix.AT_EMPTY_PATH)
		if err != nil {
			s.sys.Unlink(s.indexFD, indexPath(id), 0)
		}
	}
	if err != nil {
		s.sys.Unlink(b.d.fd, b.name, 0)
		return found{}, idTaken(b, err)
	}
	s.inodes.set(&f.info, f.node)
	b.d.list.add(b.name)
	return f, nil
}

// dressFile gives a regular file that has no name yet its contents, owner, mode and times.
func (s *Store) dressFile(b *birth, fd int) error {
	if err := s.writeNew(b, fd); err != nil {
		return err
	}
	have := uint32(0)
	if b.in.setgid {
		have = b.in.gid
	}
	if err := s.own(b, fd, "", unix.AT_EMPTY_PATH, have); err != nil {
		return err
	}
	if !b.node.Bears() {
		return s.stampNew(b.fx, fd, "", unix.AT_EMPTY_PATH)
	}
	if err := s.settleMode(b, fd); err != nil {
		return err
	}
	return s.stampBorn(b, fd)
}

// idTaken makes an Error of what an index entry's making returned.
func idTaken(b *birth, err error) error {
	if err == unix.EEXIST {
		return volume.Errorf(b.op, b.name, unix.EINVAL, "the ID %s is in use", b.node.ID)
	}
	return fail(b.op, b.name, err)
}

// own gives a new object its owner and the mode bits that chown(2) or mkdir(2) take.
// have is the group that the file system gave it.
func (s *Store) own(b *birth, fd int, path string, flags int, have uint32) error {
	const privilege = unix.S_ISUID | unix.S_ISGID
	chown := b.uid != 0 || b.gid != have
	if chown {
		if err := s.sys.Chown(fd, path, int(b.uid), int(b.gid), flags); err != nil {
			return err
		}
	}
	typ := b.node.Mode & unix.S_IFMT
	if b.mode&privilege == 0 || typ == unix.S_IFLNK || !chown && typ != unix.S_IFDIR {
		return nil
	}
	info, err := s.sys.Stat(fd, path, flags)
	if err != nil {
		return err
	}
	mode := info.Mode&0o7777 | b.mode&privilege
	if path == "" {
		return s.sys.Fchmod(fd, mode)
	}
	return s.sys.Chmod(fd, path, mode)
}

// bearOther makes anything but a regular file: complete in .mortar/tmp, then
// moved to its name. A directory enters the index before that, so that it is
// never in the tree without; others after, as regular files do. What is left in
// .mortar/tmp by a crash is removed by the next Open, index entry included.
func (s *Store) bearOther(b *birth) (f found, err error) {
	tmp := s.tmpName("new-" + b.node.ID.String())
	typ := b.node.Mode & unix.S_IFMT
	if b.in.defaultACL && typ != unix.S_IFLNK {
		mould := s.tmpName("acl")
		if err := s.makeMould(b, mould); err != nil {
			return found{}, fail(b.op, b.name, err)
		}
		defer s.sys.Unlink(s.tmpFD, mould, unix.AT_REMOVEDIR)
		tmp = mould + "/" + tmp
	}
	switch typ {
	case unix.S_IFDIR:
		err = s.sys.Mkdir(s.tmpFD, tmp, b.mode)
	case unix.S_IFLNK:
		err = s.bearSymlink(b, tmp)
	default:
		err = s.sys.Mknod(s.tmpFD, tmp, typ|b.mode, b.node.Rdev)
	}
	if err != nil {
		return found{}, fail(b.op, b.name, err)
	}
	if err = s.dress(b, tmp); err == nil {
		if typ == unix.S_IFDIR {
			return s.placeDir(b, tmp)
		}
		return s.placeOther(b, tmp)
	}
	s.sys.Unlink(s.tmpFD, tmp, removeFlag(typ))
	return found{}, fail(b.op, b.name, err)
}

// bearSymlink makes a symbolic link in .mortar/tmp.
func (s *Store) bearSymlink(b *birth, tmp string) error {
	err := s.sys.Symlink(b.node.Target, s.tmpFD, tmp)
	if err != unix.ENAMETOOLONG {
		return err
	}
	if err := s.sys.Symlink(longLink, s.tmpFD, tmp); err != nil {
		return err
	}
	if err := s.sys.Lsetxattr(s.tmpProc+tmp, attrTarget, []byte(b.node.Target), 0); err != nil {
		s.sys.Unlink(s.tmpFD, tmp, 0)
		return err
	}
	return nil
}

func removeFlag(typ uint32) int {
	if typ == unix.S_IFDIR {
		return unix.AT_REMOVEDIR
	}
	return 0
}

// makeMould makes a directory in .mortar/tmp that has the default ACL of the
// one in which something is born, so that the file system lets it inherit.
func (s *Store) makeMould(b *birth, mould string) error {
	var buf [4096]byte
	n, err := s.sys.Fgetxattr(b.d.fd, attrDefaultACL, buf[:])
	if err != nil {
		return err
	}
	if err := s.sys.Mkdir(s.tmpFD, mould, 0o700); err != nil {
		return err
	}
	if err := s.sys.Lsetxattr(s.tmpProc+mould, attrDefaultACL, buf[:n], 0); err != nil {
		s.sys.Unlink(s.tmpFD, mould, unix.AT_REMOVEDIR)
		return err
	}
	return nil
}

// dress gives what lies in .mortar/tmp its attributes.
func (s *Store) dress(b *birth, tmp string) error {
	if err := s.sys.Lsetxattr(s.tmpProc+tmp, attrID, b.node.ID[:], 0); err != nil {
		return err
	}
	if b.node.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := s.sys.Lsetxattr(s.tmpProc+tmp, attrDir, encodeDirMeta(dirMeta{b.version, b.home}), 0); err != nil {
			return err
		}
	}
	if err := s.own(b, s.tmpFD, tmp, noFollow, 0); err != nil {
		return err
	}
	return s.stampNew(b.fx, s.tmpFD, tmp, noFollow)
}

func (s *Store) placeDir(b *birth, tmp string) (found, error) {
	id := b.node.ID
	err := s.sys.Symlink(placeTarget(b.d.id, b.name), s.indexFD, indexPath(id))
	if err != nil {
		s.sys.Unlink(s.tmpFD, tmp, unix.AT_REMOVEDIR)
		if _, e := s.sys.Stat(b.d.fd, b.name, noFollow); err == unix.EEXIST && e == nil {
			return found{}, fail(b.op, b.name, err) // the name is in use as well, which tells the caller more
		}
		return found{}, idTaken(b, err)
	}
	if err := s.sys.Rename(s.tmpFD, tmp, b.d.fd, b.name, unix.RENAME_NOREPLACE); err != nil {
		s.sys.Unlink(s.indexFD, indexPath(id), 0)
		s.sys.Unlink(s.tmpFD, tmp, unix.AT_REMOVEDIR)
		return found{}, s.failIn(b.op, b.d, b.name, err)
	}
	b.d.list.add(b.name)
	info, err := s.sys.Stat(b.d.fd, b.name, noFollow)
	if err != nil {
		return found{}, fail(b.op, b.name, err)
	}
	f := found{info: info, node: node{volume.Pointer{ID: id, Mode: unix.S_IFDIR}, dirMeta{b.version, b.home}}}
	return s.arrived(b, f), nil
}

func (s *Store) placeOther(b *birth, tmp string) (found, error) {
	id := b.node.ID
	st := s.objs.stripe(id) // as in nameFile
	st.Lock()
	defer st.Unlock()
	if err := s.sys.Rename(s.tmpFD, tmp, b.d.fd, b.name, unix.RENAME_NOREPLACE); err != nil {
		s.sys.Unlink(s.tmpFD, tmp, 0)
		return found{}, s.failIn(b.op, b.d, b.name, err)
	}
	err := s.sys.Link(b.d.fd, b.name, s.indexFD, indexPath(id), 0)
	var info sys.Info
	if err == nil {
		info, err = s.sys.Stat(b.d.fd, b.name, noFollow)
		if err != nil {
			s.sys.Unlink(s.indexFD, indexPath(id), 0)
		}
	}
	if err != nil {
		s.sys.Unlink(b.d.fd, b.name, 0)
		return found{}, idTaken(b, err)
	}
	f := found{info: info, node: node{Pointer: volume.Pointer{ID: id, Mode: b.node.Mode & unix.S_IFMT}}}
	return s.arrived(b, f), nil
}

// arrived notes an object that is in its place now.
func (s *Store) arrived(b *birth, f found) found {
	s.inodes.set(&f.info, f.node)
	b.d.list.add(b.name)
	return f
}
