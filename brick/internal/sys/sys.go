// Package sys is what the brick's store asks of the kernel: the system calls
// that it makes, as one interface, so that a test can fail any of them or stop
// the store after any of them (Faulty) and look at what is left on the disk.
//
// The methods are the system calls of the same name with little in between:
// calls interrupted by a signal are repeated, errors are unix.Errno, names are
// relative to a directory's descriptor. Nothing here knows what a brick is.
package sys

import (
	"github.com/mortarfs/mortar/volume"
)

// Info is what statx(2) tells of an object.
type Info struct {
	Mode, Nlink, UID, GID      uint32
	Ino, Dev, Rdev             uint64
	Size, Blocks               int64
	Atime, Mtime, Ctime, Btime volume.Time
	HasBtime                   bool
}

// FileSystem is what statfs(2) tells.
type FileSystem struct {
	Type                         int64
	Blocks, Free, Available      uint64 // in units of BlockSize
	Files, FilesFree             uint64
	BlockSize, FragSize, NameMax int64
}

// Dirent is one name as getdents64(2) gives it.
type Dirent struct {
	Name string
	Type uint8 // DT_*
}

// Sys makes system calls.
type Sys interface {
	Open(dirfd int, path string, flags int, mode uint32) (int, error)
	Close(fd int) error
	Flock(fd int, how int) error

	// Stat is statx(2) for all that Info holds.
	Stat(dirfd int, path string, flags int) (Info, error)
	Statfs(fd int) (FileSystem, error)
	Readlink(dirfd int, path string) (string, error)
	// Names returns the names that one getdents64(2) with buf gave, none at the
	// end of the directory. "." and ".." are left out; so an answer can be empty
	// before the end: more tells.
	Names(fd int, buf []byte) (names []Dirent, more bool, err error)

	Mkdir(dirfd int, path string, mode uint32) error
	Mknod(dirfd int, path string, mode uint32, dev uint64) error
	Symlink(target string, dirfd int, path string) error
	Link(olddir int, old string, newdir int, new string, flags int) error
	Unlink(dirfd int, path string, flags int) error
	Rename(olddir int, old string, newdir int, new string, flags uint) error

	Chmod(dirfd int, path string, mode uint32) error
	Fchmod(fd int, mode uint32) error
	Chown(dirfd int, path string, uid, gid int, flags int) error
	Utimens(dirfd int, path string, atime, mtime Timespec, flags int) error
	Truncate(path string, size int64) error
	Ftruncate(fd int, size int64) error

	Fgetxattr(fd int, name string, buf []byte) (int, error)
	Fsetxattr(fd int, name string, value []byte, flags int) error
	Lgetxattr(path, name string, buf []byte) (int, error)
	Lsetxattr(path, name string, value []byte, flags int) error
	Llistxattr(path string, buf []byte) (int, error)
	Lremovexattr(path, name string) error

	Pread(fd int, p []byte, off int64) (int, error)
	// Pwrite is pwritev2(2) with flags (RWF_DSYNC, RWF_SYNC), pwrite(2) without.
	Pwrite(fd int, p []byte, off int64, flags int) (int, error)
	// CopyRange is copy_file_range(2): n bytes of one file to another, or as many as the kernel likes; 0: from is the end.
	CopyRange(in int, from int64, out int, off, n int64) (int64, error)
	Fallocate(fd int, mode uint32, off, length int64) error
	Seek(fd int, off int64, whence int) (int64, error)
	Fsync(fd int) error
	Fdatasync(fd int) error
	// SyncFileRange is sync_file_range(2) with SYNC_FILE_RANGE_WRITE: the range is on its way to the disk.
	SyncFileRange(fd int, off, n int64) error
	Syncfs(fd int) error
}

// Timespec is one time for Utimens: a time, the present, or left as it is.
type Timespec struct {
	Time      volume.Time
	Now, Omit bool
}
