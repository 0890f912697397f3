package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// What is malformed or out of order ends the session with an error, and closes its files.
func TestMalformed(t *testing.T) {
	getattr := frameOf(wire.OpGetattr, 2, 0, (&wire.IDArgs{ID: volume.Root}).Append)
	tests := map[string]func(r *raw){
		"garbage":                         func(r *raw) { r.send([]byte("GET / HTTP/1.0\r\n\r\n")) },
		"nothing":                         func(r *raw) { r.send(nil) },
		"frame too long":                  func(r *raw) { f := append([]byte{}, getattr...); f[2] = 0x7f; r.batch(f) },
		"a reply":                         func(r *raw) { r.batch(wire.EndFrame(wire.AppendFrameHeader(nil, wire.Reply, wire.OpGetattr, 2), 0)) },
		"a second hello":                  func(r *raw) { r.batch((&wire.HelloBody{VersionMax: 2}).Append(nil)) },
		"a short request":                 func(r *raw) { r.ask(wire.EndFrame(wire.AppendFrameHeader(nil, wire.Request, wire.OpGetattr, 2), 0)) },
		"a lane's request on the Session": func(r *raw) { r.batch(getattr) },
		"a ping on a lane":                func(r *raw) { r.ask(wire.AppendEmpty(nil, wire.Ping, 0)) },
		"half a handle": func(r *raw) {
			r.ask(append(wire.EndFrameWith(wire.AppendFrameHeader(nil, wire.Close, 0, 0), 0, 4), 1, 2, 3, 4))
		},
		"a long frame on a lane": func(r *raw) { f := append([]byte{}, getattr...); f[2] = 0x7f; r.ask(f) },
		"short arguments": func(r *raw) {
			r.ask(frameOf(wire.OpGetattr, 2, 0, func(b []byte) []byte { return append(b, 1, 2, 3) }))
		},
		"excess arguments": func(r *raw) { r.ask(frameOf(wire.OpStatfs, 2, 0, func(b []byte) []byte { return append(b, 1) })) },
		"number used twice": func(r *raw) {
			r.ask(frameOf(wire.OpUnlink, 1, 0, (&wire.NameArgs{Dir: volume.Root, Name: "none"}).Append))
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRaw(t, nil)
			r.hello(nil)
			r.openFile()
			spoil(r)
			for {
				if _, err := r.next(); err != nil {
					t.Log(err)
					break
				}
			}
			eventually(t, "the session ends", func() bool { return len(r.s.Clients()) == 0 && r.b.closes.Load() == 1 })
			r.open() // and the server goes on
			if w := r.hello(nil); w.Err != nil || w.Known {
				t.Errorf("afterwards: %+v", w)
			}
		})
	}
}

// A message over the limit is refused before it is read; the session waits for a better connection.
func TestOversized(t *testing.T) {
	r := newRaw(t, nil)
	r.hello(nil)
	r.openFile()
	r.stream = oversized(t, r)
	if w := r.hello(func(h *wire.HelloBody) { h.Handles = []uint64{1} }); w.Err != nil {
		t.Fatal(w.Err)
	}
	r.send(make([]byte, wire.MessageMax+1))
	if _, err := r.next(); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("%v", err)
	}
	r.open()
	if w := r.hello(func(h *wire.HelloBody) { h.Handles = []uint64{1} }); !w.Known || r.b.closes.Load() != 0 {
		t.Errorf("%+v, %d files closed", w, r.b.closes.Load())
	}
}

// oversized opens a Session stream whose client side does not mind the limit.
func oversized(t *testing.T, r *raw) grpc.ClientStream {
	st, err := r.cc.NewStream(t.Context(), wire.StreamDesc, wire.SessionMethod, grpc.MaxCallSendMsgSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestHelloFirst(t *testing.T) {
	r := newRaw(t, nil)
	r.batch(wire.AppendEmpty(nil, wire.Ping, 0))
	if f, err := r.next(); err == nil || !strings.Contains(err.Error(), "begins with a hello") {
		t.Errorf("%+v, %v", f, err)
	}
	r.open()
	met := fmt.Sprintf("versions 7 to 9, the brick %d to %d", wire.VersionMin, wire.Version)
	if w := r.hello(func(h *wire.HelloBody) { h.VersionMin, h.VersionMax = 7, 9 }); w.Err == nil || !strings.Contains(w.Err.Error(), met) {
		t.Errorf("a later version: %v", w.Err)
	}
	r.open()
	if w := r.hello(func(h *wire.HelloBody) { h.Session = wire.SessionID{} }); w.Err == nil {
		t.Error("a session without an ID is taken")
	}
	r.open()
	if _, err := r.next(); err == nil || !strings.Contains(err.Error(), "no hello came") {
		t.Errorf("without a hello: %v", err)
	}
}

// A newer connection takes the session over; what was asked before is answered there.
func TestTakeOver(t *testing.T) {
	r := newRaw(t, nil)
	first := r.hello(nil)
	if first.Known || first.Attachment == 0 || first.Server != r.s.Incarnation() {
		t.Errorf("%+v", first)
	}
	r.openFile()
	statfs := frameOf(wire.OpStatfs, 2, 0, nil)
	r.ask(statfs)
	eventually(t, "it runs", func() bool { return r.b.running.Load() == 1 })
	old := r.stream
	r.open()
	second := r.hello(func(h *wire.HelloBody) { h.Unanswered = []uint64{1, 2} })
	if !second.Known || second.Attachment == first.Attachment || second.Server != first.Server {
		t.Errorf("%+v", second)
	}
	var in wire.In
	if err := old.RecvMsg(&in); err == nil || !strings.Contains(err.Error(), errReplaced.Error()) {
		t.Errorf("the old connection: %v", err)
	}
	if f, err := r.answered(); err == nil {
		t.Errorf("the old connection's lane: %+v", f)
	}
	open := frameOf(wire.OpOpen, 1, 0, (&wire.OpenArgs{ID: volume.Root, Flags: volume.Read, Handle: 1}).Append)
	r.ask(open)
	if err := r.reply(1); err != nil { // remembered: the root could not be opened
		t.Error(err)
	}
	r.ask(statfs)
	close(r.b.release)
	if err := r.reply(2); err != nil {
		t.Error(err)
	}
	eventually(t, "none runs", func() bool { return r.b.running.Load() == 0 })
}

// Cancelled requests, and those over their deadline, end at the backend.
func TestCancelAndDeadline(t *testing.T) {
	r := newRaw(t, nil)
	r.hello(nil)
	r.ask(frameOf(wire.OpStatfs, 1, 0, nil))
	eventually(t, "it runs", func() bool { return r.b.running.Load() == 1 })
	r.batch(wire.AppendEmpty(nil, wire.Cancel, 1))
	eventually(t, "it is cancelled", func() bool { return r.b.running.Load() == 0 })
	if err := r.reply(1); volume.ErrnoOf(err) == 0 {
		t.Error("a cancelled request succeeded")
	}
	r.ask(frameOf(wire.OpStatfs, 2, 50*time.Millisecond, nil))
	if err := r.reply(2); volume.ErrnoOf(err) != syscall.ETIMEDOUT {
		t.Errorf("%v, want ETIMEDOUT", err)
	}
}

// Beyond its limit a session's requests wait, but Steps do not.
func TestBackpressure(t *testing.T) {
	r := newRaw(t, func(c *Config) { c.InFlight = 1 })
	if w := r.hello(nil); w.InFlight != wire.InFlightMin {
		t.Errorf("in flight %d", w.InFlight)
	}
	n := uint64(0)
	for range wire.InFlightMin {
		n++
		r.ask(frameOf(wire.OpStatfs, n, 0, nil))
	}
	eventually(t, "all run", func() bool { return r.b.running.Load() == wire.InFlightMin })
	n++
	r.ask(frameOf(wire.OpStep, n, 0, nil))
	if err := r.reply(n); err != nil {
		t.Error(err)
	}
	for range 10 {
		n++
		r.ask(frameOf(wire.OpStatfs, n, 0, nil))
	}
	close(r.b.release)
	for range wire.InFlightMin + 10 {
		if f, err := r.answered(); err != nil || f.Kind != wire.Reply {
			t.Fatalf("%+v, %v", f, err)
		}
	}
}

// A client that never acknowledges replies is not remembered for ever.
func TestNeverAcknowledged(t *testing.T) {
	r := newRaw(t, func(c *Config) { c.InFlight = 1 })
	r.hello(nil)
	var err error
	for n := uint64(1); n < 100*wire.InFlightMin && err == nil; n++ {
		r.ask(frameOf(wire.OpUnlink, n, 0, (&wire.NameArgs{Dir: volume.Root, Name: "none"}).Append))
		_, err = r.answered()
	}
	if err == nil {
		t.Error("it goes on")
	}
}

// Lanes must belong to the session's present connection.
func TestLaneFencing(t *testing.T) {
	r := newRaw(t, nil)
	w := r.hello(nil)
	getattr := frameOf(wire.OpGetattr, 5, 0, (&wire.IDArgs{ID: volume.Root}).Append)
	try := func(l *wire.Lane) error {
		err := l.Send(getattr, nil)
		if err == nil {
			_, err = take(l)
		}
		return err
	}
	good := r.lane(wire.LaneHello{Session: r.id, Attachment: w.Attachment})
	defer good.Close()
	if err := try(good); err != nil {
		t.Error(err)
	}
	for what, h := range map[string]wire.LaneHello{
		"another connection": {Session: r.id, Attachment: w.Attachment + 1},
		"an unknown session": {Session: wire.SessionID{9}, Attachment: 1},
	} {
		l := r.lane(h)
		defer l.Close()
		if err := try(l); err == nil {
			t.Errorf("%s's lane is taken", what)
		}
	}
	r.open()
	r.hello(nil)
	if err := try(good); err == nil {
		t.Error("an old connection's lane goes on")
	}
}

// A request on a lane says that the reply before it has come; without that the session would not live on.
func TestAcknowledgedByNext(t *testing.T) {
	r := newRaw(t, func(c *Config) { c.InFlight = 1 })
	w := r.hello(nil)
	l := r.lane(wire.LaneHello{Session: r.id, Attachment: w.Attachment})
	defer l.Close()
	for n := uint64(1); n < 16*wire.InFlightMin; n++ {
		if err := l.Send(frameOf(wire.OpUnlink, n, 0, (&wire.NameArgs{Dir: volume.Root, Name: "none"}).Append), nil); err != nil {
			t.Fatal(err)
		}
		if f, err := take(l); err != nil || f.Number != n {
			t.Fatal(n, f, err)
		}
	}
}

// Whoever connects and says nothing, or nothing more, does not keep the server from stopping.
func TestSilent(t *testing.T) {
	r := newRaw(t, nil)
	for _, begin := range [][]byte{{}, {wire.Magic & 0xff}, {wire.Magic & 0xff, wire.Magic >> 8, wire.Format, 2}} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(begin); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are seen", func() bool {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		return len(r.s.mu.greeting) == 3
	})
	begin := time.Now()
	r.s.Stop()
	if took := time.Since(begin); took > wire.HelloTimeout/2 {
		t.Errorf("stopping took %v", took)
	}
}

// Stop ends what runs and closes the files.
func TestStop(t *testing.T) {
	r := newRaw(t, nil)
	r.hello(nil)
	r.openFile()
	r.ask(frameOf(wire.OpStatfs, 2, 0, nil))
	eventually(t, "it runs", func() bool { return r.b.running.Load() == 1 })
	r.s.Stop()
	if n, c := r.b.running.Load(), r.b.closes.Load(); n != 0 || c != 1 {
		t.Errorf("%d run, %d files closed", n, c)
	}
	if _, err := r.next(); err == nil {
		t.Error("the connection goes on")
	}
}

// The context of a request is what package context expects of one.
func TestRequestContext(t *testing.T) {
	s := &session{srv: New(Config{Set: &backend{FS: model.New()}})}
	t.Cleanup(s.srv.Stop)
	frame, _, err := wire.NextFrame(frameOf(wire.OpStatfs, 1, time.Hour, nil))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.newRequest(frame)
	if err != nil {
		t.Fatal(err)
	}
	child, cancel := context.WithCancel(r)
	defer cancel()
	other, stop := context.WithTimeout(r, time.Hour)
	stop()
	if !errors.Is(other.Err(), context.Canceled) || r.Err() != nil {
		t.Error("a child that is stopped stops its parent")
	}
	if d, ok := r.Deadline(); !ok || time.Until(d) > time.Minute {
		t.Errorf("deadline %v", d)
	}
	r.cancel(context.DeadlineExceeded)
	<-r.Done()
	<-child.Done()
	if !errors.Is(child.Err(), context.DeadlineExceeded) {
		t.Errorf("child: %v", child.Err())
	}
	late, cancel2 := context.WithCancel(r)
	defer cancel2()
	<-late.Done()
}
