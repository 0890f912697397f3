package remote_test

import (
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// overWire puts a server and a remote on a fresh model.
func overWire(t *testing.T) volume.FS {
	_, addr := serve(t, &backend{FS: model.New()}, nil)
	return connect(t, addr, nil)
}

// overCutWire does, with a connection that is cut every few dozen requests.
func overCutWire(t *testing.T) volume.FS {
	s, addr := serve(t, &backend{FS: model.New()}, nil)
	p := newProxy(t, addr)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		last := uint64(0)
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for _, c := range s.Clients() {
				if c.Requests > last+60 {
					last = c.Requests
					p.cut()
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return connect(t, p.addr(), nil)
}

func TestConformance(t *testing.T) { fstest.Run(t, fstest.Config{New: overWire}) }

func TestConformanceCut(t *testing.T) {
	fstest.Run(t, fstest.Config{New: overCutWire, Features: fstest.Features{Slow: true}})
}

func TestRandom(t *testing.T) { fstest.Random(t, fstest.Config{New: overWire}, 3000) }

func TestRandomCut(t *testing.T) { fstest.Random(t, fstest.Config{New: overCutWire}, 1000) }

func TestRandomConcurrent(t *testing.T) {
	fstest.RandomConcurrent(t, fstest.Config{New: overCutWire}, 1000)
}
