package volume

import "context"

// Store is what one member keeps on its disk for its set. Its FS methods are
// raw: they act on whatever lies here, whoever owns the name; a pointer is
// shown as an entry with Held set and is otherwise an entry like another (it
// can be renamed, unlinked, replaced; it can't be opened: ESTALE). Nothing here
// reaches another set. A Store orders what conflicts in itself, but checks that
// span several calls are the caller's, who holds locks for them (package dht).
//
// Every method leaves the disk, at each of its steps, such that a crash of the
// process there loses or leaks nothing that the next start does not mend.
type Store interface {
	FS

	// List is ReadDir of the names for which keep is true. It is called without locks.
	List(ctx context.Context, dir ID, after Cookie, max int, attrs bool, keep func(name string) bool) ([]Entry, bool, error)

	// Empty reports whether a directory has no name at all, but for those of which but, if not nil, is true: these are about
	// to go, so what is under way with them is not waited for. Errors: ESTALE, ENOTDIR.
	Empty(ctx context.Context, dir ID, but func(name string) bool) (bool, error)

	// Copy tells what MakeCopy on another set needs of a directory.
	Copy(ctx context.Context, dir ID) (Copy, error)

	// MakeCopy makes a copy of a directory that has its home elsewhere. If that
	// ID is here under this very name, the copy is refreshed. Errors: ESTALE (the
	// parent is not here), EEXIST (another object has the name, or the ID lies elsewhere).
	MakeCopy(ctx context.Context, parent ID, name string, c Copy) error

	// RefreshCopy sets owner, mode and ACLs of a copy, if c.Version is above its own. Errors: ESTALE.
	RefreshCopy(ctx context.Context, c Copy) error

	// Path tells where a directory lies: its parent and name. The root has no parent (EINVAL).
	Path(ctx context.Context, dir ID) (parent ID, name string, err error)

	// Put makes name in dir lead to e: a pointer, or, with e.Held 0, one more
	// link to the object e.ID, which is held here and may be open or discarded
	// but nameless. With a zero old the name must be free (EEXIST); otherwise the name
	// must lead to old (ESTALE if not), which is replaced in one step and kept
	// as the discard k. What old was is kept whole: a link, a pointer, or an
	// empty directory (ENOTEMPTY). If the name leads to e already: nothing happens.
	Put(ctx context.Context, dir ID, name string, e Pointer, old ID, k Key) error

	// Discard takes what name leads to, which must have this ID (ESTALE), out
	// of the tree and keeps it as the discard k. If the name is free or leads to
	// another object, and k exists: nothing happens.
	Discard(ctx context.Context, dir ID, name string, id ID, k Key) error

	// Purge removes the discard k for good, as Unlink would its name; none is no error.
	Purge(ctx context.Context, k Key) error

	// Restore puts the discard k back under the name it had, or, if that is
	// taken and the object has no other name, under the name with
	// ".restored-" and the key appended. None is no error.
	Restore(ctx context.Context, k Key) error

	// Discards lists all discards. They do not count in Nlink, except that
	// nothing is removed while one keeps it.
	Discards(ctx context.Context) ([]Discarded, error)

	// Settle makes everything applied here so far durable, as syncfs(2) does.
	// Calls at the same time share one.
	Settle(ctx context.Context) error

	// Journal returns the owner's journal.
	Journal() Journal

	// Orphans removes what is kept in .mortar/open, without a name, and not
	// open now: called when the time for clients to come back has passed.
	Orphans(ctx context.Context) error
}

// Copy is what a directory's copies take from its home.
type Copy struct {
	ID        ID
	Mode      uint32 // S_IFDIR and permission bits
	UID, GID  uint32
	Version   uint64 // Attr.Version at home
	ACL       []byte // system.posix_acl_access as it is stored; nil: none
	Default   []byte // system.posix_acl_default; nil: none
	Home      SetID
	BirthTime Time // of the original; its mtime and ctime begin with it
}

// Pointer is what an entry leads to: an object's ID and type, and the set that
// holds it, 0 for this one.
type Pointer struct {
	ID   ID
	Mode uint32 // type bits
	Held SetID
}

// Key names a discard: the intent that discarded it. Part tells several
// discards of one intent on one set apart.
type Key struct {
	Set    SetID // the coordinator
	Intent uint64
	Part   uint8
}

// Discarded is a discard and where it came from.
type Discarded struct {
	Key     Key
	Dir     ID
	Name    string
	Pointer Pointer
}

// Journal is an append-only file of an owner's records. A record is in it for
// good after a crash of the process once Append returned, after power loss once
// a later Sync returned; what survives is always a prefix.
type Journal interface {
	// Append adds a record of 1 … JournalRecordMax bytes. With a Request in ctx
	// the record decides that request (see WithRequest). After EIO, EINTR or
	// ETIMEDOUT the record is in the journal or it is not, now or soon, but never
	// behind one that was added later.
	Append(ctx context.Context, rec []byte) error
	// Sync makes all appended records durable; calls at the same time share one fdatasync.
	Sync(ctx context.Context) error
	// Replay calls f with every record in order, before the first Append. rec is only valid during the call.
	Replay(f func(rec []byte) error) error
	// Rewrite replaces all records by recs, at once, durably. No Append may run meanwhile.
	Rewrite(recs [][]byte) error
	// Size is the journal's length in bytes.
	Size() int64
}

// JournalRecordMax is the largest record, in bytes.
const JournalRecordMax = 1 << 16
