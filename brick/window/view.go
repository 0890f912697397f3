package window

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// View is the side that is read: a Window's memory, in another process. Its methods may be called by several goroutines
// at a time, Close when none uses it any more.
type View struct{ memory memory }

// errForeign is of memory that no Window has made.
var errForeign = errors.New("it is no window")

// Map maps the memory that a brick has handed over. The descriptor may be closed afterwards.
func Map(f *os.File) (*View, error) {
	held, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("seals: %w", err)
	}
	const needed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW // or a brick that cuts it would end this process
	if held&needed != needed {
		return nil, errForeign
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < headerSize+wordSize || size > headerSize+WordsMax*wordSize {
		return nil, errForeign
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	first, count := header(b)
	n := count.Load()
	if first.Load() != magic || n < 1 || n > WordsMax || headerSize+int64(n)*wordSize != size {
		_ = unix.Munmap(b)
		return nil, errForeign
	}
	return &View{mapped(b, int(n))}, nil
}

// Has reports whether there is such a word.
func (v *View) Has(slot uint32) bool { return int64(slot) < int64(len(v.memory.words)) }

// Look returns an object's word before a read, for Same. False: a change is under way, and a read would be in vain.
func (v *View) Look(slot uint32) (mark uint64, quiet bool) {
	mark = v.memory.words[slot].Load()
	return mark, mark&countMax == 0
}

// Same reports, after the read, whether no change has begun since.
func (v *View) Same(slot uint32, mark uint64) bool { return v.memory.words[slot].Load() == mark }

// Open reports, after Same and after the brick was found alive, whether what was read counts.
func (v *View) Open() bool {
	until := v.Until()
	return until == Always || Now() < until
}

// Until is the reading of Now up to which what is read counts.
func (v *View) Until() time.Duration { return time.Duration(v.memory.until.Load()) }

// Now reads the clock of until.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return Always
	}
	return time.Duration(t.Nano())
}

// Close gives the memory back.
func (v *View) Close() {
	_ = unix.Munmap(v.memory.bytes)
	v.memory = memory{}
}
