package sys

import (
	"bytes"
	"encoding/binary"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Real makes the system calls.
type Real struct{}

var _ Sys = Real{}

// again calls f until a signal does not interrupt it.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func (Real) Open(dirfd int, path string, flags int, mode uint32) (fd int, err error) {
	for {
		fd, err = unix.Openat(dirfd, path, flags|unix.O_CLOEXEC|unix.O_LARGEFILE, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (Real) Close(fd int) error          { return unix.Close(fd) }
func (Real) Flock(fd int, how int) error { return again(func() error { return unix.Flock(fd, how) }) }

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

func timeOf(t unix.StatxTimestamp) volume.Time { return volume.Time{Sec: t.Sec, Nsec: t.Nsec} }

func (Real) Stat(dirfd int, path string, flags int) (Info, error) {
	var st unix.Statx_t
	if err := unix.Statx(dirfd, path, flags, statMask, &st); err != nil {
		return Info{}, err
	}
	i := Info{
		Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, GID: st.Gid,
		Ino: st.Ino, Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Size: int64(st.Size), Blocks: int64(st.Blocks),
		Atime: timeOf(st.Atime), Mtime: timeOf(st.Mtime), Ctime: timeOf(st.Ctime),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		i.Btime, i.HasBtime = timeOf(st.Btime), true
	}
	return i, nil
}

func (Real) Statfs(fd int) (FileSystem, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return FileSystem{}, err
	}
	return FileSystem{
		Type: int64(st.Type), Blocks: st.Blocks, Free: st.Bfree, Available: st.Bavail,
		Files: st.Files, FilesFree: st.Ffree, BlockSize: st.Bsize, FragSize: st.Frsize, NameMax: st.Namelen,
	}, nil
}

func (Real) Readlink(dirfd int, path string) (string, error) {
	var buf [volume.TargetMax + 1]byte
	n, err := unix.Readlinkat(dirfd, path, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// The head of a struct linux_dirent64: inode, offset, length, type.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

func (Real) Names(fd int, buf []byte) ([]Dirent, bool, error) {
	n, err := unix.Getdents(fd, buf)
	if err != nil || n == 0 {
		return nil, false, err
	}
	// One string for all names of the buffer: the names are parts of it.
	all := string(buf[:n])
	names := make([]Dirent, 0, n/32)
	for off := 0; off+direntName < n; {
		size := int(binary.NativeEndian.Uint16(buf[off+direntLen:]))
		if size <= direntName || off+size > n {
			return nil, false, unix.EIO
		}
		end := bytes.IndexByte(buf[off+direntName:off+size], 0)
		if end < 0 {
			end = size - direntName
		}
		name := all[off+direntName : off+direntName+end]
		if name != "." && name != ".." {
			names = append(names, Dirent{name, buf[off+direntType]})
		}
		off += size
	}
	return names, true, nil
}

func (Real) Mkdir(dirfd int, path string, mode uint32) error { return unix.Mkdirat(dirfd, path, mode) }

func (Real) Mknod(dirfd int, path string, mode uint32, dev uint64) error {
	return unix.Mknodat(dirfd, path, mode, int(dev))
}

func (Real) Symlink(target string, dirfd int, path string) error {
	return unix.Symlinkat(target, dirfd, path)
}

func (Real) Link(olddir int, old string, newdir int, new string, flags int) error {
	return unix.Linkat(olddir, old, newdir, new, flags)
}

func (Real) Unlink(dirfd int, path string, flags int) error {
	return unix.Unlinkat(dirfd, path, flags)
}

func (Real) Rename(olddir int, old string, newdir int, new string, flags uint) error {
	return unix.Renameat2(olddir, old, newdir, new, flags)
}

func (Real) Chmod(dirfd int, path string, mode uint32) error {
	return unix.Fchmodat(dirfd, path, mode, 0)
}

func (Real) Fchmod(fd int, mode uint32) error { return unix.Fchmod(fd, mode) }

func (Real) Chown(dirfd int, path string, uid, gid int, flags int) error {
	return unix.Fchownat(dirfd, path, uid, gid, flags)
}

func spec(t Timespec) unix.Timespec {
	switch {
	case t.Omit:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case t.Now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: t.Time.Sec, Nsec: int64(t.Time.Nsec)}
}

func (Real) Utimens(dirfd int, path string, atime, mtime Timespec, flags int) error {
	return unix.UtimesNanoAt(dirfd, path, []unix.Timespec{spec(atime), spec(mtime)}, flags)
}

func (Real) Truncate(path string, size int64) error {
	return again(func() error { return unix.Truncate(path, size) })
}

func (Real) Ftruncate(fd int, size int64) error {
	return again(func() error { return unix.Ftruncate(fd, size) })
}

func (Real) Fgetxattr(fd int, name string, buf []byte) (int, error) {
	return unix.Fgetxattr(fd, name, buf)
}

func (Real) Fsetxattr(fd int, name string, value []byte, flags int) error {
	return unix.Fsetxattr(fd, name, value, flags)
}

func (Real) Lgetxattr(path, name string, buf []byte) (int, error) {
	return unix.Lgetxattr(path, name, buf)
}

func (Real) Lsetxattr(path, name string, value []byte, flags int) error {
	return unix.Lsetxattr(path, name, value, flags)
}

func (Real) Llistxattr(path string, buf []byte) (int, error) { return unix.Llistxattr(path, buf) }
func (Real) Lremovexattr(path, name string) error            { return unix.Lremovexattr(path, name) }

func (Real) Pread(fd int, p []byte, off int64) (n int, err error) {
	for {
		if n, err = unix.Pread(fd, p, off); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (Real) Pwrite(fd int, p []byte, off int64, flags int) (n int, err error) {
	for {
		if flags == 0 || len(p) == 0 {
			n, err = unix.Pwrite(fd, p, off)
		} else {
			n, err = unix.Pwritev2(fd, [][]byte{p}, off, flags)
		}
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (Real) CopyRange(in int, from int64, out int, off, n int64) (int64, error) {
	for {
		f, o := from, off
		m, err := unix.CopyFileRange(in, &f, out, &o, int(n), 0)
		if err != unix.EINTR {
			return int64(max(m, 0)), err
		}
	}
}

func (Real) Fallocate(fd int, mode uint32, off, length int64) error {
	return again(func() error { return unix.Fallocate(fd, mode, off, length) })
}

func (Real) Seek(fd int, off int64, whence int) (int64, error) { return unix.Seek(fd, off, whence) }

// A failed fsync must not be repeated; EINTR is none of its errors on a local file system.
func (Real) Fsync(fd int) error     { return unix.Fsync(fd) }
func (Real) Fdatasync(fd int) error { return unix.Fdatasync(fd) }

// SyncFileRange tells of no error of the disk: that is left to the next fsync.
func (Real) SyncFileRange(fd int, off, n int64) error {
	return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (Real) Syncfs(fd int) error { return unix.Syncfs(fd) }
