package wire

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Names of the service and the full names of its methods.
const (
	ServiceName   = "mortar.Brick"
	SessionMethod = "/" + ServiceName + "/Session"
	BulkMethod    = "/" + ServiceName + "/Bulk"
)

// window is HTTP/2's flow control window of a stream and of a connection, in
// bytes. It is fixed: gRPC's own estimate begins at 64 KiB and costs pings. A
// bulk stream has one message under way, a connection several streams.
const window = 16 << 20

// PingInterval is how often a client pings on an otherwise silent connection, and
// StallAfter when a side gives up a peer that it hears nothing of.
const (
	PingInterval = time.Second
	StallAfter   = 4 * time.Second
)

// InFlightMin is how many requests a server must let a session have unanswered;
// a client has no more, Steps and Closes not counted.
const InFlightMin = 256

// StreamDesc describes both methods to a client.
var StreamDesc = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// Service is what a server implements.
type Service interface {
	Session(grpc.ServerStream) error
	Bulk(grpc.ServerStream) error
}

// Describe returns the service's description for grpc.Server.RegisterService.
func Describe() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*Service)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Session", ClientStreams: true, ServerStreams: true,
				Handler: func(s any, st grpc.ServerStream) error { return s.(Service).Session(st) }},
			{StreamName: "Bulk", ClientStreams: true, ServerStreams: true,
				Handler: func(s any, st grpc.ServerStream) error { return s.(Service).Bulk(st) }},
		},
	}
}

// ServerOptions are those of a server; conf nil means without TLS.
func ServerOptions(conf *tls.Config) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(transport(conf)),
		grpc.ForceServerCodecV2(Codec{}),
		grpc.MaxRecvMsgSize(MessageMax),
		grpc.MaxSendMsgSize(MessageMax),
		grpc.MaxConcurrentStreams(1024),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Second, Timeout: StallAfter - 2*time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second / 2, PermitWithoutStream: true}),
	}
}

// DialOptions are those of a client; conf nil means without TLS.
func DialOptions(conf *tls.Config) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport(conf)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{}), grpc.MaxCallRecvMsgSize(MessageMax), grpc.MaxCallSendMsgSize(MessageMax)),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
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
