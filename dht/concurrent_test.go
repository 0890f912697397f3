package dht

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/volume"
)

// seed returns a random test's seed, MORTAR_SEED if that is set.
func seed(t *testing.T) uint64 {
	s := rand.Uint64() >> 32
	if e := os.Getenv("MORTAR_SEED"); e != "" {
		var err error
		if s, err = strconv.ParseUint(e, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MORTAR_SEED=%d", s)
	return s
}

// storm runs random conflicting operations on few names from several clients.
// Each must fail only as POSIX has it; disturb is called now and then.
func storm(t *testing.T, c *cluster, ops int, faults bool) {
	s := seed(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	mk := func(dir volume.ID, name string) volume.ID {
		a, err := c.fs.Make(ctx, dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	d1 := mk(volume.Root, "one")
	d2 := mk(volume.Root, "two")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			w := &stormer{t: t, c: c, fs: c.client(), ctx: ctx, rng: rand.New(rand.NewPCG(s, uint64(i))), dirs: []volume.ID{volume.Root, d1, d2}, faults: faults}
			for range ops {
				w.op()
			}
		})
	}
	stop := make(chan struct{})
	var breaker sync.WaitGroup
	if faults {
		breaker.Go(func() { c.breakThings(rand.New(rand.NewPCG(s, 99)), stop) })
	}
	wg.Wait()
	close(stop)
	breaker.Wait()
	c.quiet()
	if wrong := c.check(); len(wrong) > 0 {
		for _, w := range wrong {
			t.Error(w)
		}
		c.tell()
	}
	c.snapshot()
}

type stormer struct {
	t      *testing.T
	c      *cluster
	fs     *Distribute
	ctx    context.Context
	rng    *rand.Rand
	dirs   []volume.ID
	faults bool
	files  bool // no renames of directories
}

// isDir reports whether a name leads to a directory.
func (w *stormer) isDir(dir volume.ID, name string) bool {
	a, err := w.fs.Lookup(w.ctx, dir, name)
	return err == nil && a.IsDir()
}

func (w *stormer) name() string   { return string(rune('a' + w.rng.IntN(5))) }
func (w *stormer) dir() volume.ID { return w.dirs[w.rng.IntN(len(w.dirs))] }

func (w *stormer) op() {
	ctx, fsys := w.ctx, w.fs
	d, e, n, m := w.dir(), w.dir(), w.name(), w.name()
	var err error
	what := ""
	kind := w.rng.IntN(12)
	if w.files && kind >= 6 && kind <= 9 && (w.isDir(d, n) || w.isDir(e, m)) {
		kind = 3
	}
	switch kind {
	case 0, 1:
		what = "create"
		var f volume.File
		if f, _, err = fsys.Create(ctx, d, n, volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read|volume.Write); err == nil {
			f.Close()
		}
	case 2:
		what = "mkdir"
		var a volume.Attr
		if a, err = fsys.Make(ctx, d, n, volume.Node{Mode: syscall.S_IFDIR | 0o755}); err == nil && len(w.dirs) < 12 {
			w.dirs = append(w.dirs, a.ID)
		}
	case 3:
		what = "rmdir"
		err = fsys.Rmdir(ctx, d, n)
	case 4:
		what = "unlink"
		err = fsys.Unlink(ctx, d, n)
	case 5:
		what = "link"
		var a volume.Attr
		if a, err = fsys.Lookup(ctx, d, n); err == nil {
			_, err = fsys.Link(ctx, a.ID, e, m)
		}
	case 6, 7, 8:
		what = "rename"
		err = fsys.Rename(ctx, d, n, e, m, 0)
	case 9:
		what = "exchange"
		err = fsys.Rename(ctx, d, n, e, m, volume.RenameExchange)
	case 10:
		what = "readdir"
		_, _, err = fsys.ReadDir(ctx, d, 0, 100, true)
	case 11:
		what = "getattr"
		var a volume.Attr
		if a, err = fsys.Lookup(ctx, d, n); err == nil {
			_, err = fsys.Getattr(ctx, a.ID)
		}
	}
	switch volume.ErrnoOf(err) {
	case 0, syscall.ENOENT, syscall.EEXIST, syscall.ESTALE, syscall.ENOTEMPTY, syscall.EISDIR, syscall.ENOTDIR, syscall.EPERM, syscall.EINVAL, syscall.ELOOP:
		if isOutdated(err) {
			w.t.Errorf("%s: %v", what, err)
		}
	default:
		if !w.faults || !isUnsure(err) {
			w.t.Errorf("%s: %v", what, err)
		}
	}
}

// breakThings restarts nodes until stop is closed, one at a time.
func (c *cluster) breakThings(rng *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(30)) * time.Millisecond):
		}
		n := c.nodes[c.ids[rng.IntN(len(c.ids))]]
		f := &fault{}
		f.left.Store(int64(rng.IntN(20) + 1))
		n.fault.Store(f)
		for deadline := time.Now().Add(50 * time.Millisecond); !f.hit.Load() && time.Now().Before(deadline); {
			c.pause()
		}
		n.restart()
	}
}

func TestStorm(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { storm(t, newCluster(t, n, false), 500, false) })
	}
}

func TestStormWithCrashes(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprintf("%d sets", n), func(t *testing.T) { storm(t, newCluster(t, n, true), 200, true) })
	}
}

// TestOpposing runs pairs of operations against each other that want the same
// names in opposite order, or the same directory.
func TestOpposing(t *testing.T) {
	w := newWorld(t)
	a := w.file(w.dir, 1, "a")
	b := w.owned(w.dir, 2, "b")
	other := w.client()
	for range 100 {
		both(
			func() { w.fs.Rename(w.ctx, w.dir, a, w.dir, b, 0) },
			func() { other.Rename(w.ctx, w.dir, b, w.dir, a, 0) },
		)
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	d := w.owned(w.dir, 3, "d")
	for i := range 100 {
		a, err := w.fs.Make(w.ctx, w.dir, d, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		w.must(err)
		name := w.owned(a.ID, volume.SetID(i%3+1), "f")
		var rmErr, mkErr error
		both(
			func() { rmErr = w.fs.Rmdir(w.ctx, w.dir, d) },
			func() {
				_, mkErr = other.Make(w.ctx, a.ID, name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
			},
		)
		switch {
		case rmErr == nil && isErrno(mkErr, syscall.ESTALE):
		case isErrno(rmErr, syscall.ENOTEMPTY) && mkErr == nil:
			w.must(w.fs.Rmdir(w.ctx, a.ID, name))
			w.must(w.fs.Rmdir(w.ctx, w.dir, d))
		default:
			t.Fatalf("rmdir: %v, mkdir below: %v", rmErr, mkErr)
		}
	}
	w.quiet()
	if wrong := w.check(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

// TestNoLoop moves two directories into each other at once.
func TestNoLoop(t *testing.T) {
	w := newWorld(t)
	x, y := w.owned(w.dir, 1, "x"), w.owned(w.dir, 2, "y")
	other := w.client()
	for range 30 {
		a, err := w.fs.Make(w.ctx, w.dir, x, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		w.must(err)
		b, err := w.fs.Make(w.ctx, w.dir, y, volume.Node{Mode: syscall.S_IFDIR | 0o755})
		w.must(err)
		in, in2 := w.owned(b.ID, 3, "in"), w.owned(a.ID, 2, "in")
		var err1, err2 error
		both(
			func() { err1 = w.fs.Rename(w.ctx, w.dir, x, b.ID, in, 0) },
			func() { err2 = other.Rename(w.ctx, w.dir, y, a.ID, in2, 0) },
		)
		if (err1 == nil) == (err2 == nil) {
			t.Fatalf("both or neither: %v, %v", err1, err2)
		}
		if err1 == nil {
			w.must(w.fs.Rmdir(w.ctx, b.ID, in))
			w.must(w.fs.Rmdir(w.ctx, w.dir, y))
		} else {
			w.must(w.fs.Rmdir(w.ctx, a.ID, in2))
			w.must(w.fs.Rmdir(w.ctx, w.dir, x))
		}
	}
}

func both(f, g func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Go(g)
	wg.Wait()
}

// TestConformanceOddNetwork runs the suite over a network that delivers every
// step twice, and some late.
func TestConformanceOddNetwork(t *testing.T) {
	s := seed(t)
	odd := func(t *testing.T) volume.FS {
		c := newCluster(t, 3, false)
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(s, 1))
		net := network(func(_ *life, _ volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
			mu.Lock()
			wait, twice := rng.IntN(20) == 0, rng.IntN(2) == 0
			mu.Unlock()
			if wait {
				c.pause()
			}
			r, err := send()
			if st, derr := decodeStep(b); twice && derr == nil && st.op != opReserve { // a reservation waits for itself
				send()
			}
			return r, err
		})
		c.net.Store(&net)
		return c.fs
	}
	fstest.Run(t, fstest.Config{New: odd})
	fstest.Random(t, fstest.Config{New: odd}, 2000)
	fstest.RandomConcurrent(t, fstest.Config{New: odd}, 500)
}
