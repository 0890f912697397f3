package wire

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Names of the service and the full name of the method that makes a session.
const (
	ServiceName   = "mortar.Brick"
	SessionMethod = "/" + ServiceName + "/Session"
)

// PingInterval is how often a client pings on an otherwise silent connection, and
// StallAfter when a side gives up a peer that it hears nothing of.
const (
	PingInterval = time.Second
	StallAfter   = 4 * time.Second
)

// HelloTimeout is how long a connection may take to introduce itself.
const HelloTimeout = 5 * time.Second

// SlowAfter is how long a request may run before the server says on its lane that it
// still does, with a Pong, and how often.
const SlowAfter = time.Second

// InFlightMin is how many requests a server must let a session have unanswered;
// a client has no more, Steps and Closes not counted.
const InFlightMin = 256

// StreamDesc describes the method to a client.
var StreamDesc = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// Service is what a server implements.
type Service interface {
	Session(grpc.ServerStream) error
	Clients() []Client
	Heal(ctx context.Context) HealInfo
	StartHeal(ctx context.Context, full bool) error
}

// Describe returns the service's description for grpc.Server.RegisterService.
func Describe() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*Service)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Clients", Handler: clientsHandler},
			{MethodName: "Heal", Handler: healHandler},
			{MethodName: "StartHeal", Handler: startHealHandler},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Session", ClientStreams: true, ServerStreams: true,
				Handler: func(s any, st grpc.ServerStream) error { return s.(Service).Session(st) }},
		},
	}
}

// ServerOptions are those of a server; conf nil means without TLS. Connections
// that begin as lanes are handed to g.
func ServerOptions(conf *tls.Config, g Greeter) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(splitter{transport(conf), g}),
		grpc.ForceServerCodecV2(Codec{}),
		grpc.MaxRecvMsgSize(MessageMax),
		grpc.MaxSendMsgSize(MessageMax),
		grpc.ConnectionTimeout(HelloTimeout),
		grpc.MaxConcurrentStreams(16),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Second, Timeout: StallAfter - 2*time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second / 2, PermitWithoutStream: true}),
	}
}

// DialOptions are those of a client; conf nil means without TLS.
func DialOptions(conf *tls.Config) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport(conf)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{}), grpc.MaxCallRecvMsgSize(MessageMax), grpc.MaxCallSendMsgSize(MessageMax)),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	}
}

func transport(conf *tls.Config) credentials.TransportCredentials {
	if conf == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(conf)
}
