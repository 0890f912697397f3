package brick

import (
	"context"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// object is an open regular file: what all its handles share. There is one of
// it as long as there are handles.
type object struct {
	id   volume.ID
	refs int // guarded by the ID's stripe
	rd   int // a descriptor for reading, -1: wr serves; set under the stripe's lock, then never changed
	wr   int // a descriptor for reading and writing, -1: none yet; likewise

	// size is held for reading by who writes within or past the end, for
	// writing by who appends or cuts.
	size sync.RWMutex

	// clean is set once the file was seen to have neither S_ISUID nor S_ISGID,
	// and cleared by who may set them.
	clean atomic.Bool

	stream stream
}

// file is a handle.
type file struct {
	s      *Store
	o      *object
	flags  volume.Flags
	own    bool // rd is nobody else's
	rd, wr int  // o's, or -1 where the handle may not; rd is its own with NoAtime
	once   sync.Once
}

var (
	_ volume.File   = (*file)(nil)
	_ volume.Sharer = (*file)(nil)
)

// access are the flags of which a handle needs one.
const access = volume.Read | volume.Write

// Open opens a regular file.
func (s *Store) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	const op = "open"
	if err := start(ctx, op); err != nil {
		return nil, err
	}
	if f&access == 0 {
		return nil, volume.Errorf(op, id.String(), unix.EINVAL, "neither to be read nor to be written")
	}
	h, err := s.open(ctx, op, id, f)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// open opens a regular file that has a name, is open (at the primary: Fixed.Keep)
// or held, or was open when the brick stopped.
func (s *Store) open(ctx context.Context, op string, id volume.ID, f volume.Flags) (*file, error) {
	t, err := s.target(op, id)
	if err != nil {
		return nil, err
	}
	s.release(&t)
	if err := openable(op, id.String(), t.Mode); err != nil {
		return nil, err
	}
	st := s.objs.stripe(id)
	st.Lock()
	h, err := s.openLocked(op, st, &t, f, fixedOf(ctx).Keep)
	st.Unlock()
	if err != nil {
		return nil, err
	}
	if f&volume.Truncate != 0 {
		if err := h.cut(ctx, op, f&volume.KillPriv != 0); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

// openable says why what has this mode can't be opened.
func openable(op, where string, mode uint32) error {
	e := &volume.Error{Op: op, Where: where}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		e.Errno = unix.EISDIR
	case unix.S_IFLNK:
		e.Errno = unix.ELOOP
	default:
		e.Errno = unix.ENXIO
	}
	return e
}

// openLocked opens what t found; the stripe is locked. any: without a name too.
func (s *Store) openLocked(op string, st *objectStripe, t *target, f volume.Flags, any bool) (*file, error) {
	o := st.open[t.ID]
	if o == nil {
		if e, ok := st.extra[t.ID]; ok && !any && !e.held && !s.waiting.Load() {
			info, err := s.sys.Stat(t.fd, t.path, noFollow)
			if err == unix.ENOENT || err == nil && info.Nlink <= 1+e.links() {
				return nil, stale(op, t.ID)
			}
		}
		o = &object{id: t.ID, rd: -1, wr: -1}
	}
	writing := f&(volume.Write|volume.Truncate) != 0
	var err error
	switch {
	case writing && o.wr < 0:
		o.wr, err = s.sys.Open(t.fd, t.path, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	case o.rd < 0 && o.wr < 0:
		o.rd, err = s.sys.Open(t.fd, t.path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	}
	if err == unix.ENOENT {
		return nil, stale(op, t.ID)
	}
	if err != nil {
		return nil, fail(op, t.ID.String(), err)
	}
	return s.handle(st, o, f), nil
}

// handle makes a handle of an open object; the stripe is locked.
func (s *Store) handle(st *objectStripe, o *object, f volume.Flags) *file {
	if st.open == nil {
		st.open = make(map[volume.ID]*object)
	}
	st.open[o.id] = o
	o.refs++
	h := &file{s: s, o: o, flags: f, rd: -1, wr: -1}
	if f&volume.Read != 0 {
		if h.rd = o.rd; h.rd < 0 {
			h.rd = o.wr
		}
		if f&volume.NoAtime != 0 {
			if fd, err := s.again(h.rd, unix.O_NOATIME); err == nil {
				h.rd, h.own = fd, true
			}
		}
	}
	if f&volume.Write != 0 {
		h.wr = o.wr
	}
	return h
}

// again opens what a descriptor is of once more, for reading.
func (s *Store) again(fd, flags int) (int, error) {
	return s.sys.Open(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|flags, 0)
}

// Share implements volume.Sharer. What is opened anew is not for writing whatever the handle's is, and has a
// read-ahead of its own.
func (h *file) Share() (volume.Shared, error) {
	const op = "share"
	if h.rd < 0 {
		return volume.Shared{}, h.fail(op, &volume.Error{Op: op, Where: h.o.id.String(), Errno: unix.EBADF})
	}
	flags := 0
	if h.own { // with NoAtime, and it was to be had
		flags = unix.O_NOATIME
	}
	fd, err := h.s.again(h.rd, flags)
	if err != nil {
		return volume.Shared{}, h.fail(op, err)
	}
	return volume.Shared{File: os.NewFile(uintptr(fd), h.o.id.String())}, nil
}

// Close gives the handle up. The last of an object that has no name any more
// removes the object, unless it is held.
func (h *file) Close() error {
	h.once.Do(func() {
		s, o := h.s, h.o
		st := s.objs.stripe(o.id)
		st.Lock()
		o.refs--
		last := o.refs == 0
		if last {
			delete(st.open, o.id)
			if e := st.extra[o.id]; e.kept && !e.held {
				s.endKept(st, o.id)
			}
		}
		st.Unlock()
		if last {
			s.closeObject(o)
		}
		if h.own {
			s.sys.Close(h.rd)
		}
	})
	return nil
}

func (s *Store) closeObject(o *object) {
	for _, fd := range []int{o.rd, o.wr} {
		if fd >= 0 {
			s.sys.Close(fd)
		}
	}
}

// endKept is removeKept for what nobody can do anything about.
func (s *Store) endKept(st *objectStripe, id volume.ID) {
	if err := s.removeKept(st, id); err != nil {
		s.log.Warn("an unlinked file stays until the next start", "brick", s.path, "id", id, "err", err)
	}
}

// removeKept takes an object out of .mortar/open, and out of the index unless a
// name or discard keeps it. The stripe is locked. The index goes first: what
// a crash leaves in .mortar/open the next Orphans finds.
func (s *Store) removeKept(st *objectStripe, id volume.ID) error {
	name := id.String()
	info, err := s.sys.Stat(s.openFD, name, noFollow)
	if err == nil && info.Nlink <= 2 {
		if err = s.sys.Unlink(s.indexFD, indexPath(id), 0); err == unix.ENOENT {
			err = nil
		}
	}
	if err == nil {
		err = s.sys.Unlink(s.openFD, name, 0)
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	st.setKept(id, false)
	return nil
}

// Create makes a regular file and opens it, or opens the one that is there.
func (s *Store) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	const op = "create"
	if err := s.checkCreate(ctx, op, dir, name, &n, f); err != nil {
		return nil, volume.Attr{}, err
	}
	d, err := s.dir(op, dir)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	defer s.dirs.put(d)
	l := s.names.one(dir, name)
	l.Lock()
	defer l.Unlock()
	h, a, err := s.createNew(ctx, op, d, name, n, f)
	if err == nil {
		return h, a, nil
	}
	if volume.ErrnoOf(err) != unix.EEXIST || f&volume.Excl != 0 {
		return nil, volume.Attr{}, err
	}
	there, err := s.find(op, d, name)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	if there.isPointer() {
		return nil, volume.Attr{ID: there.ID, Mode: there.Mode, Held: there.Held}, nil
	}
	if err := openable(op, name, there.Mode); err != nil {
		return nil, volume.Attr{}, err
	}
	if h, err = s.open(ctx, op, there.ID, f); err != nil {
		return nil, volume.Attr{}, err
	}
	if a, err = h.getattr(op); err != nil {
		h.Close()
		return nil, volume.Attr{}, err
	}
	return h, a, nil
}

func (s *Store) checkCreate(ctx context.Context, op string, dir volume.ID, name string, n *volume.Node, f volume.Flags) error {
	if err := start(ctx, op); err != nil {
		return err
	}
	if err := checkNew(op, dir, name); err != nil {
		return err
	}
	if err := n.CheckEmpty(op, name); err != nil {
		return err
	}
	if f&access == 0 {
		return volume.Errorf(op, name, unix.EINVAL, "neither to be read nor to be written")
	}
	if n.Mode&unix.S_IFMT == 0 {
		n.Mode |= unix.S_IFREG
	}
	if n.Mode&unix.S_IFMT != unix.S_IFREG {
		return volume.Errorf(op, name, unix.EINVAL, "mode %#o is no regular file's", n.Mode)
	}
	return checkNode(op, name, n)
}

// createNew makes the file and its first handle; the name is locked.
func (s *Store) createNew(ctx context.Context, op string, d *dir, name string, n volume.Node, f volume.Flags) (*file, volume.Attr, error) {
	in, err := s.enter(op, d, n.Parent)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	defer d.attr.RUnlock()
	b := s.newBirth(ctx, op, d, in, name, n)
	fd, made, err := s.bearFile(&b)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	s.stampDirs(b.fx, d)
	st := s.objs.stripe(made.ID)
	st.Lock()
	defer st.Unlock()
	o := st.open[made.ID]
	switch {
	case o == nil:
		o = &object{id: made.ID, rd: -1, wr: fd}
		o.clean.Store(made.info.Mode&(unix.S_ISUID|unix.S_ISGID) == 0)
	case o.wr < 0: // opened by its ID before this returned
		o.wr = fd
	default:
		s.sys.Close(fd)
	}
	return s.handle(st, o, f), s.attrOf(&made, 0), nil
}
