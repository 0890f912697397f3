package window

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// Parts of the memory, see the package comment.
const (
	magic      = 0x0001_6977_7472_6f6d // "mortwi", format 1
	headerSize = 64
	wordSize   = 8

	countBits = 16
	countMax  = 1<<countBits - 1
)

// WordsMax is how many words a Window may have.
const WordsMax = 1 << 16

// Always is until of a brick that needs nobody's leave to serve.
const Always = time.Duration(1<<63 - 1)

// seals keep what is mapped there, and everybody else from writing it.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL

// memory is a Window's, mapped.
type memory struct {
	bytes []byte
	until *atomic.Int64
	words []atomic.Uint64
}

// mapped divides what was mapped.
func mapped(b []byte, words int) memory {
	return memory{
		bytes: b,
		until: (*atomic.Int64)(unsafe.Pointer(&b[8])),
		words: unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&b[headerSize])), words),
	}
}

func header(b []byte) (first, words *atomic.Uint64) {
	return (*atomic.Uint64)(unsafe.Pointer(&b[0])), (*atomic.Uint64)(unsafe.Pointer(&b[16]))
}

// Window is the side that is written, for one time of serving. A nil Window hands nothing out.
// Its methods may be called at any time; none of them waits. The caller sees to it that SetUntil
// is called in the order of what it tells.
type Window struct {
	mu struct { // a leaf
		sync.Mutex
		file   *os.File // nil: closed
		memory memory
		shut   bool
		under  map[volume.ID]int // changes under way, by object
		given  map[volume.ID]*given
		free   []uint32 // words that were given back
		next   uint32   // the first word that was never given
	}
}

// given is a word that an object has.
type given struct {
	slot uint32
	refs int
}

// New returns a Window with words for so many objects at a time, which is closed to reads: until is 0.
func New(objects int) (*Window, error) {
	words := objects + 1
	if objects < 0 || words > WordsMax {
		return nil, fmt.Errorf("a window of %d objects", objects)
	}
	fd, err := unix.MemfdCreate("mortar window", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	w := &Window{}
	w.mu.file = os.NewFile(uintptr(fd), "window")
	size := headerSize + words*wordSize
	b, err := mapNew(fd, size)
	if err != nil {
		_ = w.mu.file.Close()
		return nil, err
	}
	first, count := header(b)
	count.Store(uint64(words))
	first.Store(magic)
	w.mu.memory = mapped(b, words)
	w.mu.under, w.mu.given, w.mu.next = map[volume.ID]int{}, map[volume.ID]*given{}, 1
	return w, nil
}

// mapNew gives a fresh memfd its size and its seals and maps it.
func mapNew(fd, size int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("seal: %w", err)
	}
	return b, nil
}

// SetUntil tells up to which reading of CLOCK_BOOTTIME reads may be answered.
func (w *Window) SetUntil(until time.Duration) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.shut {
		w.mu.memory.until.Store(int64(until))
	}
}

// Shut ends it: no read that looks at until afterwards counts, whatever is set or counted from now on.
func (w *Window) Shut() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shutLocked()
}

func (w *Window) shutLocked() {
	if !w.mu.shut {
		w.mu.shut = true
		w.mu.memory.until.Store(0)
	}
}

// Close is Shut, and gives the memory back. Who has mapped it keeps it.
func (w *Window) Close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shutLocked()
	if w.mu.file == nil {
		return
	}
	_ = w.mu.file.Close()
	_ = unix.Munmap(w.mu.memory.bytes)
	w.mu.file, w.mu.memory = nil, memory{}
}

// File returns a descriptor of the memory, which the caller closes.
func (w *Window) File() (*os.File, error) {
	if w == nil {
		return nil, os.ErrClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.file == nil {
		return nil, os.ErrClosed
	}
	fd, err := unix.FcntlInt(w.mu.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "window"), nil
}

// Begin counts a change of an object's contents up, before any of it is applied. End must follow.
func (w *Window) Begin(id volume.ID) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.under[id]++
	w.noteLocked(id, true)
}

// End counts a change down.
func (w *Window) End(id volume.ID) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.under[id]--; w.mu.under[id] <= 0 {
		delete(w.mu.under, id)
	}
	w.noteLocked(id, false)
}

// noteLocked brings an object's word up to date, if it has one.
func (w *Window) noteLocked(id volume.ID, begins bool) {
	g := w.mu.given[id]
	if g == nil || w.mu.file == nil {
		return
	}
	word := &w.mu.memory.words[g.slot]
	generation := word.Load() >> countBits
	if begins {
		generation++
	}
	word.Store(generation<<countBits | uint64(min(w.mu.under[id], countMax)))
}

// Take gives an object a word, or the one that it has; Give must follow when who was told of it can't use it any
// more. False: none is left.
func (w *Window) Take(id volume.ID) (slot uint32, ok bool) {
	if w == nil {
		return 0, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.file == nil {
		return 0, false
	}
	g := w.mu.given[id]
	if g == nil {
		g = &given{}
		switch n := len(w.mu.free); {
		case int(w.mu.next) < len(w.mu.memory.words):
			g.slot = w.mu.next
			w.mu.next++
		case n > 0:
			g.slot, w.mu.free = w.mu.free[n-1], w.mu.free[:n-1]
		default:
			return 0, false
		}
		w.mu.given[id] = g
		w.noteLocked(id, true) // another generation than of the object before
	}
	g.refs++
	return g.slot, true
}

// Give gives a word back that Take gave.
func (w *Window) Give(id volume.ID) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.mu.given[id]
	if g == nil {
		return
	}
	if g.refs--; g.refs == 0 {
		delete(w.mu.given, id)
		w.mu.free = append(w.mu.free, g.slot)
	}
}
