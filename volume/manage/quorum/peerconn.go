package quorum

import (
	"net"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"golang.org/x/sys/unix"
)

// Members send each other messages of raft in the answers to requests that do not end (rafthttp's streams): who
// is to get them has connected. When a server is cut off, such a connection hears nothing from the other end, and after that TCP
// tries again what is unacknowledged at ever longer intervals, 10 s and more, though the cut is over. What is meant to notice,
// a deadline of each read at who has connected, is lost in etcd 3.6 and 3.7: NewTimeoutTransport sets http.Transport.Dial
// beside a DialContext, which is preferred. With the next cut meanwhile there was no majority, and 16 to 22 s without a leader
// were seen. So the connection is given up here, by who writes, after deadAfter. Then messages go by requests of their own
// until the stream is begun again.

// deadAfter is how long what is sent may remain unacknowledged (TCP_USER_TIMEOUT, tcp(7)), and how long at least a
// connection on which nothing is sent answers no probes: longer than the network stalls, shorter than what a cut of a server may cost clients.
const deadAfter = 3 * time.Second

// peerListener accepts other members' connections.
type peerListener struct{ net.Listener }

// listenPeers listens for other members.
func listenPeers(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return peerListener{l}, nil
}

// Accept is net.Listener's.
func (l peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		impatient(tcp)
	}
	return &peerConn{c}, nil
}

// impatient has the kernel give a connection up that hears nothing for deadAfter. Where it can't, TCP's own patience will do.
func impatient(c *net.TCPConn) {
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: int(deadAfter/time.Second) - 1})
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
		})
	}
}

// peerConn is a connection each of whose reads and writes has a deadline, as rafthttp expects of the other side of its streams.
type peerConn struct{ net.Conn }

func (c *peerConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(rafthttp.ConnReadTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *peerConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(rafthttp.ConnWriteTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
