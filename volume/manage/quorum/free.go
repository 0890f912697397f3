package quorum

import (
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Listen listens on an address of TCP that is free for others as soon as the listener is closed.
// A process that is just being started has this one's descriptors until it runs, and as long as one of
// a listening socket is open its address is in use: who restarts at once would not get it. So it is made to
// listen no more first.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &freeing{TCPListener: l.(*net.TCPListener)}, nil
}

type freeing struct {
	*net.TCPListener
	closed atomic.Bool
}

// Accept is net.Listener's.
func (l *freeing) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil && l.closed.Load() { // the kernel says something else of a socket that listens no more
		err = net.ErrClosed
	}
	return c, err
}

// Close is net.Listener's.
func (l *freeing) Close() error {
	if !l.closed.Swap(true) {
		if raw, err := l.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
		}
	}
	return l.TCPListener.Close()
}
