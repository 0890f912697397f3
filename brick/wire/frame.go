package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Magic and Format begin every message, Version is what Hello and Welcome settle.
const (
	Magic      = 0x724d // "Mr"
	Format     = 1      // of batches, frames and lanes
	Version    = 4      // of what is in the frames
	VersionMin = 1      // the oldest version that this program speaks

	// LocksSince is the version from which on there are locks between clients. One of an earlier
	// version has its kernel keep those of its mount, of which nobody else knows.
	LocksSince = 4
	// WriteSetSince is the version from which on a write can set attributes, and an access ACL is minimal by a change of those.
	WriteSetSince = 4
	// BearSince is the version from which on a file is made with what is in it by one request.
	BearSince = 4
	// ReserveSince is the version from which on names can be reserved.
	ReserveSince = 4
	// CopySince is the version from which on a brick copies between files of its own.
	CopySince = 4
	// HatchSince is the version from which on a brick lends descriptors.
	HatchSince = 4
)

// Limits in bytes.
const (
	FrameMax   = 4 << 20           // a frame
	MessageMax = FrameMax + 64<<10 // a gRPC message
	StepMax    = 1 << 20           // a step or its answer
	TextMax    = 4 << 10           // each text of an error, and of Hello

	PeerMessageMax = 128 << 10            // the message of a Peer, its data apart
	PeerAnswerMax  = volume.IOMax + 4<<10 // the answer to one
)

// Sizes of headers in bytes.
const (
	BatchHeader   = 8
	FrameHeader   = 16
	RequestHeader = 24
)

const (
	kindBatch = 1 // a gRPC message
	kindLane  = 2 // the preface of a lane
	kindHatch = 3 // the preface of a hatch
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
	Close
	Told
	Data
	kindEnd
)

func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return "unknown"
	}
	return [...]string{"hello", "welcome", "request", "reply", "cancel", "ack", "ping", "pong", "bye", "close", "told", "data"}[k-1]
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
	return append(b, byte(Magic&0xff), byte(Magic>>8), Format, kindBatch, 0, 0, 0, 0)
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
	case b[2] != Format:
		return malformed("format %d, this program speaks %d", b[2], Format)
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
func EndFrame(b []byte, start int) []byte { return EndFrameWith(b, start, 0) }

// EndFrameWith is EndFrame of a frame that data of that many bytes will continue.
func EndFrameWith(b []byte, start, data int) []byte {
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start+data))
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

// AppendClose appends a Close of these handles.
func AppendClose(b []byte, handles []uint64) []byte {
	start := len(b)
	b = AppendFrameHeader(b, Close, 0, 0)
	for _, n := range handles {
		b = appendU64(b, n)
	}
	return EndFrame(b, start)
}

// AppendTold appends a Told of these attributes.
func AppendTold(b []byte, a *volume.Attr) []byte {
	start := len(b)
	return EndFrame(AppendAttr(AppendFrameHeader(b, Told, 0, 0), a), start)
}

// parseFrameHeader decodes the first FrameHeader bytes of a frame; n is the
// length of the whole frame, and the Body is not there yet.
func parseFrameHeader(b []byte) (f Frame, n int, err error) {
	size := binary.LittleEndian.Uint32(b)
	if size < FrameHeader || size > FrameMax {
		return f, 0, malformed("frame of %d bytes", size)
	}
	if reserved := binary.LittleEndian.Uint16(b[6:]); reserved != 0 {
		return f, 0, malformed("reserved bits %#x of a frame", reserved)
	}
	return Frame{Kind: Kind(b[4]), Op: Op(b[5]), Number: binary.LittleEndian.Uint64(b[8:])}, int(size), nil
}

// NextFrame takes the first frame off frames.
func NextFrame(frames []byte) (f Frame, rest []byte, err error) {
	if len(frames) < FrameHeader {
		return f, nil, malformed("%d bytes are no frame", len(frames))
	}
	f, n, err := parseFrameHeader(frames)
	if err != nil {
		return f, nil, err
	}
	if n > len(frames) {
		return f, nil, malformed("frame of %d bytes in a message with %d left", n, len(frames))
	}
	f.Body = frames[FrameHeader:n:n]
	if (f.Kind == Ack || f.Kind == Close) && len(f.Body)%8 != 0 {
		return f, nil, malformed("a %s of %d bytes", f.Kind, len(f.Body))
	}
	if f.empty() && len(f.Body) != 0 {
		return f, nil, malformed("a %s with %d bytes", f.Kind, len(f.Body))
	}
	return f, frames[n:], f.check()
}

// empty reports whether frames of the kind have no body.
func (f *Frame) empty() bool {
	return f.Kind == Cancel || f.Kind == Ping || f.Kind == Pong || f.Kind == Bye
}

// check tells whether a frame's header makes sense.
func (f *Frame) check() error {
	numbered := f.Kind == Request || f.Kind == Reply || f.Kind == Cancel
	withOp := f.Kind == Request || f.Kind == Reply
	switch {
	case f.Kind == 0 || f.Kind >= kindEnd:
		return malformed("frame kind %d", f.Kind)
	case withOp != (f.Op != 0) || f.Op >= opEnd:
		return malformed("operation %d in a %s", f.Op, f.Kind)
	case numbered != (f.Number != 0):
		return malformed("number %d in a %s", f.Number, f.Kind)
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
