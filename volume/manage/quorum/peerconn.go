package quorum

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"golang.org/x/sys/unix"
)

// Members send each other messages of raft in the answers to requests that do not end (rafthttp's streams): who
// is to get them has connected. When a server is cut off, such a connection hears nothing from the other end, and after that TCP
// tries again what is unacknowledged at ever longer intervals, 10 s and more, though the cut is over. What is meant to notice,
// a deadline of each read at who has connected, is lost in etcd 3.6 and 3.7: NewTimeoutTransport sets http.Transport.Dial
// beside a DialContext, which is preferred. With the next cut meanwhile there was no majority, and 16 to 22 s without a leader
// were seen. So the kernel is told to give such connections up after deadAfter, at both ends: of those that were accepted when
// that happens, of those that rafthttp makes by looking at this process's sockets, for it lets nobody else have them.

// deadAfter is how long what is sent may remain unacknowledged (TCP_USER_TIMEOUT, tcp(7)), and how long at least a
// connection on which nothing is sent answers no probes: longer than the network stalls, shorter than what a cut of a server may cost clients.
const deadAfter = 3 * time.Second

// lookAgain is how often the sockets are looked at.
const lookAgain = time.Second

// watchPeers has the connections given up in time that this process makes to the ports of others, until ctx ends.
func watchPeers(ctx context.Context, ports func() map[int]bool) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		hurry(ports())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hurry has all connections of this process to these ports given up in time. A socket that is closed meanwhile, and
// its number used again for another, does no harm: that one is given up in time, too, if it is a connection at all.
func hurry(ports map[int]bool) {
	if len(ports) == 0 {
		return
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range all {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if there, err := unix.Getpeername(fd); err != nil || !ports[portOf(there)] {
			continue
		}
		if set, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err == nil && set == 0 {
			impatient(fd)
		}
	}
}

// portOf is the port of an address of TCP, 0 of any other.
func portOf(a unix.Sockaddr) int {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}

// peerListener accepts other members' connections.
type peerListener struct{ net.Listener }

// listenPeers listens for other members.
func listenPeers(addr string) (net.Listener, error) {
	l, err := Listen(addr)
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
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { impatient(int(fd)) })
		}
	}
	return &peerConn{c}, nil
}

// impatient has the kernel give a connection up that hears nothing for deadAfter. Where it can't, TCP's own patience will do.
func impatient(fd int) {
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int(deadAfter/time.Second) - 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds())},
	} {
		_ = unix.SetsockoptInt(fd, o.level, o.option, o.value)
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
