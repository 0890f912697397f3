package brick

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// journal is the file .mortar/log/journal (version 1), integers little-endian:
//
//	header   8 bytes "mortarjl", uint32 version, uint32 CRC-32C of the 12 bytes before
//	records  uint32 length (1 … volume.JournalRecordMax), uint32 CRC-32C of length and payload, payload
//
// What follows the first record that is not whole is torn, by a crash within an
// Append: it is cut off at opening. A file with a header of another version is refused.
type journal struct {
	sys   sys.Sys
	logFD int // .mortar/log
	sick  func(what string, err error)
	sync  group

	mu struct {
		sync.Mutex
		fd     int
		size   int64 // where the next record begins
		broken error // what keeps it from being written
	}
}

var _ volume.Journal = (*journal)(nil)

const (
	journalFile    = "journal"
	journalTmp     = "journal.new"
	journalMagic   = "mortarjl"
	journalVersion = 1
	journalHeader  = len(journalMagic) + 8 // bytes
	recordHeader   = 8                     // bytes
)

// journalHead returns the header.
func journalHead() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(journalMagic), journalVersion)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// appendRecord appends a record with its header to b.
func appendRecord(b, rec []byte) []byte {
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(rec)))
	sum := crc32.Update(crc32.Checksum(length[:], castagnoli), castagnoli, rec)
	b = append(b, length[:]...)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, rec...)
}

// nextRecord returns the record at the start of b and its length with the
// header: more says that b may be too short for it; otherwise a nil record is a torn one.
func nextRecord(b []byte) (rec []byte, size int, more bool) {
	if len(b) < recordHeader {
		return nil, 0, true
	}
	n := binary.LittleEndian.Uint32(b)
	if n < 1 || n > volume.JournalRecordMax {
		return nil, 0, false
	}
	size = recordHeader + int(n)
	if len(b) < size {
		return nil, size, true
	}
	sum := crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[recordHeader:size])
	if sum != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, false
	}
	return b[recordHeader:size], size, false
}

// checkHead says what is wrong with a journal's header. short: it is but a part of one.
func checkHead(b []byte) (short bool, err error) {
	want := journalHead()
	if len(b) < len(want) {
		return true, nil
	}
	switch {
	case string(b[:len(journalMagic)]) != journalMagic:
		return false, fmt.Errorf("it is no journal")
	case binary.LittleEndian.Uint32(b[len(journalMagic):]) != journalVersion:
		return false, fmt.Errorf("it has a format version that this program does not know")
	case string(b[:len(want)]) != string(want):
		return false, fmt.Errorf("its header's checksum is wrong")
	}
	return false, nil
}

// openJournal opens the journal below logFD, makes it if there is none, and cuts a torn tail.
func openJournal(k sys.Sys, logFD int, sick func(string, error)) (*journal, error) {
	j := &journal{sys: k, logFD: logFD, sick: sick}
	if err := k.Unlink(logFD, journalTmp, 0); err != nil && err != unix.ENOENT {
		return nil, err
	}
	fd, err := k.Open(logFD, journalFile, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	j.mu.fd = fd
	if err := j.recover(); err != nil {
		k.Close(fd)
		return nil, err
	}
	return j, nil
}

// recover checks the file and finds its end.
func (j *journal) recover() error {
	head := make([]byte, journalHeader)
	n, err := j.sys.Pread(j.mu.fd, head, 0)
	if err != nil {
		return err
	}
	short, err := checkHead(head[:n])
	if err != nil {
		return err
	}
	if short { // made just before a crash: nothing was in it
		if err := j.sys.Ftruncate(j.mu.fd, 0); err != nil {
			return err
		}
		j.mu.size = int64(journalHeader)
		return writeAll(j.sys, j.mu.fd, journalHead(), 0)
	}
	end, err := j.scan(func([]byte) error { return nil })
	if err != nil {
		return err
	}
	j.mu.size = end
	return j.sys.Ftruncate(j.mu.fd, end)
}

// scan calls f with every whole record and returns where they end.
func (j *journal) scan(f func(rec []byte) error) (end int64, err error) {
	end = int64(journalHeader)
	buf := make([]byte, 0, 256<<10)
	for {
		n, err := j.sys.Pread(j.mu.fd, buf[len(buf):cap(buf)], end+int64(len(buf)))
		if err != nil {
			return end, err
		}
		buf = buf[:len(buf)+n]
		used := 0
		for {
			rec, size, more := nextRecord(buf[used:])
			if rec == nil {
				if !more || n == 0 {
					return end, nil
				}
				break
			}
			if err := f(rec); err != nil {
				return end, err
			}
			used += size
			end += int64(size)
		}
		buf = buf[:copy(buf, buf[used:])]
	}
}

// Append adds a record. It waits for nothing but the page cache, so no context ends it.
func (j *journal) Append(_ context.Context, rec []byte) error {
	const op = "journal append"
	if len(rec) < 1 || len(rec) > volume.JournalRecordMax {
		return volume.Errorf(op, journalFile, unix.EINVAL, "a record of %d bytes", len(rec))
	}
	b := appendRecord(make([]byte, 0, recordHeader+len(rec)), rec)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.broken != nil {
		return j.mu.broken
	}
	if err := writeAll(j.sys, j.mu.fd, b, j.mu.size); err != nil {
		if e := j.sys.Ftruncate(j.mu.fd, j.mu.size); e != nil {
			j.breakDown(op, e)
		}
		return fail(op, journalFile, err)
	}
	j.mu.size += int64(len(b))
	return nil
}

// breakDown notes that nothing can be written any more; the journal is locked.
func (j *journal) breakDown(op string, err error) {
	j.mu.broken = damaged(op, journalFile, "an earlier write to the disk failed: %w", err)
	j.sick(op, err)
}

// Sync makes all appended records durable.
func (j *journal) Sync(ctx context.Context) error {
	const op = "journal sync"
	err := j.sync.do(ctx, func() error {
		j.mu.Lock()
		fd, broken := j.mu.fd, j.mu.broken
		j.mu.Unlock()
		if broken != nil {
			return broken
		}
		if err := j.sys.Fdatasync(fd); err != nil {
			j.mu.Lock()
			j.breakDown(op, err)
			j.mu.Unlock()
			return err
		}
		return nil
	})
	if err != nil {
		return fail(op, journalFile, err)
	}
	return nil
}

// Replay calls f with every record in order.
func (j *journal) Replay(f func(rec []byte) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var inner error
	_, err := j.scan(func(rec []byte) error { inner = f(rec); return inner })
	if inner != nil {
		return inner
	}
	if err != nil {
		return fail("journal replay", journalFile, err)
	}
	return nil
}

// Rewrite replaces all records: a new file is written, made durable and moved
// over the old one.
func (j *journal) Rewrite(recs [][]byte) error {
	const op = "journal rewrite"
	b := journalHead()
	for _, r := range recs {
		if len(r) < 1 || len(r) > volume.JournalRecordMax {
			return volume.Errorf(op, journalFile, unix.EINVAL, "a record of %d bytes", len(r))
		}
		b = appendRecord(b, r)
	}
	// Not while a Sync has the old descriptor.
	return j.sync.alone(func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.mu.broken != nil {
			return j.mu.broken
		}
		if err := j.replace(op, b); err != nil {
			return fail(op, journalFile, err)
		}
		return nil
	})
}

// replace makes b the journal; it is locked.
func (j *journal) replace(op string, b []byte) error {
	fd, err := j.sys.Open(j.logFD, journalTmp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err = writeAll(j.sys, fd, b, 0); err == nil {
		err = j.sys.Fsync(fd)
	}
	if err == nil {
		err = j.sys.Rename(j.logFD, journalTmp, j.logFD, journalFile, 0)
	}
	if err != nil {
		j.sys.Close(fd)
		j.sys.Unlink(j.logFD, journalTmp, 0)
		return err
	}
	j.sys.Close(j.mu.fd)
	j.mu.fd, j.mu.size = fd, int64(len(b))
	if err := j.sys.Fsync(j.logFD); err != nil {
		j.breakDown(op, err)
		return err
	}
	return nil
}

// Size is the journal's length in bytes.
func (j *journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.size
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sys.Close(j.mu.fd)
	j.sys.Close(j.logFD)
}
