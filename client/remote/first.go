package remote

import (
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// firstMax is up to what size, in bytes, a small file's contents come with
// its opening, and firstTime how long they may be read from then.
const (
	firstMax  = 64 << 10
	firstTime = 50 * time.Millisecond
)

// first are the contents of a file as they were when it was opened, which
// spares most readers of small files the request for them. They are what a
// read must return as long as nobody writes: a change by this client, of
// whichever file, voids them when it begins and again when it ends; one by another client
// need not be seen by who has opened the file before it was closed
// (close-to-open), and is, after firstTime.
type first struct {
	data  []byte
	turn  uint64 // Remote.mu.turn before the file was opened
	since time.Time
}

// wants tells how much of what is in a file to send with its opening: of those
// opened just for reading, small ones.
func wants(f volume.Flags) uint32 {
	if f == volume.Read {
		return firstMax
	}
	return 0
}

// writes reports whether the call may change what is in a file.
func (c *call) writes() bool {
	switch c.op {
	case wire.OpWrite, wire.OpWriteSet, wire.OpAppend, wire.OpAllocate, wire.OpCopy, wire.OpSetattr, wire.OpFileSetattr, wire.OpStep:
		return true
	case wire.OpOpen, wire.OpCreate:
		return c.flags&volume.Truncate != 0
	}
	return false
}

// firstLocked notes the contents that came with an opening.
func (r *Remote) firstLocked(f *file, c *call) {
	if c.data == nil {
		return
	}
	f.first.Store(&first{data: c.data, turn: c.turn, since: time.Now()})
	r.mu.firsts = append(r.mu.firsts, f)
}

// readFirst reads from the contents that came with the opening, if they still count.
func (f *file) readFirst(p []byte, off int64) (n int, ok bool) {
	d := f.first.Load()
	if d == nil {
		return 0, false
	}
	f.r.mu.Lock()
	turn := f.r.mu.turn
	f.r.mu.Unlock()
	if turn != d.turn || time.Since(d.since) > firstTime {
		f.first.Store(nil)
		return 0, false
	}
	if off < 0 {
		return 0, false
	}
	if off >= int64(len(d.data)) {
		return 0, true
	}
	return copy(p, d.data[off:]), true
}

// dropFirsts forgets contents that count no more, so that open files do not hold memory.
func (r *Remote) dropFirsts(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.mu.firsts[:0]
	for _, f := range r.mu.firsts {
		if d := f.first.Load(); d == nil || now.Sub(d.since) <= firstTime {
			if d != nil {
				kept = append(kept, f)
			}
			continue
		}
		f.first.Store(nil)
	}
	clear(r.mu.firsts[len(kept):])
	r.mu.firsts = kept
}
