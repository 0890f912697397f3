package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// A hatch is a connection through which a brick hands a client on its own machine
// descriptors of files that the client has open there (unix(7), SCM_RIGHTS), so that the client reads
// them without asking. What it reads so counts only while the hatch is there, and on further conditions:
// see package brick/window. The requests and replies, one after the other:
//
//	request  0  u64  handle
//	reply    0  u16  errno; if not 0 the rest is 0, and no descriptor is with it
//	         2  u8   descriptors that are with it: 1, the file's; or 2, with that of the window, in the first of a hatch
//	         3  u8   0
//	         4  u32  the window's word that is about the object
//	         8  u64  the brick's reading of CLOCK_BOOTTIME, ns
//
// There is no TLS on it though there may be on lanes: the two ends are processes of one machine, each of
// which the kernel names to the other. A descriptor goes to root, and to the user that the brick runs as, who could
// open the brick's files anyway.
const (
	hatchRequestSize = 8
	hatchReplySize   = 16
)

// Hatch is either end of such a connection. The brick's uses Next and Lend in turn, the client's Borrow, each on one
// goroutine; the others may be called by any.
type Hatch struct {
	conn *net.UnixConn
	fd   int // another descriptor of the socket, for Alive
	once sync.Once
	lent bool // a window was
}

// Lent is what goes through a hatch.
type Lent struct {
	File   *os.File // to read by
	Window *os.File // with the first
	Slot   uint32
	Clock  time.Duration // CLOCK_BOOTTIME, when it was lent: it lies within the call of Borrow, or the clocks are two
}

// Close closes the descriptors.
func (l *Lent) Close() { (&volume.Shared{File: l.File, Window: l.Window}).Close() }

// OpenHatch begins a hatch on a fresh connection to a brick. A brick that refuses it hangs up. After an
// error the connection is closed.
func OpenHatch(conn net.Conn, h LaneHello) (*Hatch, error) {
	hatch, err := newHatch(conn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(h.append([]byte{Magic & 0xff, Magic >> 8, Format, kindHatch})); err != nil {
		hatch.Close()
		return nil, err
	}
	return hatch, nil
}

// AcceptHatch takes a connection that a brick has found to begin with a hatch's preface. After an error it is closed.
func AcceptHatch(conn net.Conn) (*Hatch, LaneHello, error) {
	var h LaneHello
	hatch, err := newHatch(conn)
	if err != nil {
		return nil, h, err
	}
	if err := h.read(conn); err != nil {
		hatch.Close()
		return nil, h, err
	}
	return hatch, h, nil
}

// newHatch makes a hatch of a connection, if both ends may have one; else it closes it.
func newHatch(conn net.Conn) (*Hatch, error) {
	h := &Hatch{fd: -1}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("a hatch on a connection that leaves the machine")
	}
	h.conn = c
	err := checkPeer(c)
	if err == nil {
		err = h.control(func(fd int) (err error) {
			h.fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			return err
		})
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Hatch) control(f func(fd int) error) (err error) {
	raw, err := h.conn.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Next waits for the client's next request.
func (h *Hatch) Next() (handle uint64, err error) {
	var b [hatchRequestSize]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Lend answers it: with s, of which everything stays the caller's, or why there is nothing.
func (h *Hatch) Lend(s volume.Shared, clock time.Duration, why error) error {
	var b [hatchReplySize]byte
	if why != nil {
		binary.LittleEndian.PutUint16(b[0:], uint16(volume.ErrnoOf(why)))
		_, err := h.conn.Write(b[:])
		return err
	}
	fds := []int{int(s.File.Fd())}
	if !h.lent {
		if s.Window == nil {
			return errors.New("a descriptor without a window")
		}
		fds = append(fds, int(s.Window.Fd()))
	}
	b[2] = byte(len(fds))
	binary.LittleEndian.PutUint32(b[4:], s.Slot)
	binary.LittleEndian.PutUint64(b[8:], uint64(clock))
	_, _, err := h.conn.WriteMsgUnix(b[:], unix.UnixRights(fds...), nil)
	h.lent = h.lent || err == nil
	return err
}

// ErrNotLent is, possibly wrapped, that the brick has nothing to lend for a handle; the hatch goes on.
var ErrNotLent = errors.New("the brick lends no descriptor")

// Borrow asks for a descriptor of the file that is open under a handle. The caller closes what there is. After any error but
// ErrNotLent the hatch is of no use any more.
func (h *Hatch) Borrow(handle uint64) (Lent, error) {
	var req [hatchRequestSize]byte
	binary.LittleEndian.PutUint64(req[:], handle)
	if _, err := h.conn.Write(req[:]); err != nil {
		return Lent{}, err
	}
	var b [hatchReplySize]byte
	oob := make([]byte, unix.CmsgSpace(2*4))
	n, oobn, flags, _, err := h.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		return Lent{}, err
	}
	fds := descriptorsIn(oob[:oobn])
	l, err := h.parse(b[:], n, flags, fds)
	if err != nil {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return Lent{}, err
	}
	h.lent = true
	return l, nil
}

// descriptorsIn returns what came beside a message.
func descriptorsIn(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// parse reads a reply, of which the first n bytes have come. The descriptors are the result's if there is no error.
func (h *Hatch) parse(b []byte, n, flags int, fds []int) (Lent, error) {
	if n == 0 {
		return Lent{}, io.ErrUnexpectedEOF
	}
	if _, err := io.ReadFull(h.conn, b[n:]); err != nil {
		return Lent{}, err
	}
	errno := syscall.Errno(binary.LittleEndian.Uint16(b[0:]))
	if errno != 0 && len(fds) == 0 {
		return Lent{}, fmt.Errorf("%w: %w", ErrNotLent, errno)
	}
	expected := 2
	if h.lent {
		expected = 1
	}
	if errno != 0 || len(fds) != expected || int(b[2]) != expected || b[3] != 0 || flags&unix.MSG_CTRUNC != 0 {
		return Lent{}, malformed("a hatch's reply with %d descriptors", len(fds))
	}
	l := Lent{
		File: os.NewFile(uintptr(fds[0]), "lent file"), Slot: binary.LittleEndian.Uint32(b[4:]),
		Clock: time.Duration(binary.LittleEndian.Uint64(b[8:])),
	}
	if expected == 2 {
		l.Window = os.NewFile(uintptr(fds[1]), "window")
	}
	return l, nil
}

// Alive reports whether the other end is there: that neither it nor its process has closed it. Nobody may close this
// end meanwhile.
func (h *Hatch) Alive() bool {
	p := [1]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLRDHUP}}
	for {
		_, err := unix.Poll(p[:], 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && p[0].Revents == 0
	}
}

// SetDeadline makes reads and writes fail from t on.
func (h *Hatch) SetDeadline(t time.Time) { _ = h.conn.SetDeadline(t) }

// Hang hangs up: whoever reads or writes, here or there, fails, and neither end finds the other alive any more.
// The descriptors stay until Close.
func (h *Hatch) Hang() {
	_ = h.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
	h.SetDeadline(time.Unix(1, 0))
}

// Close is Hang, and gives the descriptors back. It may be called more than once.
func (h *Hatch) Close() {
	h.once.Do(func() {
		h.Hang()
		_ = h.conn.Close()
		if h.fd >= 0 {
			_ = unix.Close(h.fd)
		}
	})
}
