package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Magic begins every message, Version is the protocol's.
const (
	Magic      = 0x724d // "Mr"
	Version    = 1
	VersionMin = 1 // the oldest version that this program speaks
)

// Limits in bytes.
const (
	FrameMax   = 4 << 20           // a frame
	MessageMax = FrameMax + 64<<10 // a gRPC message
	StepMax    = 1 << 20           // a step or its answer
	BulkMin    = 16 << 10          // payload from which on a request goes over a Bulk stream
	TextMax    = 4 << 10           // each text of an error, and of Hello
)

// Sizes of headers in bytes.
const (
	BatchHeader   = 8
	BulkHeader    = 32
	FrameHeader   = 16
	RequestHeader = 24
)

const (
	kindBatch = 1
	kindBulk  = 2
)

// Kind says what a frame is.
type Kind uint8

// The kinds; their numbers are part of the protocol.
const (
	Hello Kind = 1 + iota
	Welcome
	Request
	Reply
	Cancel
	Ack
	Ping
	Pong
	Bye
	kindEnd
)

func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return "unknown"
	}
	return [...]string{"hello", "welcome", "request", "reply", "cancel", "ack", "ping", "pong", "bye"}[k-1]
}

// ErrMalformed is, possibly wrapped, what a decoder says of bytes that are not of this protocol.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, a...))
}

// Frame is a decoded frame; Body aliases the message.
type Frame struct {
	Kind   Kind
	Op     Op
	Number uint64
	Body   []byte
}

// AppendBatchHeader begins a batch; EndBatch completes it.
func AppendBatchHeader(b []byte) []byte {
	return append(b, byte(Magic&0xff), byte(Magic>>8), Version, kindBatch, 0, 0, 0, 0)
}

// EndBatch writes the length of the batch that is all of b.
func EndBatch(b []byte) { binary.LittleEndian.PutUint32(b[4:], uint32(len(b))) }

// ParseBatch checks a batch's header and returns its frames.
func ParseBatch(b []byte) (frames []byte, err error) {
	if err := checkPrologue(b, kindBatch, BatchHeader, len(b)); err != nil {
		return nil, err
	}
	return b[BatchHeader:], nil
}

// checkPrologue checks the first 8 bytes of a message of size bytes, of which b is a prefix.
func checkPrologue(b []byte, kind byte, header, size int) error {
	switch {
	case len(b) < header || size > MessageMax:
		return malformed("message of %d bytes", size)
	case binary.LittleEndian.Uint16(b) != Magic:
		return malformed("magic %#04x", binary.LittleEndian.Uint16(b))
	case b[2] != Version:
		return malformed("protocol version %d, this program speaks %d", b[2], Version)
	case b[3] != kind:
		return malformed("message kind %d instead of %d", b[3], kind)
	case uint64(binary.LittleEndian.Uint32(b[4:])) != uint64(size):
		return malformed("message of %d bytes says %d", size, binary.LittleEndian.Uint32(b[4:]))
	}
	return nil
}

// AppendFrameHeader begins a frame; EndFrame completes it.
func AppendFrameHeader(b []byte, k Kind, op Op, number uint64) []byte {
	return appendU64(append(b, 0, 0, 0, 0, byte(k), byte(op), 0, 0), number)
}

// EndFrame writes the length of the frame that is b from start on.
func EndFrame(b []byte, start int) []byte {
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// AppendEmpty appends a frame without a body.
func AppendEmpty(b []byte, k Kind, number uint64) []byte {
	return EndFrame(AppendFrameHeader(b, k, 0, number), len(b))
}

// AppendAck appends an Ack of these numbers.
func AppendAck(b []byte, numbers []uint64) []byte {
	start := len(b)
	b = AppendFrameHeader(b, Ack, 0, 0)
	for _, n := range numbers {
		b = appendU64(b, n)
	}
	return EndFrame(b, start)
}

// NextFrame takes the first frame off frames.
func NextFrame(frames []byte) (f Frame, rest []byte, err error) {
	if len(frames) < FrameHeader {
		return f, nil, malformed("%d bytes are no frame", len(frames))
	}
	n := binary.LittleEndian.Uint32(frames)
	if n < FrameHeader || n > FrameMax || uint64(n) > uint64(len(frames)) {
		return f, nil, malformed("frame of %d bytes in a message with %d left", n, len(frames))
	}
	f = Frame{
		Kind:   Kind(frames[4]),
		Op:     Op(frames[5]),
		Number: binary.LittleEndian.Uint64(frames[8:]),
		Body:   frames[FrameHeader:n:n],
	}
	return f, frames[n:], f.check(binary.LittleEndian.Uint16(frames[6:]))
}

// check tells whether a frame's header makes sense.
func (f *Frame) check(reserved uint16) error {
	numbered := f.Kind == Request || f.Kind == Reply || f.Kind == Cancel
	withOp := f.Kind == Request || f.Kind == Reply
	switch {
	case f.Kind == 0 || f.Kind >= kindEnd:
		return malformed("frame kind %d", f.Kind)
	case reserved != 0:
		return malformed("reserved bits %#x of a frame", reserved)
	case withOp != (f.Op != 0) || f.Op >= opEnd:
		return malformed("operation %d in a %s", f.Op, f.Kind)
	case numbered != (f.Number != 0):
		return malformed("number %d in a %s", f.Number, f.Kind)
	case f.Kind == Ack && len(f.Body)%8 != 0:
		return malformed("an ack of %d bytes", len(f.Body))
	case (f.Kind == Cancel || f.Kind == Ping || f.Kind == Pong || f.Kind == Bye) && len(f.Body) != 0:
		return malformed("a %s with %d bytes", f.Kind, len(f.Body))
	}
	return nil
}

// Header is what every request carries beside its arguments.
type Header struct {
	Timeout time.Duration // until the caller's deadline, to the µs, at most 71 minutes; 0: none
	Cred    volume.Cred
	Layout  volume.LayoutVersion
}

// AppendRequest begins a request: frame header and Header. Arguments follow, then EndFrame.
func AppendRequest(b []byte, op Op, number uint64, h Header) []byte {
	b = AppendFrameHeader(b, Request, op, number)
	us := uint32(0)
	if h.Timeout > 0 {
		us = uint32(min(max(h.Timeout.Microseconds(), 1), 1<<32-1))
	}
	b = appendU32(appendU32(appendU32(b, us), h.Cred.UID), h.Cred.GID)
	return appendU32(appendU32(appendU32(b, h.Cred.Umask), h.Cred.PID), uint32(h.Layout))
}

// ParseHeader takes a request's Header.
func ParseHeader(r *Reader) (h Header) {
	h.Timeout = time.Duration(r.U32()) * time.Microsecond
	h.Cred = volume.Cred{UID: r.U32(), GID: r.U32(), Umask: r.U32(), PID: r.U32()}
	h.Layout = volume.LayoutVersion(r.U32())
	return h
}

// SessionID names a client's session: 128 random bits.
type SessionID [16]byte

// BulkPrefix is the header of a message on a Bulk stream.
type BulkPrefix struct {
	Session    SessionID
	Attachment uint64
}

// AppendBulkHeader begins a bulk message; EndBulk completes it.
func AppendBulkHeader(b []byte, p BulkPrefix) []byte {
	b = append(b, byte(Magic&0xff), byte(Magic>>8), Version, kindBulk, 0, 0, 0, 0)
	return appendU64(append(b, p.Session[:]...), p.Attachment)
}

// EndBulk writes the length of a message that is head and payload bytes more.
func EndBulk(head []byte, payload int) {
	binary.LittleEndian.PutUint32(head[4:], uint32(len(head)+payload))
}

// ParseBulk decodes a bulk message of size bytes from its first ones, head;
// the payload begins at offset. The frame must lie wholly in head.
func ParseBulk(head []byte, size int) (p BulkPrefix, f Frame, offset int, err error) {
	if err := checkPrologue(head, kindBulk, BulkHeader, size); err != nil {
		return p, f, 0, err
	}
	copy(p.Session[:], head[8:])
	p.Attachment = binary.LittleEndian.Uint64(head[24:])
	f, rest, err := NextFrame(head[BulkHeader:])
	if err != nil {
		return p, f, 0, err
	}
	offset = len(head) - len(rest)
	switch {
	case f.Kind != Request && f.Kind != Reply || !f.Op.Bulk():
		return p, f, 0, malformed("a %s of %s on a bulk stream", f.Kind, f.Op)
	case size-offset > volume.IOMax:
		return p, f, 0, malformed("payload of %d bytes, at most %d", size-offset, volume.IOMax)
	}
	return p, f, offset, nil
}
