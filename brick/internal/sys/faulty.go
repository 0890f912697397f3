package sys

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Faulty makes the calls of another Sys, and lets chosen ones fail. Calls are
// counted from 1; Close is neither counted nor ever fails, so that tests can
// give up what they hold.
type Faulty struct {
	Sys

	mu struct {
		sync.Mutex
		calls  int
		failAt int        // this call fails; 0: none
		errno  unix.Errno // with this
		crash  bool       // and all later ones
		last   string     // what failed first
	}
}

var _ Sys = (*Faulty)(nil)

// Fail lets the n-th call from now on fail with errno, and those after it succeed.
func (f *Faulty) Fail(n int, errno unix.Errno) { f.set(n, errno, false) }

// Crash lets the n-th call from now on and all after it fail: as if the process had ended before it.
func (f *Faulty) Crash(n int) { f.set(n, unix.EIO, true) }

func (f *Faulty) set(n int, errno unix.Errno, crash bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.calls, f.mu.failAt, f.mu.errno, f.mu.crash, f.mu.last = 0, n, errno, crash, ""
}

// Failed returns the name of the first call that was made to fail, "" for none yet.
func (f *Faulty) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.last
}

// step counts a call and says whether it fails.
func (f *Faulty) step(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.calls++
	if f.mu.failAt == 0 || f.mu.calls < f.mu.failAt || !f.mu.crash && f.mu.calls > f.mu.failAt {
		return nil
	}
	if f.mu.last == "" {
		f.mu.last = name
	}
	return f.mu.errno
}

func (f *Faulty) Open(dirfd int, path string, flags int, mode uint32) (int, error) {
	if err := f.step("open"); err != nil {
		return -1, err
	}
	return f.Sys.Open(dirfd, path, flags, mode)
}

func (f *Faulty) Flock(fd int, how int) error {
	if err := f.step("flock"); err != nil {
		return err
	}
	return f.Sys.Flock(fd, how)
}

func (f *Faulty) Stat(dirfd int, path string, flags int) (Info, error) {
	if err := f.step("stat"); err != nil {
		return Info{}, err
	}
	return f.Sys.Stat(dirfd, path, flags)
}

func (f *Faulty) Statfs(fd int) (FileSystem, error) {
	if err := f.step("statfs"); err != nil {
		return FileSystem{}, err
	}
	return f.Sys.Statfs(fd)
}

func (f *Faulty) Readlink(dirfd int, path string) (string, error) {
	if err := f.step("readlink"); err != nil {
		return "", err
	}
	return f.Sys.Readlink(dirfd, path)
}

func (f *Faulty) Names(fd int, buf []byte) ([]Dirent, bool, error) {
	if err := f.step("names"); err != nil {
		return nil, false, err
	}
	return f.Sys.Names(fd, buf)
}

func (f *Faulty) Mkdir(dirfd int, path string, mode uint32) error {
	if err := f.step("mkdir"); err != nil {
		return err
	}
	return f.Sys.Mkdir(dirfd, path, mode)
}

func (f *Faulty) Mknod(dirfd int, path string, mode uint32, dev uint64) error {
	if err := f.step("mknod"); err != nil {
		return err
	}
	return f.Sys.Mknod(dirfd, path, mode, dev)
}

func (f *Faulty) Symlink(target string, dirfd int, path string) error {
	if err := f.step("symlink"); err != nil {
		return err
	}
	return f.Sys.Symlink(target, dirfd, path)
}

func (f *Faulty) Link(olddir int, old string, newdir int, new string, flags int) error {
	if err := f.step("link"); err != nil {
		return err
	}
	return f.Sys.Link(olddir, old, newdir, new, flags)
}

func (f *Faulty) Unlink(dirfd int, path string, flags int) error {
	if err := f.step("unlink"); err != nil {
		return err
	}
	return f.Sys.Unlink(dirfd, path, flags)
}

func (f *Faulty) Rename(olddir int, old string, newdir int, new string, flags uint) error {
	if err := f.step("rename"); err != nil {
		return err
	}
	return f.Sys.Rename(olddir, old, newdir, new, flags)
}

func (f *Faulty) Chmod(dirfd int, path string, mode uint32) error {
	if err := f.step("chmod"); err != nil {
		return err
	}
	return f.Sys.Chmod(dirfd, path, mode)
}

func (f *Faulty) Fchmod(fd int, mode uint32) error {
	if err := f.step("fchmod"); err != nil {
		return err
	}
	return f.Sys.Fchmod(fd, mode)
}

func (f *Faulty) Chown(dirfd int, path string, uid, gid int, flags int) error {
	if err := f.step("chown"); err != nil {
		return err
	}
	return f.Sys.Chown(dirfd, path, uid, gid, flags)
}

func (f *Faulty) Utimens(dirfd int, path string, atime, mtime Timespec, flags int) error {
	if err := f.step("utimens"); err != nil {
		return err
	}
	return f.Sys.Utimens(dirfd, path, atime, mtime, flags)
}

func (f *Faulty) Truncate(path string, size int64) error {
	if err := f.step("truncate"); err != nil {
		return err
	}
	return f.Sys.Truncate(path, size)
}

func (f *Faulty) Ftruncate(fd int, size int64) error {
	if err := f.step("ftruncate"); err != nil {
		return err
	}
	return f.Sys.Ftruncate(fd, size)
}

func (f *Faulty) Fgetxattr(fd int, name string, buf []byte) (int, error) {
	if err := f.step("fgetxattr"); err != nil {
		return 0, err
	}
	return f.Sys.Fgetxattr(fd, name, buf)
}

func (f *Faulty) Fsetxattr(fd int, name string, value []byte, flags int) error {
	if err := f.step("fsetxattr"); err != nil {
		return err
	}
	return f.Sys.Fsetxattr(fd, name, value, flags)
}

func (f *Faulty) Lgetxattr(path, name string, buf []byte) (int, error) {
	if err := f.step("lgetxattr"); err != nil {
		return 0, err
	}
	return f.Sys.Lgetxattr(path, name, buf)
}

func (f *Faulty) Lsetxattr(path, name string, value []byte, flags int) error {
	if err := f.step("lsetxattr"); err != nil {
		return err
	}
	return f.Sys.Lsetxattr(path, name, value, flags)
}

func (f *Faulty) Llistxattr(path string, buf []byte) (int, error) {
	if err := f.step("llistxattr"); err != nil {
		return 0, err
	}
	return f.Sys.Llistxattr(path, buf)
}

func (f *Faulty) Lremovexattr(path, name string) error {
	if err := f.step("lremovexattr"); err != nil {
		return err
	}
	return f.Sys.Lremovexattr(path, name)
}

func (f *Faulty) Pread(fd int, p []byte, off int64) (int, error) {
	if err := f.step("pread"); err != nil {
		return 0, err
	}
	return f.Sys.Pread(fd, p, off)
}

func (f *Faulty) Pwrite(fd int, p []byte, off int64, flags int) (int, error) {
	if err := f.step("pwrite"); err != nil {
		return 0, err
	}
	return f.Sys.Pwrite(fd, p, off, flags)
}

func (f *Faulty) CopyRange(in int, from int64, out int, off, n int64) (int64, error) {
	if err := f.step("copy_file_range"); err != nil {
		return 0, err
	}
	return f.Sys.CopyRange(in, from, out, off, n)
}

func (f *Faulty) Fallocate(fd int, mode uint32, off, length int64) error {
	if err := f.step("fallocate"); err != nil {
		return err
	}
	return f.Sys.Fallocate(fd, mode, off, length)
}

func (f *Faulty) Seek(fd int, off int64, whence int) (int64, error) {
	if err := f.step("seek"); err != nil {
		return 0, err
	}
	return f.Sys.Seek(fd, off, whence)
}

func (f *Faulty) Fsync(fd int) error {
	if err := f.step("fsync"); err != nil {
		return err
	}
	return f.Sys.Fsync(fd)
}

func (f *Faulty) Fdatasync(fd int) error {
	if err := f.step("fdatasync"); err != nil {
		return err
	}
	return f.Sys.Fdatasync(fd)
}

func (f *Faulty) SyncFileRange(fd int, off, n int64) error {
	if err := f.step("sync_file_range"); err != nil {
		return err
	}
	return f.Sys.SyncFileRange(fd, off, n)
}

func (f *Faulty) Syncfs(fd int) error {
	if err := f.step("syncfs"); err != nil {
		return err
	}
	return f.Sys.Syncfs(fd)
}
