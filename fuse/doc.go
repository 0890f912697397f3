// Package fuse is the front end that a Linux kernel talks to: it turns the
// requests that arrive on /dev/fuse into calls of any volume.FS, and answers
// them. It knows no daemon, no brick and no wire.
//
// # What is here
//
//	Mount, Server            a mount: made, served, waited for, removed
//	Options, ParseOptions    mount's -o list
//	MountArgs, ParseMountArgs  the line of mount.mortar and of "mortar mount"
//	Main                     that command: checks, daemonising, exit codes
//	front                    one method per opcode (go-fuse's RawFileSystem)
//	nodes                    which NodeID is which volume.ID
//	call                     the context of a request; interrupts
//
// # Who caches what
//
// The kernel keeps names and attributes for the entry and attribute timeouts
// (1 s unless told otherwise) and pages of a file from one open to the next.
// Nothing is cached here, except:
//
//   - the pages of a listing that an open directory has fetched ahead (see
//     dirHandle, which explains why an attribute in one may be withheld);
//   - the last attributes of what is no regular file, for fstat on one that was
//     removed while somebody had it open or was in it;
//   - for the attribute timeout, that a file has no security.capability, for
//     which the kernel asks before the first write after each refresh.
//
// Close-to-open: no open sets FOPEN_KEEP_CACHE, so each open of a file drops
// the kernel's pages, and FLUSH is answered after File.Flush. The pages
// are dropped too whenever a refresh shows another mtime or size
// (AUTO_INVAL_DATA). FUSE_WRITEBACK_CACHE is never asked for: it would write
// whole pages back over other mounts' bytes. A file that was opened to append is not kept in pages at all (front.direct).
//
// # What INIT asks for, beyond go-fuse's own set
//
//	DONT_MASK              the umask arrives with the request and goes into the
//	                       Cred, since a default ACL overrides it
//	ATOMIC_O_TRUNC         one request for open(O_TRUNC) instead of two
//	HANDLE_KILLPRIV_V2     suid and sgid are cleared by the volume, in the step
//	                       that writes; and the kernel may remember that a file
//	                       has no capabilities instead of asking at each write
//	ASYNC_DIO              pieces of one direct request go out side by side
//	CACHE_SYMLINKS         an ID's target never changes
//	DIRECT_IO_ALLOW_MMAP   mmap works with direct-io-mode too
//	POSIX_LOCKS, FLOCK_LOCKS  locks are the volume's (lock.go)
//	POSIX_ACL, SETXATTR_EXT  with the option acl
//	EXPORT_SUPPORT         file handles lead to their objects though the kernel has
//	                       forgotten these (export.go); mounts of a whole volume only
//
// Not asked for: READDIRPLUS_AUTO (the kernel would fetch attributes with the
// first part of a listing only, unless a name is looked at before the second is
// asked for. ls -l and whoever else reads all names first then needs a
// LOOKUP for each: 35,000 entries/s instead of 160,000),
// NO_OPENDIR (an open directory holds fetched pages), splice (payload is in
// memory already), passthrough (see the design).
//
// # Interrupts
//
// A signal that does not kill must not make mkdir or write fail with EINTR on
// what looks like a disk, least of all since the operation may take effect
// nevertheless. So, as NFS does, an operation is given up only if its caller is
// about to die (or the mount is gone): see call. Waiting for a lock alone ends with any signal.
//
// # Locks
//
// In this order; none is held over a call of the FS, except dirHandle.mu, which
// only requests for the same open directory want.
//
//	dirHandle.mu
//	  nodes.shard.mu
//	slots.mu
//	call.mu
//	  watcher.mu
package fuse
