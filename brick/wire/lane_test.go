package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
)

// laneBegin returns what a lane without TLS begins with.
func laneBegin(t *testing.T, h LaneHello) []byte {
	t.Helper()
	here, there := net.Pipe()
	begin := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(there)
		begin <- b
	}()
	l, err := OpenLane(here, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return <-begin
}

// lanes returns both ends of a lane.
func lanes(t *testing.T) (client, brick *Lane) {
	t.Helper()
	here, there := net.Pipe()
	h := LaneHello{SessionID{1}, 2}
	accepted := make(chan error, 1)
	go func() {
		var got LaneHello
		_, err := io.ReadFull(there, make([]byte, prefaceSize))
		if err == nil {
			brick, got, err = AcceptLane(there, nil)
		}
		if err == nil && got != h {
			err = errors.New("another's hello")
		}
		accepted <- err
	}()
	client, err := OpenLane(here, nil, h)
	if err = errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); brick.Close() })
	return client, brick
}

func TestLane(t *testing.T) {
	client, brick := lanes(t)
	data := bytes.Repeat([]byte("data"), 1<<17)
	sent := make(chan error, 1)
	go func() {
		b := AppendClose(nil, []uint64{5})
		start := len(b)
		b = EndFrameWith(append(AppendFrameHeader(b, Request, OpWrite, 3), "args"...), start, len(data))
		sent <- client.Send(b, data)
	}()
	f, size, err := brick.Next()
	if err != nil || f.Kind != Close || size != 8 {
		t.Fatalf("%+v, %d, %v", f, size, err)
	}
	if _, _, err := brick.Next(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a body is left: %v", err)
	}
	if err := brick.Body(make([]byte, size+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("more than the body: %v", err)
	}
	if err := brick.Body(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	f, size, err = brick.Next()
	if err != nil || f.Kind != Request || f.Op != OpWrite || f.Number != 3 || size != 4+len(data) {
		t.Fatalf("%+v, %d, %v", f, size, err)
	}
	args, got := make([]byte, 4), make([]byte, len(data))
	if err := errors.Join(brick.Body(args), brick.Body(got), <-sent); err != nil || string(args) != "args" || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", args, err)
	}
	read := make(chan error, 1)
	go func() { _, _, err := client.Next(); read <- err }()
	client.Interrupt()
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	client.Close()
	if _, _, err := brick.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the other's end: %v", err)
	}
}

// Frames that make no sense are malformed on a lane as in a batch.
func TestLaneMalformed(t *testing.T) {
	for what, spoil := range map[string]func(b []byte) []byte{
		"length": func(b []byte) []byte { b[0] = 15; return b },
		"huge":   func(b []byte) []byte { b[3] = 0xff; return b },
		"kind":   func(b []byte) []byte { b[4] = byte(kindEnd); return b },
		"number": func(b []byte) []byte { b[8] = 0; return b },
	} {
		l, _ := newLane(script{Reader: bytes.NewReader(spoil(AppendEmpty(nil, Cancel, 5)))})
		if _, _, err := l.Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("bad %s: %v", what, err)
		}
	}
	l, _ := newLane(script{Reader: bytes.NewReader([]byte("short"))})
	if _, _, err := l.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
}
