package oplog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/mortarfs/mortar/brick/internal/sys"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// magic begins a file, and says of which kind it is.
type magic string

// The kinds of files.
const (
	logMagic   magic = "mortaroL"
	keysMagic  magic = "mortarkS"
	stateMagic magic = "mortarsT"
)

// version is the format's, of all kinds.
const version = 1

// head is a file's header. See the package comment.
type head struct {
	magic  magic
	number uint64
	time   int64  // when it was begun, ns since 1970 by this machine's clock
	salt   uint32 // goes into the frames' checksums, so that no other file's frames pass for this one's
}

const headSize = 8 + 4 + 8 + 8 + 4 + 4

func newHead(m magic, number uint64, time int64) head {
	return head{m, number, time, rand.Uint32()}
}

func (h head) append(b []byte) []byte {
	from := len(b)
	b = append(b, h.magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.time))
	b = binary.LittleEndian.AppendUint32(b, h.salt)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// errVersion says that a file was written by a program that knows more.
var errVersion = errors.New("it has a format version that this program does not know; use the newer one")

// errHead says that a file has no header.
var errHead = errors.New("its header is damaged")

// parseHead reads a header. Errors: errHead, errVersion.
func parseHead(m magic, b []byte) (head, error) {
	if len(b) < headSize || crc32.Checksum(b[:headSize-4], castagnoli) != binary.LittleEndian.Uint32(b[headSize-4:]) || string(b[:8]) != string(m) {
		return head{}, errHead
	}
	if binary.LittleEndian.Uint32(b[8:]) != version {
		return head{}, errVersion
	}
	return head{m, binary.LittleEndian.Uint64(b[12:]), int64(binary.LittleEndian.Uint64(b[20:])), binary.LittleEndian.Uint32(b[28:])}, nil
}

// readHead reads the header of an open file.
func readHead(k sys.Sys, fd int, m magic) (head, error) {
	var b [headSize]byte
	n, err := k.Pread(fd, b[:], 0)
	if err != nil {
		return head{}, err
	}
	return parseHead(m, b[:n])
}

// A frame is a length, a checksum and a payload.
const (
	frameHead = 8
	frameMax  = 1 << 18 // bytes of a payload
)

// A payload begins with its kind.
const (
	recordPayload  = iota + 1 // of the log: a Record
	outcomePayload            // the outcome of an earlier one
	markPayload               // nothing but the mark
	changePayload             // of a key set: keys added and removed
	statePayload              // of a state file
	payloadKinds   = statePayload
)

// beginFrame makes room at the end of b for a frame's head; endFrame fills it.
func beginFrame(b []byte) []byte { return append(b, make([]byte, frameHead)...) }

// endFrame finishes the frame that begins at b[from].
func endFrame(b []byte, from int) {
	binary.LittleEndian.PutUint32(b[from:], uint32(len(b)-from-frameHead))
	binary.LittleEndian.PutUint32(b[from+4:], frameSum(b[from:]))
}

// salted mixes the file's salt into the checksum of the frame that begins at b[from].
func salted(b []byte, from int, salt uint32) {
	binary.LittleEndian.PutUint32(b[from+4:], binary.LittleEndian.Uint32(b[from+4:])^salt)
}

// frameSum is the checksum of a whole frame: of its length and payload.
func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[frameHead:])
}

// frameAt returns the payload of the frame at the start of b, nil if there is none.
// more: b may be too short for it, and should have that many bytes.
func frameAt(b []byte, salt uint32) (payload []byte, more int) {
	if len(b) < frameHead {
		return nil, frameHead
	}
	n := binary.LittleEndian.Uint32(b)
	if n < 1 || n > frameMax || len(b) > frameHead && b[frameHead] > payloadKinds {
		return nil, 0
	}
	size := frameHead + int(n)
	if len(b) < size {
		return nil, size
	}
	if frameSum(b[:size])^salt != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0
	}
	return b[frameHead:size], 0
}

// window is a part of a file that moves along it.
type window struct {
	sys sys.Sys
	fd  int
	off int64  // of buf in the file
	buf []byte // up to the end of the file, if eof
	eof bool
}

// at returns the file's contents from off on, at least n bytes if there are so many.
// off may not go back.
func (w *window) at(off int64, n int) ([]byte, error) {
	for !w.eof && off+int64(n) > w.off+int64(len(w.buf)) {
		if skip := min(off-w.off, int64(len(w.buf))); skip > 0 {
			w.buf, w.off = w.buf[:copy(w.buf, w.buf[skip:])], w.off+skip
		}
		if cap(w.buf)-len(w.buf) < n {
			bigger := make([]byte, len(w.buf), len(w.buf)+max(n, 64<<10))
			copy(bigger, w.buf)
			w.buf = bigger
		}
		got, err := w.sys.Pread(w.fd, w.buf[len(w.buf):cap(w.buf)], w.off+int64(len(w.buf)))
		if err != nil {
			return nil, err
		}
		w.buf, w.eof = w.buf[:len(w.buf)+got], got == 0
	}
	return w.buf[min(off-w.off, int64(len(w.buf))):], nil
}

// frame returns the payload of the frame at off, nil if there is none.
func (w *window) frame(off int64, salt uint32) ([]byte, error) {
	b, err := w.at(off, frameHead)
	if err != nil {
		return nil, err
	}
	payload, more := frameAt(b, salt)
	if more > len(b) {
		if b, err = w.at(off, more); err != nil {
			return nil, err
		}
		payload, _ = frameAt(b, salt)
	}
	return payload, nil
}

// scan calls whole with the payload of each frame after the header, in order,
// and returns where the first one ends that is not followed by another: end. From there
// on it looks at every byte for frames, and calls stray with those: they tell
// that something before them was lost. Payloads are valid during the call
// only. An error of whole ends the scan, with end before that frame.
func scan(k sys.Sys, fd int, salt uint32, whole func(payload []byte) error, stray func(off int64, payload []byte)) (end int64, err error) {
	w := window{sys: k, fd: fd, off: headSize}
	for end = headSize; ; {
		payload, err := w.frame(end, salt)
		if err != nil {
			return end, err
		}
		if payload == nil {
			break
		}
		if err := whole(payload); err != nil {
			return end, fmt.Errorf("at byte %d: %w", end, err)
		}
		end += frameHead + int64(len(payload))
	}
	for off := end + 1; ; {
		payload, err := w.frame(off, salt)
		switch {
		case err != nil:
			return end, err
		case payload != nil:
			stray(off, payload)
			off += frameHead + int64(len(payload))
		default:
			off++
			if w.eof && off+frameHead >= w.off+int64(len(w.buf)) {
				return end, nil
			}
		}
	}
}
