package wire

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
)

// Greeter is told of a server's connections. Its methods must not block.
type Greeter interface {
	// Greet is called when a connection has come, and the function that it
	// returns when its first bytes have. Whoever wants to stop closes those that wait.
	Greet(net.Conn) (greeted func())

	// Lane takes a connection that begins as a lane. TLS, if there is, has
	// still to be shaken hands on.
	Lane(net.Conn)

	// Hatch takes a connection that begins as a hatch.
	Hatch(net.Conn)
}

// splitter is what a server's gRPC asks for each new connection: it looks at the
// first bytes and takes lanes and hatches away.
type splitter struct {
	credentials.TransportCredentials
	greeter Greeter
}

// ServerHandshake is credentials.TransportCredentials'.
func (s splitter) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	greeted := s.greeter.Greet(conn)
	var first [prefaceSize]byte
	_, err := io.ReadFull(conn, first[:])
	greeted()
	if err != nil {
		return nil, nil, err
	}
	if first[0] != Magic&0xff || first[1] != Magic>>8 { // neither HTTP/2 nor TLS begins so
		return s.TransportCredentials.ServerHandshake(&unread{Conn: conn, first: first[:]})
	}
	switch [2]byte(first[2:]) {
	case [2]byte{Format, kindLane}:
		s.greeter.Lane(conn)
	case [2]byte{Format, kindHatch}:
		s.greeter.Hatch(conn)
	default:
		return nil, nil, malformed("a lane of format %d, kind %d", first[2], first[3])
	}
	return nil, nil, credentials.ErrConnDispatched
}

// ClientHandshake is never called.
func (s splitter) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, malformed("a splitter is a server's")
}

// Clone is credentials.TransportCredentials'.
func (s splitter) Clone() credentials.TransportCredentials {
	return splitter{s.TransportCredentials.Clone(), s.greeter}
}

// unread is a connection of which the first bytes have been read.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}
