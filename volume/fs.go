package volume

import (
	"context"
	"time"
)

// FS is the one contract: a tree of objects under Root. See the package
// comment for what failures mean and who owns buffers.
type FS interface {
	// Lookup returns the object that dir calls name. "." and ".." are no names
	// (EINVAL); ".mortar" in the root never exists. Errors: ENOENT, ESTALE (no
	// dir), ENOTDIR, ENAMETOOLONG (over NameMax).
	Lookup(ctx context.Context, dir ID, name string) (Attr, error)

	// Getattr returns the attributes of an object that has a name or is open.
	// Errors: ESTALE.
	Getattr(ctx context.Context, id ID) (Attr, error)

	// Setattr changes attributes and returns the new ones. A shorter size cuts,
	// a longer one leaves a hole. Errors: ESTALE, EFBIG, ENOSPC, EISDIR, EINVAL.
	Setattr(ctx context.Context, id ID, c Change) (Attr, error)

	// Make makes a directory, symbolic link, device, fifo, socket or (mknod)
	// regular file called name, complete or not at all; a regular file with what n says is in it. Errors: EEXIST, ESTALE,
	// ENOTDIR, ENAMETOOLONG, ENOSPC, EMLINK; EINVAL for an impossible Node.
	Make(ctx context.Context, dir ID, name string, n Node) (Attr, error)

	// Create makes a regular file called name and opens it. If the name exists
	// it is opened (and cut, with Truncate) instead, but EEXIST with Excl,
	// EISDIR for a directory, ELOOP for a symbolic link, ENXIO for anything
	// else that is no regular file. Attr.ID tells which: n.ID if it was made.
	//
	// Only between sets and distribute: where the name is a pointer and Excl is
	// not given, File is nil and Attr.Held set, and nothing was done.
	Create(ctx context.Context, dir ID, name string, n Node, f Flags) (File, Attr, error)

	// Open opens a regular file. Errors: ESTALE, EISDIR, ELOOP, ENXIO.
	Open(ctx context.Context, id ID, f Flags) (File, error)

	// Readlink returns the target of a symbolic link; EINVAL for others.
	Readlink(ctx context.Context, id ID) (string, error)

	// Link gives an object that is no directory (EPERM) one more name and
	// returns its attributes. An object without any name left but open, once
	// born with one, can't get a new one (ENOENT). Errors: as Make, EMLINK.
	Link(ctx context.Context, id ID, dir ID, name string) (Attr, error)

	// Unlink removes a name of what is no directory (EISDIR). An object whose
	// last name went stays readable and writable for those who have it open.
	Unlink(ctx context.Context, dir ID, name string) error

	// Rmdir removes an empty directory. Errors: ENOTEMPTY, ENOTDIR, ENOENT.
	Rmdir(ctx context.Context, dir ID, name string) error

	// Rename is renameat2(2): what oldDir calls oldName becomes newDir's
	// newName, replacing what was there (ENOTDIR, EISDIR, ENOTEMPTY as there) in
	// one step that no one sees halfway; at any time at least one of the names
	// leads to the object. Two names of one object: nothing happens. EINVAL if
	// a directory would come to lie in itself.
	Rename(ctx context.Context, oldDir ID, oldName string, newDir ID, newName string, f RenameFlags) error

	// ReadDir returns up to max (1 … ReadDirMax) entries whose cookies are
	// above after, in order of cookie, and whether that was the end. With attrs
	// entries have their attributes where those cost little; an entry without
	// them is no error. Names whose cookies are equal are returned together,
	// so the answer may exceed max by their number.
	//
	// Over a whole listing (after = the last cookie, until the end) a name that
	// exists throughout is returned exactly once, one that never exists not at
	// all, others at most once for each time they were made. Cookies stay valid
	// over restarts, moves and changes of the directory.
	ReadDir(ctx context.Context, dir ID, after Cookie, max int, attrs bool) (entries []Entry, end bool, err error)

	// Getxattr, Setxattr, Listxattr and Removexattr are xattr(7)'s for the name
	// spaces user, security and system.posix_acl_access and _default; trusted
	// is there for root except trusted.mortar.*, which do not exist for
	// callers (ENODATA; EPERM to set). Others: EOPNOTSUPP. An absent attribute is
	// ENODATA; too large a value E2BIG or ENOSPC as the brick's file system has it.
	Getxattr(ctx context.Context, id ID, name string) ([]byte, error)
	Setxattr(ctx context.Context, id ID, name string, value []byte, f XattrFlags) error
	Listxattr(ctx context.Context, id ID) ([]string, error)
	Removexattr(ctx context.Context, id ID, name string) error

	// Sync makes a directory's entries and attributes, or an object's
	// attributes, durable: fsync(2) on a directory.
	Sync(ctx context.Context, id ID) error

	// Statfs tells how full the file system is.
	Statfs(ctx context.Context) (Statfs, error)
}

// File is an open regular file. It stays usable after its last name has gone
// and wherever the object moves, until Close.
type File interface {
	// ID is the object's.
	ID() ID

	// ReadAt reads up to len(p) bytes at off; fewer only at the end of the
	// file, never an error for that. At most IOMax bytes.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)

	// WriteAt writes p (at most IOMax bytes) at off, growing the file if need
	// be, and returns len(p), or how much of a prefix was written with an error.
	WriteAt(ctx context.Context, p []byte, off int64, f WriteFlags) (int, error)

	// Append writes p at the end of the file, atomically against other appends
	// from anywhere, and returns where it begins.
	Append(ctx context.Context, p []byte, f WriteFlags) (off int64, err error)

	// WriteSet is WriteAt and then Setattr, in one request: how most files come into being ends with
	// their times, owner and mode. c has no size (EINVAL). If p is empty nothing is written. A failure may leave the
	// data written, and n is then what WriteAt returned; the change is made wholly or not at all.
	WriteSet(ctx context.Context, p []byte, off int64, f WriteFlags, c Change) (n int, err error)

	// Getattr and Setattr are FS's, and work though the last name has gone.
	Getattr(ctx context.Context) (Attr, error)
	Setattr(ctx context.Context, c Change) (Attr, error)

	// Allocate is fallocate(2) with the Alloc modes. For a Cred other than
	// root's it clears S_ISUID and S_ISGID as a WriteAt with WriteKillPriv does.
	Allocate(ctx context.Context, mode uint32, off, length int64) error

	// Seek finds data or a hole from off: lseek(2) with SeekData, SeekHole; ENXIO past the end.
	Seek(ctx context.Context, off int64, whence int) (int64, error)

	// Sync makes what was acknowledged durable: fsync(2), or fdatasync(2) with
	// dataOnly. The object's name, and its pointer, are made durable with it.
	// It reports a failure of delayed writes, once a File.
	Sync(ctx context.Context, dataOnly bool) error

	// Flush hands on what this layer still delays and reports errors of it; it
	// is close(2) of one descriptor, and may be called any number of times.
	Flush(ctx context.Context) error

	// Lock sets l for its owner, whatever of its kind the owner has in that range giving
	// way to it: a lock grows, shrinks, is split, changes its type, or with
	// Unlocked goes. That is one step, except that a flock whose type changes is
	// given up first (flock(2)): if the new one can't be had, neither is left.
	//
	// If another owner's lock is in the way, Lock fails with EAGAIN, or, with wait,
	// waits: those that wait get their turn in order of arrival. It is the one method that may
	// block for as long as others like. When ctx is cancelled it returns soon, with EINTR and
	// nothing changed, or with success if the lock was got just then: the answer is exact.
	// EDEADLK: a wait, for other than a flock, would never end, because
	// whoever is in the way waits, over however many owners, for this one; as
	// far as one set can see. ENOLCK: there are too many locks. After EIO or ETIMEDOUT
	// the owner may have the lock, or may not have lost it: unlocking settles that.
	//
	// Locks are their owner's, not the handle's: Close gives up none. Who closes
	// for an owner unlocks everything before (close(2) of any descriptor gives up all that the
	// process has on the file). They do go with the client's session: when it is
	// unmounted, or has been away for too long. If it comes back after that, or what it had was
	// lost with a server, all handles of the file fail with EIO from then on, for their
	// users believe in a lock that they have not.
	//
	// Taking a lock makes this layer forget what it has cached of the file; before
	// one is given up or loses its exclusiveness what is delayed is handed on.
	Lock(ctx context.Context, l Lock, wait bool) error

	// TestLock tells of a lock that would be in the way of l; one whose Type is
	// Unlocked if none would be. Of the owner only the PID is told, 0 if it is
	// another machine's.
	TestLock(ctx context.Context, l Lock) (Lock, error)

	// Close gives the handle up; it is called once and after it nothing else.
	// It never waits for long: what must be told to a brick may be told later.
	Close() error
}

// Set is one set of a volume as the distribute layer and other sets see it.
//
// Its FS methods concern the names that it owns and the objects that it holds,
// but are whole operations: where other sets must take part (mkdir, a rename
// over two sets, unlink through a pointer) it coordinates them. A client sends
// each to the owner of the name, rename and link to the owner of the new name,
// what takes an ID to the set that holds the object, for a directory its home.
//
// Requests may carry the LayoutVersion by which their target was chosen
// (WithLayout); a set that has adopted a newer one refuses with Reason Outdated.
type Set interface {
	FS

	// Step carries an encoded step of another set's operation, or a question
	// of the distribute layer, to the set, and brings the answer. Package dht
	// alone knows the format. A step is safe to repeat. Step does not wait for
	// a connection: without one it fails at once with Reason Unavailable.
	Step(ctx context.Context, step []byte) ([]byte, error)

	// Up reports whether the set can be asked right now, as far as is known.
	Up() bool
}

// LateAppender is a File that can delay appends, as the layer for that is.
type LateAppender interface {
	// AppendLater is Append for who believes that the file ends at end. It may return before the bytes
	// are written; a failure is then told as Sync and Flush tell it. moved is called, from anywhere, if they
	// came to begin elsewhere than the caller believed.
	AppendLater(ctx context.Context, p []byte, end int64, f WriteFlags, moved func(at int64)) error
}

// LateChanger is an FS that can delay changes of attributes, as the layer for that is.
type LateChanger interface {
	// ChangeLater is Setattr of a file whose data are still being delayed, or were a moment ago: it may return before
	// the change is made. A failure is then told as File's Sync and Flush tell it. a is what the
	// attributes will be, as far as is known here; nobody should believe it for longer than his own request lasts.
	// Without late nothing has been done.
	ChangeLater(ctx context.Context, id ID, c Change) (a Attr, late bool)
}

// Reserver is an FS of which a name can be had for a file before that is made: who makes small files makes each with all that
// is in it, as one change.
type Reserver interface {
	// Reserve finds that dir has no such name (else EEXIST) and keeps it for the regular file n.ID (a.ID, if
	// that is zero), which the caller is to Make, with that ID, within ReserveTime. Until that is done, or the time is over, all requests of
	// others that would tell the difference wait. A Make that comes later is one like any other: it fails if the name is
	// taken by then. Who has made the file can open it for a while though others have removed it. a is what the file's attributes would be now, as far as is known: nobody should believe it for longer
	// than his own request lasts.
	//
	// Any failure but EEXIST means no more than that the file is to be made with Create: EOPNOTSUPP, that it is the same
	// with others in the directory (what is inherited there is not simple); EAGAIN, that it is so just now. There is nothing to be undone.
	Reserve(ctx context.Context, dir ID, name string, n Node) (a Attr, err error)
}

// ReserveTime is for how long a name is reserved at least, if its server knows of nothing that forbids it.
const ReserveTime = time.Second
