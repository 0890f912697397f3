package oplog

import (
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Options are a Log's. The zero Options are good.
type Options struct {
	Sys     sys.Sys // makes the system calls; nil: sys.Real
	Segment int64   // bytes after which a new file is begun; 0: 4 MiB
	Retain  int64   // bytes of finished records that are kept for the sake of replies; 0: 32 MiB
	Max     int64   // bytes of all; at this size, because nothing is finished, Append fails; 0: 256 MiB
}

func (o *Options) fill() {
	if o.Segment <= 0 {
		o.Segment = 4 << 20
	}
	if o.Retain <= 0 {
		o.Retain = 32 << 20
	}
	if o.Max <= 0 {
		o.Max = 256 << 20
	}
}

// logPrefix begins the names of the log's files: ops.1, ops.2 …
const logPrefix = "ops"

// Log is the operation log. Its methods may be called from any number of goroutines.
type Log struct {
	folder
	opt Options

	finished struct {
		sync.Mutex
		mark Point
	}

	mu struct {
		sync.Mutex
		segs    []segment // in order; the last is appended to, if fd is not -1
		next    uint64    // number of the segment to be begun next
		fd      int       // of the last segment; -1: a new one is to be begun
		salt    uint32
		ragged  bool  // the last segment may be longer than its size says
		written Point // newest mark that lies in the log
		damage  error
		closed  bool
	}
}

// segment is one file of the log.
type segment struct {
	number  uint64
	size    int64
	newest  Point // of its records
	damaged bool
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// Append adds a record. When it returns nil the record is in the page cache: it outlives
// the process, but not the machine. The record's slices are not kept. After an error
// nothing was added, and the log can be used on. Errors: EINVAL (limits), ENOSPC.
func (l *Log) Append(rec Record) error {
	const op = "log append"
	if err := rec.check(op); err != nil {
		return err
	}
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	mark := l.Mark()
	b := appendRecord(beginFrame((*p)[:0]), mark, &rec)
	endFrame(b, 0)
	*p = b
	return l.write(op, b, mark, rec.Point)
}

// Amend adds what the change came to that was appended before as p, so that
// its reply is known after a restart too; of several the last one counts. As with Append, it is in
// the page cache then.
func (l *Log) Amend(p Point, outcome []byte) error {
	const op = "log amend"
	if len(outcome) > OutcomeMax {
		return volume.Errorf(op, "", unix.EINVAL, "an outcome of %d bytes", len(outcome))
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	mark := l.Mark()
	b := appendOutcome(beginFrame((*buf)[:0]), mark, p, outcome)
	endFrame(b, 0)
	*buf = b
	return l.write(op, b, mark, Point{})
}

// Finished notes that every in-sync member has all changes up to p, itself included.
// It writes nothing; the next record carries the mark along. A mark that is not
// newer than the last changes nothing. Whoever begins an epoch says Finished(Point{epoch, 0})
// once all of the older ones is settled.
func (l *Log) Finished(p Point) {
	l.finished.Lock()
	defer l.finished.Unlock()
	if l.finished.mark.Before(p) {
		l.finished.mark = p
	}
}

// Mark is the newest that was told to Finished, or found by Open.
func (l *Log) Mark() Point {
	l.finished.Lock()
	defer l.finished.Unlock()
	return l.finished.mark
}

// write appends the frame b, which carries mark, of the record p or of none (the zero Point).
func (l *Log) write(op string, b []byte, mark, p Point) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return volume.Errorf(op, l.path, unix.EBADF, "the log is closed")
	}
	if l.mu.ragged {
		if err := l.sys.Ftruncate(l.mu.fd, l.mu.segs[len(l.mu.segs)-1].size); err != nil {
			return fail(op, l.path, err)
		}
		l.mu.ragged = false
	}
	if err := l.room(op, int64(len(b))); err != nil {
		return err
	}
	seg := &l.mu.segs[len(l.mu.segs)-1]
	salted(b, 0, l.mu.salt)
	if err := writeAll(l.sys, l.mu.fd, b, seg.size); err != nil {
		l.mu.ragged = l.sys.Ftruncate(l.mu.fd, seg.size) != nil
		return fail(op, l.path, err)
	}
	seg.size += int64(len(b))
	if seg.newest.Before(p) {
		seg.newest = p
	}
	if l.mu.written.Before(mark) {
		l.mu.written = mark
	}
	return nil
}

// room sees to it that the last segment takes n bytes more. l.mu is locked.
func (l *Log) room(op string, n int64) error {
	if l.mu.fd >= 0 && l.mu.segs[len(l.mu.segs)-1].size+n <= l.opt.Segment {
		return nil
	}
	l.trim()
	if l.size()+headSize+n > l.opt.Max {
		return volume.Errorf(op, l.path, unix.ENOSPC, "the operation log has %d bytes, and nothing in it is finished", l.size())
	}
	h := newHead(logMagic, l.mu.next, time.Now().UnixNano())
	name := numberedName(logPrefix, h.number)
	fd, err := l.sys.Open(l.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(op, name, err)
	}
	if err := writeAll(l.sys, fd, h.append(nil), 0); err != nil {
		l.sys.Close(fd)
		if l.sys.Unlink(l.fd, name, 0) != nil {
			l.mu.next++ // the next try takes another name
		}
		return fail(op, name, err)
	}
	if l.mu.fd >= 0 {
		l.sys.Close(l.mu.fd)
	}
	l.mu.fd, l.mu.salt = fd, h.salt
	l.mu.next++
	l.mu.segs = append(l.mu.segs, segment{number: h.number, size: headSize})
	l.trim()
	return nil
}

// size is the length of all segments. l.mu is locked.
func (l *Log) size() (n int64) {
	for _, s := range l.mu.segs {
		n += s.size
	}
	return n
}

// trim deletes the oldest segments as long as nothing in them is needed, damaged
// ones excepted. l.mu is locked.
func (l *Log) trim() {
	mark, size := l.Mark(), l.size()
	for i := 0; i < len(l.mu.segs)-1; {
		s := l.mu.segs[i]
		if size-s.size < l.opt.Retain || mark.Before(s.newest) {
			return
		}
		if s.damaged {
			i++
			continue
		}
		if err := l.sys.Unlink(l.fd, numberedName(logPrefix, s.number), 0); err != nil && err != unix.ENOENT {
			return
		}
		size -= s.size
		l.mu.segs = append(l.mu.segs[:i], l.mu.segs[i+1:]...)
	}
}

// Clear deletes all records and forgets the damage: after the member was made equal to
// another as a whole. The mark remains. After an error some are left.
func (l *Log) Clear() error {
	const op = "log clear"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return volume.Errorf(op, l.path, unix.EBADF, "the log is closed")
	}
	if l.mu.fd >= 0 {
		l.sys.Close(l.mu.fd)
		l.mu.fd, l.mu.ragged = -1, false
	}
	for len(l.mu.segs) > 0 {
		name := numberedName(logPrefix, l.mu.segs[0].number)
		if err := l.sys.Unlink(l.fd, name, 0); err != nil && err != unix.ENOENT {
			return fail(op, name, err)
		}
		l.mu.segs = l.mu.segs[1:]
	}
	l.mu.damage = nil
	return nil
}

// Close ends the use of the log.
func (l *Log) Close() error {
	mark := l.Mark()
	if l.unwritten(mark) {
		b := appendPoint(append(beginFrame(nil), markPayload), mark)
		endFrame(b, 0)
		_ = l.write("log close", b, mark, Point{}) // without it Tail tells more than it need
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil
	}
	l.mu.closed = true
	if l.mu.fd >= 0 {
		l.sys.Close(l.mu.fd)
	}
	l.close()
	return nil
}

// unwritten reports whether the log has records that a mark to be written would finish.
func (l *Log) unwritten(mark Point) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.mu.closed && l.mu.fd >= 0 && l.mu.written.Before(mark)
}
