package server

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// backend is a model whose Statfs waits until it is let go or its context is done.
type backend struct {
	volume.FS
	running, closes atomic.Int64
	release         chan struct{}
}

func (b *backend) Step(context.Context, []byte) ([]byte, error) { return []byte("answer"), nil }

func (b *backend) Statfs(ctx context.Context) (volume.Statfs, error) {
	b.running.Add(1)
	defer b.running.Add(-1)
	select {
	case <-b.release:
		return volume.Statfs{Total: 1}, nil
	case <-ctx.Done():
		return volume.Statfs{}, ctx.Err()
	}
}

func (b *backend) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := b.FS.Open(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return closer{file, b}, nil
}

type closer struct {
	volume.File
	b *backend
}

func (c closer) Close() error {
	c.b.closes.Add(1)
	return c.File.Close()
}

// raw is a client that says whatever a test wants.
type raw struct {
	t       *testing.T
	s       *Server
	b       *backend
	cc      *grpc.ClientConn
	stream  grpc.ClientStream
	frames  []byte
	addr    string
	replies chan answer // of the lanes
	welcome wire.WelcomeBody
	id      wire.SessionID
}

// answer is what came on a lane.
type answer struct {
	frame wire.Frame
	err   error
}

func newRaw(t *testing.T, change func(*Config)) *raw {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, addr: l.Addr().String(), replies: make(chan answer, 1<<10), b: &backend{FS: model.New(), release: make(chan struct{})}, id: wire.SessionID{1}}
	conf := Config{Set: r.b, VolumeID: "v", BrickID: "b", Grace: time.Minute}
	if change != nil {
		change(&conf)
	}
	r.s = New(conf)
	done := make(chan error, 1)
	go func() { done <- r.s.Serve(l) }()
	r.cc, err = grpc.NewClient("passthrough:///"+l.Addr().String(), wire.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cc.Close()
		r.s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.open()
	return r
}

// open begins a new Session stream.
func (r *raw) open() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r.t.Cleanup(cancel)
	st, err := r.cc.NewStream(ctx, wire.StreamDesc, wire.SessionMethod)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stream, r.frames = st, nil
}

// send sends bytes as a message, whatever they are. Errors show when receiving.
func (r *raw) send(b []byte) {
	_ = r.stream.SendMsg(&wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}})
}

// batch sends frames.
func (r *raw) batch(frames ...[]byte) {
	b := wire.AppendBatchHeader(nil)
	for _, f := range frames {
		b = append(b, f...)
	}
	wire.EndBatch(b)
	r.send(b)
}

// next returns the next frame, or how the stream ended.
func (r *raw) next() (wire.Frame, error) {
	for len(r.frames) == 0 {
		var in wire.In
		if err := r.stream.RecvMsg(&in); err != nil {
			return wire.Frame{}, err
		}
		frames, err := wire.ParseBatch(in.Batch)
		if err != nil {
			return wire.Frame{}, err
		}
		r.frames = frames
	}
	f, rest, err := wire.NextFrame(r.frames)
	r.frames = rest
	return f, err
}

// hello introduces the client and returns the welcome.
func (r *raw) hello(change func(*wire.HelloBody)) wire.WelcomeBody {
	r.t.Helper()
	h := wire.HelloBody{VersionMin: 1, VersionMax: wire.Version, Volume: "v", Brick: "b", Session: r.id, Client: "raw", Server: r.welcome.Server}
	if change != nil {
		change(&h)
	}
	r.batch(h.Append(nil))
	f, err := r.next()
	if err != nil || f.Kind != wire.Welcome {
		r.t.Fatalf("%+v, %v", f, err)
	}
	rd := wire.NewReader(f.Body)
	r.welcome = wire.WelcomeBody{}
	if !r.welcome.Parse(&rd) {
		r.t.Fatal("malformed welcome")
	}
	return r.welcome
}

// frameOf returns a request's frame.
func frameOf(op wire.Op, n uint64, timeout time.Duration, args func([]byte) []byte) []byte {
	b := wire.AppendRequest(nil, op, n, wire.Header{Timeout: timeout})
	if args != nil {
		b = args(b)
	}
	return wire.EndFrame(b, 0)
}

// lane opens a lane.
func (r *raw) lane(h wire.LaneHello) *wire.Lane {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := wire.OpenLane(conn, nil, h)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// ask sends frames, each on a lane of its own, whose answers next delivers.
func (r *raw) ask(frames ...[]byte) {
	r.t.Helper()
	for _, f := range frames {
		l := r.lane(wire.LaneHello{Session: r.id, Attachment: r.welcome.Attachment})
		go func() {
			defer l.Close()
			var a answer
			if a.err = l.Send(f, nil); a.err == nil {
				for a.frame, a.err = take(l); a.frame.Kind == wire.Told || a.frame.Kind == wire.Data || a.frame.Kind == wire.Pong; {
					a.frame, a.err = take(l)
				}
			}
			r.replies <- a
		}()
	}
}

// take receives a frame.
func take(l *wire.Lane) (wire.Frame, error) {
	f, size, err := l.Next()
	if err == nil {
		f.Body = make([]byte, size)
		err = l.Body(f.Body)
	}
	return f, err
}

// answered receives what came on a lane next.
func (r *raw) answered() (wire.Frame, error) {
	r.t.Helper()
	select {
	case a := <-r.replies:
		return a.frame, a.err
	case <-time.After(20 * time.Second):
		r.t.Fatal("no answer came")
		return wire.Frame{}, nil
	}
}

// reply receives the reply to request n and returns its error.
func (r *raw) reply(n uint64) error {
	r.t.Helper()
	f, err := r.answered()
	if err != nil {
		r.t.Fatal(err)
	}
	if f.Kind != wire.Reply || f.Number != n {
		r.t.Fatalf("%s %d, want the reply to %d", f.Kind, f.Number, n)
	}
	rd := wire.NewReader(f.Body)
	return wire.ParseStatus(&rd)
}

// openFile opens a file under the handle 1, which a session's end must close.
func (r *raw) openFile() {
	r.t.Helper()
	f, a, err := r.b.FS.Create(r.t.Context(), volume.Root, "file", volume.Node{Mode: syscall.S_IFREG | 0o644}, volume.Read)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = f.Close()
	r.ask(frameOf(wire.OpOpen, 1, 0, (&wire.OpenArgs{ID: a.ID, Flags: volume.Read, Handle: 1}).Append))
	if err := r.reply(1); err != nil {
		r.t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-tick.C
	}
}
