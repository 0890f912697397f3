package remote_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client/remote"
	"github.com/mortarfs/mortar/volume"
)

// failovers are the ways in which another member becomes the primary, from one to the
// other. What they return puts the one of before right again.
var failovers = map[string]func(s *replicas, r *remote.Remote, from, to int) (mend func()){
	"steps down": func(s *replicas, _ *remote.Remote, from, to int) func() {
		s.servers[from].SetBackend(nil)
		s.reignAt(to)
		return func() {}
	},
	"is overtaken, and is told later": func(s *replicas, _ *remote.Remote, from, to int) func() {
		s.reignAt(to)
		s.servers[from].SetBackend(nil)
		return func() {}
	},
	"crashes": func(s *replicas, _ *remote.Remote, from, to int) func() {
		s.proxies[from].refuse.Store(true)
		s.proxies[from].cut()
		s.reignAt(to)
		s.servers[from].SetBackend(nil)
		return func() { s.proxies[from].refuse.Store(false) }
	},
	"is cut off": func(s *replicas, r *remote.Remote, from, to int) func() {
		s.proxies[from].stall(true, true)
		s.reignAt(to)
		r.SetTargets(s.targets(), to)
		return func() {
			s.servers[from].SetBackend(nil)
			s.proxies[from].cut()
			s.proxies[from].stall(false, false)
		}
	},
	"knows nothing of it": func(s *replicas, _ *remote.Remote, from, to int) func() {
		s.reignAt(to)
		return func() { s.servers[from].SetBackend(nil) }
	},
}

// changes are requests that must be executed once, and how to see that they were.
var changes = map[string]struct {
	op   string // where the trap is
	prep func(t *testing.T, w *once)
	do   func(w *once) error
	want func(w *once) string // "": as it should be
}{
	"create": {op: "create", do: func(w *once) error {
		f, a, err := w.r.Create(w.ctx, volume.Root, "new", regular, volume.Write|volume.Excl)
		if err == nil {
			if b, err := w.s.fs.Lookup(w.ctx, volume.Root, "new"); err != nil || a.ID != b.ID || f.ID() != b.ID {
				return fmt.Errorf("made %v, is %v, %v", a.ID, b.ID, err)
			}
			_, err = f.WriteAt(w.ctx, []byte("content"), 0, 0)
		}
		return err
	}},
	"make": {op: "make", do: func(w *once) error {
		a, err := w.r.Make(w.ctx, volume.Root, "new", volume.Node{Mode: syscall.S_IFDIR | 0o755})
		if b, _ := w.s.fs.Lookup(w.ctx, volume.Root, "new"); err == nil && a.ID != b.ID {
			return fmt.Errorf("made %v, is %v", a.ID, b.ID)
		}
		return err
	}},
	"bear": {op: "make", do: func(w *once) error {
		a, err := w.r.Make(w.ctx, volume.Root, "new", volume.Node{Mode: syscall.S_IFREG | 0o600, Data: []byte("content")})
		if b, _ := w.s.fs.Lookup(w.ctx, volume.Root, "new"); err == nil && (a.ID != b.ID || b.Size != 7 || a.Size != 7) {
			return fmt.Errorf("made %+v, is %+v", a, b)
		}
		return err
	}},
	"link": {op: "link", do: func(w *once) error {
		a, err := w.r.Link(w.ctx, w.file.ID(), volume.Root, "new")
		if err == nil && a.ID != w.file.ID() {
			return fmt.Errorf("linked %v", a.ID)
		}
		return err
	}},
	"unlink": {op: "unlink", do: func(w *once) error { return w.r.Unlink(w.ctx, volume.Root, "a") }},
	"rmdir":  {op: "rmdir", do: func(w *once) error { return w.r.Rmdir(w.ctx, volume.Root, "dir") }},
	"exchange": {op: "rename", do: func(w *once) error {
		return w.r.Rename(w.ctx, volume.Root, "a", volume.Root, "dir", volume.RenameExchange)
	}, want: func(w *once) string {
		if a, err := w.s.fs.Lookup(w.ctx, volume.Root, "dir"); err != nil || a.ID != w.file.ID() {
			return "the names are as they were"
		}
		return ""
	}},
	"append": {op: "append", do: func(w *once) error {
		off, err := w.file.Append(w.ctx, []byte("-more"), 0)
		if err == nil && off != 5 {
			return fmt.Errorf("at %d", off)
		}
		return err
	}, want: func(w *once) string { return w.content("first-more") }},
	"setxattr": {op: "setxattr", do: func(w *once) error {
		return w.r.Setxattr(w.ctx, w.file.ID(), "user.x", []byte("v"), volume.XattrCreate)
	}},
	"removexattr": {op: "removexattr", prep: func(t *testing.T, w *once) {
		if err := w.s.fs.Setxattr(w.ctx, w.file.ID(), "user.x", nil, 0); err != nil {
			t.Fatal(err)
		}
	}, do: func(w *once) error { return w.r.Removexattr(w.ctx, w.file.ID(), "user.x") }},
	"insert": {op: "allocate", do: func(w *once) error {
		return w.file.Allocate(w.ctx, volume.AllocInsertRange, 0, 4096)
	}, want: func(w *once) string { return w.content(string(make([]byte, 4096)) + "first") }},
	"write": {op: "write", do: func(w *once) error { _, err := w.file.WriteAt(w.ctx, []byte("other"), 0, 0); return err },
		want: func(w *once) string { return w.content("other") }},
	"write and setattr": {op: "write and setattr", do: func(w *once) error {
		_, err := w.file.WriteSet(w.ctx, []byte("other"), 0, 0, volume.Change{Mask: volume.SetMtime, Mtime: volume.Time{Sec: 5}})
		return err
	}, want: func(w *once) string {
		if a, err := w.s.fs.Getattr(w.ctx, w.file.ID()); err != nil || a.Mtime.Sec != 5 {
			return fmt.Sprintf("mtime is %v, %v", a.Mtime, err)
		}
		return w.content("other")
	}},
}

// once is what a change finds: a file "a" with "first" in it, open, and a directory "dir".
type once struct {
	s    *replicas
	r    *remote.Remote
	ctx  context.Context
	file volume.File
}

func newOnce(t *testing.T) *once {
	s := newReplicas(t)
	w := &once{s: s, r: s.remote(t)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	f, _, err := w.r.Create(ctx, volume.Root, "a", regular, volume.Read|volume.Write)
	if err == nil {
		_, err = f.WriteAt(ctx, []byte("first"), 0, 0)
	}
	if err == nil {
		_, err = w.r.Make(ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.file = f
	// What a set does for files without a name that are still open, for a while.
	kept, err := s.fs.Open(ctx, f.ID(), volume.Read)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	return w
}

// content says how the file differs from want.
func (w *once) content(want string) string {
	f, err := w.s.fs.Open(w.ctx, w.file.ID(), volume.Read)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	p := make([]byte, 2*len(want))
	n, err := f.ReadAt(w.ctx, p, 0)
	if err != nil || string(p[:n]) != want {
		return fmt.Sprintf("the file has %q, %v", p[:n], err)
	}
	return ""
}

// Whatever is asked of a primary that another one follows, before or after it has
// executed it, is executed once, and its caller is told of success.
func TestExactlyOnce(t *testing.T) {
	for how, failover := range failovers {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%v", how, after), func(t *testing.T) {
				t.Parallel()
				for what, c := range changes {
					w := newOnce(t)
					if c.prep != nil {
						c.prep(t, w)
					}
					tr := w.s.catch(c.op, after)
					done := start(func() error { return c.do(w) })
					<-tr.caught
					mend := failover(w.s, w.r, 0, 1)
					if how == "knows nothing of it" {
						close(tr.letGo)
					}
					if err := ends(t, done); err != nil {
						t.Errorf("%s: %v", what, err)
					}
					if c.want != nil {
						if wrong := c.want(w); wrong != "" {
							t.Errorf("%s: %s", what, wrong)
						}
					}
					if err := w.file.Sync(w.ctx, false); err != nil {
						t.Errorf("%s: sync of what was written before: %v", what, err)
					}
					mend()
					_ = w.r.Close()
				}
			})
		}
	}
}

// A write that a later one has overtaken does not undo it, and does not fail either.
func TestOvertakenWriteAfterFailover(t *testing.T) {
	for after, want := range map[bool]string{false: "FIRST", true: "later"} {
		w := newOnce(t)
		tr := w.s.catch("write", after)
		done := start(func() error { _, err := w.file.WriteAt(w.ctx, []byte("FIRST"), 0, 0); return err })
		<-tr.caught
		if _, err := w.file.WriteAt(w.ctx, []byte("later"), 0, 0); err != nil {
			t.Fatal(err)
		}
		failovers["steps down"](w.s, w.r, 0, 1)
		if err := ends(t, done); err != nil {
			t.Errorf("executed %v: %v", after, err)
		}
		if wrong := w.content(want); wrong != "" {
			t.Errorf("executed %v: %s", after, wrong)
		}
	}
}

// What is not known fails as after a restart: it may have happened.
func TestOutcomeNotKnown(t *testing.T) {
	b := newBackend()
	s, addr := serve(t, b, func(c *server.Config) {
		c.Outcome = func(context.Context, volume.Request) (o wire.Outcome, executed, known bool) { return o, false, false }
	})
	r := connect(t, addr, nil)
	f, _, err := r.Create(t.Context(), volume.Root, "file", regular, volume.Write)
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	b.hold.Store(&hold)
	done := start(func() error { _, err := f.Append(t.Context(), []byte("x"), 0); return err })
	<-b.held
	s.SetBackend(nil)()
	s.SetBackend(b)
	if err := ends(t, done); volume.ReasonOf(err) != volume.Unknown {
		t.Error(err)
	}
}

// Role changes of all kinds, one after the other, fail no call.
func TestFailoversUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newReplicas(t)
	r := s.remote(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { load(ctx, t, r, fmt.Sprint("w", i), stop) })
	}
	kinds := []string{"steps down", "is overtaken, and is told later", "crashes", "is cut off", "knows nothing of it"}
	primary := 0
	for range 20 {
		pause := time.NewTimer(time.Duration(rng.IntN(60)) * time.Millisecond)
		<-pause.C
		to := (primary + 1 + rng.IntN(replicaCount-1)) % replicaCount
		mend := failovers[kinds[rng.IntN(len(kinds))]](s, r, primary, to)
		eventually(t, "the new primary is found", func() bool { return len(s.servers[to].Clients()) == 1 })
		mend()
		primary = to
	}
	close(stop)
	wg.Wait()
}

// load makes changes of all kinds under names of its own until stop.
func load(ctx context.Context, t *testing.T, r *remote.Remote, name string, stop <-chan struct{}) {
	f, _, err := r.Create(ctx, volume.Root, name, regular, volume.Read|volume.Write|volume.Excl)
	if err != nil {
		t.Error(err)
		return
	}
	for n := int64(0); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		off, err := f.Append(ctx, []byte("0123456789"), 0)
		if err != nil || off != 10*n {
			t.Errorf("append %d: at %d, %v", n, off, err)
			return
		}
		dir, link := name+".dir", name+".link"
		for what, do := range []func() error{
			func() error {
				_, err := r.Make(ctx, volume.Root, dir, volume.Node{Mode: syscall.S_IFDIR | 0o755})
				return err
			},
			func() error { _, err := r.Link(ctx, f.ID(), volume.Root, link); return err },
			func() error { return r.Rename(ctx, volume.Root, dir, volume.Root, link, volume.RenameExchange) },
			func() error { return r.Rmdir(ctx, volume.Root, link) },
			func() error { return r.Unlink(ctx, volume.Root, dir) },
			func() error { _, err := r.Lookup(ctx, volume.Root, name); return err },
			func() error { _, err := f.ReadAt(ctx, make([]byte, 10), 10*n); return err },
			func() error { return f.Sync(ctx, false) },
		} {
			if err := do(); err != nil {
				t.Errorf("round %d, change %d: %v", n, what, err)
				return
			}
		}
	}
}

// A file is open at the new server though the answer of the former was looked at when the others had been opened again. It was among
// the open files then, and unknown there: EBADF from all that was asked of it.
func TestOpenedAtTheLastMoment(t *testing.T) {
	s := newReplicas(t)
	r := s.remote(t)
	f, a, err := r.Create(t.Context(), volume.Root, "f", regular, volume.Write)
	if err == nil {
		_, err = f.WriteAt(t.Context(), []byte("content"), 0, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	late, err := remote.OpenLate(t.Context(), r, a.ID, volume.Read, func() {
		failovers["crashes"](s, r, 0, 1)
		if _, err := f.Getattr(t.Context()); err != nil { // it is connected again
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if n, err := late.ReadAt(t.Context(), p, 0); err != nil || string(p[:n]) != "content" {
		t.Errorf("%q, %v", p[:n], err)
	}
}
