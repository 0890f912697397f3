package oplog

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"golang.org/x/sys/unix"
)

// memDisk is a disk with one directory, in memory, that can lose its power: then of what
// was not synced any part may be gone.
type memDisk struct {
	sys.Sys // nil: what is not implemented panics

	mu     sync.Mutex
	names  map[string]*inode
	synced map[string]*inode // as the last fsync of the directory left them
	fds    map[int]*inode
	listed map[int]bool
	next   int
	syncs  int // fsync and fdatasync calls
	space  int // bytes that a file may have; 0: any number
}

type inode struct {
	dir          bool
	data, synced []byte
}

// page is the unit in which data get lost, bytes.
const page = 128

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*inode{}, synced: map[string]*inode{}, fds: map[int]*inode{}, listed: map[int]bool{}, next: 3}
}

func (d *memDisk) Open(dirfd int, path string, flags int, mode uint32) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	if flags&unix.O_DIRECTORY != 0 {
		d.fds[d.next] = &inode{dir: true}
		return d.next, nil
	}
	f := d.names[path]
	switch {
	case f == nil && flags&unix.O_CREAT == 0:
		return -1, unix.ENOENT
	case f != nil && flags&unix.O_EXCL != 0:
		return -1, unix.EEXIST
	case f == nil:
		f = &inode{}
		d.names[path] = f
	case flags&unix.O_TRUNC != 0:
		f.data = nil
	}
	d.fds[d.next] = f
	return d.next, nil
}

func (d *memDisk) Close(fd int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fds[fd] == nil {
		panic("close of what is not open")
	}
	delete(d.fds, fd)
	return nil
}

func (d *memDisk) file(fd int) *inode {
	f := d.fds[fd]
	if f == nil {
		panic("use of what is not open")
	}
	return f
}

func (d *memDisk) Stat(fd int, path string, flags int) (sys.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sys.Info{Size: int64(len(d.file(fd).data))}, nil
}

func (d *memDisk) Names(fd int, buf []byte) (ents []sys.Dirent, more bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listed[fd] {
		return nil, false, nil
	}
	d.listed[fd] = true
	for name := range d.names {
		ents = append(ents, sys.Dirent{Name: name})
	}
	return ents, true, nil
}

func (d *memDisk) Unlink(dirfd int, path string, flags int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[path] == nil {
		return unix.ENOENT
	}
	delete(d.names, path)
	return nil
}

func (d *memDisk) Rename(_ int, old string, _ int, new string, flags uint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[new] = d.names[old]
	delete(d.names, old)
	return nil
}

func (d *memDisk) Ftruncate(fd int, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.file(fd)
	for int64(len(f.data)) < size {
		f.data = append(f.data, 0)
	}
	f.data = f.data[:size]
	return nil
}

func (d *memDisk) Pread(fd int, p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.file(fd)
	if off >= int64(len(f.data)) {
		return 0, nil
	}
	return copy(p, f.data[off:]), nil
}

func (d *memDisk) Pwrite(fd int, p []byte, off int64, flags int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.file(fd)
	if d.space > 0 && off+int64(len(p)) > int64(d.space) {
		if off >= int64(d.space) {
			return 0, unix.ENOSPC
		}
		p = p[:int64(d.space)-off]
	}
	for int64(len(f.data)) < off+int64(len(p)) {
		f.data = append(f.data, 0)
	}
	return copy(f.data[off:], p), nil
}

func (d *memDisk) Fsync(fd int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	f := d.file(fd)
	if f.dir {
		d.synced = maps.Clone(d.names)
	} else {
		f.synced = slices.Clone(f.data)
	}
	return nil
}

func (d *memDisk) Fdatasync(fd int) error { return d.Fsync(fd) }

// kill forgets what a process has open.
func (d *memDisk) kill() {
	clear(d.fds)
	clear(d.listed)
}

// powerLoss is a kill after which only what was synced is there for sure.
func (d *memDisk) powerLoss(r *rand.Rand) {
	d.kill()
	for name := range maps.Keys(union(d.names, d.synced)) {
		f := d.names[name]
		if r.IntN(2) == 0 {
			f = d.synced[name]
		}
		if delete(d.names, name); f != nil {
			d.names[name] = f
		}
	}
	seen := map[*inode]bool{}
	for _, f := range d.names {
		if !seen[f] {
			seen[f] = true
			f.lose(r)
		}
	}
	d.synced = maps.Clone(d.names)
}

func union(a, b map[string]*inode) map[string]*inode {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// lose lets random pages of what was not synced be as they were before.
func (f *inode) lose(r *rand.Rand) {
	size := len(f.data)
	if r.IntN(2) == 0 && size > len(f.synced) { // cut somewhere
		size = len(f.synced) + r.IntN(size-len(f.synced))
	} else if size < len(f.synced) && r.IntN(2) == 0 {
		size = len(f.synced)
	}
	lost := make([]byte, size)
	copy(lost, f.synced)
	mode := r.IntN(3) // nothing is written, all is, some is
	for at := 0; at < size; at += page {
		if mode == 1 || mode == 2 && r.IntN(3) > 0 {
			end := min(at+page, size, len(f.data))
			if at < end {
				copy(lost[at:end], f.data[at:end])
			}
		}
	}
	f.data, f.synced = lost, slices.Clone(lost)
}

// seeded returns random numbers whose seed is printed if the test fails.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("unexpected: ", err))
	}
	return v
}
