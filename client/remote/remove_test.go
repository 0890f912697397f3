package remote_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// newRemovers returns two clients of which both may be answered before a name is gone.
func newRemovers(t *testing.T) *lockers {
	l := newLockers(t, 30*time.Second)
	l.remote.SetLate(true)
	l.other.SetLate(true)
	return l
}

// holds has the brick's removals wait for release.
func (l *lockers) holds() (release func()) {
	hold := make(chan struct{})
	l.backend.hold.Store(&hold)
	var once sync.Once
	release = func() {
		once.Do(func() { l.backend.hold.Store(nil); close(hold) })
	}
	l.t.Cleanup(release)
	return release
}

func (l *lockers) unlinks(r *remote.Remote, name string, want syscall.Errno) {
	l.t.Helper()
	if err := r.Unlink(l.ctx, volume.Root, name); volume.ErrnoOf(err) != want {
		l.t.Fatalf("unlink %s: %v, want %v", name, err, want)
	}
}

// Whatever would tell that a name is not gone yet waits until it is, for its own client as well.
func TestRemovedNameIsGone(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	for _, r := range []*remote.Remote{l.remote, l.other} {
		for i, tt := range []struct {
			what string
			ask  func(name string, f volume.File) error
			want syscall.Errno
		}{
			{"lookup", func(name string, _ volume.File) error { _, err := r.Lookup(l.ctx, volume.Root, name); return err }, syscall.ENOENT},
			{"unlink", func(name string, _ volume.File) error { return r.Unlink(l.ctx, volume.Root, name) }, syscall.ENOENT},
			{"make", func(name string, _ volume.File) error {
				_, err := r.Make(l.ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o644})
				return err
			}, 0},
			{"link", func(name string, f volume.File) error {
				_, err := r.Link(l.ctx, f.ID(), volume.Root, name+"2")
				return err
			}, syscall.ENOENT},
			{"readdir", func(name string, _ volume.File) error {
				all, _, err := r.ReadDir(l.ctx, volume.Root, volume.CookieStart, 1000, false)
				for _, e := range all {
					if e.Name == name {
						return syscall.EEXIST
					}
				}
				return err
			}, 0},
			{"getattr", func(string, volume.File) error { _, err := r.Getattr(l.ctx, volume.Root); return err }, 0},
			{"fsync", func(string, volume.File) error { return r.Sync(l.ctx, volume.Root) }, 0},
			{"getattr of the object", func(_ string, f volume.File) error {
				a, err := r.Getattr(l.ctx, f.ID())
				if err == nil && a.Nlink != 0 {
					return syscall.EMLINK
				}
				return nil
			}, 0},
			{"fstat", func(_ string, f volume.File) error {
				a, err := f.Getattr(l.ctx)
				if err == nil && a.Nlink != 0 {
					return syscall.EMLINK
				}
				return err
			}, 0},
		} {
			name := fmt.Sprint(tt.what, i, r == l.other)
			made := l.create(t, name)
			f, err := r.Open(l.ctx, made.ID(), volume.Read)
			if err != nil {
				t.Fatal(err)
			}
			release := l.holds()
			l.unlinks(l.remote, name, 0)
			got := make(chan error, 1)
			go func() { got <- tt.ask(name, f) }()
			l.waits(got, tt.what)
			release()
			if err := <-got; volume.ErrnoOf(err) != tt.want {
				t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
			}
			f.Close()
			made.Close()
		}
	}
}

// What can't be removed is told at once, and an object with more names is removed before that is told.
func TestRemoveRefused(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	l.unlinks(l.remote, "nothing", syscall.ENOENT)
	if _, err := l.remote.Make(l.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755}); err != nil {
		t.Fatal(err)
	}
	l.unlinks(l.remote, "dir", syscall.EISDIR)
	if _, err := l.remote.Link(l.ctx, l.a.ID(), volume.Root, "f2"); err != nil {
		t.Fatal(err)
	}
	release := l.holds()
	got := make(chan error, 1)
	go func() { got <- l.remote.Unlink(l.ctx, volume.Root, "f2") }()
	<-l.backend.held
	l.waits(got, "one of two names is removed")
	release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// What one server has answered for, and not done, the next one does before anybody can tell.
func TestRemovedNameOutlivesServer(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	for round := range 5 {
		name := fmt.Sprint("x", round)
		l.create(t, name).Close()
		release := l.holds()
		l.unlinks(l.remote, name, 0)
		<-l.backend.held
		date := *l.backend.dated.Load()
		later := round%2 == 1
		if later { // something that is made in the directory has a later date
			l.create(t, name+"later").Close()
		}
		l.aProxy.refuse.Store(true)
		l.aProxy.cut()
		l.server.Stop() // with the removal not made
		release()
		l.again()
		got := make(chan error, 1)
		go func() { _, err := l.other.Lookup(l.ctx, volume.Root, name); got <- err }()
		select {
		case err := <-got:
			t.Fatalf("another client was not held back: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		l.aProxy.refuse.Store(false)
		if err := <-got; volume.ErrnoOf(err) != syscall.ENOENT {
			t.Fatal(err)
		}
		if again := l.backend.dated.Load(); (again == nil) != later || again != nil && *again != date {
			t.Errorf("the removal was dated %v, then %v; later: %v", date, again, later)
		}
	}
}

// Of clients that race to remove a name one has removed it, whatever happens to the server; and of a name that
// was made anew the new one stays.
func TestRemovedNamesHaveOneWinner(t *testing.T) {
	t.Parallel()
	l := newRemovers(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := l.restarts(seed)
	for round := range 200 {
		name := fmt.Sprint("n", round)
		n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | 0o644}
		l.makes(l.remote, name, n, 0)
		var winners, unsure atomic.Int32
		var all sync.WaitGroup
		for _, r := range []*remote.Remote{l.remote, l.other, l.remote, l.other} {
			all.Go(func() {
				err := r.Unlink(l.ctx, volume.Root, name)
				switch {
				case err == nil:
					winners.Add(1)
				case volume.ReasonOf(err) == volume.Unknown:
					unsure.Add(1)
				case volume.ErrnoOf(err) != syscall.ENOENT:
					t.Errorf("unlink %s: %v", name, err)
				}
				gone := winners.Load() > 0
				if _, err := r.Lookup(l.ctx, volume.Root, name); err == nil && gone {
					t.Errorf("%s is there though it was removed", name)
				}
			})
		}
		all.Wait()
		if w, u := winners.Load(), unsure.Load(); w > 1 || w+u == 0 {
			t.Fatalf("%s: %d have removed it, of %d it is not known", name, w, u)
		}
		if winners.Load() == 0 {
			continue
		}
		n.ID = volume.NewID(1)
		l.makes(l.other, name, n, 0)
		if a, err := l.remote.Lookup(l.ctx, volume.Root, name); err != nil || a.ID != n.ID {
			t.Fatalf("%s was made anew and is %v, %v", name, a.ID, err)
		}
	}
	stop()
}
