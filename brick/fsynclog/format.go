package fsynclog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/mortarfs/mortar/volume"
)

// DataMax is the longest data of a record, bytes.
const DataMax = 64 << 10

// SegmentSize is the size of a segment unless Config says otherwise, bytes.
const SegmentSize = 4 << 20

const (
	magic   = "mortarfl"
	version = 1
	block   = 4 << 10 // bytes: what a force writes is a multiple of it

	headEnd   = 104 // where a header ends, bytes
	bootMax   = headEnd - 32
	recordEnd = 64 // where a record's data begin, bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seq numbers records, from 1. 0 is none.
type Seq uint64

type kind uint32

const (
	write kind = 1
	mark  kind = 2
)

// Record is a write to an object.
type Record struct {
	ID    volume.ID
	Off   int64
	Data  []byte // at most DataMax
	Mtime volume.Time
}

// record is what stands in a segment. Of a mark Off is the sequence before which it counts.
type record struct {
	Record
	kind kind
	seq  Seq
}

// header begins a segment.
type header struct {
	generation uint64
	salt       uint32
	boot       string
}

// newSalt returns a salt that nobody can know.
func newSalt() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint32(b[:])
}

func (h *header) encode() []byte {
	b := make([]byte, headEnd)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], version)
	le.PutUint64(b[16:], h.generation)
	le.PutUint32(b[24:], h.salt)
	le.PutUint32(b[28:], uint32(len(h.boot)))
	copy(b[32:], h.boot)
	le.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

// decodeHeader reads a header. whole is false of what is none, because it was torn or never written. An error says
// that the segment is of a version that this program does not know.
func decodeHeader(b []byte) (h header, whole bool, err error) {
	le := binary.LittleEndian
	if len(b) < headEnd || string(b[:8]) != magic {
		return h, false, nil
	}
	if v := le.Uint32(b[8:]); v != version {
		return h, false, fmt.Errorf("the log of fsyncs has the format version %d, which this program does not know", v)
	}
	n := le.Uint32(b[28:])
	if le.Uint32(b[12:]) != crc32.Checksum(b[16:headEnd], castagnoli) || n > bootMax {
		return h, false, nil
	}
	return header{le.Uint64(b[16:]), le.Uint32(b[24:]), string(b[32 : 32+n])}, true, nil
}

// appendTo appends the record, as it stands in a segment, to b.
func (r *record) appendTo(b []byte, h *header) []byte {
	var head [recordEnd]byte
	le := binary.LittleEndian
	le.PutUint32(head[4:], uint32(len(r.Data)))
	le.PutUint64(head[8:], h.generation)
	le.PutUint64(head[16:], uint64(r.seq))
	le.PutUint32(head[24:], uint32(r.kind))
	le.PutUint32(head[28:], r.Mtime.Nsec)
	le.PutUint64(head[32:], uint64(r.Mtime.Sec))
	copy(head[40:], r.ID[:])
	le.PutUint64(head[56:], uint64(r.Off))
	le.PutUint32(head[:], crc32.Update(crc32.Update(h.salt, castagnoli, head[4:]), castagnoli, r.Data))
	return append(append(b, head[:]...), r.Data...)
}

// decodeRecord reads the record at the start of b, of which the data are a part. ok is false of what is none.
func decodeRecord(b []byte, h *header) (r record, size int64, ok bool) {
	if len(b) < recordEnd {
		return r, 0, false
	}
	le := binary.LittleEndian
	n := le.Uint32(b[4:])
	if n > DataMax || int(n) > len(b)-recordEnd || le.Uint64(b[8:]) != h.generation {
		return r, 0, false
	}
	size = recordEnd + int64(n)
	if le.Uint32(b) != crc32.Update(h.salt, castagnoli, b[4:size]) {
		return r, 0, false
	}
	r.seq, r.kind = Seq(le.Uint64(b[16:])), kind(le.Uint32(b[24:]))
	r.Mtime = volume.Time{Sec: int64(le.Uint64(b[32:])), Nsec: le.Uint32(b[28:])}
	r.ID, r.Off, r.Data = volume.ID(b[40:56]), int64(le.Uint64(b[56:])), b[recordEnd:size:size]
	ok = r.seq != 0 && r.Off >= 0 && r.Off+int64(n) >= 0 && r.Mtime.Nsec < 1e9 && (r.kind == write || r.kind == mark && n == 0)
	return r, size, ok
}

// roundUp returns the next multiple of the block.
func roundUp(n int64) int64 { return (n + block - 1) / block * block }

// scan returns the records of a segment, of which b is all but the header.
func scan(b []byte, h *header) []record {
	var all []record
	for at := int64(0); at < int64(len(b)); {
		r, size, ok := decodeRecord(b[at:], h)
		follows := func() bool { return ok && (len(all) == 0 || r.seq == all[len(all)-1].seq+1) }
		if next := roundUp(at); !follows() && next != at && next < int64(len(b)) {
			at = next
			r, size, ok = decodeRecord(b[at:], h)
		}
		if !follows() {
			break
		}
		all = append(all, r)
		at += size
	}
	return all
}
