package oplog

import (
	"encoding/binary"
	"errors"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Limits of a Record.
const (
	BodyMax    = 64 << 10 // bytes of a Body
	OutcomeMax = 512      // bytes of an Outcome
	KeysMax    = 256      // keys of a Record
)

// Point is a place in the order of a set's changes: by epoch, then by number. The zero Point is before all.
type Point struct{ Epoch, Seq uint64 }

// Before reports whether p comes before q.
func (p Point) Before(q Point) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

// Record is one change, as the log keeps it.
type Record struct {
	Point
	Keys    []Key          // what it concerns
	Request volume.Request // whose it is; zero: nobody will ask for it again
	Body    []byte         // what the set wants to know of it, up to BodyMax
	Outcome []byte         // what it came to, up to OutcomeMax; nil: that is not known (yet), see Amend
}

// check says why a record can't be written.
func (r *Record) check(op string) error {
	if len(r.Keys) > KeysMax || len(r.Body) > BodyMax || len(r.Outcome) > OutcomeMax {
		return volume.Errorf(op, "", unix.EINVAL, "a record with %d keys, a body of %d bytes and an outcome of %d", len(r.Keys), len(r.Body), len(r.Outcome))
	}
	for _, k := range r.Keys {
		if !k.Valid() {
			return volume.Errorf(op, "", unix.EINVAL, "a record with a key that is none: %+v", k)
		}
	}
	return nil
}

// hasOutcome is a Record's flag.
const hasOutcome = 1

// entry is what one payload of the log says. Its slices are parts of the payload.
type entry struct {
	kind byte
	mark Point // as it was known
	Record
}

var errEntry = errors.New("a frame that holds no record")

func appendPoint(b []byte, p Point) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, p.Epoch), p.Seq)
}

func pointAt(b []byte) Point {
	return Point{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// appendRecord appends a Record's payload.
func appendRecord(b []byte, mark Point, r *Record) []byte {
	var flags byte
	if r.Outcome != nil {
		flags = hasOutcome
	}
	b = appendPoint(append(b, recordPayload), mark)
	b = append(appendPoint(b, r.Point), flags)
	b = append(b, r.Request.Session[:]...)
	b = binary.LittleEndian.AppendUint64(b, r.Request.Number)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Keys)))
	for _, k := range r.Keys {
		b = AppendKey(b, k)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.Outcome)))
	b = append(b, r.Outcome...)
	return append(b, r.Body...)
}

// appendOutcome appends an outcome's payload.
func appendOutcome(b []byte, mark, p Point, outcome []byte) []byte {
	b = appendPoint(append(b, outcomePayload), mark)
	return append(appendPoint(b, p), outcome...)
}

// pointsSize is the length of what every payload begins with: kind and mark.
const pointsSize = 1 + 16

// parseEntry reads a payload. keys: whether the keys are wanted; they are checked anyway.
func parseEntry(b []byte, keys bool) (e entry, err error) {
	if len(b) < pointsSize {
		return entry{}, errEntry
	}
	e.kind, e.mark = b[0], pointAt(b[1:])
	b = b[pointsSize:]
	switch {
	case e.kind == markPayload && len(b) == 0:
		return e, nil
	case e.kind == outcomePayload && len(b) >= 16 && len(b) <= 16+OutcomeMax:
		e.Point, e.Outcome = pointAt(b), b[16:]
		return e, nil
	case e.kind == recordPayload:
		return e, e.parseRecord(b, keys)
	}
	return entry{}, errEntry
}

func (e *entry) parseRecord(b []byte, keys bool) (err error) {
	const fixed = 16 + 1 + 16 + 8 + 2
	if len(b) < fixed {
		return errEntry
	}
	flags := b[16]
	e.Point = pointAt(b)
	copy(e.Request.Session[:], b[17:])
	e.Request.Number = binary.LittleEndian.Uint64(b[33:])
	n := int(binary.LittleEndian.Uint16(b[41:]))
	b = b[fixed:]
	if flags&^hasOutcome != 0 || n > KeysMax || n > len(b) {
		return errEntry
	}
	if keys && n > 0 {
		e.Keys = make([]Key, 0, n)
	}
	for range n {
		var k Key
		if k, b, err = ParseKey(b); err != nil {
			return err
		}
		if keys {
			e.Keys = append(e.Keys, k)
		}
	}
	if len(b) < 2 {
		return errEntry
	}
	n, b = int(binary.LittleEndian.Uint16(b)), b[2:]
	if n > OutcomeMax || n > len(b) || n > 0 && flags&hasOutcome == 0 {
		return errEntry
	}
	if flags&hasOutcome != 0 {
		e.Outcome = b[:n]
	}
	if e.Body = b[n:]; len(e.Body) > BodyMax {
		return errEntry
	}
	return nil
}
