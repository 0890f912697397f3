package wire

import (
	"encoding/binary"

	"github.com/mortarfs/mortar/volume"
)

// Reader takes values off the front of bytes that came over the wire. After
// the first one that is not there or is over its limit all further ones are zero
// and Bad is true; so a decoder reads all its fields and asks once.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a Reader of b. Values that are slices alias b unless said otherwise.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Bad reports whether something was malformed.
func (r *Reader) Bad() bool { return r.bad }

// Len is the number of bytes that are left.
func (r *Reader) Len() int { return len(r.b) }

// Done reports whether all was well and nothing is left.
func (r *Reader) Done() bool { return !r.bad && len(r.b) == 0 }

func (r *Reader) fail() {
	r.bad, r.b = true, nil
}

// take returns the next n bytes, nil if there are fewer.
func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// U8, U16, U32, U64 and I64 take one number.
func (r *Reader) U8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// U16 takes a number of 2 bytes.
func (r *Reader) U16() uint16 {
	if p := r.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

// U32 takes a number of 4 bytes.
func (r *Reader) U32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// U64 takes a number of 8 bytes.
func (r *Reader) U64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// I64 takes a number of 8 bytes with a sign.
func (r *Reader) I64() int64 { return int64(r.U64()) }

// Bool takes a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.fail()
	}
	return v == 1
}

// ID takes an object's ID.
func (r *Reader) ID() (id volume.ID) {
	copy(id[:], r.take(len(id)))
	return id
}

// Text takes a u16 length of at most max and as many bytes, and copies them.
func (r *Reader) Text(max int) string {
	n := int(r.U16())
	if n > max {
		r.fail()
		return ""
	}
	return string(r.take(n))
}

// Value takes a u32 length of at most max and as many bytes, which alias the frame.
func (r *Reader) Value(max int) []byte {
	n := r.U32()
	if uint64(n) > uint64(max) {
		r.fail()
		return nil
	}
	return r.take(int(n))
}

// Rest takes all that is left, at most max bytes.
func (r *Reader) Rest(max int) []byte {
	if len(r.b) > max {
		r.fail()
		return nil
	}
	return r.take(len(r.b))
}

// Time takes a point in time. Impossible nanoseconds are the brick's to refuse.
func (r *Reader) Time() volume.Time { return volume.Time{Sec: r.I64(), Nsec: r.U32()} }

func appendU16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendText writes s, cut at what a u16 can count; its limits are the caller's.
func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), 1<<16-1)]
	return append(appendU16(b, uint16(len(s))), s...)
}

func appendValue(b []byte, p []byte) []byte {
	return append(appendU32(b, uint32(len(p))), p...)
}

func appendTime(b []byte, t volume.Time) []byte {
	return appendU32(appendU64(b, uint64(t.Sec)), t.Nsec)
}
