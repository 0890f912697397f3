package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// Errnos that go-fuse has no name for.
const (
	statusESTALE     = gofuse.Status(syscall.ESTALE)
	statusENOMEM     = gofuse.Status(syscall.ENOMEM)
	statusENOTTY     = gofuse.Status(syscall.ENOTTY)
	statusEOPNOTSUPP = gofuse.Status(syscall.EOPNOTSUPP)
)

// Lookup finds a name.
func (f *front) Lookup(cancel <-chan struct{}, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	c := f.begin(cancel, h)
	defer c.end()
	if name == "." || name == ".." {
		return f.lookupHandle(c, h, name, out)
	}
	dir := f.nodes.get(h.NodeId)
	if dir == nil {
		return statusESTALE
	}
	lookup := f.lookup
	if f.baffled.has(h.Pid, f.now()) {
		lookup = f.lookupHeld
	}
	a, err := lookup(c, dir, name)
	if err != nil {
		s := f.fail("lookup", err)
		if s == gofuse.ENOENT && f.opts.NegativeTimeout > 0 {
			out.NodeId = 0 // there is none, and that holds for a while
			out.EntryValid, out.EntryValidNsec = f.believed(dir, f.opts.NegativeTimeout)
			return gofuse.OK
		}
		return s
	}
	if a.IsRegular() {
		f.recent.note(dir, name, h.Pid, f.now())
	}
	_, s := f.entry(out, dir, &a)
	return s
}

func (f *front) lookup(c *call, dir *node, name string) (volume.Attr, error) {
	return f.fs.Lookup(c, dir.id, name)
}

// Forget drops lookups that the kernel has dropped.
func (f *front) Forget(nodeid, nlookup uint64) { f.nodes.forget(nodeid, nlookup) }

// made answers for a name that was made in dir.
func (f *front) made(op string, out *gofuse.EntryOut, dir *node, a *volume.Attr, err error) gofuse.Status {
	if err != nil {
		return f.fail(op, err)
	}
	f.touch(dir)
	_, s := f.entry(out, dir, a)
	return s
}

// Mknod makes a device, fifo, socket or empty file.
func (f *front) Mknod(cancel <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := f.nodes.get(in.NodeId)
	if dir == nil {
		return statusESTALE
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	c.cred.Umask = in.Umask
	a, err := f.fs.Make(c, dir.id, name, volume.Node{Mode: in.Mode, Rdev: uint64(in.Rdev)})
	return f.made("mknod", out, dir, &a, err)
}

// Mkdir makes a directory.
func (f *front) Mkdir(cancel <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := f.nodes.get(in.NodeId)
	if dir == nil {
		return statusESTALE
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	c.cred.Umask = in.Umask
	a, err := f.fs.Make(c, dir.id, name, volume.Node{Mode: in.Mode&07777 | syscall.S_IFDIR})
	return f.made("mkdir", out, dir, &a, err)
}

// Symlink makes a symbolic link.
func (f *front) Symlink(cancel <-chan struct{}, h *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := f.nodes.get(h.NodeId)
	if dir == nil {
		return statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	a, err := f.fs.Make(c, dir.id, name, volume.Node{Mode: syscall.S_IFLNK | 0777, Target: target})
	return f.made("symlink", out, dir, &a, err)
}

// Link gives an object one more name.
func (f *front) Link(cancel <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir, n := f.nodes.get(in.NodeId), f.nodes.get(in.Oldnodeid)
	if dir == nil || n == nil {
		return statusESTALE
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	a, err := f.fs.Link(c, n.id, dir.id, name)
	f.touch(n)
	return f.made("link", out, dir, &a, err)
}

// Unlink removes a name of what is no directory.
func (f *front) Unlink(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	dir := f.nodes.get(h.NodeId)
	if dir == nil {
		return statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	err := f.fs.Unlink(c, dir.id, name)
	f.touch(dir) // after a failure too: it may have happened
	return f.fail("unlink", err)
}

// Rmdir removes an empty directory.
func (f *front) Rmdir(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	dir := f.nodes.get(h.NodeId)
	if dir == nil {
		return statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	err := f.fs.Rmdir(c, dir.id, name)
	f.touch(dir)
	return f.fail("rmdir", err)
}

// Rename is renameat2(2); its flags are the system's.
func (f *front) Rename(cancel <-chan struct{}, in *gofuse.RenameIn, oldName, newName string) gofuse.Status {
	from, to := f.nodes.get(in.NodeId), f.nodes.get(in.Newdir)
	if from == nil || to == nil {
		return statusESTALE
	}
	flags := volume.RenameFlags(in.Flags)
	if flags&^(volume.RenameNoReplace|volume.RenameExchange) != 0 {
		return gofuse.EINVAL
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	if flags == 0 && f.recent.byOthers(to, newName, in.Pid, f.now()) {
		f.hold(c, to, newName)
	}
	err := f.fs.Rename(c, from.id, oldName, to.id, newName, flags)
	f.touch(from)
	f.touch(to)
	return f.fail("rename", err)
}

// Readlink returns a symbolic link's target. The kernel keeps it.
func (f *front) Readlink(cancel <-chan struct{}, h *gofuse.InHeader) ([]byte, gofuse.Status) {
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return nil, statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	target, err := f.fs.Readlink(c, n.id)
	if err != nil {
		return nil, f.fail("readlink", err)
	}
	return []byte(target), gofuse.OK
}
