package remote_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/client/remote"
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
			l.waits(got, tt.what)
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
	l.waits(got, "a name is reserved in it")
	if _, err := l.other.Make(l.ctx, d, "z", n); err != nil {
		t.Fatal(err)
	}
	if err := <-got; volume.ErrnoOf(err) != syscall.ENOTEMPTY {
		t.Errorf("rmdir: %v, want ENOTEMPTY", err)
	}
	release := l.holds()
	l.promptly(func() error { return l.other.Unlink(l.ctx, d, "z") })
	go func() { got <- l.remote.Rmdir(l.ctx, volume.Root, "d") }()
	l.waits(got, "another client's name goes in it")
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
