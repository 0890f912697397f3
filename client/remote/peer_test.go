package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// member serves no set, and answers Peers by f.
func member(t testing.TB, f func(ctx context.Context, msg, data []byte) ([]byte, error)) (*server.Server, *proxy, *remote.Remote) {
	t.Helper()
	s, addr := serve(t, nil, func(c *server.Config) { c.Peer = f })
	p := newProxy(t, addr)
	r := connect(t, p.addr(), func(c *remote.Config) { c.Member = true })
	if err := r.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, p, r
}

// Messages and data of all sizes arrive, and so do the answers and errors.
func TestPeer(t *testing.T) {
	_, _, r := member(t, func(ctx context.Context, msg, data []byte) ([]byte, error) {
		if string(msg) == "fail" {
			return nil, &volume.Error{Op: "peer", Errno: syscall.EIO, Reason: volume.NotPrimary}
		}
		if string(msg) == "too much" {
			return make([]byte, wire.PeerAnswerMax+1), nil
		}
		if string(msg) == "request" {
			return fmt.Append(nil, volume.RequestOf(ctx)), nil
		}
		return append(bytes.Clone(msg), data...), nil
	})
	for _, size := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {100, 4096}, {4096, volume.IOMax}, {wire.PeerMessageMax, 0}, {7, 1 << 17}} {
		msg, data := bytes.Repeat([]byte("m"), size[0]), bytes.Repeat([]byte("d"), size[1])
		answer, err := r.Peer(t.Context(), msg, data)
		if err != nil || !bytes.Equal(answer, append(msg, data...)) {
			t.Errorf("%v: %d bytes, %v", size, len(answer), err)
		}
	}
	if _, err := r.Peer(t.Context(), make([]byte, wire.PeerMessageMax), make([]byte, volume.IOMax)); volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("the largest of both, whose echo is too long: %v", err)
	}
	if _, err := r.Peer(t.Context(), []byte("too much"), nil); volume.ErrnoOf(err) != syscall.EIO {
		t.Errorf("an answer that is too long: %v", err)
	}
	if _, err := r.Peer(t.Context(), []byte("fail"), nil); volume.ReasonOf(err) != volume.NotPrimary {
		t.Errorf("an error: %v", err)
	}
	if s, err := r.Peer(t.Context(), []byte("request"), nil); string(s) != fmt.Sprint(volume.Request{}) {
		t.Errorf("a Peer names a request: %s, %v", s, err)
	}
	for _, size := range [][2]int{{wire.PeerMessageMax + 1, 0}, {0, volume.IOMax + 1}} {
		if _, err := r.Peer(t.Context(), make([]byte, size[0]), make([]byte, size[1])); volume.ErrnoOf(err) != syscall.EINVAL {
			t.Errorf("%v: %v", size, err)
		}
	}
	if !r.Up() {
		t.Error("it is not up")
	}
}

// A Peer waits neither for a connection nor for others, and ends with its context.
func TestPeerWaitsForNothing(t *testing.T) {
	hold := make(chan struct{})
	_, p, r := member(t, func(ctx context.Context, msg, _ []byte) ([]byte, error) {
		if string(msg) != "hold" {
			return nil, nil
		}
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	})
	var wg sync.WaitGroup
	for range 2 * wire.InFlightMin {
		wg.Go(func() {
			if _, err := r.Peer(t.Context(), []byte("hold"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := r.Peer(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	for timeout := 50 * time.Millisecond; ; timeout *= 2 { // too short to be asked at all, on a busy machine
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		_, err := r.Peer(ctx, []byte("hold"), nil)
		cancel()
		if volume.ErrnoOf(err) == syscall.ETIMEDOUT {
			break
		}
		if volume.ReasonOf(err) != volume.Unavailable || timeout > 10*time.Second {
			t.Fatal(err)
		}
	}
	close(hold)
	wg.Wait()
	p.stall(true, true)
	lost := start(func() error { _, err := r.Peer(t.Context(), nil, make([]byte, 1<<20)); return err })
	p.refuse.Store(true)
	p.cut()
	if err := ends(t, lost); volume.ReasonOf(err) != volume.Unavailable {
		t.Errorf("its connection is cut: %v", err)
	}
	eventually(t, "disconnected", func() bool { return !r.Up() })
	begin := time.Now()
	if _, err := r.Peer(t.Context(), nil, nil); volume.ReasonOf(err) != volume.Unavailable || time.Since(begin) > time.Second {
		t.Errorf("without a connection: %v after %v", err, time.Since(begin))
	}
}

// Members ask nothing but Peers, clients ask none, and who has no answer says so.
func TestPeerOnly(t *testing.T) {
	b := newBackend()
	_, addr := serve(t, b, nil)
	m := connect(t, addr, func(c *remote.Config) { c.Member = true })
	if _, err := m.Lookup(t.Context(), volume.Root, "name"); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("a member's lookup: %v", err)
	}
	if _, err := m.Peer(t.Context(), nil, nil); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("a Peer that nobody answers: %v", err)
	}
	c := connect(t, addr, nil)
	if err := c.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Peer(t.Context(), nil, nil); volume.ErrnoOf(err) != syscall.EOPNOTSUPP {
		t.Errorf("a client's Peer: %v", err)
	}
}

func BenchmarkPeer(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("data=%dK", size>>10), func(b *testing.B) {
			answer := make([]byte, 30)
			_, addr := serve(b, nil, func(c *server.Config) {
				c.Peer = func(context.Context, []byte, []byte) ([]byte, error) { return answer, nil }
			})
			r := connect(b, addr, func(c *remote.Config) { c.Member = true })
			if err := r.Await(b.Context()); err != nil {
				b.Fatal(err)
			}
			msg, data := make([]byte, 100), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Peer(context.Background(), msg, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
