package api

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/volume/spec"
)

// dialTimeout bounds the attempt to reach one target, if the context does not.
const dialTimeout = 5 * time.Second

// Conn speaks to one daemon. It implements Daemon; its methods may be called
// from any number of goroutines, and reconnect by themselves. Errors are *Error.
type Conn struct {
	conn   *grpc.ClientConn
	target string
}

var _ Daemon = (*Conn)(nil)

// Targets splits a comma-separated list of targets.
func Targets(list string) []string {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Dial connects to the daemon at target: the path of its Unix socket (anything
// with a slash in it), or HOST[:PORT]; of a comma-separated list the first that
// answers. It returns when the connection stands, or an Error that says which
// target could not be reached and what to do. Close the Conn after use.
func Dial(ctx context.Context, target string) (*Conn, error) { return DialFrom(ctx, "", target) }

// DialFrom is Dial with TCP connections coming from the local address, if it is
// one: a daemon is known to others by the address that it listens on.
func DialFrom(ctx context.Context, local, target string) (*Conn, error) {
	var first error
	for _, t := range Targets(target) {
		c, err := dialOne(ctx, local, t)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil, Errorf(ErrGeneric, "No daemon is named to connect to.")
	}
	return nil, first
}

func dialOne(ctx context.Context, local, target string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	network, addr := network(target)
	// A bare connection first: its error is the system's own and tells more than gRPC's.
	dialer := &net.Dialer{}
	if ip := net.ParseIP(local); ip != nil && network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	c, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, unreachable(network, addr, err)
	}
	first := make(chan net.Conn, 1)
	first <- c
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case c := <-first:
			return c, nil
		default:
			return dialer.DialContext(ctx, network, addr)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("mortar"),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(replyMax), grpc.MaxCallSendMsgSize(requestMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		c.Close()
		return nil, Errorf(ErrGeneric, "%s: %v", target, err)
	}
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		if s == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, s) {
			conn.Close()
			select { // on a busy machine it may not have been taken: the daemon would wait for its first word
			case c := <-first:
				c.Close()
			default:
			}
			return nil, unreachable(network, addr, errors.New("it does not speak the management protocol"))
		}
	}
	return &Conn{conn: conn, target: target}, nil
}

// network tells how to reach a target.
func network(target string) (network, addr string) {
	if strings.Contains(target, "/") {
		return "unix", target
	}
	if host, port, err := net.SplitHostPort(target); err == nil && port != "" {
		return "tcp", net.JoinHostPort(host, port)
	}
	return "tcp", net.JoinHostPort(strings.Trim(target, "[]"), strconv.Itoa(DefaultPort))
}

func unreachable(network, addr string, err error) *Error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	if network == "unix" && errors.Is(err, fs.ErrPermission) {
		return Errorf(ErrUnreachable, "The socket %s of `mortar daemon` is not open to this user: run the command as root.", addr)
	}
	if network == "unix" {
		return Errorf(ErrUnreachable, "No daemon answers on %s (%v): start it with `mortar daemon` or `systemctl start mortar`, or name its socket with --socket.", addr, err)
	}
	return Errorf(ErrUnreachable, "No daemon answers on %s (%v): is `mortar daemon` running there?", addr, err)
}

// Target returns the target that answered Dial.
func (c *Conn) Target() string { return c.target }

// Close ends the connection and all calls in progress.
func (c *Conn) Close() error { return c.conn.Close() }

// call makes a unary call.
func call[Rep any](ctx context.Context, c *Conn, name string, req any) (Rep, error) {
	ctx, cancel := deadline(ctx, name)
	defer cancel()
	var rep answer[Rep]
	var md metadata.MD
	if err := c.conn.Invoke(withVersion(ctx), method(name), req, &rep, grpc.Header(&md)); err != nil {
		return rep.Reply, c.fromStatus(err)
	}
	if err := checkVersion(md, "daemon"); err != nil {
		return rep.Reply, err
	}
	if rep.Error != nil {
		return rep.Reply, rep.Error
	}
	return rep.Reply, nil
}

// fromStatus makes an Error of a transport's trouble.
func (c *Conn) fromStatus(err error) *Error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable:
		return Errorf(ErrUnreachable, "The connection to the daemon at %s was lost (%s).", c.target, s.Message())
	case codes.DeadlineExceeded:
		return Errorf(ErrGeneric, "The daemon at %s did not answer in time; it may still be at work: see `mortar volume info`.", c.target)
	case codes.Canceled:
		return Errorf(ErrGeneric, "The request was cancelled.")
	case codes.Unimplemented:
		return Errorf(ErrGeneric, "The daemon at %s does not know this request: it is older than this command (%s).", c.target, s.Message())
	}
	return Errorf(ErrGeneric, "The daemon at %s: %s.", c.target, s.Message())
}

// stream makes a call whose replies are maps. It returns nil when ctx ended,
// send's error, or what ended the stream. A daemon that beats is lost when it is
// not heard for silenceMax: one whose machine lost power closes no connection.
func (c *Conn) stream(ctx context.Context, name string, req any, send func(*spec.Map) error) error {
	heard, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := Errorf(ErrUnreachable, "The daemon at %s was not heard for %v.", c.target, silenceMax)
	silence := time.AfterFunc(silenceMax, func() { cancel(silent) })
	silence.Stop() // until it beats
	defer silence.Stop()
	beats := false
	err := c.receive(heard, name, req, func(m *mapMessage) error {
		beats = beats || m.Map == nil
		if beats {
			silence.Reset(silenceMax)
		}
		if m.Map == nil {
			return nil
		}
		return send(m.Map)
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case context.Cause(heard) == silent:
		return silent
	}
	return err
}

func (c *Conn) receive(ctx context.Context, name string, req any, got func(*mapMessage) error) error {
	s, err := c.conn.NewStream(withVersion(ctx), &grpc.StreamDesc{ServerStreams: true}, method(name))
	if err != nil {
		return c.fromStatus(err)
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return c.fromStatus(err)
	}
	if err := s.CloseSend(); err != nil {
		return c.fromStatus(err)
	}
	md, err := s.Header()
	if err != nil {
		return c.fromStatus(err)
	}
	if len(md) > 0 { // without any the stream's status says why
		if err := checkVersion(md, "daemon"); err != nil {
			return err
		}
	}
	for {
		var m mapMessage
		switch err := s.RecvMsg(&m); {
		case errors.Is(err, io.EOF):
			return Errorf(ErrUnreachable, "The daemon at %s ended the stream.", c.target)
		case err != nil:
			return c.fromStatus(err)
		case m.Error != nil:
			return m.Error
		}
		if err := got(&m); err != nil {
			return err
		}
	}
}

// VolumeCreate implements Daemon.
func (c *Conn) VolumeCreate(ctx context.Context, r CreateRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeCreate", r)
}

// VolumeStart implements Daemon.
func (c *Conn) VolumeStart(ctx context.Context, r VolumeRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeStart", r)
}

// VolumeStop implements Daemon.
func (c *Conn) VolumeStop(ctx context.Context, r VolumeRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeStop", r)
}

// VolumeDelete implements Daemon.
func (c *Conn) VolumeDelete(ctx context.Context, r VolumeRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeDelete", r)
}

// VolumeInfo implements Daemon.
func (c *Conn) VolumeInfo(ctx context.Context, r VolumeRequest) ([]Volume, error) {
	return call[[]Volume](ctx, c, "VolumeInfo", r)
}

// VolumeStatus implements Daemon.
func (c *Conn) VolumeStatus(ctx context.Context, r StatusRequest) ([]VolumeStatus, error) {
	return call[[]VolumeStatus](ctx, c, "VolumeStatus", r)
}

// VolumeSet implements Daemon.
func (c *Conn) VolumeSet(ctx context.Context, r SetRequest) (SetReply, error) {
	return call[SetReply](ctx, c, "VolumeSet", r)
}

// VolumeReset implements Daemon.
func (c *Conn) VolumeReset(ctx context.Context, r ResetRequest) (SetReply, error) {
	return call[SetReply](ctx, c, "VolumeReset", r)
}

// VolumeGet implements Daemon.
func (c *Conn) VolumeGet(ctx context.Context, r GetRequest) ([]OptionValue, error) {
	return call[[]OptionValue](ctx, c, "VolumeGet", r)
}

// Status implements Daemon.
func (c *Conn) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "Status", none{})
}

// PeerProbe implements Pool.
func (c *Conn) PeerProbe(ctx context.Context, r PeerRequest) (PeerReply, error) {
	return call[PeerReply](ctx, c, "PeerProbe", r)
}

// PeerDetach implements Pool.
func (c *Conn) PeerDetach(ctx context.Context, r PeerRequest) (PeerReply, error) {
	return call[PeerReply](ctx, c, "PeerDetach", r)
}

// PoolList implements Pool.
func (c *Conn) PoolList(ctx context.Context) ([]Peer, error) {
	return call[[]Peer](ctx, c, "PoolList", none{})
}

// ClusterStatus implements Pool.
func (c *Conn) ClusterStatus(ctx context.Context) (Cluster, error) {
	return call[Cluster](ctx, c, "ClusterStatus", none{})
}

// ClusterRecover implements Pool.
func (c *Conn) ClusterRecover(ctx context.Context) (Cluster, error) {
	return call[Cluster](ctx, c, "ClusterRecover", none{})
}

// ClusterBackup implements Pool.
func (c *Conn) ClusterBackup(ctx context.Context) (Backup, error) {
	return call[Backup](ctx, c, "ClusterBackup", none{})
}

// ClusterRestore implements Pool.
func (c *Conn) ClusterRestore(ctx context.Context, b Backup) (Cluster, error) {
	return call[Cluster](ctx, c, "ClusterRestore", b)
}

// Identify implements Pool.
func (c *Conn) Identify(ctx context.Context, r IdentifyRequest) (Identity, error) {
	return call[Identity](ctx, c, "Identify", r)
}

// Join implements Pool.
func (c *Conn) Join(ctx context.Context, r JoinRequest) (Identity, error) {
	return call[Identity](ctx, c, "Join", r)
}

// Leave implements Pool.
func (c *Conn) Leave(ctx context.Context, r LeaveRequest) (Identity, error) {
	return call[Identity](ctx, c, "Leave", r)
}

// WatchMap implements Daemon. It ends with an error when the connection is
// lost; FollowMap goes on.
func (c *Conn) WatchMap(ctx context.Context, volume string, send func(*spec.Map) error) error {
	return c.stream(ctx, "WatchMap", watchRequest{volume}, send)
}

// AttachBrick implements Daemon. It ends with an error when the connection is
// lost; KeepAttached goes on.
func (c *Conn) AttachBrick(ctx context.Context, b BrickHello, send func(*spec.Map) error) error {
	return c.stream(ctx, "AttachBrick", b, send)
}
