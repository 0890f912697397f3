package wire

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// quietPair returns both ends of a Unix socket, the first as a quiet.
func quietPair(t *testing.T) (*quiet, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	q, err := newQuiet(c.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close(); there.Close() })
	return q, there
}

// TestQuietCarries: more than the socket holds, in pieces of all sizes, in both directions at a time.
func TestQuietCarries(t *testing.T) {
	q, there := quietPair(t)
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	results := make(chan error, 3)
	go func() {
		for rest, n := data, 1; len(rest) > 0; n = n*3 + 1 {
			k := min(n, len(rest), 2<<20)
			if err := q.writeAll(rest[:k/3], rest[k/3:k]); err != nil {
				results <- err
				return
			}
			rest = rest[k:]
		}
		results <- nil
	}()
	go func() {
		_, err := there.Write(data)
		results <- err
	}()
	go func() {
		got := make([]byte, len(data))
		_, err := io.ReadFull(there, got)
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("the other end got other bytes")
		}
		results <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(q, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %v, equal: %v", err, bytes.Equal(got, data))
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	there.Close()
	if n, err := q.Read(got); n != 0 || err != io.EOF {
		t.Errorf("after the other end has closed: %d, %v", n, err)
	}
	if _, err := q.Write(data[:1]); err == nil {
		t.Error("a write to who has closed succeeds")
	}
}

// TestQuietEnds: what waits for the other end is let go by a deadline and by Close, and fails then at once.
func TestQuietEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*quiet) error
		want error
	}{
		"deadline": {func(q *quiet) error { return q.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"close":    {(*quiet).Close, net.ErrClosed},
	} {
		for _, early := range []bool{false, true} {
			q, there := quietPair(t)
			if early {
				if err := c.end(q); err != nil {
					t.Fatal(err)
				}
			}
			errs := make(chan error, 2)
			go func() {
				_, err := q.Read(make([]byte, 1))
				errs <- err
			}()
			go func() {
				_, err := q.Write(make([]byte, 64<<20))
				errs <- err
			}()
			if !early {
				if _, err := there.Read(make([]byte, 1)); err != nil { // the write has begun
					t.Fatal(err)
				}
				if err := c.end(q); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := <-errs; !errors.Is(err, c.want) {
					t.Errorf("%s, early %v: %v, want %v", name, early, err, c.want)
				}
			}
		}
	}
}

// TestQuietExchange: one waits for what the other sends, many times, so that no wake-up is lost.
func TestQuietExchange(t *testing.T) {
	q, there := quietPair(t)
	other, err := newQuiet(there.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		b := make([]byte, 16)
		for {
			n, err := other.Read(b)
			if err != nil {
				return
			}
			if _, err := other.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 16)
	for i := range 20000 {
		if _, err := q.Write([]byte{byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(q, b[:2]); err != nil || b[0] != byte(i) || b[1] != byte(i>>8) {
			t.Fatalf("exchange %d: % x, %v", i, b[:2], err)
		}
	}
}
