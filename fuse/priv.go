package fuse

import (
	"bytes"
	"strconv"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// note keeps what join, and who opens a file, has to know of an object whose attributes are about to be
// told to the kernel.
func (n *node) note(a *volume.Attr) {
	loose := uint64(0)
	if a.IsRegular() && a.Mode&(syscall.S_ISGID|syscall.S_IXGRP) == syscall.S_ISGID {
		loose = uint64(a.GID) + 1
	}
	if n.loose.Load() != loose {
		n.loose.Store(loose)
	}
	if a.IsRegular() {
		n.size.Store(a.Size)
		n.mtime.Store(a.Mtime.Sec*1e9 + int64(a.Mtime.Nsec))
	}
}

// differs reports whether the kernel was told otherwise of a file's contents.
func (n *node) differs(a *volume.Attr) bool {
	return n.size.Load() != a.Size || n.mtime.Load() != a.Mtime.Sec*1e9+int64(a.Mtime.Nsec)
}

// join makes the file's group that of the request if the caller is a member of
// it, for a request that clears S_ISUID and S_ISGID. Where the group may not
// execute the file, its members leave S_ISGID, and others do not; but a request
// tells one of the caller's groups only. So in this rare case /proc is read.
func (c *call) join(n *node) {
	loose := n.loose.Load()
	if loose == 0 || c.cred.UID == 0 || uint64(c.cred.GID)+1 == loose {
		return
	}
	if gid := uint32(loose - 1); isMember(c.cred.PID, gid) {
		c.cred.GID = gid
	}
}

// isMember reports whether a thread's supplementary groups contain gid. Of a
// thread that this process can't see it says no.
func isMember(tid, gid uint32) bool {
	text, err := threadStatus(tid)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if list, ok := bytes.CutPrefix(line, []byte("Groups:")); ok {
			for field := range bytes.FieldsSeq(list) {
				if g, err := strconv.ParseUint(string(field), 10, 32); err == nil && uint32(g) == gid {
					return true
				}
			}
		}
	}
	return false
}
