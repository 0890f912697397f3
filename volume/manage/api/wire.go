package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/mortarfs/mortar/volume/spec"
)

// The protocol.
//
// gRPC over the daemon's Unix socket or TCP port; messages are JSON (content
// type application/grpc+mortar-json). The service is mortar.manage.v1.Daemon;
// its methods have the names of Daemon's.
//
//	unary    request  the method's request type, {} where there is none
//	         reply    {"error": {"Errno": n, "Message": s}}  or  {"reply": the method's result}
//	stream   request  one watchRequest or BrickHello
//	         replies  {"map": spec.Map} …, at last {"error": …} or the end of the stream;
//	                  {} every two seconds says only that the daemon is there
//
// A gRPC status other than OK means trouble with the transport or the protocol;
// what a daemon refuses is always an Error in the reply.
//
// Both sides send their protocol version in the metadata "mortar-api". Equal
// majors understand each other: a newer minor only adds fields and methods, and
// readers ignore fields that they do not know. Another major is refused with a
// sentence that names both.
const (
	Major = 1
	Minor = 2 // 1: the pool of servers; 2: sets of several members

	service    = "mortar.manage.v1.Daemon"
	versionKey = "mortar-api"
)

// Limits of messages, in bytes, before they are decoded.
const (
	requestMax = 64 << 20 // a backup
	replyMax   = 64 << 20
)

// DefaultPort is the daemon's TCP port.
const DefaultPort = 24100

// DefaultSocket is the daemon's Unix socket.
const DefaultSocket = "/run/mortar.sock"

// Of streams: how often a daemon says that it is there, and how long one that
// does may be silent.
const (
	beatInterval = 2 * time.Second
	silenceMax   = 5 * time.Second
)

// codec encodes messages as JSON.
type codec struct{}

func (codec) Name() string                    { return "mortar-json" }
func (codec) Marshal(v any) ([]byte, error)   { return json.Marshal(v) }
func (codec) Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// answer is a unary reply.
type answer[T any] struct {
	Error *Error `json:"error,omitempty"`
	Reply T      `json:"reply,omitempty"`
}

// mapMessage is a message of a map stream.
type mapMessage struct {
	Error *Error    `json:"error,omitempty"`
	Map   *spec.Map `json:"map,omitempty"`
}

// watchRequest asks for a volume's map.
type watchRequest struct{ Volume string }

// none is the request of a method that has none.
type none struct{}

// Deadlines of calls that come without one. A start or stop waits for brick
// processes, a create for disks.
const (
	askTimeout    = 20 * time.Second
	changeTimeout = 2 * time.Minute
)

// timeouts has the methods that are given longer than askTimeout.
var timeouts = map[string]time.Duration{
	"VolumeCreate": changeTimeout,
	"VolumeStart":  changeTimeout,
	"VolumeStop":   changeTimeout,
	"VolumeDelete": changeTimeout,

	"VolumeReplaceBrick": changeTimeout,
	"VolumeResetBrick":   changeTimeout,

	"PeerProbe":      changeTimeout,
	"PeerDetach":     changeTimeout,
	"ClusterRecover": changeTimeout,
	"ClusterRestore": changeTimeout,
}

// deadline bounds ctx for the method if it is not bounded.
func deadline(ctx context.Context, method string) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	d := timeouts[method]
	if d == 0 {
		d = askTimeout
	}
	return context.WithTimeout(ctx, d)
}

// ownVersion is this side's protocol version as it is sent.
func ownVersion() string { return fmt.Sprintf("%d.%d", Major, Minor) }

// withVersion adds the version to an outgoing request.
func withVersion(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, versionKey, ownVersion())
}

// checkVersion refuses a side of another major version. None at all is refused
// too: it is not a Mortar.
func checkVersion(md metadata.MD, who string) *Error {
	got := ""
	if v := md.Get(versionKey); len(v) > 0 {
		got = v[0]
	}
	var major, minor int
	if n, _ := fmt.Sscanf(got, "%d.%d", &major, &minor); n != 2 {
		return Errorf(ErrGeneric, "The %s does not speak Mortar's management protocol (version %q, here %s).", who, got, ownVersion())
	}
	if major != Major {
		return Errorf(ErrGeneric, "The %s speaks version %s of the management protocol, this side %s: use the same release on both.", who, got, ownVersion())
	}
	return nil
}

// Errorf makes an Error.
func Errorf(errno int, format string, a ...any) *Error {
	return &Error{Errno: errno, Message: fmt.Sprintf(format, a...)}
}

// method returns the full name of a gRPC method.
func method(name string) string { return "/" + service + "/" + name }

// Interface guards for gRPC's hand-made description.
var (
	_ grpc.StreamHandler = watchMap
	_ grpc.StreamHandler = attachBrick
)
