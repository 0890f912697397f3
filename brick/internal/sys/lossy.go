package sys

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Lossy makes the calls of another Sys, and can lose, as a power failure does, what of regular files was not made
// durable: their contents by pages, their sizes, their mtimes. Names, owners and modes it keeps, as a file system
// does whose journal was committed just then. It is a disk that may have written any page at any time: for
// each, what is lost is decided by chance, and meanwhile some are written by themselves.
//
// As with ext4's data=ordered a file is no longer on the disk than what of it was written, and a truncation is there with
// all that was done after it, or not at all.
type Lossy struct {
	Sys
	rand *rand.Rand

	mu struct {
		sync.Mutex
		files map[uint64]*volatile // by inode
	}
}

var _ Sys = (*Lossy)(nil)

// page is what is lost or kept as one, bytes.
const page = 4 << 10

// volatile is a file that is not all on the disk.
type volatile struct {
	fd    int              // of Lossy's own
	pages map[int64][]byte // what the disk has of those that were written since, by offset; cut off where its file ends
	size  int64            // on the disk
	mtime volume.Time      // on the disk
	cut   bool             // the file was made shorter, or holes in it
}

// NewLossy returns a Lossy upon k that chance governs.
func NewLossy(k Sys, chance *rand.Rand) *Lossy {
	l := &Lossy{Sys: k, rand: chance}
	l.mu.files = make(map[uint64]*volatile)
	return l
}

// about returns what the disk has of the file at path below dirfd, which is about to be changed. nil: it is not a regular file's.
func (l *Lossy) about(dirfd int, path string) *volatile {
	proc := path
	if dirfd >= 0 {
		proc = "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + path
		if path == "" {
			proc = "/proc/self/fd/" + strconv.Itoa(dirfd)
		}
	}
	info, err := l.Sys.Stat(unix.AT_FDCWD, proc, 0)
	if err != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if v := l.mu.files[info.Ino]; v != nil {
		return v
	}
	fd, err := l.Sys.Open(unix.AT_FDCWD, proc, unix.O_RDWR, 0)
	if err != nil {
		return nil
	}
	v := &volatile{fd: fd, pages: make(map[int64][]byte), size: info.Size, mtime: info.Mtime}
	l.mu.files[info.Ino] = v
	return v
}

// keep notes what the disk has of a range that is about to be changed.
func (l *Lossy) keep(v *volatile, off, n int64) {
	for at := off / page * page; at < off+n && at < v.size; at += page {
		if _, ok := v.pages[at]; !ok {
			v.pages[at] = l.current(v, at, min(page, v.size-at))
		}
	}
}

// current reads n bytes.
func (l *Lossy) current(v *volatile, off, n int64) []byte {
	b := make([]byte, n)
	m, _ := l.Sys.Pread(v.fd, b, off)
	return b[:m]
}

// durable notes that a file is on the disk; data: but for its mtime, unless its size has changed.
func (l *Lossy) durable(fd int, data bool) {
	info, err := l.Sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	v := l.mu.files[info.Ino]
	if err != nil || v == nil {
		return
	}
	if data && info.Size == v.size && !v.cut {
		clear(v.pages)
		return
	}
	l.Sys.Close(v.fd)
	delete(l.mu.files, info.Ino)
}

// writeBack has the disk write some pages of a file by itself.
func (l *Lossy) writeBack(v *volatile) {
	if v.cut || l.rand.IntN(6) != 0 {
		return
	}
	for _, at := range slices.Sorted(maps.Keys(v.pages)) {
		if l.rand.IntN(2) == 0 {
			v.pages[at] = l.current(v, at, int64(len(v.pages[at])))
		}
	}
}

// Lose is the power failure: of what is not on the disk, chance decides. No call may be under way.
func (l *Lossy) Lose() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ino := range slices.Sorted(maps.Keys(l.mu.files)) {
		v := l.mu.files[ino]
		err := l.lose(v)
		l.Sys.Close(v.fd)
		delete(l.mu.files, ino)
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Lossy) lose(v *volatile) error {
	info, err := l.Sys.Stat(v.fd, "", unix.AT_EMPTY_PATH)
	if err != nil || info.Nlink == 0 {
		return err
	}
	keeps := func() bool { return l.rand.IntN(2) == 0 }
	if v.cut && keeps() {
		return nil
	}
	mtime := info.Mtime
	if v.cut || keeps() {
		mtime = v.mtime
	}
	grown := !v.cut && info.Size > v.size && keeps()
	if !grown {
		if err := l.Sys.Ftruncate(v.fd, v.size); err != nil {
			return err
		}
	}
	for _, at := range slices.Sorted(maps.Keys(v.pages)) {
		whole := int64(len(v.pages[at])) == page
		if !v.cut && (keeps() || grown && !whole) {
			continue
		}
		if _, err := l.Sys.Pwrite(v.fd, v.pages[at], at, 0); err != nil {
			return err
		}
	}
	return l.Sys.Utimens(v.fd, "", Timespec{Omit: true}, Timespec{Time: mtime}, unix.AT_EMPTY_PATH)
}

// Keep makes all durable, as an orderly end of the machine does.
func (l *Lossy) Keep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ino, v := range l.mu.files {
		l.Sys.Close(v.fd)
		delete(l.mu.files, ino)
	}
}

func (l *Lossy) Pwrite(fd int, p []byte, off int64, flags int) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.about(fd, "")
	if v != nil {
		l.keep(v, off, int64(len(p)))
	}
	n, err := l.Sys.Pwrite(fd, p, off, flags)
	switch {
	case v == nil || err != nil:
	case flags != 0:
		l.durable(fd, flags == unix.RWF_DSYNC)
	default:
		l.writeBack(v)
	}
	return n, err
}

func (l *Lossy) CopyRange(in int, from int64, out int, off, n int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.about(out, ""); v != nil {
		l.keep(v, off, n)
	}
	return l.Sys.CopyRange(in, from, out, off, n)
}

// cut notes that a file is about to be changed in another way than by writing.
func (l *Lossy) cut(dirfd int, path string) {
	if v := l.about(dirfd, path); v != nil {
		l.keep(v, 0, v.size)
		v.cut = true
	}
}

func (l *Lossy) Fallocate(fd int, mode uint32, off, length int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(fd, "")
	return l.Sys.Fallocate(fd, mode, off, length)
}

func (l *Lossy) Truncate(path string, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(unix.AT_FDCWD, path)
	return l.Sys.Truncate(path, size)
}

func (l *Lossy) Ftruncate(fd int, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(fd, "")
	return l.Sys.Ftruncate(fd, size)
}

func (l *Lossy) Utimens(dirfd int, path string, atime, mtime Timespec, flags int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.about(dirfd, path)
	return l.Sys.Utimens(dirfd, path, atime, mtime, flags)
}

func (l *Lossy) Fsync(fd int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.Sys.Fsync(fd)
	if err == nil {
		l.durable(fd, false)
	}
	return err
}

func (l *Lossy) Fdatasync(fd int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.Sys.Fdatasync(fd)
	if err == nil {
		l.durable(fd, true)
	}
	return err
}

func (l *Lossy) Syncfs(fd int) error {
	err := l.Sys.Syncfs(fd)
	if err == nil {
		l.Keep()
	}
	return err
}
