package fuse

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// Names that are treated apart.
const (
	xattrCaps       = "security.capability"
	xattrSELinux    = "security.selinux"
	xattrACL        = volume.ACLAccess
	xattrDefaultACL = volume.ACLDefault
)

// hidden reports whether an attribute is not there on this mount: ACLs without
// the option acl, as nobody would enforce them; SELinux labels without the
// option selinux, as ls -l and cp -a ask for the label of each file and only
// "not supported" makes them stop.
func (f *front) hidden(name string) bool {
	switch name {
	case xattrACL, xattrDefaultACL:
		return !f.opts.ACL
	case xattrSELinux:
		return !f.opts.SELinux
	}
	return false
}

// capsAbsent notes that n has no security.capability now.
func (f *front) capsAbsent(n *node) { n.noCaps.Store(f.now() + int64(f.opts.AttributeTimeout)) }

// GetXAttr returns the attribute's size, and its value if dest has room for it;
// with an empty dest that is no error.
//
// Before the first write after each refresh of a file's attributes the kernel
// asks for security.capability. That none is there is remembered for as long as
// the kernel itself believes attributes. (The brick's kernel clears it at a
// write whatever is said here.)
func (f *front) GetXAttr(cancel <-chan struct{}, h *gofuse.InHeader, name string, dest []byte) (uint32, gofuse.Status) {
	if f.hidden(name) {
		return 0, statusEOPNOTSUPP
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return 0, statusESTALE
	}
	if name == xattrCaps && f.now() < n.noCaps.Load() {
		return 0, gofuse.ENODATA
	}
	c := f.begin(cancel, h)
	defer c.end()
	v, err := f.fs.Getxattr(c, n.id, name)
	if err != nil {
		if name == xattrCaps && errors.Is(err, syscall.ENODATA) {
			f.capsAbsent(n)
		}
		return 0, f.fail("getxattr", err)
	}
	switch {
	case len(dest) == 0:
	case len(v) > len(dest):
		return uint32(len(v)), gofuse.ERANGE
	default:
		copy(dest, v)
	}
	return uint32(len(v)), gofuse.OK
}

// ListXAttr returns the names, each with a zero byte after it, as GetXAttr does
// a value. Those of trusted.* are root's to see: the kernel refuses others their
// values, but leaves the list to the file system.
func (f *front) ListXAttr(cancel <-chan struct{}, h *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return 0, statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	names, err := f.fs.Listxattr(c, n.id)
	if err != nil {
		return 0, f.fail("listxattr", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return f.hidden(name) || h.Uid != 0 && strings.HasPrefix(name, "trusted.")
	})
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	if len(dest) == 0 {
		return uint32(size), gofuse.OK
	}
	if size > len(dest) {
		return uint32(size), gofuse.ERANGE
	}
	dest = dest[:0]
	for _, name := range names {
		dest = append(append(dest, name...), 0)
	}
	return uint32(size), gofuse.OK
}

// SetXAttr sets an attribute. With the option acl the kernel may ask that the
// setgid bit goes with a new access ACL, as chmod(2) would drop it. It asks so
// with a default ACL too, which has no say in the mode.
func (f *front) SetXAttr(cancel <-chan struct{}, in *gofuse.SetXAttrIn, name string, value []byte) gofuse.Status {
	if f.hidden(name) {
		return statusEOPNOTSUPP
	}
	n := f.nodes.get(in.NodeId)
	if n == nil {
		return statusESTALE
	}
	c := f.begin(cancel, &in.InHeader)
	defer c.end()
	kill := in.SetXAttrFlags&gofuse.SETXATTR_ACL_KILL_SGID != 0
	if mode, ok := volume.ParseMinimalACL(value); ok && name == xattrACL && in.Flags == 0 && !kill {
		// cp -a ends the copy of a file with it. (The kernel then asks for the attributes anew when it needs them.)
		if _, late := f.changeLater(c, n, volume.Change{Mask: volume.SetMinimalACL, Mode: mode}); late {
			return gofuse.OK
		}
	}
	err := f.fs.Setxattr(c, n.id, name, value, volume.XattrFlags(in.Flags))
	if err == nil && name == xattrACL && kill {
		err = f.dropSetgid(c, n)
	}
	f.xattrChanged(n, name)
	return f.fail("setxattr", err)
}

// dropSetgid clears S_ISGID.
func (f *front) dropSetgid(c *call, n *node) error {
	a, err := f.fs.Getattr(c, n.id)
	if err != nil || a.Mode&syscall.S_ISGID == 0 {
		return err
	}
	_, err = f.fs.Setattr(c, n.id, volume.Change{Mask: volume.SetMode, Mode: a.Mode & 07777 &^ syscall.S_ISGID})
	return err
}

// xattrChanged notes a change of an attribute.
func (f *front) xattrChanged(n *node, name string) {
	if name == xattrCaps {
		n.noCaps.Store(int64(-time.Second))
	}
	f.touch(n)
}

// RemoveXAttr removes an attribute.
func (f *front) RemoveXAttr(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	if f.hidden(name) {
		return statusEOPNOTSUPP
	}
	n := f.nodes.get(h.NodeId)
	if n == nil {
		return statusESTALE
	}
	c := f.begin(cancel, h)
	defer c.end()
	err := f.fs.Removexattr(c, n.id, name)
	f.xattrChanged(n, name)
	return f.fail("removexattr", err)
}
