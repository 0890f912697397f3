package server

import (
	"context"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// A brick that steps down sends its clients elsewhere, ends what runs, and keeps members.
func TestStepDown(t *testing.T) {
	r := newRaw(t, func(c *Config) {
		c.Peer = func(context.Context, []byte, []byte) ([]byte, error) { return []byte("here"), nil }
	})
	first := r.hello(nil)
	r.openFile()
	r.ask(frameOf(wire.OpStatfs, 2, 0, nil))
	eventually(t, "it runs", func() bool { return r.b.running.Load() == 1 })
	other := &raw{t: t, s: r.s, b: r.b, cc: r.cc, addr: r.addr, replies: make(chan answer, 1), id: wire.SessionID{2}}
	other.open()
	if w := other.hello(func(h *wire.HelloBody) { h.Member = true }); w.Err != nil {
		t.Fatal(w.Err)
	}

	r.s.SetBackend(nil)()
	if n, c := r.b.running.Load(), r.b.closes.Load(); n != 0 || c != 1 {
		t.Errorf("%d run, %d files closed", n, c)
	}
	if f, err := r.answered(); err == nil {
		t.Errorf("an answer came: %+v", f)
	}
	if _, err := r.next(); err == nil {
		t.Error("the connection goes on")
	}
	r.open()
	if w := r.hello(nil); volume.ReasonOf(w.Err) != volume.NotPrimary || volume.ErrnoOf(w.Err) != syscall.EIO {
		t.Errorf("%v", w.Err)
	}
	r.open()
	if w := r.hello(func(h *wire.HelloBody) { h.VersionMax = 1 }); volume.ReasonOf(w.Err) != volume.Unavailable {
		t.Errorf("a client of version 1: %v", w.Err)
	}
	other.ask(frameOf(wire.OpPeer, 1, 0, (&wire.PeerArgs{}).Append))
	if f, err := other.answered(); err != nil || string(f.Body[2:]) != "here" {
		t.Errorf("a member: %q, %v", f.Body, err)
	}

	next := &backend{FS: model.New(), release: make(chan struct{})}
	boot := wire.SessionID{7}
	r.s.SetBoot(boot)
	r.s.SetBackend(next)
	r.open()
	r.welcome = first // as the client knows it
	if w := r.hello(func(h *wire.HelloBody) { h.Unanswered = []uint64{2} }); w.Err != nil || w.Known || w.Decides || w.Server == first.Server || w.Boot != boot {
		t.Errorf("served anew: %+v", w)
	}
	close(next.release)
	r.ask(frameOf(wire.OpStatfs, 2, 0, nil))
	if err := r.reply(2); err != nil {
		t.Error(err)
	}
}

// A session made for a Welcome that was lost is not taken for one that the client knows.
func TestLostWelcome(t *testing.T) {
	r := newRaw(t, nil)
	first := r.hello(nil)
	r.ask(frameOf(wire.OpStatfs, 2, 0, nil))
	eventually(t, "it runs", func() bool { return r.b.running.Load() == 1 })
	r.open()
	again := r.hello(func(h *wire.HelloBody) { h.Server = 0; h.Unanswered = []uint64{2} })
	if again.Err != nil || again.Known || again.Server != first.Server {
		t.Errorf("%+v", again)
	}
	if n := r.b.running.Load(); n != 0 {
		t.Errorf("%d requests of before run on", n)
	}
	r.open()
	if w := r.hello(nil); !w.Known || w.Attachment == again.Attachment {
		t.Errorf("%+v", w)
	}
}

// Whoever is new to a server that knows is told what became of what he asks about.
func TestOutcomes(t *testing.T) {
	var asked []volume.Request
	attr := volume.Attr{ID: volume.Root, Mode: 0o40755}
	r := newRaw(t, func(c *Config) {
		c.Outcome = func(_ context.Context, q volume.Request) (o wire.Outcome, executed, known bool) {
			asked = append(asked, q)
			return wire.Outcome{Attr: attr, Offset: 9}, q.Number == 5, q.Number != 6
		}
	})
	w := r.hello(func(h *wire.HelloBody) { h.Unanswered, h.Ask = []uint64{4, 5, 6, 7}, []uint64{5, 6, 7} })
	want := []wire.Decided{{Number: 5, Executed: true, Outcome: wire.Outcome{Attr: attr, Offset: 9}}, {Number: 7}}
	if !w.Decides || !slices.Equal(w.Outcomes, want) {
		t.Errorf("%+v", w)
	}
	session := [16]byte(r.id)
	if !slices.Equal(asked, []volume.Request{{Session: session, Number: 5}, {Session: session, Number: 6}, {Session: session, Number: 7}}) {
		t.Errorf("asked %+v", asked)
	}
	r.open()
	if w := r.hello(func(h *wire.HelloBody) { h.Ask = []uint64{8} }); w.Decides || len(w.Outcomes) != 0 || !w.Known {
		t.Errorf("%+v", w)
	}
	if len(asked) != 3 {
		t.Errorf("asked %+v", asked)
	}
}

// What is told while the brick steps down does not count.
func TestOutcomeOvertaken(t *testing.T) {
	asked, over := make(chan struct{}, 1), atomic.Bool{}
	r := newRaw(t, func(c *Config) {
		c.Outcome = func(ctx context.Context, _ volume.Request) (o wire.Outcome, executed, known bool) {
			asked <- struct{}{}
			<-ctx.Done()
			over.Store(true)
			return o, false, true
		}
	})
	go func() {
		<-asked
		r.s.SetBackend(nil)
	}()
	h := wire.HelloBody{VersionMin: 1, VersionMax: wire.Version, Volume: "v", Brick: "b", Session: r.id, Ask: []uint64{1}}
	r.batch(h.Append(nil))
	if f, err := r.next(); err == nil { // a refusal, if it comes before the stream's end
		var w wire.WelcomeBody
		rd := wire.NewReader(f.Body)
		if !w.Parse(&rd) || volume.ReasonOf(w.Err) != volume.NotPrimary {
			t.Errorf("%+v", w)
		}
	}
	eventually(t, "it is over", over.Load)
}

// fenced is a Backend that has lost its set, and knows.
type fenced struct{ backend }

func (*fenced) Unlink(context.Context, volume.ID, string) error {
	return &volume.Error{Op: "unlink", Errno: syscall.EIO, Reason: volume.NotPrimary}
}

// The client does not hear that the Backend is not the primary: the session ends.
func TestDisowned(t *testing.T) {
	r := newRaw(t, nil)
	r.s.SetBackend(&fenced{backend{FS: model.New()}})
	r.hello(nil)
	r.ask(frameOf(wire.OpUnlink, 1, 0, (&wire.NameArgs{Dir: volume.Root, Name: "none"}).Append))
	if f, err := r.answered(); err == nil {
		t.Errorf("%+v", f)
	}
	eventually(t, "the session ends", func() bool { return len(r.s.Clients()) == 0 })
	r.open()
	if w := r.hello(nil); w.Known || w.Err != nil {
		t.Errorf("%+v", w)
	}
}

// curious notes who asks.
type curious struct {
	backend
	made, looked volume.Request
}

func (c *curious) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	c.made = volume.RequestOf(ctx)
	return c.FS.Make(ctx, dir, name, n)
}

func (c *curious) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	c.looked = volume.RequestOf(ctx)
	return c.FS.Lookup(ctx, dir, name)
}

// What changes something carries its request, what does not carries none, and a Step's contract is its own.
func TestRequestIdentity(t *testing.T) {
	r := newRaw(t, nil)
	b := &curious{backend: backend{FS: model.New()}}
	r.s.SetBackend(b)
	r.hello(nil)
	r.ask(frameOf(wire.OpMake, 7, 0, (&wire.MakeArgs{Dir: volume.Root, Name: "d", Node: volume.Node{Mode: syscall.S_IFDIR | 0o700}}).Append))
	if err := r.reply(7); err != nil {
		t.Fatal(err)
	}
	r.ask(frameOf(wire.OpLookup, 8, 0, (&wire.NameArgs{Dir: volume.Root, Name: "d"}).Append))
	if err := r.reply(8); err != nil {
		t.Fatal(err)
	}
	if b.made != (volume.Request{Session: [16]byte(r.id), Number: 7}) || b.looked != (volume.Request{}) {
		t.Errorf("made by %v, looked up by %v", b.made, b.looked)
	}
	req := &request{Context: context.Background(), ident: b.made}
	if n := testing.AllocsPerRun(100, func() { _ = volume.RequestOf(req) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
