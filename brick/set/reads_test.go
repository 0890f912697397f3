package set

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// TestReadsSeeWhatIsSettled has changes that no backup has: nobody who asks sees anything of them.
func TestReadsSeeWhatIsSettled(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	p, s := c.primary(10 * time.Second)
	f, id := newFile(t, s, "a", "hello")
	sub, err := s.Make(t.Context(), volume.Root, "sub", volume.Node{Mode: syscall.S_IFDIR | 0o700})
	must(t, err)
	_, err = s.Link(t.Context(), id, sub.ID, "a")
	must(t, err)
	late := make(chan struct{})
	c.setWeather(&weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
		if message(msg[frontSize]) == msgApply {
			return late
		}
		return nil
	}})
	before, err := p.member.Getattr(t.Context(), id)
	must(t, err)
	results := begun(func() error { _, err := f.WriteAt(context.Background(), []byte("HELLO, world"), 0, 0); return err })
	results2 := begun(func() error {
		_, err := s.Make(context.Background(), volume.Root, "b", volume.Node{Mode: syscall.S_IFREG | 0o600})
		return err
	})
	c.eventually("both are applied here", 5*time.Second, func() bool {
		_, err := p.member.Lookup(t.Context(), volume.Root, "b")
		a, err2 := p.member.Getattr(t.Context(), id)
		return err == nil && err2 == nil && a.Size == 12
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	looks := map[string]func() (seen bool, err error){
		"lookup":   func() (bool, error) { a, err := s.Lookup(ctx, volume.Root, "a"); return a.Size != before.Size, err },
		"getattr":  func() (bool, error) { a, err := s.Getattr(ctx, id); return a.Size != before.Size, err },
		"fgetattr": func() (bool, error) { a, err := f.Getattr(ctx); return a.Size != before.Size, err },
		"read": func() (bool, error) {
			b := make([]byte, 5)
			_, err := f.ReadAt(ctx, b, 0)
			return string(b) != "hello", err
		},
		"seek": func() (bool, error) { n, err := f.Seek(ctx, 0, volume.SeekHole); return n != 5, err },
		"new":  func() (bool, error) { _, err := s.Lookup(ctx, volume.Root, "b"); return true, err },
		"create": func() (bool, error) {
			_, _, err := s.Create(ctx, volume.Root, "b", volume.Node{Mode: 0o600}, volume.Read|volume.Excl)
			return true, err
		},
		"list": func() (bool, error) { es, _, err := s.ReadDir(ctx, volume.Root, 0, 10, true); return len(es) != 2, err },
		"list of what is written": func() (bool, error) {
			es, _, err := s.ReadDir(ctx, sub.ID, 0, 10, true)
			return len(es) != 1 || es[0].HasAttr && es[0].Attr.Size != before.Size, err
		},
	}
	done := make(chan string, len(looks))
	for name, look := range looks {
		go func() {
			defer func() { done <- name }()
			if seen, err := look(); err == nil && seen {
				t.Errorf("%s shows what no backup has", name)
			}
		}()
	}
	for range looks {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("a question is not answered in time")
		}
	}
	c.clear()
	close(late)
	for _, r := range []<-chan error{results, results2} {
		select {
		case err := <-r:
			must(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("not acknowledged")
		}
	}
	c.allInSync(10 * time.Second)
	c.equal()
}

// TestFailsThoughDone has the primary's disk say EIO of changes that it has made: the members are alike
// afterwards, whatever became of them.
func TestFailsThoughDone(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, inMemory)
	p, s := c.primary(10 * time.Second)
	f, id := newFile(t, s, "a", "hello")
	for _, do := range []func() error{
		func() error {
			_, err := s.Make(t.Context(), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o700})
			return err
		},
		func() error { return s.Rename(t.Context(), volume.Root, "a", volume.Root, "b", 0) },
		func() error { _, err := f.WriteAt(t.Context(), []byte("HELLO, world"), 0, 0); return err },
		func() error { return s.Setxattr(t.Context(), id, "user.x", []byte("v"), 0) },
		func() error { return s.Unlink(t.Context(), volume.Root, "b") },
	} {
		failed := false
		p.proc.setFault(func(op string) error {
			switch op {
			case "make", "rename", "write", "setxattr", "unlink":
				if !failed {
					failed = true
					return &volume.Error{Op: op, Errno: syscall.EIO}
				}
			}
			return nil
		})
		if err := do(); volume.ErrnoOf(err) != syscall.EIO || !failed {
			t.Errorf("%v, want EIO", err)
		}
		p.proc.setFault(nil)
		c.equal()
	}
	c.allInSync(10 * time.Second)
	must(t, f.Close())
	c.equal()
}

// TestUndoneIsForgotten has a write fail at the primary that the others have carried out: it is undone there, and
// nobody is told afterwards that it took effect, not even by a member that was started anew, and reads its log.
func TestUndoneIsForgotten(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		c := begunCluster(t, 2, inMemory)
		p, s := c.primary(10 * time.Second)
		b := c.nodes[1-p.i]
		f, _ := newFile(t, s, "a", "hello")
		q := volume.Request{Session: [16]byte{1}, Number: 1}
		p.proc.mu.Lock()
		p.proc.refuse = func(op string) error {
			if op == "write" {
				return &volume.Error{Op: op, Errno: syscall.ENOSPC}
			}
			return nil
		}
		p.proc.mu.Unlock()
		if _, err := f.WriteAt(volume.WithRequest(t.Context(), q), []byte("HELLO"), 0, 0); volume.ErrnoOf(err) != syscall.ENOSPC {
			t.Fatalf("%v, want ENOSPC", err)
		}
		c.equal()
		for _, name := range []string{"x", "y", "z"} { // with which it learns that all of before is finished
			_, err := s.Make(t.Context(), volume.Root, name, volume.Node{Mode: 0o100644})
			must(t, err)
		}
		if restarts {
			b.end(true)
			b.start()
			c.allInSync(10 * time.Second)
		}
		p.end(true)
		c.otherThan(p, 10*time.Second)
		if _, executed, known := b.set.Outcome(t.Context(), q); executed {
			t.Errorf("restarts %v: it is told that it took effect (known: %v)", restarts, known)
		}
	}
}

func (p *process) setFault(f func(op string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}
