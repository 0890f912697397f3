package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/volume/spec"
)

// NewServer returns a gRPC server that answers with d. The caller gives it
// listeners (Serve) and stops it.
func NewServer(d Daemon) *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(requestMax),
		grpc.MaxSendMsgSize(replyMax),
		grpc.MaxConcurrentStreams(256), // of one connection
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		grpc.ReadBufferSize(8<<10), grpc.WriteBufferSize(8<<10),
	)
	s.RegisterService(&description, d)
	return s
}

var description = grpc.ServiceDesc{
	ServiceName: service,
	HandlerType: (*Daemon)(nil),
	Methods: []grpc.MethodDesc{
		unary("VolumeCreate", Daemon.VolumeCreate),
		unary("VolumeStart", Daemon.VolumeStart),
		unary("VolumeStop", Daemon.VolumeStop),
		unary("VolumeDelete", Daemon.VolumeDelete),
		unary("VolumeInfo", Daemon.VolumeInfo),
		unary("VolumeStatus", Daemon.VolumeStatus),
		unary("VolumeSet", Daemon.VolumeSet),
		unary("VolumeReset", Daemon.VolumeReset),
		unary("VolumeGet", Daemon.VolumeGet),
		unary("Status", func(d Daemon, ctx context.Context, _ none) (Status, error) { return d.Status(ctx) }),
		unary("PeerProbe", Daemon.PeerProbe),
		unary("PeerDetach", Daemon.PeerDetach),
		unary("PoolList", func(d Daemon, ctx context.Context, _ none) ([]Peer, error) { return d.PoolList(ctx) }),
		unary("ClusterStatus", func(d Daemon, ctx context.Context, _ none) (Cluster, error) { return d.ClusterStatus(ctx) }),
		unary("ClusterRecover", func(d Daemon, ctx context.Context, _ none) (Cluster, error) { return d.ClusterRecover(ctx) }),
		unary("ClusterBackup", func(d Daemon, ctx context.Context, _ none) (Backup, error) { return d.ClusterBackup(ctx) }),
		unary("ClusterRestore", Daemon.ClusterRestore),
		unary("Identify", Daemon.Identify),
		unary("Join", Daemon.Join),
		unary("Leave", Daemon.Leave),
		unary("VolumeHeal", Daemon.VolumeHeal),
		unary("VolumeHealInfo", Daemon.VolumeHealInfo),
		unary("VolumeReplaceBrick", Daemon.VolumeReplaceBrick),
		unary("VolumeResetBrick", Daemon.VolumeResetBrick),
		unary("SetState", Daemon.SetState),
		unary("SwapSetState", Daemon.SwapSetState),
	},
	Streams: []grpc.StreamDesc{
		{StreamName: "WatchMap", Handler: watchMap, ServerStreams: true},
		{StreamName: "AttachBrick", Handler: attachBrick, ServerStreams: true},
	},
}

// unary describes a method with one request and one reply.
func unary[Req, Rep any](name string, f func(Daemon, context.Context, Req) (Rep, error)) grpc.MethodDesc {
	handler := func(d any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := greet(ctx, func(md metadata.MD) error { return grpc.SetHeader(ctx, md) }); err != nil {
			return &answer[Rep]{Error: err}, nil
		}
		var req Req
		if err := decode(&req); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		ctx, cancel := deadline(ctx, name)
		defer cancel()
		rep, err := f(d.(Daemon), ctx, req)
		if err != nil {
			return &answer[Rep]{Error: asError(err)}, nil
		}
		return &answer[Rep]{Reply: rep}, nil
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

// greet exchanges versions at the begin of a call.
func greet(ctx context.Context, send func(metadata.MD) error) *Error {
	if err := send(metadata.Pairs(versionKey, ownVersion())); err != nil {
		return asError(err)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return checkVersion(md, "client")
}

// asError makes an Error of any error.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(ErrGeneric, "The request timed out. The daemon goes on with it; see `mortar volume info`.")
	case errors.Is(err, context.Canceled):
		return Errorf(ErrGeneric, "The request was cancelled.")
	}
	return Errorf(ErrGeneric, "%s", err.Error())
}

func watchMap(d any, s grpc.ServerStream) error {
	var req watchRequest
	return maps(s, &req, func(ctx context.Context, send func(*spec.Map) error) error {
		return d.(Daemon).WatchMap(ctx, req.Volume, send)
	})
}

func attachBrick(d any, s grpc.ServerStream) error {
	var hello BrickHello
	return maps(s, &hello, func(ctx context.Context, send func(*spec.Map) error) error {
		return d.(Daemon).AttachBrick(ctx, hello, send)
	})
}

// maps serves a map stream: it reads the request into req and passes on what f
// sends, and f's error as the last message. Between them it beats.
func maps(s grpc.ServerStream, req any, f func(context.Context, func(*spec.Map) error) error) error {
	if err := greet(s.Context(), s.SendHeader); err != nil {
		return s.SendMsg(&mapMessage{Error: err})
	}
	if err := s.RecvMsg(req); err != nil {
		return err
	}
	var mu sync.Mutex // of sending
	send := func(m *mapMessage) error {
		mu.Lock()
		defer mu.Unlock()
		return s.SendMsg(m)
	}
	ctx, cancel := context.WithCancel(s.Context())
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() { beat(ctx, send) })
	err := f(ctx, func(m *spec.Map) error { return send(&mapMessage{Map: m}) })
	if err == nil || s.Context().Err() != nil {
		return s.Context().Err()
	}
	return send(&mapMessage{Error: asError(err)})
}

// beat sends an empty message every beatInterval until ctx ends or that fails,
// which whoever sends a map next sees.
func beat(ctx context.Context, send func(*mapMessage) error) {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if send(&mapMessage{}) != nil {
			return
		}
	}
}
