package server

import (
	"slices"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// held is a file that was born, and is kept open for a while.
type held struct {
	file  volume.File
	name  wire.DirName // that it was born with
	sess  wire.SessionID
	until time.Time
}

// A file that its maker has open is made without being opened, which he does when he finds that it stays open. If who waits for
// the name removes it before, it is to stay for him. So it is kept open here, for as long as that may take, but not more than heldMax;
// and not if he removes it himself, who knows what he has open: what is open when its name goes costs a change more.
const (
	heldFor = time.Second
	heldMax = 1 << 10
)

// hold keeps a file open for a while.
func (n *names) hold(h held) {
	n.mu.Lock()
	var old []volume.File
	if n.mu.over {
		old = append(old, h.file)
	} else {
		n.mu.held = append(n.mu.held, h)
		old = n.releaseLocked(0, max(len(n.mu.held)-heldMax, 0))
	}
	n.mu.Unlock()
	closeFiles(old)
}

// parts closes what is held of a name that its maker removes.
func (n *names) parts(sess wire.SessionID, name wire.DirName) {
	n.mu.Lock()
	var old []volume.File
	if i := slices.IndexFunc(n.mu.held, func(h held) bool { return h.sess == sess && h.name == name }); i >= 0 {
		old = n.releaseLocked(i, i+1)
	}
	n.mu.Unlock()
	closeFiles(old)
}

// release closes the files whose time is over.
func (n *names) release(now time.Time) {
	n.mu.Lock()
	due := 0
	for due < len(n.mu.held) && !now.Before(n.mu.held[due].until) {
		due++
	}
	old := n.releaseLocked(0, due)
	n.mu.Unlock()
	closeFiles(old)
}

// releaseLocked takes files out, which are to be closed: those from one place to another.
func (n *names) releaseLocked(from, to int) (old []volume.File) {
	for _, h := range n.mu.held[from:to] {
		old = append(old, h.file)
	}
	n.mu.held = slices.Delete(n.mu.held, from, to)
	n.some.Store(len(n.mu.held) > 0)
	return old
}

// close closes all that is held, and what comes to be, at the end of the role.
func (n *names) close() {
	n.mu.Lock()
	n.mu.over = true
	old := n.releaseLocked(0, len(n.mu.held))
	n.mu.Unlock()
	closeFiles(old)
}
