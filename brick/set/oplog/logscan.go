package oplog

import (
	"cmp"
	"errors"
	"slices"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Open opens the operation log in the directory dir, and makes it if there is none. The
// end of the newest file that is no whole record was being written when the process died; it is
// cut off. Anything else that is wrong is no error here: see Damage.
func Open(dir string, opt Options) (*Log, error) {
	const op = "log open"
	opt.fill()
	d, err := openFolder(opt.Sys, dir)
	if err != nil {
		return nil, fail(op, dir, err)
	}
	l := &Log{folder: d, opt: opt}
	l.mu.fd, l.mu.next = -1, 1
	if err := l.load(op); err != nil {
		if l.mu.fd >= 0 {
			l.sys.Close(l.mu.fd)
		}
		d.close()
		return nil, fail(op, dir, err)
	}
	return l, nil
}

// load finds the segments and what is in them.
func (l *Log) load(op string) error {
	ns, err := l.numbered(logPrefix)
	if err != nil {
		return err
	}
	for i, n := range ns {
		if i > 0 && n != ns[i-1]+1 {
			l.spoilt(op, numberedName(logPrefix, n-1), "the file is gone")
		}
		if err := l.loadSegment(op, n, i == len(ns)-1); err != nil {
			return err
		}
		l.mu.next = n + 1
	}
	l.Finished(l.mu.written)
	return nil
}

// spoilt notes damage.
func (l *Log) spoilt(op, name, what string) {
	if l.mu.damage == nil {
		l.mu.damage = damaged(op, name, "%s: of the changes logged there some are not known any more", what)
	}
}

// loadSegment takes the segment n in; the last one is left open, unless it is damaged.
func (l *Log) loadSegment(op string, n uint64, last bool) error {
	name := numberedName(logPrefix, n)
	fd, err := l.sys.Open(l.fd, name, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			l.sys.Close(fd)
		}
	}()
	st, err := l.sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	seg := segment{number: n, size: st.Size}
	h, err := readHead(l.sys, fd, logMagic)
	switch {
	case err == errHead && last && st.Size < headSize: // it was just being begun
		return l.sys.Unlink(l.fd, name, 0)
	case err == errHead || err == nil && h.number != n:
		seg.damaged = true
		l.spoilt(op, name, "its header is damaged")
		l.mu.segs = append(l.mu.segs, seg)
		return nil
	case err != nil:
		return fail(op, name, err)
	}
	strays := false
	end, err := scan(l.sys, fd, h.salt, func(b []byte) error {
		e, err := parseEntry(b, false)
		if err != nil {
			return err
		}
		l.mu.written = later(l.mu.written, e.mark)
		if e.kind == recordPayload {
			seg.newest = later(seg.newest, e.Point)
		}
		return nil
	}, func(int64, []byte) { strays = true })
	switch {
	case errors.Is(err, errEntry) || errors.Is(err, errKey) || err == nil && (strays || !last && end < st.Size):
		seg.damaged = true
		l.spoilt(op, name, "it is damaged in the middle")
	case err != nil:
		return err
	case last:
		if end < st.Size {
			if err := l.sys.Ftruncate(fd, end); err != nil {
				return err
			}
		}
		seg.size, keep = end, true
		l.mu.fd, l.mu.salt = fd, h.salt
	}
	l.mu.segs = append(l.mu.segs, seg)
	return nil
}

func later(p, q Point) Point {
	if p.Before(q) {
		return q
	}
	return p
}

// Damage says whether Open found records lost that had been written, and where; nil: none. It
// means something only while the machine has not been booted since: what was
// lost with the power is in the dirty list (see Dirty). Who trusts Tail without that must
// compare everything with the other members, and Clear.
func (l *Log) Damage() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.damage
}

// read calls f with the entries of all segments whose newest record is later than
// after and of those that follow, in order. The slices of an entry are valid during the call only.
func (l *Log) read(op string, after Point, f func(e entry)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return volume.Errorf(op, l.path, unix.EBADF, "the log is closed")
	}
	from := slices.IndexFunc(l.mu.segs, func(s segment) bool { return after.Before(s.newest) })
	if from < 0 {
		return nil
	}
	for _, s := range l.mu.segs[from:] {
		if err := l.readSegment(s, f); err != nil {
			return fail(op, numberedName(logPrefix, s.number), err)
		}
	}
	return nil
}

func (l *Log) readSegment(s segment, f func(e entry)) error {
	fd, err := l.sys.Open(l.fd, numberedName(logPrefix, s.number), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer l.sys.Close(fd)
	h, err := readHead(l.sys, fd, logMagic)
	if err != nil {
		if s.damaged && err == errHead {
			return nil
		}
		return err
	}
	end, err := scan(l.sys, fd, h.salt, func(b []byte) error {
		e, err := parseEntry(b, true)
		if err == nil {
			f(e)
		}
		return err
	}, func(int64, []byte) {})
	switch {
	case s.damaged && (err == nil || errors.Is(err, errEntry) || errors.Is(err, errKey)):
		return nil
	case err == nil && end < s.size:
		return damaged("log read", "", "a record that was there at the start is damaged now")
	}
	return err
}

// own copies what belongs to the payload.
func own(e entry) Record {
	r := e.Record
	r.Body = append([]byte(nil), r.Body...)
	if r.Outcome != nil {
		r.Outcome = append([]byte{}, r.Outcome...)
	}
	return r
}

// Tail returns the records above the mark, in order of their Points, each with its
// outcome if that is known: what may differ from other members when this one did not
// end well. Of a change that was appended twice the later record counts. Right after Open the mark is the newest
// one in the log, so that changes that were finished last may be among them too.
func (l *Log) Tail() ([]Record, error) {
	mark := l.Mark()
	at := map[Point]int{}
	var recs []Record
	err := l.read("log tail", mark, func(e entry) {
		i, known := at[e.Point]
		switch {
		case e.kind == markPayload || !mark.Before(e.Point):
		case e.kind == outcomePayload && known:
			recs[i].Outcome = append([]byte{}, e.Outcome...)
		case e.kind == recordPayload && known:
			recs[i] = own(e)
		case e.kind == recordPayload:
			at[e.Point] = len(recs)
			recs = append(recs, own(e))
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(recs, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
	return recs, nil
}

// KeysOf returns the keys of the records, each once, in order of their first appearance.
func KeysOf(recs []Record) []Key {
	seen := map[Key]bool{}
	var keys []Key
	for _, r := range recs {
		for _, k := range r.Keys {
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// Replies calls f with every change that was made for a request, of those that the log still
// has, in order of their Points. outcome is nil if none was written: the process died
// between the record and its Amend. f owns what it is given.
func (l *Log) Replies(f func(r volume.Request, p Point, outcome []byte)) error {
	type reply struct {
		request volume.Request
		point   Point
		outcome []byte
	}
	at := map[Point]int{}
	var replies []reply
	err := l.read("log replies", Point{}, func(e entry) {
		i, known := at[e.Point]
		var outcome []byte
		if e.Outcome != nil {
			outcome = append([]byte{}, e.Outcome...)
		}
		switch {
		case e.kind == outcomePayload && known:
			replies[i].outcome = outcome
		case e.kind == recordPayload && known:
			replies[i] = reply{e.Request, e.Point, outcome}
		case e.kind == recordPayload && e.Request != (volume.Request{}):
			at[e.Point] = len(replies)
			replies = append(replies, reply{e.Request, e.Point, outcome})
		}
	})
	if err != nil {
		return err
	}
	slices.SortFunc(replies, func(a, b reply) int {
		return cmp.Or(cmp.Compare(a.point.Epoch, b.point.Epoch), cmp.Compare(a.point.Seq, b.point.Seq))
	})
	for _, r := range replies {
		f(r.request, r.point, r.outcome)
	}
	return nil
}
