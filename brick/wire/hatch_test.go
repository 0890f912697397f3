package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// socketpair returns two connected Unix sockets.
func socketpair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

// hatches returns both ends of a hatch.
func hatches(t *testing.T) (client, brick *Hatch) {
	t.Helper()
	here, there := socketpair(t)
	h := LaneHello{SessionID{1}, 2}
	client, err := OpenHatch(here, h)
	if err != nil {
		t.Fatal(err)
	}
	preface := make([]byte, prefaceSize)
	if _, err := io.ReadFull(there, preface); err != nil || !bytes.Equal(preface, []byte{Magic & 0xff, Magic >> 8, Format, 3}) {
		t.Fatalf("preface %x, %v", preface, err)
	}
	brick, got, err := AcceptHatch(there)
	if err != nil || got != h {
		t.Fatalf("hello %v, %v", got, err)
	}
	t.Cleanup(func() { client.Close(); brick.Close() })
	return client, brick
}

// shared returns a file with contents, and another for the window.
func shared(t *testing.T, contents string) volume.Shared {
	t.Helper()
	open := func(name, contents string) *os.File {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s := volume.Shared{File: open("file", contents), Window: open("window", "window of "+contents), Slot: 7}
	t.Cleanup(s.Close)
	return s
}

func TestHatch(t *testing.T) {
	client, brick := hatches(t)
	s := shared(t, "a")
	asked := make(chan error, 1)
	answers := []error{nil, &volume.Error{Errno: syscall.EBADF}, nil}
	go func() {
		for i, why := range answers {
			n, err := brick.Next()
			if err == nil && n != uint64(100+i) {
				err = errors.New("another handle was asked for")
			}
			if err == nil {
				err = brick.Lend(s, 5, why)
			}
			if err != nil {
				asked <- err
				return
			}
		}
		asked <- nil
	}()
	for i, why := range answers {
		l, err := client.Borrow(uint64(100 + i))
		if why != nil {
			if !errors.Is(err, ErrNotLent) || !errors.Is(err, syscall.EBADF) {
				t.Errorf("%v, want EBADF", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(io.NewSectionReader(l.File, 0, 9)); err != nil || string(b) != "a" {
			t.Errorf("read %q, %v", b, err)
		}
		if l.Slot != 7 || l.Clock != 5 || (l.Window != nil) != (i == 0) {
			t.Errorf("reply %d: slot %d, clock %d, window %v", i, l.Slot, l.Clock, l.Window)
		}
		if l.Window != nil {
			if b, _ := io.ReadAll(io.NewSectionReader(l.Window, 0, 99)); string(b) != "window of a" {
				t.Errorf("the window is %q", b)
			}
		}
		l.Close()
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// TestHatchEnds has either end hang up.
func TestHatchEnds(t *testing.T) {
	for name, end := range map[string]func(client, brick *Hatch){
		"the brick closes":  func(_, brick *Hatch) { brick.Close() },
		"the brick hangs":   func(_, brick *Hatch) { brick.Hang() },
		"the client hangs":  func(client, _ *Hatch) { client.Hang() },
		"the client closes": func(client, brick *Hatch) { client.Close() },
	} {
		client, brick := hatches(t)
		if !client.Alive() || !brick.Alive() {
			t.Fatalf("%s: not alive before", name)
		}
		s := shared(t, "a")
		go func() {
			_, _ = brick.Next()
			_ = brick.Lend(s, 0, nil)
		}()
		l, err := client.Borrow(1)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		waits := make(chan error, 1)
		go func() { _, err := brick.Next(); waits <- err }()
		end(client, brick)
		select {
		case err := <-waits:
			if err == nil {
				t.Errorf("%s: a request came", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the brick waits still", name)
		}
		if name != "the client closes" {
			if client.Alive() {
				t.Errorf("%s: the brick is alive to the client", name)
			}
			if _, err := client.Borrow(2); err == nil || errors.Is(err, ErrNotLent) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestHatchLocal refuses connections that descriptors can't go over.
func TestHatchLocal(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	if _, err := OpenHatch(here, LaneHello{}); err == nil {
		t.Error("a hatch to another machine")
	}
	here, there = net.Pipe()
	defer there.Close()
	if _, _, err := AcceptHatch(here); err == nil {
		t.Error("a hatch from another machine")
	}
}

// TestHatchMalformed answers what no brick answers. No descriptor may stay.
func TestHatchMalformed(t *testing.T) {
	s := shared(t, "a")
	fd := int(s.File.Fd())
	good := make([]byte, hatchReplySize)
	good[2] = 2
	for name, answer := range map[string]func() ([]byte, []int){
		"no window":        func() ([]byte, []int) { b := bytes.Clone(good); b[2] = 1; return b, []int{fd} },
		"one less":         func() ([]byte, []int) { return good, []int{fd} },
		"none":             func() ([]byte, []int) { return good, nil },
		"too many":         func() ([]byte, []int) { return good, []int{fd, fd, fd} },
		"with an error":    func() ([]byte, []int) { b := bytes.Clone(good); b[0] = 5; return b, []int{fd, fd} },
		"what means 0":     func() ([]byte, []int) { b := bytes.Clone(good); b[3] = 5; return b, []int{fd, fd} },
		"the end too soon": func() ([]byte, []int) { return good[:5], []int{fd, fd} },
	} {
		client, brick := hatches(t)
		before := descriptors(t)
		answered := make(chan error, 1)
		go func() {
			_, err := brick.Next()
			b, fds := answer()
			var oob []byte
			if len(fds) > 0 {
				oob = unix.UnixRights(fds...)
			}
			if err == nil {
				_, _, err = brick.conn.WriteMsgUnix(b, oob, nil)
			}
			_ = brick.conn.CloseWrite()
			answered <- err
		}()
		l, err := client.Borrow(1)
		if err == nil || errors.Is(err, ErrNotLent) {
			l.Close()
			t.Errorf("%s: %v", name, err)
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if now := descriptors(t); now != before {
			t.Errorf("%s: %d descriptors, %d before", name, now, before)
		}
	}
}

// descriptors counts this process's that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
