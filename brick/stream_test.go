package brick

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// TestStream: what is written in order, or nearly, is begun piece by piece; what is written all over, or again, is not.
func TestStream(t *testing.T) {
	const mib = 1 << 20
	rng := rand.New(rand.NewPCG(1, 2))
	order := func(n int) (offs []int64) {
		for i := range n {
			offs = append(offs, int64(i)*mib)
		}
		return offs
	}
	shuffled := order(64)
	for i := 0; i < len(shuffled); i += 4 { // four writers
		rng.Shuffle(4, func(a, b int) { shuffled[i+a], shuffled[i+b] = shuffled[i+b], shuffled[i+a] })
	}
	far := order(640)
	rng.Shuffle(len(far), func(a, b int) { far[a], far[b] = far[b], far[a] })
	for _, c := range []struct {
		name string
		offs []int64
		want int
	}{
		{"in order", order(64), 8},
		{"a short file", order(7), 0},
		{"four writers", shuffled, 8},
		{"all over", far[:64], 0},
		{"the same place", make([]int64, 64), 0},
	} {
		var s stream
		got, last := 0, int64(0)
		for _, off := range c.offs {
			if from, n, now := s.wrote(off, mib); now {
				if got++; from != last || n != streamed {
					t.Errorf("%s: %d bytes at %d, the last ended at %d", c.name, n, from, last)
				}
				last = from + n
			}
		}
		if got != c.want {
			t.Errorf("%s: %d pieces, want %d", c.name, got, c.want)
		}
	}
}

// flusher notes which ranges were begun.
type flusher struct {
	sys.Real
	mu     sync.Mutex
	ranges []int64
}

func (f *flusher) SyncFileRange(fd int, off, n int64) error {
	f.mu.Lock()
	f.ranges = append(f.ranges, off)
	f.mu.Unlock()
	return f.Real.SyncFileRange(fd, off, n)
}

// TestStreamed writes a large file: the disk has begun with it before anybody syncs.
func TestStreamed(t *testing.T) {
	f := &flusher{}
	s := openBrick(t, newBrick(t), Options{sys: f})
	h, _, err := s.Create(t.Context(), volume.Root, "f", volume.Node{Mode: 0o644}, volume.Read|volume.Write)
	check(t, err)
	defer h.Close()
	for i := range 20 {
		_, err := h.WriteAt(t.Context(), bytes.Repeat([]byte{1}, 1<<20), int64(i)<<20, 0)
		check(t, err)
	}
	if want := []int64{0, 8 << 20}; !slices.Equal(f.ranges, want) {
		t.Errorf("begun at %v, want %v", f.ranges, want)
	}
}
