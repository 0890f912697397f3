package remote_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// Of who makes something in a directory, and who removes it, one succeeds, whatever happens to the server; and what was made is there.
func TestRmdirOrCreate(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := l.restarts(seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var removed, made int
	for round := range 200 {
		name := fmt.Sprint("d", round)
		n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFDIR | 0o755}
		l.makes(l.remote, name, n, 0)
		l.makesIn(n.ID, "x")
		pause, reserves := time.Duration(rng.IntN(600))*time.Microsecond, rng.IntN(2) == 0
		var rmdir, create error
		begin := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			if rmdir = l.remote.Unlink(l.ctx, n.ID, "x"); rmdir == nil {
				rmdir = l.remote.Rmdir(l.ctx, volume.Root, name)
			}
		})
		file := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
		all.Go(func() {
			<-time.After(pause)
			if reserves {
				if _, create = l.other.Reserve(l.ctx, n.ID, "new", file); create != nil && volume.ErrnoOf(create) != syscall.EAGAIN {
					return
				}
			}
			_, create = l.other.Make(l.ctx, n.ID, "new", file)
		})
		all.Wait()
		if volume.ReasonOf(rmdir) == volume.Unknown || volume.ReasonOf(create) == volume.Unknown || time.Since(begin) > volume.ReserveTime {
			continue // of a busy machine a client may be back too late to be waited for
		}
		_, err := l.other.Lookup(l.ctx, volume.Root, name)
		gone := volume.ErrnoOf(err) == syscall.ENOENT
		if (rmdir == nil) != gone || (create == nil) == gone {
			t.Fatalf("%s: rmdir %v, create %v, and it is looked up: %v", name, rmdir, create, err)
		}
		if gone {
			removed++
			continue
		}
		made++
		if a, err := l.remote.Lookup(l.ctx, n.ID, "new"); err != nil || a.ID != file.ID {
			t.Fatalf("%s: what was made is %v, %v", name, a.ID, err)
		}
	}
	stop()
	t.Logf("%d times removed, %d times made", removed, made)
}

// makesIn makes a file, though a server may end just then.
func (l *lockers) makesIn(dir volume.ID, name string) {
	l.t.Helper()
	for {
		_, err := l.remote.Make(l.ctx, dir, name, regular)
		if err == nil || volume.ErrnoOf(err) == syscall.EEXIST {
			return
		}
		if volume.ReasonOf(err) != volume.Unknown {
			l.t.Fatal(err)
		}
	}
}

// Of clients that remove the same tree at a time each name has one who removed it, whatever happens to the server.
func TestRemovedTreeHasOneWinner(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := l.restarts(seed)
	for round := range 100 {
		top := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFDIR | 0o755}
		l.makes(l.remote, fmt.Sprint("t", round), top, 0)
		dirs := []volume.ID{volume.Root, top.ID}
		names := []string{"", fmt.Sprint("t", round)}
		for depth := range 3 {
			n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFDIR | 0o755}
			for {
				if _, err := l.remote.Make(l.ctx, dirs[depth+1], "c", n); volume.ReasonOf(err) != volume.Unknown {
					break
				}
			}
			a, err := l.remote.Lookup(l.ctx, dirs[depth+1], "c")
			if err != nil {
				t.Fatal(err)
			}
			l.makesIn(a.ID, "f")
			dirs, names = append(dirs, a.ID), append(names, "c")
		}
		begin := time.Now()
		winners := make([]atomic.Int32, 2*len(dirs))
		var unsure atomic.Bool // what became of one, so names may be left
		note := func(i int, err error) {
			switch errno := volume.ErrnoOf(err); {
			case err == nil:
				winners[i].Add(1)
			case volume.ReasonOf(err) == volume.Unknown:
				unsure.Store(true)
			case errno != syscall.ENOENT && errno != syscall.ESTALE && errno != syscall.ENOTEMPTY, errno == syscall.ENOTEMPTY && !unsure.Load() && time.Since(begin) < volume.ReserveTime:
				t.Errorf("round %d, %d: %v", round, i, err)
			}
		}
		var all sync.WaitGroup
		for _, r := range []*remote.Remote{l.remote, l.other} {
			all.Go(func() {
				for i := len(dirs) - 1; i > 0; i-- {
					if i > 1 {
						note(2*i, r.Unlink(l.ctx, dirs[i], "f"))
					}
					note(2*i+1, r.Rmdir(l.ctx, dirs[i-1], names[i]))
				}
			})
		}
		all.Wait()
		if time.Since(begin) > volume.ReserveTime { // a busy machine: a client may have been back too late to be waited for
			continue
		}
		for i := range winners {
			if w := winners[i].Load(); i > 2 && (w > 1 || w == 0 && !unsure.Load()) {
				t.Fatalf("round %d, %d: %d have removed it", round, i, w)
			}
		}
	}
	stop()
}

// overLateWire is overWire, with names removed later than it is answered.
func overLateWire(t *testing.T) volume.FS {
	rec := &record{ids: map[[16]byte]bool{}}
	b := newBackend()
	b.FS = model.New()
	_, addr := serve(t, b, func(c *server.Config) { c.Lockers = func() server.Lockers { return rec } })
	r := connect(t, addr, nil)
	r.SetLate(true)
	return r
}

func TestConformanceLate(t *testing.T) { fstest.Run(t, fstest.Config{New: overLateWire}) }

func TestRandomLate(t *testing.T) { fstest.Random(t, fstest.Config{New: overLateWire}, 3000) }

func TestRandomConcurrentLate(t *testing.T) {
	fstest.RandomConcurrent(t, fstest.Config{New: overLateWire}, 1000)
}
