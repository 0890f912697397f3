package fuse

import (
	"errors"
	"hash/maphash"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// Opening a file takes two requests, LOOKUP of its name and OPEN of what was
// found. If the name is replaced between them (by a rename: how configuration
// files, git's refs and databases' manifests are changed), OPEN comes for a
// file that no longer is, and answers ESTALE; the kernel tries the pair once more, and gives up.
// On a disk, where the kernel holds on to what it found, this can't happen.
//
// So a rename over a name that somebody else has looked up in the last moments
// opens what the name leads to first, and keeps it open until an OPEN that is
// on its way has arrived: an open file can be opened by its ID once more. That
// costs two calls of the FS in the rare case that it is wanted, and otherwise a
// note for each LOOKUP.
//
// Of a rename by another mount nothing is known beforehand. There the kernel's
// second try is made to succeed: a thread whose OPEN was answered ESTALE looks its
// path up again at once, and what its LOOKUPs find is opened before they are
// answered, so that it stays for the OPEN that follows. The same goes for a stat, which is
// LOOKUP and GETATTR where the kernel believes no attributes (attribute-timeout=0). What is gone by then is
// looked up anew, here, until a try was faster than the next replacement.

const (
	recentFor = 20 * time.Millisecond // from the reply to LOOKUP until OPEN is here
	holdFor   = time.Second           // a thread may have to wait so long for a processor, on a busy machine
	holdMax   = 1024                  // files kept at once; more are not
	holdTries = 5 * time.Second       // for how long a name is looked up that is replaced all the time; on a busy machine a try may take as long as many replacements
)

// recent remembers who looked up which names lately, in a hash table without
// chains: the later of two names in one place counts. A place is one word:
//
//	bit 63 … 40   other bits of the name's hash
//	bit 39 … 18   thread that asked; 0: several
//	bit 17 … 0    when, in milliseconds, modulo 262 s
type recent struct {
	seed   maphash.Seed
	places [1024]atomic.Uint64
}

const (
	recentTime   = 1<<18 - 1
	recentThread = 1<<22 - 1 // PID_MAX_LIMIT
)

// find returns the place of a name, and the bits 63 … 40 that it has there.
func (r *recent) find(dir *node, name string) (*atomic.Uint64, uint64) {
	h := maphash.String(r.seed, name) ^ dir.number*0x9e3779b97f4a7c15
	h ^= h >> 32
	return &r.places[h%uint64(len(r.places))], h >> 40 << 40
}

// fresh reports whether the note v is of the name with these bits and recent.
func fresh(v, bits uint64, now int64) bool {
	age := (uint64(now/int64(time.Millisecond)) - v) & recentTime
	return v != 0 && v>>40<<40 == bits && age <= uint64(recentFor/time.Millisecond)
}

// note remembers that thread looked up a name.
func (r *recent) note(dir *node, name string, thread uint32, now int64) {
	place, bits := r.find(dir, name)
	who := uint64(thread) & recentThread
	if v := place.Load(); fresh(v, bits, now) && v>>18&recentThread != who {
		who = 0
	}
	place.Store(bits | who<<18 | uint64(now/int64(time.Millisecond))&recentTime)
}

// byOthers reports whether another thread looked the name up lately.
func (r *recent) byOthers(dir *node, name string, thread uint32, now int64) bool {
	place, bits := r.find(dir, name)
	v := place.Load()
	return fresh(v, bits, now) && v>>18&recentThread != uint64(thread)&recentThread
}

// baffled remembers threads whose OPEN or GETATTR was answered ESTALE, for holdFor: those
// that come to one place displace each other. A place is one word: thread and
// when, in milliseconds.
type baffled [1024]atomic.Uint64

func baffledWord(thread uint32, now int64) uint64 {
	return uint64(thread)<<32 | uint64(now/int64(time.Millisecond))&(1<<32-1)
}

func (b *baffled) note(thread uint32, now int64) {
	b[thread%uint32(len(b))].Store(baffledWord(thread, now))
}

func (b *baffled) has(thread uint32, now int64) bool {
	v := b[thread%uint32(len(b))].Load()
	return v != 0 && uint32(v>>32) == thread && uint32(baffledWord(thread, now))-uint32(v) <= uint32(holdFor/time.Millisecond)
}

// stale notes an answer of ESTALE to OPEN or GETATTR, and returns the answer.
func (f *front) stale(s gofuse.Status, h *gofuse.InHeader) gofuse.Status {
	if s == statusESTALE {
		f.baffled.note(h.Pid, f.now())
	}
	return s
}

// lookupHeld is Lookup for a thread that is about to open, or look at, what it finds.
func (f *front) lookupHeld(c *call, dir *node, name string) (a volume.Attr, err error) {
	for end := f.now() + int64(holdTries); ; {
		a, err = f.fs.Lookup(c, dir.id, name)
		if err != nil || !a.IsRegular() || f.holdFile(c, a.ID) || f.now() > end || c.Err() != nil {
			return a, err
		}
	}
}

// hold keeps what a name leads to open for a while. Failures don't matter.
func (f *front) hold(c *call, dir *node, name string) {
	if a, err := f.fs.Lookup(c, dir.id, name); err == nil && a.IsRegular() {
		f.holdFile(c, a.ID)
	}
}

// holdFile keeps a file open for a while. It reports false if that is gone.
func (f *front) holdFile(c *call, id volume.ID) bool {
	if f.held.Add(1) > holdMax {
		f.held.Add(-1)
		return true
	}
	file, err := f.fs.Open(c, id, volume.Read)
	if err != nil {
		f.held.Add(-1)
		return !errors.Is(err, syscall.ESTALE)
	}
	f.ahead.Go(func() {
		tick := time.NewTicker(holdFor)
		defer tick.Stop()
		for held := true; held; {
			select {
			case <-tick.C:
				n := f.nodes.known(id)
				held = n != nil && n.opening.Load() > 0 // its OPEN has arrived and waits, as in a failover
			case <-f.ending:
				held = false
			}
		}
		if err := file.Close(); err != nil {
			f.grumble.line("close", err)
		}
		f.held.Add(-1)
	})
	return true
}
