package quorum

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenFrees: an address can be taken again at once, though another process, here a second descriptor, has the socket.
func TestListenFrees(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.(*freeing).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var kept int
	if err := raw.Control(func(fd uintptr) { kept, err = unix.Dup(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kept)
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("who waits for a connection is told %v", err)
	}
	again, err := Listen(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := in.Write([]byte("x")); err != nil {
		t.Errorf("a connection of before: %v", err)
	}
}
