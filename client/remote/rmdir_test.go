package remote_test

import (
	"context"
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

func (l *lockers) mkdir(dir volume.ID, name string) volume.ID {
	l.t.Helper()
	a, err := l.remote.Make(l.ctx, dir, name, volume.Node{Mode: syscall.S_IFDIR | 0o755, ID: volume.NewID(1)})
	if err != nil {
		l.t.Fatal(err)
	}
	return a.ID
}

func (l *lockers) mkfile(dir volume.ID, name string) {
	l.t.Helper()
	if _, err := l.remote.Make(l.ctx, dir, name, volume.Node{Mode: syscall.S_IFREG | 0o644, ID: volume.NewID(1)}); err != nil {
		l.t.Fatal(err)
	}
}

// tree is d with a file x and a directory c in it, in which there is a file y.
type tree struct {
	name string
	d, c volume.ID
}

func (l *lockers) tree(name string) tree {
	l.t.Helper()
	t := tree{name: name, d: l.mkdir(volume.Root, name)}
	t.c = l.mkdir(t.d, "c")
	l.mkfile(t.d, "x")
	l.mkfile(t.c, "y")
	return t
}

// removes removes a tree by way of one client, one name after the other.
func (t *tree) removes(ctx context.Context, r *remote.Remote) error {
	for _, step := range []func() error{
		func() error { return r.Unlink(ctx, t.c, "y") },
		func() error { return r.Rmdir(ctx, t.d, "c") },
		func() error { return r.Unlink(ctx, t.d, "x") },
		func() error { return r.Rmdir(ctx, volume.Root, t.name) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

const treeNames = 4

// promptly fails if f waits for what is held.
func (l *lockers) promptly(f func() error) {
	l.t.Helper()
	got := make(chan error, 1)
	go func() { got <- f() }()
	select {
	case err := <-got:
		if err != nil {
			l.t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		l.t.Fatal("it waits")
	}
}

// Whatever would tell that a directory is not gone yet, or make something in it, waits until it is; and the link count of the one above
// is told without it.
func TestRemovedDirIsGone(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	l.mkfile(volume.Root, "other")
	for _, r := range []*remote.Remote{l.remote, l.other} {
		for i, tt := range []struct {
			what string
			ask  func(t tree) error
			want syscall.Errno
		}{
			{"lookup", func(t tree) error { _, err := r.Lookup(l.ctx, volume.Root, t.name); return err }, syscall.ENOENT},
			{"lookup in it", func(t tree) error { _, err := r.Lookup(l.ctx, t.d, "x"); return err }, syscall.ESTALE},
			{"getattr", func(t tree) error { _, err := r.Getattr(l.ctx, t.d); return err }, syscall.ESTALE},
			{"getattr of one below", func(t tree) error { _, err := r.Getattr(l.ctx, t.c); return err }, syscall.ESTALE},
			{"create", func(t tree) error {
				_, _, err := r.Create(l.ctx, t.d, "new", regular, volume.Write)
				return err
			}, syscall.ESTALE},
			{"make below", func(t tree) error { _, err := r.Make(l.ctx, t.c, "new", regular); return err }, syscall.ESTALE},
			{"reserve", func(t tree) error {
				n := regular
				n.ID = volume.NewID(1)
				_, err := r.Reserve(l.ctx, t.d, "new", n)
				return err
			}, syscall.ESTALE},
			{"link", func(t tree) error { _, err := r.Link(l.ctx, l.a.ID(), t.d, "new"); return err }, syscall.ESTALE},
			{"rename into it", func(t tree) error { return r.Rename(l.ctx, volume.Root, "other", t.d, "new", 0) }, syscall.ESTALE},
			{"rename", func(t tree) error { return r.Rename(l.ctx, volume.Root, t.name, volume.Root, "new", 0) }, syscall.ENOENT},
			{"readdir", func(t tree) error { _, _, err := r.ReadDir(l.ctx, t.d, 0, 10, false); return err }, syscall.ESTALE},
			{"setattr", func(t tree) error {
				_, err := r.Setattr(l.ctx, t.d, volume.Change{Mask: volume.SetMode, Mode: 0o700})
				return err
			}, syscall.ESTALE},
			{"rmdir", func(t tree) error { return r.Rmdir(l.ctx, volume.Root, t.name) }, syscall.ENOENT},
			{"mkdir", func(t tree) error {
				_, err := r.Make(l.ctx, volume.Root, t.name, volume.Node{Mode: syscall.S_IFDIR | 0o755})
				return err
			}, 0},
			{"fsync", func(tree) error { return r.Sync(l.ctx, volume.Root) }, 0},
		} {
			tr := l.tree(fmt.Sprint(tt.what, i, r == l.other))
			was, err := l.remote.Getattr(l.ctx, volume.Root)
			if err != nil {
				t.Fatal(err)
			}
			release := l.holds()
			var beside volume.Beside
			l.promptly(func() error { return tr.removes(volume.WithBeside(l.ctx, &beside), l.remote) })
			if beside.Dir.ID != volume.Root || beside.Dir.Nlink != was.Nlink-1 {
				t.Errorf("%d links of %v were told, %d there were before", beside.Dir.Nlink, beside.Dir.ID, was.Nlink)
			}
			got := make(chan error, 1)
			go func() { got <- tt.ask(tr) }()
			select {
			case err := <-got:
				t.Errorf("%s did not wait: %v", tt.what, err)
			case <-time.After(20 * time.Millisecond):
			}
			release()
			if err := <-got; volume.ErrnoOf(err) != tt.want {
				t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
			}
		}
	}
}

// The attributes of a directory in which names go are told when they are gone, by its name, too, and are left out of a listing.
func TestDirOfRemovedNames(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	d := l.mkdir(volume.Root, "d")
	l.mkdir(d, "c")
	release := l.holds()
	l.promptly(func() error { return l.remote.Rmdir(l.ctx, d, "c") })
	l.promptly(func() error {
		all, _, err := l.other.ReadDir(l.ctx, volume.Root, 0, 100, true)
		for _, e := range all {
			if e.ID == d && e.HasAttr {
				t.Errorf("a listing tells %+v", e.Attr)
			}
		}
		return err
	})
	got := make(chan volume.Attr, 1)
	go func() { a, _ := l.other.Lookup(l.ctx, volume.Root, "d"); got <- a }()
	select {
	case a := <-got:
		t.Errorf("a lookup did not wait: %+v", a)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if a := <-got; a.ID != d || a.Nlink != 2 {
		t.Errorf("the directory has %d links", a.Nlink)
	}
}

// A directory that has something in it, be it reserved, or going by another client, is not said to be removed.
func TestRmdirRefused(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	d := l.mkdir(volume.Root, "d")
	rmdir := func(want syscall.Errno) {
		t.Helper()
		if err := l.remote.Rmdir(l.ctx, volume.Root, "d"); volume.ErrnoOf(err) != want {
			t.Fatalf("rmdir: %v, want %v", err, want)
		}
	}
	if err := l.remote.Rmdir(l.ctx, volume.Root, "f"); volume.ErrnoOf(err) != syscall.ENOTDIR {
		t.Errorf("rmdir of a file: %v", err)
	}
	l.mkfile(d, "x")
	rmdir(syscall.ENOTEMPTY)
	l.mkfile(d, "y")
	if err := l.remote.Unlink(l.ctx, d, "x"); err != nil {
		t.Fatal(err)
	}
	rmdir(syscall.ENOTEMPTY)
	n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
	if _, err := l.other.Reserve(l.ctx, d, "z", n); err != nil {
		t.Fatal(err)
	}
	if err := l.remote.Unlink(l.ctx, d, "y"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- l.remote.Rmdir(l.ctx, volume.Root, "d") }()
	select {
	case err := <-got:
		t.Fatalf("a name is reserved, and rmdir did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := l.other.Make(l.ctx, d, "z", n); err != nil {
		t.Fatal(err)
	}
	if err := <-got; volume.ErrnoOf(err) != syscall.ENOTEMPTY {
		t.Errorf("rmdir: %v, want ENOTEMPTY", err)
	}
	release := l.holds()
	l.promptly(func() error { return l.other.Unlink(l.ctx, d, "z") })
	go func() { got <- l.remote.Rmdir(l.ctx, volume.Root, "d") }()
	select {
	case err := <-got:
		t.Errorf("another client's name goes, and rmdir did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// If a name can't be removed that was said to be, its directory can't be, and the reason is the name's.
func TestRmdirAfterFailure(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	tr := l.tree("d")
	bad := error(&volume.Error{Op: "unlink", Errno: syscall.EDQUOT})
	l.backend.fails.Store(&bad)
	release := l.holds()
	l.promptly(func() error { return tr.removes(l.ctx, l.remote) })
	release()
	if err := l.remote.Sync(l.ctx, volume.Root); volume.ErrnoOf(err) == syscall.ENOTEMPTY {
		t.Errorf("fsync: %v", err)
	}
	eventually(t, "the directory's fsync tells", func() bool {
		err := l.remote.Sync(l.ctx, volume.Root)
		if err != nil && volume.ErrnoOf(err) != syscall.EDQUOT {
			t.Fatalf("fsync: %v", err)
		}
		return err != nil
	})
	l.backend.fails.Store(nil)
	if err := tr.removes(l.ctx, l.remote); err != nil {
		t.Error(err)
	}
}

// A tree whose removal one server has answered for, and done a part of, the next one removes before anybody can tell.
func TestRemovedTreeOutlivesServer(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	for made := range treeNames + 1 {
		tr := l.tree(fmt.Sprint("d", made))
		hold := make(chan struct{})
		l.backend.hold.Store(&hold)
		l.promptly(func() error { return tr.removes(l.ctx, l.remote) })
		for range made {
			<-l.backend.held
			hold <- struct{}{}
		}
		if made < treeNames {
			<-l.backend.held
		}
		l.aProxy.refuse.Store(true)
		l.aProxy.cut()
		l.server.Stop()
		l.backend.hold.Store(nil)
		l.again()
		got := make(chan error, 1)
		go func() {
			_, err := l.other.Lookup(l.ctx, tr.c, "new")
			got <- err
		}()
		select {
		case err := <-got:
			t.Fatalf("another client was not held back: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		l.aProxy.refuse.Store(false)
		if err := <-got; volume.ErrnoOf(err) != syscall.ESTALE {
			t.Fatalf("after %d removals: %v", made, err)
		}
		for _, id := range []volume.ID{tr.c, tr.d} {
			if _, err := l.other.Getattr(l.ctx, id); volume.ErrnoOf(err) != syscall.ESTALE {
				t.Fatalf("after %d removals: %v", made, err)
			}
		}
		if _, err := l.other.Lookup(l.ctx, volume.Root, tr.name); volume.ErrnoOf(err) != syscall.ENOENT {
			t.Fatalf("after %d removals: %v", made, err)
		}
	}
}

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
		if volume.ReasonOf(rmdir) == volume.Unknown || volume.ReasonOf(create) == volume.Unknown {
			continue
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
		winners := make([]atomic.Int32, 2*len(dirs))
		var unsure atomic.Bool // what became of one, so names may be left
		note := func(i int, err error) {
			switch errno := volume.ErrnoOf(err); {
			case err == nil:
				winners[i].Add(1)
			case volume.ReasonOf(err) == volume.Unknown:
				unsure.Store(true)
			case errno != syscall.ENOENT && errno != syscall.ESTALE && !(errno == syscall.ENOTEMPTY && unsure.Load()):
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
