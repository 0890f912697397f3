package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// greetTimeout is how long one who connects may take to say the first word. The end of a member
// waits for those, which gRPC would give two minutes.
const greetTimeout = 3 * time.Second

// listeners are a member's sockets, open before it runs.
type listeners struct {
	host           string
	peers, clients net.Listener
}

// listen opens the sockets of the member of host.
func (s *Store) listen(host string) (*listeners, error) {
	bind := s.cfg.Bind
	if bind == "" {
		bind = host
	}
	open := func(port int, listen func(addr string) (net.Listener, error)) (net.Listener, error) {
		addr := net.JoinHostPort(bind, strconv.Itoa(port))
		l, err := listen(addr)
		if err != nil {
			if op := (*net.OpError)(nil); errors.As(err, &op) {
				err = op.Err
			}
			return nil, fmt.Errorf("the configuration store can't listen on %s for the other servers: %w", addr, err)
		}
		return l, nil
	}
	peers, err := open(s.cfg.Port, listenPeers)
	if err != nil {
		return nil, err
	}
	clients, err := open(s.cfg.Port+1, Listen)
	if err != nil {
		peers.Close()
		return nil, err
	}
	return &listeners{host, peers, clients}, nil
}

func (l *listeners) close() {
	l.peers.Close()
	l.clients.Close()
}

// serving is what answers on a member's sockets. embed would do the same, but
// only from the start of the member on, and it waits seconds for watches to end.
type serving struct {
	host  string
	peers *http.Server
	grpc  *grpc.Server
	end   context.CancelFunc // of watchPeers
	wg    sync.WaitGroup
}

// serve answers on the sockets until end.
func (s *Store) serve(m *member, l *listeners) *serving {
	srv := m.etcd.Server
	v := &serving{
		host: l.host,
		peers: &http.Server{
			Handler:           etcdhttp.NewPeerHandler(srv.Logger(), srv),
			ReadHeaderTimeout: 5 * time.Second,
			ErrorLog:          stdlog.New(io.Discard, "", 0), // etcd panics on messages of removed members
		},
		grpc: v3rpc.Server(srv, s.cfg.TLS, nil,
			grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
				if m.self() == nil { // etcd would panic
					return nil, status.Error(codes.Unavailable, "this member does not know the members yet, or was removed")
				}
				return ctx, nil
			}),
			grpc.ChainUnaryInterceptor(survive),
			grpc.ConnectionTimeout(greetTimeout),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second})),
	}
	ctx, end := context.WithCancel(context.Background())
	v.end = end
	v.wg.Go(func() { watchPeers(ctx, m.peerPorts) })
	v.wg.Go(func() { _ = v.peers.Serve(l.peers) })
	v.wg.Go(func() { _ = v.grpc.Serve(l.clients) })
	return v
}

// survive makes an error of a panic in one of etcd's handlers: a member that finds
// itself removed closes its database while they still answer, and the whole
// daemon would end with them.
func survive(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, status.Errorf(codes.Unavailable, "this member is ending: %v", p)
		}
	}()
	return handle(ctx, request)
}

// endClients closes the connections of clients and endPeers those of members,
// which are needed longer: until the leadership is handed on.
func (v *serving) endClients() { v.grpc.Stop() }

func (v *serving) endPeers() {
	v.end()
	v.peers.Close()
	v.wg.Wait()
}
