package remote_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// brickProcess is the environment variable in which a test tells its own binary to be a brick's process.
const brickProcess = "MORTAR_TEST_BRICK"

func TestMain(m *testing.M) {
	if what := os.Getenv(brickProcess); what != "" {
		if err := beBrick(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// beBrick serves a brick until the process is killed, or its standard input ends.
func beBrick(what string) error {
	id, path, _ := strings.Cut(what, " ")
	store, err := brick.Open(path, brick.Options{})
	if err != nil {
		return err
	}
	l, err := wire.ListenLocal(id)
	if err != nil {
		return err
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	return server.New(server.Config{Set: &nearBrick{Store: store}, VolumeID: volumeID, BrickID: brickID}).Serve(l)
}

// startBrick runs a brick in a process of its own, until kill.
func startBrick(t *testing.T, b *nearBrick) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brickProcess+"="+b.id+" "+b.path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // it ends with this process
	must(t, err)
	must(t, cmd.Start())
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	t.Cleanup(kill)
	return kill
}

// TestLocalReadsOfTheDead kills the brick: from the moment on at which anybody can know, nothing that is read by its descriptors counts.
func TestLocalReadsOfTheDead(t *testing.T) {
	b := newNearBrick(t)
	must(t, b.Store.Close())
	kill := startBrick(t, b)
	r := connectNear(t, b.id, true)
	f := hello(t, r, "a")
	eventually(t, "the file is borrowed", func() bool { readIs(t, f, "hello"); return len(b.held(t)) == 1 })
	_, err := f.WriteAt(t.Context(), []byte("HELLO"), 0, 0)
	must(t, err)
	readIs(t, f, "HELLO")
	kill()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p := make([]byte, 5)
	if n, err := f.ReadAt(ctx, p, 0); err == nil {
		t.Errorf("read %q from a brick that is dead", p[:n])
	}
	b.openStore(t) // somebody else changes the file
	h, err := b.Store.Open(t.Context(), f.ID(), volume.Write)
	must(t, err)
	_, err = h.WriteAt(t.Context(), []byte("other"), 0, 0)
	must(t, err)
	must(t, h.Close())
	must(t, b.Store.Close())
	startBrick(t, b)
	readIs(t, f, "other")
	eventually(t, "the file is borrowed again", func() bool { readIs(t, f, "other"); return len(b.held(t)) == 1 })
}

// rest waits for at most d.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// TestLocalReadsRandom has several clients write blocks by requests, each with a number that grows, and as many read: no block is
// ever half of one and half of another, and none goes back, nor is older than what was acknowledged before the read began.
// Sessions end now and then, and so do words of the window.
func TestLocalReadsRandom(t *testing.T) {
	b := newNearBrick(t)
	b.lends(t, 2)
	s := serveNear(t, b)
	const blocks, size = 4, 8 << 10
	maker := connectNear(t, b.id, true)
	f, a, err := maker.Create(t.Context(), volume.Root, "a", regular, volume.Read|volume.Write)
	must(t, err)
	_, err = f.WriteAt(t.Context(), make([]byte, blocks*size), 0, 0)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var acked [blocks]atomic.Uint64
	var wg sync.WaitGroup
	for i := range blocks {
		r := connectNear(t, b.id, false)
		wg.Go(func() {
			f, err := r.Open(t.Context(), a.ID, volume.Write)
			must(t, err)
			p := make([]byte, size)
			for n := uint64(1); ctx.Err() == nil; n++ {
				for at := 0; at < size; at += 8 {
					binary.LittleEndian.PutUint64(p[at:], n)
				}
				if _, err := f.WriteAt(t.Context(), p, int64(i)*size, 0); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				acked[i].Store(n)
				if rand.IntN(4) == 0 {
					rest(ctx, time.Millisecond)
				}
			}
		})
	}
	var all atomic.Int64
	for range 4 {
		r := connectNear(t, b.id, true)
		wg.Go(func() {
			f, err := r.Open(t.Context(), a.ID, volume.Read|volume.Write) // for reading alone it may be some ms behind: see first
			must(t, err)
			var last [blocks]uint64
			p := make([]byte, size)
			for ctx.Err() == nil {
				i := rand.IntN(blocks)
				before := acked[i].Load()
				if n, err := f.ReadAt(t.Context(), p, int64(i)*size); err != nil || n != size {
					t.Errorf("read: %d, %v", n, err)
					return
				}
				all.Add(1)
				v := binary.LittleEndian.Uint64(p)
				for at := 0; at < size; at += 8 {
					if u := binary.LittleEndian.Uint64(p[at:]); u != v {
						t.Errorf("block %d is of %d, and of %d from %d on", i, v, u, at)
						return
					}
				}
				if v < before || v < last[i] {
					t.Errorf("block %d is of %d when %d was acknowledged and %d was read", i, v, before, last[i])
					return
				}
				last[i] = v
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			rest(ctx, 300*time.Millisecond)
			s.SetBackend(nil)() // as a set does it, nothing of before runs when another begins
			s.SetBackend(b)
		}
	})
	wg.Wait()
	if n := all.Load(); b.reads.Load() >= n/2 {
		t.Errorf("of %d reads %d were by request", n, b.reads.Load())
	}
}

// TestLocalReadsTorn has a file written behind the server's back, as fast as it goes and told by the window alone: no read is half
// of one and half of another.
func TestLocalReadsTorn(t *testing.T) {
	b := newNearBrick(t)
	w := b.lends(t, 2)
	serveNear(t, b)
	const size = 128 << 10
	f, a, err := connectNear(t, b.id, true).Create(t.Context(), volume.Root, "a", regular, volume.Read|volume.Write)
	must(t, err)
	local, err := b.Store.Open(t.Context(), a.ID, volume.Read|volume.Write)
	must(t, err)
	defer local.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, size)
		for n := byte(1); ctx.Err() == nil; n++ {
			for i := range p {
				p[i] = n
			}
			b.order.Lock()
			w.Begin(a.ID)
			_, err := local.WriteAt(context.Background(), p[size/2:], size/2, 0) // first where readers come last
			if err == nil {
				_, err = local.WriteAt(context.Background(), p[:size/2], 0, 0)
			}
			w.End(a.ID)
			b.order.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			rest(ctx, 200*time.Microsecond)
		}
	})
	p := make([]byte, size)
	reads := int64(0)
	for ; ctx.Err() == nil && !t.Failed(); reads++ {
		n, err := f.ReadAt(t.Context(), p, 0)
		must(t, err)
		for i := range n {
			if p[i] != p[0] {
				t.Errorf("of %d, and of %d from %d on", p[0], p[i], i)
				break
			}
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d reads, %d by request", reads, b.reads.Load())
}
