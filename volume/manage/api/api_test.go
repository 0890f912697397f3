package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/volume/spec"
)

// fake answers a few methods; the others are not called.
type fake struct {
	Daemon
	mu struct {
		sync.Mutex
		deadline time.Duration
		attached []BrickHello
	}
	maps    chan *spec.Map // nil in it: the volume does not exist
	cluster string
}

func (f *fake) Status(context.Context) (Status, error) { return Status{Cluster: f.cluster}, nil }

func (f *fake) VolumeInfo(ctx context.Context, r VolumeRequest) ([]Volume, error) {
	switch r.Name {
	case "refused":
		return nil, Errorf(ErrNoVolume, "Volume %s does not exist", r.Name)
	case "plain":
		return nil, errors.New("something else")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d, _ := ctx.Deadline()
	f.mu.Lock()
	f.mu.deadline = time.Until(d)
	f.mu.Unlock()
	return []Volume{{Name: r.Name, State: Started}}, nil
}

func (f *fake) WatchMap(ctx context.Context, volume string, send func(*spec.Map) error) error {
	if volume == "nosuch" {
		return Errorf(ErrNoVolume, "Volume nosuch does not exist")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-f.maps:
			if !ok {
				return Errorf(ErrGeneric, "The daemon is ending.")
			}
			if m == nil {
				return Errorf(ErrNoVolume, "Volume %s does not exist", volume)
			}
			if err := send(m); err != nil {
				return err
			}
		}
	}
}

func (f *fake) AttachBrick(ctx context.Context, b BrickHello, send func(*spec.Map) error) error {
	f.mu.Lock()
	f.mu.attached = append(f.mu.attached, b)
	n := len(f.mu.attached)
	f.mu.Unlock()
	if err := send(&spec.Map{Version: uint64(n)}); err != nil {
		return err
	}
	if n < 3 {
		return Errorf(ErrGeneric, "not yet")
	}
	return Errorf(ErrNotWanted, "enough")
}

// serve answers with d on a Unix socket.
func serve(t *testing.T, d Daemon) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(d)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func dial(t *testing.T, target string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCalls(t *testing.T) {
	f := &fake{}
	c := dial(t, "/no/such/socket, "+serve(t, f))
	l, err := c.VolumeInfo(t.Context(), VolumeRequest{Name: "v"})
	if err != nil || len(l) != 1 || l[0].Name != "v" || l[0].State != Started {
		t.Errorf("info: %+v %v", l, err)
	}
	if f.mu.deadline <= 0 || f.mu.deadline > askTimeout {
		t.Errorf("the daemon's deadline is in %v", f.mu.deadline)
	}
	for name, want := range map[string]Error{
		"refused": {ErrNoVolume, "Volume refused does not exist"},
		"plain":   {ErrGeneric, "something else"},
	} {
		var e *Error
		if _, err := c.VolumeInfo(t.Context(), VolumeRequest{Name: name}); !errors.As(err, &e) || *e != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.VolumeInfo(ctx, VolumeRequest{Name: "slow"}); err == nil ||
		!strings.Contains(err.Error(), "did not answer in time") && !strings.Contains(err.Error(), "timed out") { // whichever side sees it first
		t.Errorf("slow: %v", err)
	}
	big := CreateRequest{Bricks: []string{strings.Repeat("x", requestMax)}}
	if _, err := c.VolumeCreate(t.Context(), big); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a request that is too long: %v", err)
	}
}

func TestSocketOfRoot(t *testing.T) {
	err := unreachable("unix", "/s", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if err.Errno != ErrUnreachable || err.Message != "The socket /s of `mortar daemon` is not open to this user: run the command as root." {
		t.Error(err)
	}
}

func TestDialErrors(t *testing.T) {
	for target, want := range map[string]string{
		"":                 "No daemon is named",
		"/no/such/socket":  "No daemon answers on /no/such/socket (connect: no such file or directory): start it with `mortar daemon`",
		"127.0.0.1:1":      "No daemon answers on 127.0.0.1:1 (connect: connection refused)",
		" , /no/such/one ": "No daemon answers on /no/such/one",
	} {
		_, err := Dial(t.Context(), target)
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Message, want) {
			t.Errorf("%q: %v", target, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing sensible
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
			c.Close()
		}
	}()
	if _, err := Dial(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), "does not speak the management protocol") {
		t.Errorf("a stranger: %v", err)
	}
}

func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"/run/s": "unix /run/s", "./s": "unix ./s", "host": "tcp host:24100", "host:5": "tcp host:5",
		"10.0.0.1": "tcp 10.0.0.1:24100", "[::1]": "tcp [::1]:24100", "::1": "tcp [::1]:24100", "[::1]:7": "tcp [::1]:7",
	} {
		if n, a := network(target); n+" "+a != want {
			t.Errorf("%s: %s %s, want %s", target, n, a, want)
		}
	}
}

// A daemon answers a newer minor version, fields that it does not know
// included, and refuses another major one with a sentence.
func TestVersions(t *testing.T) {
	socket := serve(t, &fake{})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(version, request string) (answer[[]Volume], error) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), versionKey, version)
		var rep answer[[]Volume]
		return rep, conn.Invoke(ctx, method("VolumeInfo"), json.RawMessage(request), &rep)
	}
	rep, err := ask("1.99", `{"Name": "v", "Colour": {"deep": [1, 2]}}`)
	if err != nil || rep.Error != nil || len(rep.Reply) != 1 {
		t.Errorf("a newer minor: %+v %v", rep, err)
	}
	rep, err = ask("2.0", `{}`)
	if err != nil || rep.Error == nil || !strings.Contains(rep.Error.Message, "speaks version 2.0 of the management protocol, this side "+ownVersion()) {
		t.Errorf("another major: %+v %v", rep.Error, err)
	}
	rep, err = ask("", `{}`)
	if err != nil || rep.Error == nil || !strings.Contains(rep.Error.Message, "does not speak Mortar's management protocol") {
		t.Errorf("no version: %+v %v", rep.Error, err)
	}
	if _, err = ask("1.0", `{"Name": 5}`); status.Code(err) == codes.OK {
		t.Errorf("a malformed request: %v", err)
	}
	if _, err = ask("1.0", `{"Name`); status.Code(err) == codes.OK {
		t.Error("a torn request was answered")
	}
}

func TestFollowMap(t *testing.T) {
	f := &fake{maps: make(chan *spec.Map)}
	socket := serve(t, f)
	if _, err := FetchMap(t.Context(), []string{"/no/such", socket}, "nosuch"); err == nil || err.Error() != "Volume nosuch does not exist" {
		t.Errorf("fetch: %v", err)
	}
	if _, err := FetchMap(t.Context(), []string{"/no/such"}, "v"); err == nil || !strings.HasPrefix(err.Error(), "No daemon answers") {
		t.Errorf("fetch: %v", err)
	}
	got, done := make(chan uint64, 10), make(chan error, 1)
	go func() {
		done <- FollowMap(t.Context(), []string{"/no/such", socket}, "v", func(m *spec.Map) { got <- m.Version })
	}()
	for _, v := range []uint64{3, 2, 3, 5} { // older ones and known ones are dropped
		f.maps <- &spec.Map{ID: "a", Version: v}
	}
	for _, want := range []uint64{3, 5} {
		if v := <-got; v != want {
			t.Errorf("version %d, want %d", v, want)
		}
	}
	f.maps <- &spec.Map{ID: "b", Version: 9}
	var e *Error
	if err := <-done; !errors.As(err, &e) || e.Errno != ErrNoVolume {
		t.Errorf("follow ended with %v", err)
	}
}

// A daemon that had lost its configuration when it said that the volume is gone, and has it again by the time that it is
// asked which cluster it is of, is not believed; one that says so again is.
func TestFollowMapAsksOnceMore(t *testing.T) {
	f := &fake{maps: make(chan *spec.Map), cluster: "c"}
	got, done := make(chan uint64, 10), make(chan error, 1)
	socket := serve(t, f)
	go func() {
		done <- FollowMap(t.Context(), []string{socket}, "v", func(m *spec.Map) { got <- m.Version })
	}()
	for version := range uint64(2) {
		f.maps <- &spec.Map{ID: "a", Cluster: "c", Version: version + 1}
		if v := <-got; v != version+1 {
			t.Errorf("version %d, want %d", v, version+1)
		}
		f.maps <- nil
	}
	f.maps <- nil
	var e *Error
	if err := <-done; !errors.As(err, &e) || e.Errno != ErrNoVolume {
		t.Errorf("follow ended with %v", err)
	}
}

func TestKeepAttached(t *testing.T) {
	f := &fake{}
	hello := BrickHello{Volume: "v", Brick: "b", PID: 7, Port: 8}
	var versions []uint64
	err := KeepAttached(t.Context(), serve(t, f), hello, func(m *spec.Map) { versions = append(versions, m.Version) })
	var e *Error
	if !errors.As(err, &e) || e.Errno != ErrNotWanted || len(versions) != 3 || len(f.mu.attached) != 3 || f.mu.attached[2] != hello {
		t.Errorf("ended with %v after maps %v and %+v", err, versions, f.mu.attached)
	}
}

// Who follows goes on with a daemon that only a map has named.
func TestFollowMapLearns(t *testing.T) {
	first, second := &fake{maps: make(chan *spec.Map)}, &fake{maps: make(chan *spec.Map)}
	here, there := serve(t, first), serve(t, second)
	got := make(chan uint64, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- FollowMap(ctx, []string{here}, "v", func(m *spec.Map) { got <- m.Version }) }()
	first.maps <- &spec.Map{ID: "a", Version: 1, Daemons: []string{"/no/such", there}}
	if v := <-got; v != 1 {
		t.Errorf("version %d", v)
	}
	if err := os.Remove(here); err != nil { // nobody gets there any more
		t.Fatal(err)
	}
	close(first.maps)
	began := time.Now()
	second.maps <- &spec.Map{ID: "a", Version: 2}
	if v := <-got; v != 2 {
		t.Errorf("version %d", v)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("found after %v", took)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A daemon whose machine lost power closes no connection: who follows gives it
// up when it is not heard any more, and goes on with another.
func TestFollowMapSilence(t *testing.T) {
	dead, alive := &fake{maps: make(chan *spec.Map)}, &fake{maps: make(chan *spec.Map)}
	front, there := relay(t, serve(t, dead)), serve(t, alive)
	got := make(chan uint64, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- FollowMap(ctx, []string{front.path, there}, "v", func(m *spec.Map) { got <- m.Version })
	}()
	dead.maps <- &spec.Map{ID: "a", Version: 1}
	if v := <-got; v != 1 {
		t.Errorf("version %d", v)
	}
	<-front.beaten
	front.mute()
	began := time.Now()
	alive.maps <- &spec.Map{ID: "a", Version: 2}
	if v := <-got; v != 2 {
		t.Errorf("version %d", v)
	}
	if took := time.Since(began); took > silenceMax+3*time.Second {
		t.Errorf("the other was asked after %v", took)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// relayed passes a Unix socket's bytes on, until it is muted.
type relayed struct {
	path   string
	beaten chan struct{} // closed when something has come from the daemon a beat's time after the begin
	muted  chan struct{}
}

func (r *relayed) mute() { close(r.muted) }

func relay(t *testing.T, to string) *relayed {
	t.Helper()
	r := &relayed{filepath.Join(t.TempDir(), "r"), make(chan struct{}), make(chan struct{})}
	l, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	began := time.Now()
	once := sync.OnceFunc(func() { close(r.beaten) })
	pass := func(from, to net.Conn, back bool) { // ends with the connections
		b := make([]byte, 4096)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			select {
			case <-r.muted:
				continue
			default:
			}
			if back && time.Since(began) > beatInterval {
				once()
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case <-r.muted: // as a machine without power: nobody is there
				c.Close()
				continue
			default:
			}
			d, err := net.Dial("unix", to)
			if err != nil {
				c.Close()
				return
			}
			t.Cleanup(func() { c.Close(); d.Close() })
			go pass(c, d, false)
			go pass(d, c, true)
		}
	}()
	return r
}
