package set

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/volume"
)

// loan is a file of the set as a client has it that reads by itself.
type loan struct {
	shared volume.Shared
	view   *window.View
	p      *process // the primary's, whose end it would see
}

// borrow takes a loan of a file that is open at the primary.
func borrow(f volume.File, p *process) (*loan, error) {
	shared, err := f.(volume.Sharer).Share()
	if err != nil {
		return nil, err
	}
	l := &loan{shared: shared, p: p}
	if l.view, err = window.Map(shared.Window); err != nil {
		shared.Close()
		return nil, err
	}
	return l, nil
}

func (l *loan) close() {
	l.view.Close()
	l.shared.Close()
}

// read does what a client does. Not ok: the primary is to be asked.
func (l *loan) read(p []byte, off int64) (n int, ok bool) {
	mark, quiet := l.view.Look(l.shared.Slot)
	if !quiet {
		return 0, false
	}
	n, err := l.shared.File.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return 0, false
	}
	return n, l.view.Same(l.shared.Slot, mark) && !l.p.killed() && l.view.Open()
}

// text is read of a short file.
func (l *loan) text() (string, bool) {
	b := make([]byte, 100)
	n, ok := l.read(b, 0)
	return string(b[:n]), ok
}

// lent makes a file and borrows it.
func lent(t *testing.T, c *cluster, p *node, s volume.Store, name, content string) (f volume.File, l *loan) {
	t.Helper()
	f, _ = newFile(t, s, name, content)
	l, err := borrow(f, p.proc)
	must(t, err)
	t.Cleanup(l.close)
	c.eventually("the file is read past the primary", 10*time.Second, func() bool {
		got, ok := l.text()
		return ok && got == content
	})
	return f, l
}

// holdApply keeps changes from the backups until the function that it returns is called.
func (c *cluster) holdApply() (letGo func()) {
	late := make(chan struct{})
	c.setWeather(&weather{hold: func(_, _ *node, msg []byte) <-chan struct{} {
		if message(msg[frontSize]) == msgApply {
			return late
		}
		return nil
	}})
	return sync.OnceFunc(func() {
		c.clear()
		close(late)
	})
}

// TestLentInFlight has changes that no backup has: nobody sees anything of them by a descriptor.
func TestLentInFlight(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, onBricks)
	p, s := c.primary(10 * time.Second)
	for name, change := range map[string]struct {
		do   func(f volume.File) error
		want string
	}{
		"write":    {func(f volume.File) error { _, err := f.WriteAt(t.Context(), []byte("HE"), 0, 0); return err }, "HEllo"},
		"append":   {func(f volume.File) error { _, err := f.Append(t.Context(), []byte(", world"), 0); return err }, "hello, world"},
		"cut":      {func(f volume.File) error { return setSize(t.Context(), f, 2) }, "he"},
		"allocate": {func(f volume.File) error { return f.Allocate(t.Context(), volume.AllocZeroRange, 1, 1) }, "h\x00llo"},
		"write and set": {func(f volume.File) error {
			_, err := f.WriteSet(t.Context(), []byte("HE"), 0, 0, volume.Change{Mask: volume.SetMode, Mode: 0o600})
			return err
		}, "HEllo"},
		"open": {func(f volume.File) error {
			g, err := s.Open(t.Context(), f.ID(), volume.Write|volume.Truncate)
			if err == nil {
				err = g.Close()
			}
			return err
		}, ""},
	} {
		f, l := lent(t, c, p, s, name, "hello")
		_, other := lent(t, c, p, s, "beside "+name, "hello")
		letGo := c.holdApply()
		done := begun(func() error { return change.do(f) })
		c.eventually(name+" is under way", 10*time.Second, func() bool { _, ok := l.text(); return !ok })
		// A loan that is taken meanwhile says so too.
		g, err := borrow(f, p.proc)
		must(t, err)
		for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
			for _, l := range []*loan{l, g} {
				if got, ok := l.text(); ok {
					t.Fatalf("%s: %q is read that no backup has, or may be so", name, got)
				}
			}
		}
		if _, ok := other.text(); !ok {
			t.Errorf("%s: another file is held up", name)
		}
		letGo()
		must(t, <-done)
		for _, l := range []*loan{l, g} {
			if got, ok := l.text(); !ok || got != change.want {
				t.Errorf("%s: %q, %v; want %q", name, got, ok, change.want)
			}
		}
		g.close()
		must(t, f.Close())
	}
}

func setSize(ctx context.Context, f volume.File, size int64) error {
	_, err := f.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: size})
	return err
}

// TestLentAbandoned has a change that a backup never gets: it stays under way although its caller has given up, until
// the backup has it in another way, or is out.
func TestLentAbandoned(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, onBricks)
	p, s := c.primary(10 * time.Second)
	f, l := lent(t, c, p, s, "a", "hello")
	r := p.set.reignNow()
	fl := r.takeOff(&change{kind: doWrite, id: f.ID(), len: 1})[0]
	r.appliedHere(fl)
	r.abandon(fl)
	if _, ok := l.text(); ok {
		t.Error("a change that not all have does not show")
	}
	r.land(fl)
	r.land(fl) // once more does no harm
	if _, ok := l.text(); !ok {
		t.Error("a change that all have shows")
	}
	fl = r.takeOff(&change{kind: doWrite, id: f.ID(), len: 1})[0]
	r.appliedHere(fl)
	r.abandon(fl)
	r.mu.Lock()
	r.landOrphansLocked(fl.seq)
	r.mu.Unlock()
	if _, ok := l.text(); !ok {
		t.Error("a change that all have by alignment shows")
	}
	fl = r.takeOff(&change{kind: doWrite, id: f.ID(), len: 1})[0]
	r.appliedHere(fl)
	r.depose("the test says so")
	r.land(fl)
	if got, ok := l.text(); ok {
		t.Errorf("%q is read at a primary that is none", got)
	}
}

// TestLentDeposed cuts a primary off: before another one acknowledges anything, reads past the first count no more.
func TestLentDeposed(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 3, onBricks)
	p, s := c.primary(10 * time.Second)
	f, l := lent(t, c, p, s, "a", "hello")
	var acked atomic.Bool
	var reads, late atomic.Int64
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := acked.Load()
			if _, ok := l.text(); ok && before {
				late.Add(1)
			} else if ok {
				reads.Add(1)
			}
		}
	})
	defer reading.Wait()
	defer sync.OnceFunc(func() { close(stop) })()
	c.alone(p)
	_, s2 := c.otherThan(p, 30*time.Second)
	g, err := s2.Open(t.Context(), f.ID(), volume.Write)
	must(t, err)
	defer g.Close()
	_, err = g.WriteAt(t.Context(), []byte("HELLO"), 0, 0)
	must(t, err)
	acked.Store(true)
	pause(t.Context(), 200*time.Millisecond)
	c.clear()
	c.allInSync(30 * time.Second)
	pause(t.Context(), 100*time.Millisecond)
	if reads.Load() == 0 || late.Load() > 0 {
		t.Errorf("%d reads before another primary, %d after", reads.Load(), late.Load())
	}
	if _, err := borrow(f, p.proc); err == nil {
		t.Error("a primary that is none lends")
	}
}

// TestLentWords lends more files than there are words, and gives them back.
func TestLentWords(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, onBricks)
	p, s := c.primary(10 * time.Second)
	r := p.set.reignNow()
	taken := make([]volume.ID, lentMax)
	for i := range taken {
		taken[i] = volume.NewID(1)
		if _, ok := r.window.Take(taken[i]); !ok {
			t.Fatalf("word %d can't be had", i)
		}
	}
	f, _ := newFile(t, s, "a", "hello")
	if _, err := borrow(f, p.proc); volume.ErrnoOf(err) != syscall.ENFILE {
		t.Errorf("%v, want ENFILE", err)
	}
	r.window.Give(taken[0])
	for range 3 { // the file has one word
		l, err := borrow(f, p.proc)
		must(t, err)
		l.close()
	}
	must(t, f.Close())
	g, _ := newFile(t, s, "b", "hello")
	l, err := borrow(g, p.proc)
	must(t, err)
	l.close()
	w, err := s.Open(t.Context(), g.ID(), volume.Write)
	must(t, err)
	if _, err := borrow(w, p.proc); volume.ErrnoOf(err) != syscall.EBADF {
		t.Errorf("of a handle that may not read: %v, want EBADF", err)
	}
}

// TestLentRepaired changes a file of the primary's behind its back, so that a comparison mends it there: what is half
// mended is not read past the primary.
func TestLentRepaired(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, onBricks)
	p, s := c.primary(10 * time.Second)
	f, l := lent(t, c, p, s, "a", "hello")
	_, err := f.WriteAt(t.Context(), bytes.Repeat([]byte("0123456789abcdef"), 32<<10), 5, 0)
	must(t, err)
	path := filepath.Join(filepath.Dir(filepath.Dir(p.dir)), "a")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt([]byte("wrong"), 0)
	must(t, err)
	must(t, file.Close())
	must(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Minute)))
	var mends, seen atomic.Int64
	p.proc.setHook(func(op string, done bool) {
		if op == "write" || op == "allocate" || op == "install" {
			mends.Add(1)
			if got, ok := l.text(); ok {
				seen.Add(1)
				t.Errorf("%q is read while it is being mended (%s)", got, op)
			}
		}
	})
	must(t, p.set.StartHeal(t.Context(), true))
	c.eventually("it is mended", 20*time.Second, func() bool { got, ok := l.text(); return ok && len(got) > 5 && got[:5] == "hello" })
	p.proc.setHook(nil)
	if mends.Load() == 0 {
		t.Error("nothing was mended")
	}
	c.equal()
}

// TestLentSeat has a member come back to a primary that needed nobody: from before it has its seat, reads past the primary
// count only as long as it has promised.
func TestLentSeat(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, inMemory)
	c.options["cluster.quorum-type"] = "none"
	c.begin()
	p, _ := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	r := p.set.reignNow()
	f, err := r.window.File()
	must(t, err)
	defer f.Close()
	view, err := window.Map(f)
	must(t, err)
	defer view.Close()
	b.end(true)
	c.eventually("it is out", 20*time.Second, func() bool { return view.Until() == window.Always })
	b.start()
	c.eventually("it is back", 20*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if until, tenure := view.Until(), tenureOf(r.mu.backups); until > tenure {
			t.Errorf("the window tells %v, the tenure ends at %v", until, tenure)
		}
		c.auth.mu.Lock()
		defer c.auth.mu.Unlock()
		return len(c.auth.state.InSync) == 2 && len(r.mu.backups) == 1
	})
}
