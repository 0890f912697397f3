// Package model is the contract of package volume in the plainest code that
// fulfils it: maps in memory under one mutex. It is what the random tests of
// test/fstest compare every real implementation with, and what the tests of
// other packages use where they need a file system or a store without a disk.
//
// It is a reference, not a product: it prefers the obvious to the fast, keeps
// no caches, and does every operation under the one lock, so that each is
// linearizable by construction. If the model and an implementation disagree,
// read the contract (volume/fs.go, volume/doc.go); the model is right only as
// far as it says what is written there. Where the contract leaves a choice, the
// model does what ext4 on Linux does.
//
//	FS      volume.FS: a whole file system                       New
//	Store   volume.Member: the same with pointers, directory     NewStore
//	        copies, discards, a journal, what makes members
//	        equal, crashes and power loss
//
// # State
//
// A tree is a map from ID to object. A directory's object maps names to
// volume.Pointer values: {ID, type, 0} for an object of this tree and {ID, type,
// set} for a pointer. An object lives as long as it has a name, an open handle, a
// discard that keeps it, or, after a crash, its place among the orphans:
//
//	names    visible links, what Nlink shows (a directory: 0 or 1)
//	opens    handles of this boot
//	keeps    discards
//	orphan   was nameless and open when the store crashed
//	held     stays without a name until Release (see member.go)
//
// Handles know their object by ID and the boot they were opened in; a handle of
// an earlier boot fails with EIO, Reason Unavailable.
package model

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
)

// maxSize is the greatest size of a file in bytes: ext4's with 4 KiB blocks.
const maxSize = 1<<44 - pageSize

// defaultCapacity is how many bytes of data a file system holds unless
// WithCapacity says otherwise.
const defaultCapacity = 4 << 30

// FS is a file system in memory. It implements volume.FS.
type FS struct {
	set      volume.SetID
	clock    func() time.Time
	capacity int64 // bytes of data
	locks    locks.Table
	history  bool // keep a copy of the tree for every change (PowerLoss)

	mu struct {
		sync.Mutex
		tree
		boot uint64                    // counts crashes
		as   *volume.Fixed             // of the operation that has the lock; nil: none
		past []*tree                   // trees since the last one that is durable, which is the first
		pins map[volume.ID]int         // directories that were synced since: as they are in past
		ties map[volume.ID][]volume.ID // directories that are durable together, see tie
	}
}

var _ volume.FS = (*FS)(nil)

// An Option changes how a file system is made.
type Option func(*FS)

// WithClock makes the file system take its times from clock, which is called
// with its lock held. The default is time.Now.
func WithClock(clock func() time.Time) Option { return func(s *FS) { s.clock = clock } }

// WithCapacity sets how many bytes of data fit, counted in pages of 4096; more
// is ENOSPC. The default is 4 GiB.
func WithCapacity(bytes int64) Option { return func(s *FS) { s.capacity = bytes } }

// WithPowerLoss keeps what Store.PowerLoss needs: a copy of the whole tree for
// every change since the last sync. For small trees only.
func WithPowerLoss() Option { return func(s *FS) { s.history = true } }

// New returns an empty file system: a root that belongs to root, mode 0755.
func New(opts ...Option) *FS {
	s := &FS{clock: time.Now, capacity: defaultCapacity}
	for _, o := range opts {
		o(s)
	}
	s.start()
	return s
}

// start makes the first tree.
func (s *FS) start() {
	now := s.now().Time
	s.mu.tree = tree{objects: map[volume.ID]*object{}, discards: map[volume.Key]discard{}}
	s.mu.objects[volume.Root] = &object{
		id: volume.Root, mode: syscall.S_IFDIR | 0o755, version: 1, names: 1, // its home is the volume map's affair
		atime: now, mtime: now, ctime: now, btime: now,
		children: map[string]volume.Pointer{}, xattrs: map[string][]byte{},
	}
	s.durable()
}

// now is when the operation that has the lock takes place.
func (s *FS) now() moment { return moment{volume.TimeOf(s.clock()), s.mu.as} }

// enter begins an operation: it takes the lock, unless the context is over.
func (s *FS) enter(ctx context.Context, op, where string) error {
	if err := ctx.Err(); err != nil {
		return &volume.Error{Op: op, Where: where, Errno: volume.ErrnoOf(err), Err: err}
	}
	s.mu.Lock()
	s.mu.as = nil
	if f, ok := volume.FixedOf(ctx); ok {
		s.mu.as = &f
	}
	return nil
}

// leave ends an operation that may have changed the tree.
func (s *FS) leave() {
	if s.history {
		s.mu.past = append(s.mu.past, s.mu.clone())
	}
	s.mu.Unlock()
}

// durable notes that the present tree survives a power loss.
func (s *FS) durable() {
	if s.history {
		s.mu.past = []*tree{s.mu.clone()}
		s.mu.pins, s.mu.ties = map[volume.ID]int{}, map[volume.ID][]volume.ID{}
	}
}

// fail returns the Error of an operation on a name or object.
func fail(op, where string, errno syscall.Errno) error {
	return &volume.Error{Op: op, Where: where, Errno: errno}
}

// tree is all that is on the disk.
type tree struct {
	objects  map[volume.ID]*object
	discards map[volume.Key]discard
	pages    int64 // pages of data in use
}

// discard is a name taken out of the tree but kept.
type discard struct {
	dir  volume.ID
	name string
	ptr  volume.Pointer
}

// object is a directory, file, link or device.
type object struct {
	id                         volume.ID
	mode                       uint32
	uid, gid                   uint32
	rdev                       uint64
	atime, mtime, ctime, btime volume.Time
	version                    uint64 // of a directory, ≥ 1
	home                       volume.SetID

	names, opens, keeps int
	orphan              bool
	held                bool
	at                  volume.Time // when the mtime was decided that it got by a volume.Fixed; zero: it got none

	target   string            // of a symbolic link
	xattrs   map[string][]byte // by full name
	data     data              // of a regular file
	children map[string]volume.Pointer

	parent volume.ID // of a directory
	name   string
}

// alive reports whether callers may see the object.
func (o *object) alive() bool { return o.names > 0 || o.opens > 0 || o.orphan || o.held }

// isDir reports whether the object is a directory.
func (o *object) isDir() bool { return o.mode&syscall.S_IFMT == syscall.S_IFDIR }

// isRegular reports whether the object is a regular file.
func (o *object) isRegular() bool { return o.mode&syscall.S_IFMT == syscall.S_IFREG }

// touch notes a change of the object's content: of data or of entries.
func (o *object) touch(now moment) {
	o.date(now, now.present())
	o.ctime = now.Time
}

// attr returns the object's attributes.
func (o *object) attr() volume.Attr {
	a := volume.Attr{
		ID: o.id, Mode: o.mode, Nlink: uint32(o.names), UID: o.uid, GID: o.gid, Rdev: o.rdev,
		Atime: o.atime, Mtime: o.mtime, Ctime: o.ctime, Btime: o.btime,
	}
	switch {
	case o.isDir():
		a.Version = o.version
		a.Size, a.Blocks = pageSize, pageSize/512
		a.Nlink = 2
		for _, p := range o.children {
			if p.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				a.Nlink++
			}
		}
	case o.isRegular():
		a.Size, a.Blocks = o.data.size, int64(len(o.data.pages))*(pageSize/512)
	default:
		a.Size = int64(len(o.target))
	}
	return a
}

// find returns an object that callers may see.
func (t *tree) find(op string, id volume.ID) (*object, error) {
	if o := t.objects[id]; o != nil && o.alive() {
		return o, nil
	}
	return nil, fail(op, id.String(), syscall.ESTALE)
}

// directory returns a directory that callers may see.
func (t *tree) directory(op string, id volume.ID) (*object, error) {
	o, err := t.find(op, id)
	if err == nil && !o.isDir() {
		err = fail(op, id.String(), syscall.ENOTDIR)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// entry returns what a directory calls name.
func (t *tree) entry(op string, dir volume.ID, name string) (*object, volume.Pointer, error) {
	d, err := t.directory(op, dir)
	if err == nil {
		err = volume.CheckName(op, name)
	}
	if err != nil {
		return nil, volume.Pointer{}, err
	}
	p, ok := d.children[name]
	if !ok {
		return d, p, fail(op, name, syscall.ENOENT)
	}
	return d, p, nil
}

// place returns the directory in which name is to be made, and what has that
// name now (the zero Pointer for nothing).
func (t *tree) place(op string, dir volume.ID, name string) (*object, volume.Pointer, error) {
	d, p, err := t.entry(op, dir, name)
	if volume.ErrnoOf(err) == syscall.ENOENT {
		err = nil
	}
	if err == nil && dir == volume.Root && name == volume.Reserved {
		err = fail(op, name, syscall.EPERM)
	}
	return d, p, err
}

// view returns what a name leads to as callers see it.
func (t *tree) view(p volume.Pointer) volume.Attr {
	if p.Held != 0 {
		return volume.Attr{ID: p.ID, Mode: p.Mode, Held: p.Held}
	}
	return t.objects[p.ID].attr()
}

// insert puts a name into a directory.
func (t *tree) insert(d *object, name string, p volume.Pointer) {
	d.children[name] = p
	if p.Held != 0 {
		return
	}
	o := t.objects[p.ID]
	o.names++
	o.orphan, o.held = false, false
	if o.isDir() {
		o.parent, o.name = d.id, name
	}
}

// remove takes a name out of a directory; the object may be without names after it.
func (s *FS) remove(d *object, name string) {
	p := d.children[name]
	delete(d.children, name)
	if p.Held == 0 {
		s.mu.objects[p.ID].names--
		s.hold(p)
	}
}

// hold holds what has no name and is to be kept.
func (s *FS) hold(p volume.Pointer) {
	o := s.mu.objects[p.ID]
	if p.Held == 0 && o.names == 0 && !o.isDir() && s.mu.as != nil && s.mu.as.Keep {
		o.held = true
	}
}

// reap forgets an object that nothing keeps any more.
func (t *tree) reap(p volume.Pointer) {
	o := t.objects[p.ID]
	if p.Held == 0 && o != nil && !o.alive() && o.keeps == 0 {
		t.pages -= int64(len(o.data.pages))
		delete(t.objects, p.ID)
	}
}

// changed sets the ctime of what a name leads to.
func (t *tree) changed(p volume.Pointer, now moment) {
	if o := t.objects[p.ID]; p.Held == 0 && o != nil {
		o.ctime = now.Time
	}
}
