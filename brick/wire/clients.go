package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// ClientsMethod is the full name of the method that lists a brick's sessions.
const ClientsMethod = "/" + ServiceName + "/Clients"

// Client is one session of a brick, for people.
type Client struct {
	Name         string    `json:"name"`    // as it introduced itself
	Version      string    `json:"version"` // likewise
	Addr         string    `json:"addr"`    // HOST:PORT of its connection, or of its last; "@": this machine
	Connected    bool      `json:"connected"`
	Since        time.Time `json:"since"`
	BytesRead    uint64    `json:"bytesRead"`    // payload
	BytesWritten uint64    `json:"bytesWritten"` // payload
	Requests     uint64    `json:"requests"`
	Files        int       `json:"files"` // open ones
}

// invoke calls a method of a brick: on this machine by its own socket, else at addr.
// It makes a connection for it.
func invoke(ctx context.Context, brick, addr, method string, request []byte) (reply []byte, err error) {
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return Dial(ctx, brick, addr) }
	conn, err := grpc.NewClient("passthrough:///"+addr, append(DialOptions(nil), grpc.WithContextDialer(dial))...)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	out := &Out{}
	if len(request) > 0 {
		out.Buffers = mem.BufferSlice{mem.SliceBuffer(request)}
	}
	var in In
	err = conn.Invoke(ctx, method, out, &in)
	return in.Batch, err
}

// FetchClients asks a brick for its sessions: on this machine by its own
// socket, else at addr. It makes a connection for it.
func FetchClients(ctx context.Context, brick, addr string) ([]Client, error) {
	b, err := invoke(ctx, brick, addr, ClientsMethod, nil)
	if err != nil {
		return nil, err
	}
	var list []Client
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%w: the list of clients: %w", ErrMalformed, err)
	}
	return list, nil
}

// clientsHandler is gRPC's way to Service.Clients.
func clientsHandler(s any, _ context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in In
	if err := receive(&in); err != nil {
		return nil, err
	}
	b, err := json.Marshal(s.(Service).Clients())
	return &Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, err
}
