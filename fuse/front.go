package fuse

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// front answers the kernel's requests from an FS: one method per opcode, in the
// files names.go, attr.go, file.go, data.go, dir.go and xattr.go. What it does not override
// (locks, ACCESS, TMPFILE) is ENOSYS: the kernel does without, and asks no more.
type front struct {
	gofuse.RawFileSystem
	fs      volume.FS
	opts    Options
	log     *slog.Logger
	grumble grumbler
	started time.Time // the beginning of now's clock
	nodes   *nodes
	files   *slots[openFile]
	dirs    *slots[dirHandle]
	changes atomic.Uint64 // counts changes made through this mount; see node.changed
	watcher watcher
	census  census
	ahead   sync.WaitGroup // pages fetched ahead, files held, notices being written
	copies  sync.Pool      // *[volume.IOMax]byte for CopyFileRange
	recent  recent
	baffled baffled
	held    atomic.Int32  // files kept by hold
	ending  chan struct{} // closed after the last request
	notify  atomic.Pointer[gofuse.Server]
}

func newFront(fs volume.FS, root volume.ID, opts Options, log *slog.Logger) *front {
	f := &front{
		RawFileSystem: gofuse.NewDefaultRawFileSystem(),
		fs:            fs,
		opts:          opts,
		log:           log,
		grumble:       grumbler{log: log},
		started:       time.Now(),
		nodes:         newNodes(root),
		files:         newSlots[openFile](1),
		dirs:          newSlots[dirHandle](1),
		recent:        recent{seed: maphash.MakeSeed()},
		ending:        make(chan struct{}),
	}
	f.watcher.device = -1
	f.copies.New = func() any { return new([volume.IOMax]byte) }
	return f
}

// capabilities are asked of the kernel at INIT, besides go-fuse's own set; the
// package comment says why. A kernel that lacks one leaves it out.
func capabilities(o Options) uint64 {
	caps := uint64(gofuse.CAP_DONT_MASK | gofuse.CAP_ATOMIC_O_TRUNC | gofuse.CAP_HANDLE_KILLPRIV_V2 |
		gofuse.CAP_ASYNC_DIO | gofuse.CAP_CACHE_SYMLINKS | gofuse.CAP_DIRECT_IO_ALLOW_MMAP)
	if o.ACL {
		caps |= gofuse.CAP_POSIX_ACL | gofuse.CAP_SETXATTR_EXT
	}
	return caps
}

// now is a clock that only goes forward, in nanoseconds.
func (f *front) now() int64 { return int64(time.Since(f.started)) }

// String names the file system in go-fuse's messages.
func (f *front) String() string { return "mortar" }

// Init is called after INIT was answered.
func (f *front) Init(s *gofuse.Server) { f.notify.Store(s) }

// OnUnmount is called after the last request. What the kernel still had open is closed.
func (f *front) OnUnmount() {
	close(f.ending)
	f.watcher.close()
	f.census.close()
	f.dirs.all(func(n uint64, d *dirHandle) { f.dirs.free(n); d.close() })
	f.ahead.Wait()
	f.files.all(func(n uint64, o *openFile) {
		f.files.free(n)
		whose, over := o.node.grants.gives(o, allGrants)
		f.releaseLocks(context.Background(), o, whose)
		over()
		if err := o.file.Close(); err != nil {
			f.log.Warn("closing a file failed", "id", o.file.ID(), "error", err)
		}
	})
}

// StatFs tells how full the volume is.
func (f *front) StatFs(cancel <-chan struct{}, in *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	c := f.begin(cancel, in)
	defer c.end()
	st, err := f.fs.Statfs(c)
	if err != nil {
		return f.fail("statfs", err)
	}
	unit := uint64(max(st.BlockSize, 512))
	*out = gofuse.StatfsOut{
		Blocks:  st.Total / unit,
		Bfree:   st.Free / unit,
		Bavail:  st.Available / unit,
		Files:   st.Files,
		Ffree:   st.FilesFree,
		Bsize:   uint32(unit),
		Frsize:  uint32(unit),
		NameLen: st.NameMax,
	}
	return gofuse.OK
}

// Ioctl: there is none. ENOTTY says so in the words of ioctl(2).
func (f *front) Ioctl(<-chan struct{}, *gofuse.IoctlIn, []byte, *gofuse.IoctlOut, []byte) gofuse.Status {
	return statusENOTTY
}
