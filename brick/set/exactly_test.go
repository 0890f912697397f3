package set

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// bothNeeded is the quorum of a set of two without which neither goes on.
var bothNeeded = map[string]string{"cluster.quorum-type": "fixed", "cluster.quorum-count": "2"}

// once is an operation that must take effect once, whatever happens to its answer.
type once struct {
	name string
	op   string // of the member's store, that carries it out
	do   func(t *testing.T, f *front, w *onceWorld) error
	look func(t *testing.T, f *front, w *onceWorld) // looks at the effect
}

// onceWorld is what there is before the operation.
type onceWorld struct {
	ctx      context.Context
	file     volume.ID // "file", with the content "0123"
	open     volume.File
	got      volume.ID // what the operation says that it made
	off      int64
	emptyDir volume.ID // "dir"
}

func (w *onceWorld) leads(t *testing.T, f *front, name string, id volume.ID) {
	t.Helper()
	if a, err := f.Lookup(w.ctx, volume.Root, name); err != nil || a.ID != id {
		t.Errorf("%s leads to %v, want %v: %v", name, a.ID, id, err)
	}
}

func (w *onceWorld) free(t *testing.T, f *front, name string) {
	t.Helper()
	if _, err := f.Lookup(w.ctx, volume.Root, name); volume.ErrnoOf(err) != enoent {
		t.Errorf("%s: %v", name, err)
	}
}

// bear makes a file with contents of so many bytes, and attributes.
func (w *onceWorld) bear(f *front, size int) error {
	a, err := f.Make(w.ctx, volume.Root, "new", volume.Node{Mode: syscall.S_IFREG | 0o600, Data: bytes.Repeat([]byte("x"), size),
		Then: volume.Change{Mask: volume.SetMode | volume.SetMtime, Mode: 0o4640, Mtime: volume.Time{Sec: 1000}}})
	w.got = a.ID
	return err
}

// born looks at what bear has made.
func (w *onceWorld) born(t *testing.T, f *front, size int) {
	t.Helper()
	w.leads(t, f, "new", w.got)
	a, err := f.Getattr(w.ctx, w.got)
	if err != nil || a.Size != int64(size) || a.Mode != syscall.S_IFREG|0o4640 || a.Mtime.Sec != 1000 {
		t.Errorf("%+v, %v", a, err)
	}
	h, err := f.Open(w.ctx, w.got, volume.Read)
	must(t, err)
	p := make([]byte, volume.IOMax)
	n, err := h.ReadAt(w.ctx, p, 0)
	if err != nil || string(p[:n]) != strings.Repeat("x", size) {
		t.Errorf("%d bytes are there, want %d: %v", n, size, err)
	}
	must(t, h.Close())
}

var onces = []once{
	{"append", "write", func(t *testing.T, f *front, w *onceWorld) (err error) {
		w.off, err = w.open.Append(w.ctx, []byte("4567"), 0)
		return err
	}, func(t *testing.T, f *front, w *onceWorld) {
		p := make([]byte, 100)
		n, err := w.open.ReadAt(w.ctx, p, 0)
		if err != nil || w.off != 4 || string(p[:n]) != "01234567" {
			t.Errorf("at %d: %q %v", w.off, p[:n], err)
		}
	}},
	{"create", "create", func(t *testing.T, f *front, w *onceWorld) error {
		h, a, err := f.Create(w.ctx, volume.Root, "new", volume.Node{Mode: 0o600}, volume.Write|volume.Excl)
		if w.got = a.ID; err == nil {
			_, err = h.WriteAt(w.ctx, []byte("x"), 0, 0)
		}
		return err
	}, func(t *testing.T, f *front, w *onceWorld) { w.leads(t, f, "new", w.got) }},
	{"create and cut", "setattr", func(t *testing.T, f *front, w *onceWorld) error {
		h, a, err := f.Create(w.ctx, volume.Root, "file", volume.Node{Mode: 0o600}, volume.Write|volume.Truncate)
		if w.got = a.ID; err == nil {
			_, err = h.WriteAt(w.ctx, []byte("x"), 0, 0)
		}
		return err
	}, func(t *testing.T, f *front, w *onceWorld) {
		w.leads(t, f, "file", w.file)
		if a, err := f.Getattr(w.ctx, w.file); err != nil || a.Size != 1 || w.got != w.file {
			t.Errorf("%d bytes of %v: %v", a.Size, w.got, err)
		}
	}},
	{"mkdir", "make", func(t *testing.T, f *front, w *onceWorld) error {
		a, err := f.Make(w.ctx, volume.Root, "new", volume.Node{Mode: syscall.S_IFDIR | 0o700})
		w.got = a.ID
		return err
	}, func(t *testing.T, f *front, w *onceWorld) { w.leads(t, f, "new", w.got) }},
	{"bear", "make", func(t *testing.T, f *front, w *onceWorld) error { return w.bear(f, 100) },
		func(t *testing.T, f *front, w *onceWorld) { w.born(t, f, 100) }},
	{"bear a large one", "make", func(t *testing.T, f *front, w *onceWorld) error { return w.bear(f, 200<<10) },
		func(t *testing.T, f *front, w *onceWorld) { w.born(t, f, 200<<10) }},
	{"link", "link", func(t *testing.T, f *front, w *onceWorld) error {
		_, err := f.Link(w.ctx, w.file, volume.Root, "new")
		return err
	}, func(t *testing.T, f *front, w *onceWorld) {
		w.leads(t, f, "new", w.file)
		if a, err := f.Getattr(w.ctx, w.file); err != nil || a.Nlink != 2 {
			t.Errorf("%d links: %v", a.Nlink, err)
		}
	}},
	{"unlink", "unlink", func(t *testing.T, f *front, w *onceWorld) error { return f.Unlink(w.ctx, volume.Root, "file") },
		func(t *testing.T, f *front, w *onceWorld) { w.free(t, f, "file") }},
	{"unlink together", "unlink", func(t *testing.T, f *front, w *onceWorld) error { return f.unlinkTogether(w.ctx, volume.Root, "file") },
		func(t *testing.T, f *front, w *onceWorld) { w.free(t, f, "file") }},
	{"rmdir", "rmdir", func(t *testing.T, f *front, w *onceWorld) error { return f.Rmdir(w.ctx, volume.Root, "dir") },
		func(t *testing.T, f *front, w *onceWorld) { w.free(t, f, "dir") }},
	{"rename", "rename", func(t *testing.T, f *front, w *onceWorld) error {
		return f.Rename(w.ctx, volume.Root, "file", volume.Root, "new", volume.RenameNoReplace)
	}, func(t *testing.T, f *front, w *onceWorld) {
		w.leads(t, f, "new", w.file)
		w.free(t, f, "file")
	}},
	{"exchange", "rename", func(t *testing.T, f *front, w *onceWorld) error {
		return f.Rename(w.ctx, volume.Root, "file", volume.Root, "dir", volume.RenameExchange)
	}, func(t *testing.T, f *front, w *onceWorld) {
		w.leads(t, f, "dir", w.file)
		w.leads(t, f, "file", w.emptyDir)
	}},
	{"setxattr", "setxattr", func(t *testing.T, f *front, w *onceWorld) error {
		return f.Setxattr(w.ctx, w.file, "user.a", []byte("v"), volume.XattrCreate)
	}, func(t *testing.T, f *front, w *onceWorld) {
		if v, err := f.Getxattr(w.ctx, w.file, "user.a"); err != nil || string(v) != "v" {
			t.Errorf("%q %v", v, err)
		}
	}},
}

// moments are when the primary's process ends while it carries an operation out.
var moments = []struct {
	name string
	// arm has dies called at the moment; several: there are backups.
	arm     func(c *cluster, p *node, op string, dies func())
	several bool
}{
	{"recorded", func(c *cluster, p *node, op string, dies func()) {
		p.proc.setHook(func(o string, done bool) {
			if o == op && !done {
				dies()
			}
		})
	}, false},
	{"applied", func(c *cluster, p *node, op string, dies func()) {
		p.proc.setHook(func(o string, done bool) {
			if o == op && done {
				dies()
			}
		})
	}, false},
	{"at one backup", func(c *cluster, p *node, op string, dies func()) {
		lucky, unheard := c.nodes[(p.i+1)%len(c.nodes)], make(chan struct{})
		c.t.Cleanup(func() { close(unheard) })
		c.weather = &weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
			if m := message(msg[frontSize]); (m == msgApply || m == msgApplyAll) && to != lucky {
				return unheard
			}
			return nil
		}}
		lucky.proc.setHook(func(o string, done bool) {
			if (o == op || op == "create" && o == "make") && done {
				dies()
			}
		})
	}, true},
	{"everywhere", func(c *cluster, p *node, op string, dies func()) {
		var have atomic.Int64
		for _, n := range c.nodes {
			n.proc.setHook(func(o string, done bool) {
				if (o == op || op == "create" && o == "make") && done && have.Add(1) == int64(len(c.nodes)) {
					dies()
				}
			})
		}
	}, true},
}

// TestExactlyOnce loses the primary at each moment of each operation that must not be done twice:
// the client, which asks its successor, gets the true result, and it was done once.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	for members := 1; members <= 3; members++ {
		for _, m := range moments {
			for _, o := range onces {
				if m.several && members == 1 || testing.Short() && members == 2 {
					continue
				}
				t.Run(fmt.Sprintf("%d/%s/%s", members, m.name, o.name), func(t *testing.T) {
					t.Parallel()
					c := begunCluster(t, members, inMemory)
					exactlyOnce(t, c, o, func(p *node, dies func()) { m.arm(c, p, o.op, dies) })
				})
			}
		}
	}
}

func exactlyOnce(t *testing.T, c *cluster, o once, arm func(p *node, dies func())) {
	f := newFront(c)
	w := &onceWorld{ctx: t.Context()}
	var err error
	var a volume.Attr
	w.open, a, err = f.Create(w.ctx, volume.Root, "file", volume.Node{Mode: 0o600}, volume.Read|volume.Write)
	must(t, err)
	w.file = a.ID
	_, err = w.open.WriteAt(w.ctx, []byte("0123"), 0, 0)
	must(t, err)
	a, err = f.Make(w.ctx, volume.Root, "dir", volume.Node{Mode: syscall.S_IFDIR | 0o700})
	must(t, err)
	w.emptyDir = a.ID
	p, _ := c.primary(10 * time.Second)
	var end sync.Once
	ended := make(chan struct{})
	proc := p.proc
	arm(p, func() {
		end.Do(func() {
			proc.kill()
			go func() { defer close(ended); p.end(true); c.clear(); p.start() }()
		})
	})
	must(t, o.do(t, f, w))
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the primary has not ended")
	}
	for _, n := range c.nodes {
		n.proc.setHook(nil)
	}
	o.look(t, f, w)
	c.allInSync(20 * time.Second)
	f.settled(t)
	c.equal()
}

// TestRepliesOutlive has a member come back that was away when a request was executed, and the one
// go that executed it: it knows of it, and of one that failed, and of one that never came.
func TestRepliesOutlive(t *testing.T) {
	t.Parallel()
	c := begunCluster(t, 2, inMemory)
	p, s := c.primary(10 * time.Second)
	b := c.nodes[1-p.i]
	b.end(true)
	q := func(n uint64) volume.Request { return volume.Request{Session: [16]byte{1}, Number: n} }
	ctx := func(n uint64) context.Context { return volume.WithRequest(t.Context(), q(n)) }
	made, err := s.Make(ctx(1), volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o700})
	must(t, err)
	if err := s.Rmdir(ctx(2), volume.Root, "nothing"); volume.ErrnoOf(err) != enoent {
		t.Fatal(err)
	}
	f, _ := newFile(t, s, "a", "0123")
	off, err := f.Append(ctx(3), []byte("4567"), 0)
	must(t, err)
	check := func(n *node) {
		t.Helper()
		for _, want := range []struct {
			n        uint64
			executed bool
			id       volume.ID
			off      int64
		}{{1, true, made.ID, 0}, {2, false, volume.ID{}, 0}, {3, true, volume.ID{}, off}, {4, false, volume.ID{}, 0}} {
			o, executed, known := n.set.Outcome(t.Context(), q(want.n))
			if executed != want.executed || !known || executed && (want.id != o.Attr.ID && !want.id.IsZero() || o.Offset != want.off) {
				t.Errorf("%s: request %d: %+v, executed %v, known %v, want %+v", n.id, want.n, o, executed, known, want)
			}
		}
	}
	check(p)
	b.start()
	c.allInSync(20 * time.Second)
	p.end(true)
	c.otherThan(p, 10*time.Second)
	check(b)
	// It says so after its own restart, too.
	b.end(true)
	b.start()
	c.primary(10 * time.Second)
	p.start()
	c.allInSync(20 * time.Second)
	check(b)
}

// TestUndoneStaysUndone ends the primary's process when it has recorded a change, before it makes it, and ends the next one as soon as that
// serves: the third knows as much of the request as the second, though the mark has passed its record.
func TestUndoneStaysUndone(t *testing.T) {
	t.Parallel()
	for _, o := range []struct {
		op    string // of the member's store
		known bool   // that it was not executed
		do    func(ctx context.Context, s volume.Store) error
	}{
		{"make", true, func(ctx context.Context, s volume.Store) error {
			_, err := s.Make(ctx, volume.Root, "d", volume.Node{Mode: syscall.S_IFDIR | 0o700})
			return err
		}},
		{"setattr", false, func(ctx context.Context, s volume.Store) error {
			_, err := s.Setattr(ctx, volume.Root, volume.Change{Mask: volume.SetMode, Mode: 0o700})
			return err
		}},
	} {
		t.Run(o.op, func(t *testing.T) {
			t.Parallel()
			c := begunCluster(t, 1, inMemory)
			p, s := c.primary(10 * time.Second)
			q := volume.Request{Session: [16]byte{1}, Number: 1}
			proc := p.proc
			var end sync.Once
			proc.setHook(func(op string, done bool) {
				if op == o.op && !done {
					end.Do(proc.kill)
				}
			})
			if err := o.do(volume.WithRequest(t.Context(), q), s); err == nil {
				t.Fatal("the primary did not end")
			}
			for life := range 3 {
				p.end(true)
				p.start()
				c.primary(20 * time.Second)
				if _, executed, known := p.set.Outcome(t.Context(), q); executed || known != o.known {
					t.Fatalf("life %d: executed %v, known %v", life+2, executed, known)
				}
			}
		})
	}
}

// TestTorn loses the primary while it makes a member equal that has missed a change: half of it, without
// the reply, is no state to serve from.
func TestTorn(t *testing.T) {
	t.Parallel()
	for _, o := range onces {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			c := begunWith(t, 2, bothNeeded)
			var b *node
			exactlyOnce(t, c, o, func(p *node, dies func()) {
				b = c.nodes[1-p.i]
				var missed atomic.Bool
				never := make(chan struct{})
				t.Cleanup(func() { close(never) })
				c.weather = &weather{hold: func(from, to *node, msg []byte) <-chan struct{} {
					switch m := message(msg[frontSize]); {
					case from != p:
					case (m == msgApply || m == msgApplyAll) && missed.CompareAndSwap(false, true):
						b.proc.pause() // it does not come, and the primary notices by the beats
						go func() { pause(t.Context(), silence+2*beatEvery); b.proc.resume() }()
						return never
					case m == msgSettle && missed.Load():
						dies()
						return never
					}
					return nil
				}}
			})
		})
	}
}

// TestTornStaysSo has a member that was being made equal start anew, and its primary gone: it waits.
func TestTornStaysSo(t *testing.T) {
	dir := t.TempDir()
	l, err := openLedger(dir, "m0", nil)
	must(t, err)
	if l.torn() != nil {
		t.Error("a new member is torn")
	}
	keys := []Key{{Kind: EntryKey, ID: volume.Root, Name: "a\xff"}, {Kind: ObjectKey, ID: testID(1)}}
	must(t, l.tear(keys[:1]))
	must(t, l.tear(keys))
	must(t, l.close())
	l, err = openLedger(dir, "m0", nil)
	must(t, err)
	defer l.close()
	if got := l.torn(); fmt.Sprint(got) != fmt.Sprint(keys) {
		t.Errorf("torn in %v, want %v", got, keys)
	}
	if told, err := l.tail("boot"); err != nil || fmt.Sprint(told.keys) != fmt.Sprint(keys) {
		t.Errorf("it tells of %v: %v", told.keys, err)
	}
	var many []Key
	for i := range 5000 {
		many = append(many, Key{Kind: ObjectKey, ID: volume.ID{0: byte(i), 1: byte(i >> 8), 15: 1}})
	}
	must(t, l.tear(many)) // more than the file takes
	if got := l.torn(); len(got) != 1 || got[0].Kind != FullKey {
		t.Errorf("torn in %d keys, want everything", len(got))
	}
	must(t, l.aligned(1, 0, "boot", false))
	if l.torn() != nil {
		t.Error("torn after an alignment")
	}
}
