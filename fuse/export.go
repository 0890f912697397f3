package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// File handles (name_to_handle_at, the kernel's NFS server). The kernel makes them of a NodeID and a generation, and
// asks for what it has forgotten by a LOOKUP of "." in that NodeID, and for the directory above one by "..". Both are
// parts of the object's ID, so a handle holds as long as the object, whichever mount of the volume it is of.

// exports reports whether handles lead to what they are of. Of a part of a volume they might lead out of that.
func exports(fs volume.FS, root volume.ID) bool {
	_, ok := fs.(volume.Finder)
	return ok && root == volume.Root
}

// lookupHandle answers the LOOKUP of "." and "..", which come for file handles alone.
func (f *front) lookupHandle(c *call, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	id, err := f.identify(c, h.NodeId)
	if err == nil && name == ".." && id != f.nodes.root.id {
		id, err = volume.ParentOf(c, f.fs, id)
	}
	var a volume.Attr
	if err == nil {
		a, err = f.fs.Getattr(c, id)
	}
	if err != nil {
		return f.fail("handle", err)
	}
	n, s := f.entry(out, nil, &a)
	if s == gofuse.OK && name == "." && n.number != h.NodeId {
		f.nodes.forget(n.number, 1)
		return statusESTALE
	}
	return s
}

// identify returns the object that a NodeID means, though the kernel may have forgotten it.
func (f *front) identify(c *call, number uint64) (volume.ID, error) {
	if n := f.nodes.get(number); n != nil {
		return n.id, nil
	}
	return volume.Find(c, f.fs, number)
}
