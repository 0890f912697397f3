package volume

import (
	"syscall"
	"time"
)

// Limits of names and values, as Linux has them (limits.h, xattr(7)).
const (
	NameMax       = 255     // bytes of a name
	TargetMax     = 4095    // bytes of a symbolic link's target
	XattrNameMax  = 255     // bytes of an attribute's name
	XattrValueMax = 1 << 16 // bytes of an attribute's value
	XattrListMax  = 1 << 16 // bytes of all attribute names of an object, a zero byte after each
	IOMax         = 1 << 20 // bytes of one ReadAt or WriteAt between layers; fuse never asks for more
	ReadDirMax    = 4096    // entries of one ReadDir
)

// Time is a point in time to the nanosecond, as in struct timespec: seconds
// since the epoch, negative before it, and 0 … 999,999,999 nanoseconds after.
type Time struct {
	Sec  int64
	Nsec uint32
}

// TimeOf returns t as a Time.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec }

// Attr is what stat(2) tells of an object, and its ID.
type Attr struct {
	ID                         ID
	Mode                       uint32 // S_IFMT and permission bits
	Nlink                      uint32 // names, of a directory 2 + subdirectories (1: not known); Mortar's own links are not counted
	UID, GID                   uint32
	Rdev                       uint64 // of a device: makedev(3)
	Size                       int64  // bytes
	Blocks                     int64  // 512-byte units in use
	Atime, Mtime, Ctime, Btime Time   // Btime: zero where it is not known

	// Version numbers the changes of a directory's owner, mode and ACLs, which
	// what is created in it inherits from. 0 for anything else.
	Version uint64

	// Held is set in what a Set or Store says of a name whose object lies
	// elsewhere: the entry is a pointer to set Held, only ID and Mode's type
	// are valid. 0 everywhere else; a complete volume never shows it.
	Held SetID

	// Foreseen is set by a layer that delays: it is what the attributes will be as far as is known here, and
	// nobody believes them for longer than his own request lasts. It is never on the wire.
	Foreseen bool
}

// Type returns the S_IFMT bits.
func (a Attr) Type() uint32 { return a.Mode & syscall.S_IFMT }

// IsDir reports whether the object is a directory.
func (a Attr) IsDir() bool { return a.Type() == syscall.S_IFDIR }

// IsRegular reports whether the object is a regular file.
func (a Attr) IsRegular() bool { return a.Type() == syscall.S_IFREG }

// Node describes an object to be made.
//
// Its owner is the Cred's UID and GID; in a directory with S_ISGID the group is
// the directory's and a new directory has S_ISGID too (mkdir(2)). Its mode is
// Mode less the Cred's Umask, or, if the directory has a default ACL, what
// acl(5) says under "object creation", the umask unused. S_ISGID, S_ISUID and
// S_ISVTX of Mode are taken as they are.
type Node struct {
	ID     ID     // chosen by the caller; zero: the callee chooses one
	Mode   uint32 // S_IFMT and permission bits, before the umask
	Rdev   uint64 // of a device: makedev(3)
	Target string // of a symbolic link: 1 … TargetMax bytes, no zero byte

	// Parent is the Attr.Version of the directory that the caller assumed. A
	// set whose copy of the directory has another refuses with Reason Outdated,
	// so that nothing inherits from attributes that have been changed. 0: not checked.
	Parent uint64

	// Data and Then are of a regular file that Make is asked for: what is in it from its beginning on, at most
	// IOMax bytes, and a change of its attributes (no size) after that. It gets its name with all of this, or
	// is not made. Of its attributes, those that the change does not set are as if the file had been made,
	// written by its owner, and closed.
	Data []byte
	Then Change
}

// Flags say how a file is opened. At least one of Read and Write is set.
type Flags uint32

// The flags. Those that are not here (O_NONBLOCK, O_NOFOLLOW, O_CLOEXEC …) are
// the kernel's affair.
const (
	Read     Flags = 1 << iota // may be read
	Write                      // may be written
	Append                     // O_APPEND: stored with the handle for Sync's and reopening's sake; writers call Append
	Truncate                   // O_TRUNC: cut to length 0 as part of the open
	Excl                       // O_EXCL, in Create only: EEXIST if the name exists
	Direct                     // O_DIRECT: caches are passed by; no alignment is required
	DataSync                   // O_DSYNC: each write is durable, as by fdatasync, before it returns
	FullSync                   // O_SYNC: likewise, as by fsync
	KillPriv                   // with Truncate: clear S_ISUID and S_ISGID as for a WriteAt with KillPriv
	NoAtime                    // O_NOATIME: reading does not set the atime, where the store can help it
)

// Mask says which fields of a Change count.
type Mask uint32

// The bits of a Mask.
const (
	SetMode Mask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetAtimeNow // the time of the set's clock; Atime is not looked at
	SetMtimeNow // likewise
	SetCtime    // only for healing and moving: others can't set a ctime
	ClearPriv   // clear S_ISUID and perhaps S_ISGID, as a WriteAt with WriteKillPriv does
	// SetMinimalACL makes the access ACL the minimal one (acl(5)) with the 9 permission bits of Mode, and leaves other
	// bits alone: setxattr(2) of system.posix_acl_access with three entries. Regular files only (EINVAL), not with SetMode (EINVAL).
	SetMinimalACL
)

// Change is a change of attributes; fields outside Mask are not looked at. It
// is one step: all of it or nothing. Ctime becomes the present.
//
// A change of owner or group of anything but a directory clears S_ISUID and
// S_ISGID as chown(2) says, unless SetMode is there too, which then has the
// last word. Size is allowed for regular files only (EISDIR, EINVAL).
type Change struct {
	Mask         Mask
	Mode         uint32 // permission bits incl. S_ISUID, S_ISGID, S_ISVTX; type bits are not looked at
	UID, GID     uint32
	Size         int64 // bytes, ≥ 0
	Atime, Mtime Time
	Ctime        Time
}

// A Cookie is a place in a directory's listing: 63 bits of a hash of the raw
// name. Cookies below CookieFirst and above CookieLast are never a name's; a
// front end uses them for "." and "..".
type Cookie uint64

// The reserved range and the first and last cookie of a name.
const (
	CookieStart Cookie = 0 // before the first entry
	CookieFirst Cookie = 16
	CookieLast  Cookie = 1<<63 - 17
)

// Entry is one name of a directory, "." and ".." never among them.
type Entry struct {
	Name    string
	Cookie  Cookie // CookieOf(Name)
	ID      ID
	Mode    uint32 // type bits at least
	HasAttr bool   // Attr is valid; else it must be asked for
	Attr    Attr
	Held    SetID // as in Attr: the entry is a pointer; only between sets and distribute
}

// Statfs is the fill of a file system, as statfs(2) has it, in bytes and objects.
type Statfs struct {
	Total, Free, Available uint64 // bytes: all, free, free for users
	Files, FilesFree       uint64 // objects: all, free; 0, 0 where the file system has no fixed number
	BlockSize              uint32 // bytes; preferred unit
	NameMax                uint32 // bytes of a name
}

// XattrFlags are setxattr(2)'s: XattrCreate fails with EEXIST if the attribute
// exists, XattrReplace with ENODATA if it does not. 0: either.
type XattrFlags uint32

// The flags' values are the system's.
const (
	XattrCreate  XattrFlags = 1
	XattrReplace XattrFlags = 2
)

// RenameFlags are renameat2(2)'s. Whiteouts are refused (EINVAL).
type RenameFlags uint32

// The flags' values are the system's.
const (
	RenameNoReplace RenameFlags = 1
	RenameExchange  RenameFlags = 2
)

// Allocation modes of fallocate(2), the system's values. What the brick's file
// system can't do is EOPNOTSUPP.
const (
	AllocKeepSize      uint32 = 1
	AllocPunchHole     uint32 = 2
	AllocCollapseRange uint32 = 8
	AllocZeroRange     uint32 = 16
	AllocInsertRange   uint32 = 32
)

// Whence of Seek, lseek(2)'s values.
const (
	SeekData = 3
	SeekHole = 4
)

// WriteFlags accompany a WriteAt or Append.
type WriteFlags uint32

// WriteKillPriv clears S_ISUID with the write, and S_ISGID if group execution is
// allowed or the Cred is neither root's nor of the file's group: the writer
// lacks CAP_FSETID (FUSE_WRITE_KILL_SUIDGID).
const WriteKillPriv WriteFlags = 1

// WriteDataSync and WriteFullSync make what was written to the file, this write and those acknowledged
// before it, durable before it returns, as File.Sync does with dataOnly and without; a failure of that
// is the write's. They are for one request in place of two.
const (
	WriteDataSync WriteFlags = 2 << iota
	WriteFullSync
	WriteSynced = WriteDataSync | WriteFullSync // either
)
