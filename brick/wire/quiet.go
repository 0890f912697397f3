package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A quiet is a Unix socket whose messages wake nobody who has nothing to do.
//
// Package net watches a socket for both directions at once, and a Unix socket
// reports that it can be written each time its other end takes something out (unix_write_space
// in the kernel's net/unix/af_unix.c). So whoever has sent a request was woken when it was read, for
// nothing, and again by the reply: 1.8 switches of context for an exchange, not 1. A quiet watches
// through an epoll instance of its own for what there is to read, and through another one for room to write only
// while a write waits; the instances are watched by Go's poller, as epoll(7) allows.
//
// Its system calls are raw: as the socket does not block, the scheduler need not be told of them, which would
// have it watch the process every 20 µs for a while. Together an exchange between two processes
// costs 14 µs of processor time and not 21 (two processors, kernel 6.18; 100 bytes each way).
//
// Reads are by one goroutine at a time, and so are writes.
type quiet struct {
	fd      int      // the socket; valid within calls on in, and until Close has closed that
	in, out *os.File // epoll instances
	inRaw   syscall.RawConn
	outRaw  syscall.RawConn
	closing sync.Once
	reading attempt
	writing attempt
	wrote   func(uintptr) bool // writing.send under the protection of in
	waited  func(uintptr) bool // a try to send after which out is armed
}

// attempt is a read or write under way.
type attempt struct {
	fd  int
	p   []byte
	iov []unix.Iovec
	n   int
	err syscall.Errno // EAGAIN: it would block
	try func(uintptr) bool
}

// newQuiet takes a Unix socket over: c is closed, also after an error.
func newQuiet(c *net.UnixConn) (q *quiet, err error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	q = &quiet{fd: -1}
	if e := raw.Control(func(fd uintptr) { q.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return nil, errors.Join(e, err)
	}
	if q.in, q.inRaw, err = watch(q.fd, unix.EPOLLIN|unix.EPOLLRDHUP); err == nil {
		q.out, q.outRaw, err = watch(q.fd, 0)
	}
	if err != nil {
		_ = q.Close()
		return nil, err
	}
	q.reading = attempt{fd: q.fd}
	q.reading.try = q.reading.receive
	q.writing = attempt{fd: q.fd}
	q.writing.try = q.writing.send
	q.wrote = func(uintptr) bool { q.writing.send(0); return true }
	q.waited = q.sendOrArm
	return q, nil
}

// watch returns an epoll instance that can be read while one of events is so.
func watch(fd int, events uint32) (*os.File, syscall.RawConn, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("epoll_create1: %w", err)
	}
	_ = unix.SetNonblock(ep, true) // tells os.NewFile that the poller can watch it
	f := os.NewFile(uintptr(ep), "epoll")
	raw, err := f.SyscallConn()
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("epoll: %w", err)
	}
	return f, raw, nil
}

// receive tries to read; it returns false if there is nothing yet.
func (a *attempt) receive(uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(a.fd), uintptr(unsafe.Pointer(unsafe.SliceData(a.p))), uintptr(len(a.p)))
		if errno == unix.EINTR {
			continue
		}
		a.n, a.err = int(n), errno
		return errno != unix.EAGAIN
	}
}

// send tries to write; it returns false if there is no room.
func (a *attempt) send(uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(a.fd), uintptr(unsafe.Pointer(unsafe.SliceData(a.iov))), uintptr(len(a.iov)))
		if errno == unix.EINTR {
			continue
		}
		a.n, a.err = int(n), errno
		return errno != unix.EAGAIN
	}
}

// sendOrArm tries to write and, if there is no room, asks out to tell when there is.
func (q *quiet) sendOrArm(ep uintptr) bool {
	if q.writing.send(0) {
		return true
	}
	ev := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(q.fd)}
	if err := unix.EpollCtl(int(ep), unix.EPOLL_CTL_MOD, q.fd, &ev); err != nil {
		q.writing.err = unix.EIO
		return true
	}
	return false
}

// Read is io.Reader's.
func (q *quiet) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	a := &q.reading
	a.p = p
	err := q.inRaw.Read(a.try)
	a.p = nil
	switch {
	case err != nil:
		return 0, ended(err)
	case a.err != 0:
		return 0, os.NewSyscallError("read", a.err)
	case a.n == 0:
		return 0, io.EOF
	}
	return a.n, nil
}

// Write is io.Writer's.
func (q *quiet) Write(p []byte) (int, error) { return len(p), q.writeAll(p, nil) }

// writeAll writes two pieces as one.
func (q *quiet) writeAll(p, p2 []byte) error {
	var pieces [2]unix.Iovec
	iov := pieces[:0]
	for _, b := range [][]byte{p, p2} {
		if len(b) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			iov = append(iov, v)
		}
	}
	for len(iov) > 0 {
		n, err := q.writeSome(iov)
		if err != nil {
			return err
		}
		for len(iov) > 0 && n >= int(iov[0].Len) {
			n -= int(iov[0].Len)
			iov = iov[1:]
		}
		if n > 0 {
			iov[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(iov[0].Base), n))
			iov[0].SetLen(int(iov[0].Len) - n)
		}
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(p2)
	return nil
}

// writeSome writes as much as there is room for, at least a byte, for which it waits.
func (q *quiet) writeSome(iov []unix.Iovec) (int, error) {
	a := &q.writing
	a.iov = iov
	err := q.inRaw.Write(q.wrote)
	if err == nil && a.err == unix.EAGAIN {
		err = q.outRaw.Read(q.waited)
	}
	a.iov = nil
	switch {
	case err != nil:
		return 0, ended(err)
	case a.err != 0:
		return 0, os.NewSyscallError("writev", a.err)
	}
	return a.n, nil
}

// ended says as package net does that the socket was closed, of which a RawConn has its own word.
func ended(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return net.ErrClosed
}

// SetDeadline makes reads and writes fail from t on, those under way too.
func (q *quiet) SetDeadline(t time.Time) error {
	return errors.Join(q.in.SetDeadline(t), q.out.SetDeadline(t))
}

// Close closes the socket. Reads and writes under way end with an error.
func (q *quiet) Close() error {
	q.closing.Do(func() {
		// Closing an instance waits for who uses it; who uses the socket uses one of them.
		if q.out != nil {
			_ = q.out.Close()
		}
		if q.in != nil {
			_ = q.in.Close()
		}
		_ = unix.Close(q.fd)
	})
	return nil
}
