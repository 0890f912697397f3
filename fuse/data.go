package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// Read fills go-fuse's buffer, which is as long as the request.
func (f *front) Read(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	o := f.files.get(in.Fh)
	if o == nil {
		return nil, gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	n, err := o.file.ReadAt(c, buf, int64(in.Offset))
	if err != nil {
		return nil, f.fail("read", err)
	}
	return gofuse.ReadResultData(buf[:n]), gofuse.OK
}

// Writev is every WRITE; on /dev/fuse there is always one piece. What was
// written before a failure is a success: the next write tells.
func (f *front) Writev(cancel <-chan struct{}, in *gofuse.WriteIn, data [][]byte) (uint32, gofuse.Status) {
	o := f.files.get(in.Fh)
	if o == nil {
		return 0, gofuse.EBADF
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	written, off := 0, int64(in.Offset)
	for _, p := range data {
		n, err := f.write(c, o, in, p, off)
		written += n
		off += int64(n)
		if err != nil && written == 0 {
			f.touch(o.node)
			return 0, f.fail("write", err)
		}
		if n < len(p) {
			break
		}
	}
	f.touch(o.node)
	if o.direct && !o.synced && in.Flags&syscall.O_DSYNC != 0 {
		// pwritev2(RWF_DSYNC), RWF_SYNC: with direct I/O the kernel leaves it to us.
		if err := o.file.Sync(c, in.Flags&syscall.O_SYNC != syscall.O_SYNC); err != nil {
			return 0, f.fail("write", err)
		}
	}
	return uint32(written), gofuse.OK
}

// write writes p at off, or with O_APPEND at the file's end, which the kernel
// may be wrong about: then it has put the bytes into the wrong pages and is
// told to drop them. Pages of a shared mapping (WRITE_CACHE) have their place,
// whatever flags the file that they are written through happens to have.
func (f *front) write(c *call, o *openFile, in *gofuse.WriteIn, p []byte, off int64) (int, error) {
	var flags volume.WriteFlags
	if in.WriteFlags&gofuse.WRITE_KILL_SUIDGID != 0 {
		flags |= volume.WriteKillPriv
		c.join(o.node)
	}
	if in.Flags&syscall.O_APPEND == 0 || in.WriteFlags&gofuse.WRITE_CACHE != 0 {
		return o.file.WriteAt(c, p, off, flags)
	}
	moved := func(at int64) { f.invalidate(o.node, min(at, off)) }
	var err error
	if late, ok := o.file.(volume.LateAppender); ok {
		err = late.AppendLater(c, p, off, flags, moved)
	} else {
		var at int64
		if at, err = o.file.Append(c, p, flags); err == nil && at != off {
			moved(at)
		}
	}
	if err != nil { // all or nothing
		return 0, err
	}
	return len(p), nil
}

// invalidate has the kernel drop what it keeps of a file from off on. It is done
// by a goroutine of its own, since the kernel may have to wait for pages that
// the request being answered has locked.
func (f *front) invalidate(n *node, off int64) {
	s := f.notify.Load()
	if s == nil {
		return
	}
	number := n.number
	f.ahead.Go(func() { s.InodeNotify(number, off, 0) })
}
