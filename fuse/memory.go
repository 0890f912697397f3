package fuse

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// memory is what is remembered of an object in case its last name is removed
// while somebody is in it or has it open. A regular file needs none: its open
// files answer. But no open is told of for fifos, devices, sockets and links,
// and directories are on the brick no longer than they have a name.
type memory struct {
	mu struct {
		sync.Mutex
		attr   volume.Attr // the latest seen
		parent uint64      // inode number of "..": the directory where it was found last; 0: not known
	}
}

// remember notes the attributes that are about to be told to the kernel.
func (n *node) remember(a *volume.Attr, parent *node) {
	if a.IsRegular() {
		return
	}
	m := n.memory.Load()
	if m == nil {
		n.memory.CompareAndSwap(nil, new(memory))
		m = n.memory.Load()
	}
	m.mu.Lock()
	m.mu.attr = *a
	if parent != nil {
		m.mu.parent = parent.id.Inode()
	}
	m.mu.Unlock()
}

// removed returns the last attributes of an object that is gone, without
// links, after a change of them; false if nothing is remembered. The change is
// seen by those alone who have the object still.
func (n *node) removed(c volume.Change) (volume.Attr, bool) {
	m := n.memory.Load()
	if m == nil {
		return volume.Attr{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := &m.mu.attr
	a.Nlink = 0
	if c.Mask != 0 {
		now := time.Now()
		apply(a, c, volume.Time{Sec: now.Unix(), Nsec: uint32(now.Nanosecond())})
	}
	return *a, true
}

// gone reports whether err says that an object which is remembered was removed.
func (n *node) gone(err error) bool {
	return errors.Is(err, syscall.ESTALE) && n.memory.Load() != nil
}

// apply makes a change of attributes, as far as the kernel asks for it of what
// is no regular file.
func apply(a *volume.Attr, c volume.Change, now volume.Time) {
	a.Ctime = now
	if c.Mask&volume.SetMode != 0 {
		a.Mode = a.Mode&syscall.S_IFMT | c.Mode&07777
	}
	if c.Mask&volume.SetUID != 0 {
		a.UID = c.UID
	}
	if c.Mask&volume.SetGID != 0 {
		a.GID = c.GID
	}
	switch {
	case c.Mask&volume.SetAtimeNow != 0:
		a.Atime = now
	case c.Mask&volume.SetAtime != 0:
		a.Atime = c.Atime
	}
	switch {
	case c.Mask&volume.SetMtimeNow != 0:
		a.Mtime = now
	case c.Mask&volume.SetMtime != 0:
		a.Mtime = c.Mtime
	}
}

// dotdot returns the inode number that ".." has in a listing.
func (n *node) dotdot() uint64 {
	if m := n.memory.Load(); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.mu.parent != 0 {
			return m.mu.parent
		}
	}
	return n.id.Inode()
}
