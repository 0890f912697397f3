package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// openFile is one open(2) of a regular file.
type openFile struct {
	node   *node
	file   volume.File
	direct bool // FOPEN_DIRECT_IO: the kernel keeps no pages, and leaves O_SYNC to us
	synced bool // opened with DataSync or FullSync
	mute   bool // FOPEN_NOFLUSH: its closes are not told
}

// openFlags translates open(2)'s flags. O_SYNC and O_DSYNC are handed on with
// direct I/O only: after a write through its cache the kernel sends an FSYNC of
// its own, and a write that is durable already would be paid twice.
func openFlags(flags uint32, direct bool) volume.Flags {
	var v volume.Flags
	switch flags & syscall.O_ACCMODE {
	case syscall.O_RDONLY:
		v = volume.Read
	case syscall.O_WRONLY:
		v = volume.Write
	default:
		v = volume.Read | volume.Write
	}
	if flags&syscall.O_APPEND != 0 {
		v |= volume.Append
	}
	if flags&syscall.O_TRUNC != 0 {
		v |= volume.Truncate
	}
	if flags&syscall.O_EXCL != 0 {
		v |= volume.Excl
	}
	if flags&syscall.O_DIRECT != 0 {
		v |= volume.Direct
	}
	if flags&syscall.O_NOATIME != 0 {
		v |= volume.NoAtime
	}
	if direct {
		switch {
		case flags&syscall.O_SYNC == syscall.O_SYNC:
			v |= volume.FullSync
		case flags&syscall.O_DSYNC != 0:
			v |= volume.DataSync
		}
	}
	return v
}

// handle gives an opened file its number and fills the reply.
func (f *front) handle(out *gofuse.OpenOut, n *node, file volume.File, flags volume.Flags, direct bool) gofuse.Status {
	mute := flags&volume.Write == 0 && !n.locked.Load() // nothing was written or locked, so close has nothing to report
	fh, ok := f.files.put(&openFile{
		node:   n,
		file:   file,
		direct: direct,
		synced: flags&(volume.DataSync|volume.FullSync) != 0,
		mute:   mute,
	})
	if !ok {
		file.Close()
		return gofuse.Status(syscall.ENFILE)
	}
	out.Fh = fh
	if direct {
		out.OpenFlags |= gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
	}
	if mute {
		out.OpenFlags |= gofuse.FOPEN_NOFLUSH
	}
	return gofuse.OK
}

// direct reports whether a file opened so bypasses the kernel's pages. Who appends does: the kernel cuts a write
// through pages where the first of them ends, and another mount's record could come between.
func (f *front) direct(flags uint32) bool {
	appends := flags&syscall.O_APPEND != 0 && flags&syscall.O_ACCMODE != syscall.O_RDONLY
	return f.opts.DirectIO || flags&syscall.O_DIRECT != 0 || appends
}

// Open opens a regular file. The kernel drops the pages that it has of it, for
// another mount may have changed them: close-to-open. It would go on to believe where the file ends for the rest of the attribute timeout, so
// it is told that it is wrong about that.
func (f *front) Open(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	direct := f.direct(in.Flags)
	flags := openFlags(in.Flags, direct) &^ volume.Excl
	if flags&volume.Truncate != 0 && in.Mode&gofuse.OPEN_KILL_SUIDGID != 0 {
		flags |= volume.KillPriv
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	if flags&volume.KillPriv != 0 {
		c.join(n)
	}
	n.opening.Add(1)
	c.beside = &volume.Beside{}
	file, err := f.fs.Open(c, n.id, flags)
	n.opening.Add(-1)
	if flags&volume.Truncate != 0 {
		f.touch(n)
	}
	if err != nil {
		return f.stale(f.fail("open", err), &in.InHeader)
	}
	if a := &c.beside.File; a.ID == n.id && n.differs(a) {
		if s := f.notify.Load(); s != nil {
			s.InodeNotify(n.number, -1, 0)
		}
	}
	return f.handle(out, n, file, flags, direct)
}

// Create makes a file and opens it, or opens one that another mount has just
// made. If that is no regular file, ESTALE sends the kernel back to look the
// name up: only it follows symbolic links and opens fifos.
func (f *front) Create(cancel <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	dir := f.nodes.get(in.NodeId)
	if dir == nil {
		return statusESTALE
	}
	direct := f.direct(in.Flags)
	flags := openFlags(in.Flags, direct)
	if flags&volume.Truncate != 0 && in.OpenFlags&gofuse.OPEN_KILL_SUIDGID != 0 {
		flags |= volume.KillPriv
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	c.cred.Umask = in.Umask
	file, a, err := f.fs.Create(c, dir.id, name, volume.Node{Mode: in.Mode&07777 | syscall.S_IFREG}, flags)
	f.touch(dir)
	if err != nil {
		s := f.fail("create", err)
		if s == gofuse.Status(syscall.ELOOP) || s == gofuse.Status(syscall.ENXIO) {
			return statusESTALE
		}
		return s
	}
	n, s := f.entry(&out.EntryOut, dir, &a)
	if s != gofuse.OK {
		file.Close()
		return s
	}
	f.touch(n)
	f.capsAbsent(n)
	s = f.handle(&out.OpenOut, n, file, flags, direct)
	if s != gofuse.OK {
		f.nodes.forget(n.number, 1)
	}
	return s
}

// Release is the last close of one open(2). Nobody waits for it or hears of a failure.
func (f *front) Release(cancel <-chan struct{}, in *gofuse.ReleaseIn) {
	o := f.files.free(in.Fh)
	if o == nil {
		return
	}
	whose, over := o.node.grants.gives(o, allGrants) // noted before the request counts as begun; see flock.go
	defer over()
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	f.releaseLocks(c, o, whose)
	if err := o.file.Close(); err != nil {
		f.grumble.line("close", err)
	}
}

// Flush is each close(2): what was delayed is handed on, and its errors are told. The process's locks go.
func (f *front) Flush(cancel <-chan struct{}, in *gofuse.FlushIn) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	if o.node.locked.Load() {
		o.node.grants.flushed(o, in.LockOwner)
		f.unlockAll(c, o, lockKey{owner: in.LockOwner})
	}
	return f.fail("flush", o.file.Flush(c))
}

// dataOnly is FUSE_FSYNC_FDATASYNC.
const dataOnly = 1

// Fsync is fsync(2) and fdatasync(2).
func (f *front) Fsync(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	return f.fail("fsync", o.file.Sync(c, in.FsyncFlags&dataOnly != 0))
}

// Lseek finds data and holes; the kernel does the rest of lseek(2) itself.
func (f *front) Lseek(cancel <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	if in.Whence != volume.SeekData && in.Whence != volume.SeekHole {
		return gofuse.EINVAL
	}
	if int64(in.Offset) < 0 {
		return gofuse.Status(syscall.ENXIO)
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	off, err := o.file.Seek(c, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return f.fail("lseek", err)
}

// Fallocate is fallocate(2); its modes are the system's.
func (f *front) Fallocate(cancel <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	o := f.files.get(in.Fh)
	if o == nil {
		return gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	c.join(o.node)
	err := o.file.Allocate(c, in.Mode, int64(in.Offset), int64(in.Length))
	f.touch(o.node)
	return f.fail("fallocate", err)
}
