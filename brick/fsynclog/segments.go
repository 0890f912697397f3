package fsynclog

import (
	"maps"
	"slices"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Found is what Open found in a log.
type Found struct {
	Boot    string   // in which the records were written; "" if there are none
	Records []Record // that count, in order
}

// Objects lists those that have records, each once, in the order of their first.
func (f *Found) Objects() []volume.ID {
	var ids []volume.ID
	seen := make(map[volume.ID]bool)
	for _, r := range f.Records {
		if !seen[r.ID] {
			seen[r.ID] = true
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Open opens the segments, if they are there, and reads them. The log can be used after Begin, or, if it does not exist
// (see Exists), after Make. What Found has takes as much memory as the segments.
func Open(cfg Config) (*Log, Found, error) {
	l := newLog(cfg)
	var found Found
	var parts [2][]record
	for i := range l.mu.segs {
		recs, err := l.open(i, &found)
		if err == unix.ENOENT { // one alone is what a Make was stopped at
			l.Close()
			return l, Found{}, nil
		}
		if err != nil {
			l.Close()
			return nil, Found{}, err
		}
		parts[i] = recs
	}
	order := l.olderFirst()
	all, second := parts[order[0]], parts[order[1]]
	if len(all) == 0 || len(second) > 0 && second[0].seq == all[len(all)-1].seq+1 {
		all = append(all, second...)
	}
	found.Records = counting(all)
	return l, found, nil
}

// open opens a segment and returns its records.
func (l *Log) open(i int, found *Found) ([]record, error) {
	fd, err := l.cfg.Sys.Open(l.cfg.Dir, name(i), unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	seg := &l.mu.segs[i]
	seg.fd = fd
	info, err := l.cfg.Sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, err
	}
	l.cfg.Size = info.Size // as it was made
	b := make([]byte, max(info.Size, block))
	for n := 0; n < len(b); {
		m, err := l.cfg.Sys.Pread(fd, b[n:], int64(n))
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	h, whole, err := decodeHeader(b)
	if err != nil || !whole {
		return nil, err
	}
	seg.header = h
	l.mu.generation = max(l.mu.generation, h.generation)
	recs := scan(b[block:], &h)
	if len(recs) > 0 {
		found.Boot = h.boot
		seg.first = recs[0].seq
		l.mu.next = max(l.mu.next, recs[len(recs)-1].seq+1)
	}
	return recs, nil
}

// counting returns the writes among the records that no mark makes void.
func counting(all []record) []Record {
	before := make(map[volume.ID]Seq)
	for _, r := range all {
		if r.kind == mark {
			before[r.ID] = max(before[r.ID], Seq(r.Off))
		}
	}
	var count []Record
	for _, r := range all {
		if r.kind == write && r.seq >= before[r.ID] {
			count = append(count, r.Record)
		}
	}
	return count
}

// olderFirst returns the segments, the one with the lower sequences first.
func (l *Log) olderFirst() [2]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, b := l.mu.segs[0].first, l.mu.segs[1].first; a != 0 && b != 0 && b < a {
		return [2]int{1, 0}
	}
	return [2]int{0, 1}
}

// Make makes the segments, which are not there, durably, and begins. That takes as long as it takes to write both.
// Nobody else may use the log until it has returned. After an error there is nothing of them.
func (l *Log) Make() error {
	err := l.make(0)
	if err == nil {
		err = l.make(1)
	}
	if err == nil {
		err = l.cfg.Sys.Fsync(l.cfg.Dir)
	}
	if err == nil {
		err = l.Begin()
	}
	if err != nil {
		l.Close()
		_ = l.unlink()
	}
	return err
}

// make makes one segment, full of zeros: under another name until it is durable.
func (l *Log) make(i int) error {
	k, tmp := l.cfg.Sys, l.cfg.TmpName(name(i))
	fd, err := k.Open(l.cfg.Tmp, tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	l.mu.segs[i].fd = fd
	zeros := make([]byte, min(1<<20, l.cfg.Size))
	for at := int64(0); err == nil && at < l.cfg.Size; at += int64(len(zeros)) {
		err = writeAll(k, fd, zeros[:min(int64(len(zeros)), l.cfg.Size-at)], at)
	}
	if err == nil {
		err = k.Fsync(fd)
	}
	if err == nil {
		err = k.Rename(l.cfg.Tmp, tmp, l.cfg.Dir, name(i), 0)
	}
	if err != nil {
		_ = k.Unlink(l.cfg.Tmp, tmp, 0)
	}
	return err
}

// Begin empties both segments, durably, whatever they have, and puts the log to use. Nobody else may use it meanwhile.
func (l *Log) Begin() error {
	for _, i := range l.olderFirst() {
		if err := l.empty(i); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.active, l.mu.reserved, l.mu.gone = 0, 0, nil
	return nil
}

// Written reports whether the log is in use and something was written since Begin.
func (l *Log) Written() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.gone == nil && (l.mu.segs[0].tail > block || l.mu.segs[1].tail > block)
}

// ToEmpty lists the objects that have records that count in the segment that is full. ok is false if none is.
func (l *Log) ToEmpty() (ids []volume.ID, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seg := &l.mu.segs[1-l.mu.active]
	if l.mu.gone != nil || !seg.full {
		return nil, false
	}
	return slices.Collect(maps.Keys(seg.live)), true
}

// Empty empties the full segment: what ToEmpty listed has been made durable, really, since.
func (l *Log) Empty() error {
	l.mu.Lock()
	i, gone := 1-l.mu.active, l.mu.gone
	l.mu.Unlock()
	if gone != nil {
		return gone
	}
	err := l.empty(i)
	if err != nil {
		l.GiveUp(err)
	}
	return err
}

// empty gives a segment a new generation, durably. Nobody writes records to it.
func (l *Log) empty(i int) error {
	seg := &l.mu.segs[i]
	l.mu.Lock()
	l.mu.generation++
	h := header{l.mu.generation, newSalt(), l.cfg.Boot}
	l.mu.Unlock()
	if err := writeAll(l.cfg.Sys, seg.fd, h.encode(), 0); err != nil {
		return err
	}
	if err := l.cfg.Sys.Fdatasync(seg.fd); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	*seg = segment{fd: seg.fd, header: h, tail: block, live: make(map[volume.ID]Seq)}
	l.mu.changed.Broadcast()
	return nil
}

// Objects lists what has records that count.
func (l *Log) Objects() []volume.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.mu.segs[0].live)
	if all == nil {
		all = make(map[volume.ID]Seq)
	}
	maps.Copy(all, l.mu.segs[1].live)
	return slices.Collect(maps.Keys(all))
}

// Remove removes the segments of a log that was given up, durably, so that nobody finds them: what Objects lists
// has been made durable, really, since it was given up.
func (l *Log) Remove() error {
	if err := l.unlink(); err != nil {
		return err
	}
	return l.cfg.Sys.Fsync(l.cfg.Dir)
}

func (l *Log) unlink() error {
	for _, i := range l.olderFirst() {
		if err := l.cfg.Sys.Unlink(l.cfg.Dir, name(i), 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

// Close ends the use of the log and closes the segments. What is in them stays.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveUpLocked(ErrGone)
	for i := range l.mu.segs {
		if fd := l.mu.segs[i].fd; fd >= 0 {
			l.cfg.Sys.Close(fd)
		}
		l.mu.segs[i].fd = -1
	}
}
