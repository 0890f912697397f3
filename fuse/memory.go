package fuse

import (
	"sync"

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
// links; false if nothing is remembered. They are told, but never changed:
// whether chmod(2) came by a descriptor or by a path is not known, and of a path
// the kernel has to hear ESTALE, for another mount may have put something new there.
func (n *node) removed() (volume.Attr, bool) {
	m := n.memory.Load()
	if m == nil {
		return volume.Attr{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.mu.attr
	a.Nlink = 0
	return a, true
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
