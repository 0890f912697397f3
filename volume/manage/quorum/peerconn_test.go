package quorum

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience returns how long the kernel waits for the other end of a connection, in milliseconds; 0: as TCP does.
func patience(t *testing.T, c *net.TCPConn) (ms int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(raw.Control(func(fd uintptr) {
		ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		for option, want := range map[int]int{unix.TCP_KEEPIDLE: 1, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: 2} {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || ms != 0 && got != want {
				t.Errorf("option %d: %d, %v, want %d", option, got, err, want)
			}
		}
	}), err)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// TestPeersAreNotWaitedFor: the kernel is told to give up on another member that is silent, at both ends of a connection, and
// each read of what was accepted has a deadline. Connections to others are left alone.
func TestPeersAreNotWaitedFor(t *testing.T) {
	const want = 3000
	dial := func() (out *net.TCPConn, in net.Conn, port int) {
		l, err := listenPeers("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		o, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Close() })
		in, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		return o.(*net.TCPConn), in, l.Addr().(*net.TCPAddr).Port
	}
	out, in, port := dial()
	stranger, _, _ := dial()
	if got := patience(t, in.(*peerConn).Conn.(*net.TCPConn)); got != want {
		t.Errorf("what was accepted is given up after %d ms, want %d", got, want)
	}
	hurry(map[int]bool{port: true})
	if got := patience(t, out); got != want {
		t.Errorf("what was made to a member is given up after %d ms, want %d", got, want)
	}
	if got := patience(t, stranger); got != 0 {
		t.Errorf("what was made to another is given up after %d ms", got)
	}
	began := time.Now()
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read from a silent member: %v after %v", err, time.Since(began))
	}
}
