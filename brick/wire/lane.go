package wire

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes in bytes of what a lane begins with.
const (
	prefaceSize   = 4
	laneHelloSize = 16 + 8
)

// laneBuffer is how much a lane reads ahead, in bytes: a small request, its data of a
// page included, comes with one system call.
const laneBuffer = 8 << 10

// socketBuffer is what a lane's socket on one machine may hold, in bytes, so
// that a megabyte does not wake its reader more often than it must.
const socketBuffer = 1 << 20

// LaneHello says whose a lane, or a hatch, is.
type LaneHello struct {
	Session    SessionID
	Attachment uint64 // the number of the session's connection, from Welcome
}

// Lane is one end of a connection that carries one request, and then its
// reply, at a time. A system call sends a message and the goroutine that waits for it is
// the one that the kernel wakes. Send may be called by several goroutines at a time, the
// others by one.
type Lane struct {
	conn  laneConn
	rd    *bufio.Reader
	left  int          // bytes of the body of the frame that Next returned, not read yet
	heard atomic.Int64 // when bytes came, ns of the Unix epoch
	mu    sync.Mutex   // of writing
}

// laneConn is what a Lane needs of a connection.
type laneConn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// OpenLane begins a lane on a fresh connection to a brick; conf nil means
// without TLS. Nothing answers it: a brick that refuses hangs up. After an error
// the connection is closed.
func OpenLane(conn net.Conn, conf *tls.Config, h LaneHello) (*Lane, error) {
	begin := []byte{Magic & 0xff, Magic >> 8, Format, kindLane}
	if conf != nil {
		if _, err := conn.Write(begin); err != nil {
			_ = conn.Close()
			return nil, err
		}
		begin, conn = begin[:0], tls.Client(conn, conf)
	}
	if _, err := conn.Write(h.append(begin)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return newLane(conn)
}

func (h *LaneHello) append(b []byte) []byte {
	return appendU64(append(b, h.Session[:]...), h.Attachment)
}

// read reads whose the connection is.
func (h *LaneHello) read(conn io.Reader) error {
	var b [laneHelloSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return err
	}
	copy(h.Session[:], b[:])
	h.Attachment = binary.LittleEndian.Uint64(b[16:])
	return nil
}

// AcceptLane takes a connection that a brick has found to begin with a lane's preface.
// After an error the connection is closed.
func AcceptLane(conn net.Conn, conf *tls.Config) (*Lane, LaneHello, error) {
	if conf != nil {
		conn = tls.Server(conn, conf)
	}
	var h LaneHello
	if err := h.read(conn); err != nil {
		_ = conn.Close()
		return nil, h, err
	}
	l, err := newLane(conn)
	return l, h, err
}

// newLane makes a lane of a connection, which is closed after an error.
func newLane(conn net.Conn) (*Lane, error) {
	l := &Lane{conn: conn}
	if c, ok := conn.(*net.UnixConn); ok {
		q, err := newQuiet(c)
		if err != nil {
			return nil, err
		}
		// Without the privilege the kernel's own size will do.
		_ = unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		l.conn = q
	}
	l.rd = bufio.NewReaderSize(l.conn, laneBuffer)
	l.heard.Store(time.Now().UnixNano())
	return l, nil
}

// Send writes frames, of which the last one may be continued by data.
func (l *Lane) Send(frames, data []byte) error {
	noteTraffic()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(data) == 0 {
		_, err := l.conn.Write(frames)
		return err
	}
	if q, ok := l.conn.(*quiet); ok {
		return q.writeAll(frames, data)
	}
	b := net.Buffers{frames, data}
	_, err := b.WriteTo(l.conn)
	return err
}

// Next waits for a frame and returns its header and the length of its body,
// which must then be taken with Body: wholly, or what is left of it is malformed.
func (l *Lane) Next() (f Frame, size int, err error) {
	if l.left != 0 {
		return f, 0, malformed("%d bytes of a frame are left", l.left)
	}
	h, err := l.rd.Peek(FrameHeader)
	if err != nil {
		if errors.Is(err, io.EOF) && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return f, 0, err
	}
	l.heard.Store(time.Now().UnixNano())
	f, n, err := parseFrameHeader(h)
	if err != nil {
		return f, 0, err
	}
	_, _ = l.rd.Discard(FrameHeader) // they are there
	l.left = n - FrameHeader
	return f, l.left, f.check()
}

// Body reads the next len(p) bytes of the frame's body.
func (l *Lane) Body(p []byte) error {
	if len(p) > l.left {
		return malformed("a body of %d bytes where %d are wanted", l.left, len(p))
	}
	if _, err := io.ReadFull(l.rd, p); err != nil {
		return err
	}
	l.left -= len(p)
	l.heard.Store(time.Now().UnixNano())
	return nil
}

// Heard returns when bytes came last, or what Expect was told.
func (l *Lane) Heard() time.Time { return time.Unix(0, l.heard.Load()) }

// Expect says that from now on something is to be heard.
func (l *Lane) Expect(now time.Time) { l.heard.Store(now.UnixNano()) }

// Interrupt makes whoever reads or writes return with an error, now and later.
func (l *Lane) Interrupt() { _ = l.conn.SetDeadline(time.Unix(1, 0)) }

// Close closes the connection.
func (l *Lane) Close() { _ = l.conn.Close() }
