package fsynclog

import (
	"errors"
	"fmt"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// ErrGone is the error of a log that can't be used: it was never begun, given up after a failure, or closed.
var ErrGone = errors.New("the log of fsyncs is not in use")

// Config says where a log lies.
type Config struct {
	Sys     sys.Sys
	Dir     int                        // a descriptor of the directory of the segments
	Tmp     int                        // and of one where they are made, which is emptied before Open
	TmpName func(prefix string) string // gives a free name there
	Boot    string                     // ID of the kernel's boot, at most 72 bytes
	Size    int64                      // of a segment, bytes, a multiple of 4 KiB; 0: SegmentSize
}

// marksKept is the part of a segment that only marks may use, as a divisor of its size.
const marksKept = 16

// Log is a log of two segments. All methods may be called at the same time, but for those of which
// the comment says otherwise.
//
// Locks: mu is held over the pwrite of a record, so that records stand in order of their sequence, never over a
// force. Nothing is locked under it.
type Log struct {
	cfg Config

	mu struct {
		sync.Mutex
		changed    sync.Cond // forced, forcing, gone or a segment's state
		segs       [2]segment
		active     int   // the segment in which records are written
		reserved   int64 // bytes of it that are promised to writers
		generation uint64
		next       Seq   // the next record's
		forced     Seq   // all records up to this one are durable
		forcing    bool  // somebody forces
		gone       error // why nothing can be written
		buf        []byte
	}

	full chan struct{}
}

// segment is a file of the log.
type segment struct {
	fd int // -1: there is none
	header
	tail  int64             // where the next record begins
	first Seq               // its first record's; 0: it has none
	dirty bool              // it has records that were not forced
	full  bool              // it is to be emptied
	live  map[volume.ID]Seq // objects that have records here that count, and the last of them
}

// name is a segment's file.
func name(i int) string { return fmt.Sprintf("fsync-%d", i) }

// newLog returns a log without segments.
func newLog(cfg Config) *Log {
	l := &Log{cfg: cfg, full: make(chan struct{}, 1)}
	if l.cfg.Size == 0 {
		l.cfg.Size = SegmentSize
	}
	l.mu.changed.L = &l.mu
	l.mu.gone = ErrGone
	l.mu.next = 1
	l.mu.segs[0].fd, l.mu.segs[1].fd = -1, -1
	return l
}

// Exists reports whether there are segments, be the log in use or not.
func (l *Log) Exists() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.segs[0].fd >= 0
}

// Usable reports whether writes are taken: the log has begun, and there is room.
func (l *Log) Usable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.gone == nil && l.fitsLocked(DataMax)
}

// Full is sent to when a segment has become full.
func (l *Log) Full() <-chan struct{} { return l.full }

// limit is where the part of a segment begins that is kept for marks.
func (l *Log) limit() int64 { return l.cfg.Size - roundUp(l.cfg.Size/marksKept) }

// cost is the room that a record with n bytes of data takes at most: it may have to begin at a block, and the next too.
func cost(n int) int64 { return roundUp(recordEnd + int64(n)) }

// fitsLocked reports whether there is room for a write, if need be in the other segment.
func (l *Log) fitsLocked(n int) bool {
	need := l.mu.reserved + cost(n)
	if roundUp(l.mu.segs[l.mu.active].tail)+need <= l.limit() {
		return true
	}
	return l.otherLocked() && block+need <= l.limit()
}

// otherLocked reports whether the other segment can be gone on to.
func (l *Log) otherLocked() bool {
	o := &l.mu.segs[1-l.mu.active]
	return !o.full && o.tail == block
}

// Reserve makes sure that there is room for a write of n bytes, at most DataMax: Append or Unreserve must follow. It
// goes on to the other segment when this one is full. It waits for nothing: no is an answer.
func (l *Log) Reserve(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.gone != nil || !l.fitsLocked(n) {
		return false
	}
	if roundUp(l.mu.segs[l.mu.active].tail)+l.mu.reserved+cost(n) > l.limit() {
		l.switchLocked()
	}
	l.mu.reserved += cost(n)
	return true
}

// switchLocked goes on to the other segment, which is empty.
func (l *Log) switchLocked() {
	l.mu.segs[l.mu.active].full = true
	l.mu.active = 1 - l.mu.active
	select {
	case l.full <- struct{}{}:
	default:
	}
}

// Unreserve gives back what was reserved for n bytes.
func (l *Log) Unreserve(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.reserved -= cost(n)
}

// Append writes a record for which there is a reservation of n bytes, no fewer than its data are. It is in the page cache then:
// Force makes it durable. Records of one object that overlap must be appended in the order in which the object
// was written. An error is for good: the log can't be used any more.
func (l *Log) Append(r Record, n int) (Seq, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.reserved -= cost(n)
	return l.appendLocked(record{Record: r, kind: write})
}

// appendLocked writes a record where the active segment ends.
func (l *Log) appendLocked(r record) (Seq, error) {
	if l.mu.gone != nil {
		return 0, l.mu.gone
	}
	seg := &l.mu.segs[l.mu.active]
	r.seq = l.mu.next
	l.mu.buf = r.appendTo(l.mu.buf[:0], &seg.header)
	if err := writeAll(l.cfg.Sys, seg.fd, l.mu.buf, seg.tail); err != nil {
		l.giveUpLocked(err)
		return 0, err
	}
	seg.tail += int64(len(l.mu.buf))
	seg.dirty = true
	if seg.first == 0 {
		seg.first = r.seq
	}
	l.mu.next++
	if r.kind == write {
		seg.live[r.ID] = r.seq
	}
	return r.seq, nil
}

func writeAll(k sys.Sys, fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := k.Pwrite(fd, b, off, 0)
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// Next returns the sequence of the next record.
func (l *Log) Next() Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.next
}

// Live reports whether the log has records of the object that count.
func (l *Log) Live(id volume.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, in0 := l.mu.segs[0].live[id]
	_, in1 := l.mu.segs[1].live[id]
	return in0 || in1
}

// Mark notes, durably, that all of the object is durable that was said before the sequence before: whoever calls has made it so, really, after he
// asked Next. It waits for room until the full segment was emptied.
func (l *Log) Mark(id volume.ID, before Seq) error {
	l.mu.Lock()
	for l.mu.gone == nil && roundUp(l.mu.segs[l.mu.active].tail)+l.mu.reserved+cost(0) > l.cfg.Size {
		if l.otherLocked() {
			l.switchLocked()
			continue
		}
		l.mu.changed.Wait()
	}
	seq, err := l.appendLocked(record{Record: Record{ID: id, Off: int64(before)}, kind: mark})
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.Force(seq); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.mu.segs {
		if last, ok := l.mu.segs[i].live[id]; ok && last < before {
			delete(l.mu.segs[i].live, id)
		}
	}
	return nil
}

// Force makes all records up to the one with this sequence durable. Those who call at the same time share what they can: a
// force that began after a record was written serves it.
func (l *Log) Force(upTo Seq) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.mu.forced < upTo {
		switch {
		case l.mu.gone != nil:
			return l.mu.gone
		case l.mu.forcing:
			l.mu.changed.Wait()
		default:
			l.forceLocked()
		}
	}
	return nil
}

// forceLocked makes all that is written durable, the segment that was written first before the other. The lock is not held meanwhile.
func (l *Log) forceLocked() {
	upTo := l.mu.next - 1
	var fds []int
	for _, i := range []int{1 - l.mu.active, l.mu.active} {
		if seg := &l.mu.segs[i]; seg.dirty {
			fds = append(fds, seg.fd)
			seg.dirty = false
			seg.tail = roundUp(seg.tail)
		}
	}
	l.mu.forcing = true
	l.mu.Unlock()
	var err error
	for _, fd := range fds {
		if err = l.cfg.Sys.Fdatasync(fd); err != nil {
			break
		}
	}
	l.mu.Lock()
	l.mu.forcing = false
	if err != nil {
		l.giveUpLocked(err)
	} else {
		l.mu.forced = upTo
	}
	l.mu.changed.Broadcast()
}

// giveUpLocked notes that nothing can be written any more.
func (l *Log) giveUpLocked(err error) {
	if l.mu.gone == nil {
		l.mu.gone = fmt.Errorf("%w: %w", ErrGone, err)
	}
	l.mu.changed.Broadcast()
}

// GiveUp ends the use of the log because of err. What is in it stays.
func (l *Log) GiveUp(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveUpLocked(err)
}
