// Package volume is Mortar's vocabulary and its one contract. It imports
// nothing but the standard library, and everything else imports it.
//
// # What is here
//
//	ID, SetID, Time, Attr, Node, Change, Entry, Pointer …   what is talked about
//	FS, File                                                the contract
//	Set                                                     FS + the way to a set's other side (Step)
//	Store                                                   FS + what one member keeps for its set
//	Error, Reason                                           how anything fails
//	Cred, LayoutVersion                                     what travels in a context
//
// Whatever serves files implements FS: a brick's store, the owner of a set
// (package dht), the remote client, stripe, distribute and each cache.
// Whatever uses files takes one: each layer, the FUSE mount and the gateways.
// A stack of a client and a brick, read from the top:
//
//	fuse → distribute → remote ⇢ wire ⇢ server → owner → store
//
// # Objects and names
//
// An object is named by its ID, or by a directory's ID and one component of a
// path. No operation takes a path, so nothing here races with the rename of a
// directory further up, and no symbolic link is ever followed. An ID says
// nothing about what an object's type is; an operation on an object of the
// wrong type fails as the system call would (ENOTDIR, EISDIR, EINVAL, ELOOP).
//
// # What a failure means
//
// Every method of FS and File obeys these rules unless it says otherwise.
//
//  1. Errors are *Error (possibly wrapped). Errno gives what the application
//     sees. Two numbers have one meaning each throughout: ENOENT, the directory
//     is here and has no such name; ESTALE, the object or directory that the ID
//     names is not here (never was, or was removed).
//  2. A method that returns an error other than EIO, EINTR, ETIMEDOUT or
//     ENOSPC has changed nothing. After EIO, EINTR and ETIMEDOUT the change may
//     have happened, wholly or not at all, but never in part, writes excepted:
//     of a failed write any byte of its range may be old or new. A write that
//     fails with ENOSPC or EDQUOT may have written a prefix.
//  3. A method returns within its context's deadline or, without one, within
//     the layer's own bound (see Reason Unavailable); none blocks for ever,
//     except a Lock that waits for somebody else's.
//  4. When the context is cancelled a method returns soon with EINTR and what
//     it asked for may still happen later, once. The caller that must know asks
//     again with a fresh context.
//  5. A buffer passed in (data to write, a value) belongs to the caller again
//     when the method returns; the callee keeps no reference. A buffer to be
//     read into may be written by the callee until it returns, beyond the
//     returned count too. Returned slices belong to the caller.
//  6. All methods may be called from any number of goroutines at once.
//     Operations that conflict take effect one after the other in some order
//     that agrees with real time (linearizable), except that ReadDir is no
//     snapshot (see there).
//  7. Retrying: Lookup, Getattr, Readlink, ReadDir, Getxattr, Listxattr, Statfs,
//     ReadAt and Seek may be repeated freely; Setattr, Setxattr, WriteAt,
//     Allocate and Sync may be repeated by the layer that sent them as long as
//     nothing later was acknowledged; the others only by a layer that can tell
//     whether the first try took effect.
//
// Who may do what is not decided here: the kernel decides on a FUSE mount
// (default_permissions), a gateway for its protocol. A Cred says who owns what
// is made, never who is allowed.
package volume
