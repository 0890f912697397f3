package wire

import (
	"context"
	"crypto/tls"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
)

// splitter is what a server's gRPC asks for each new connection: it looks at the
// first bytes and takes lanes away.
type splitter struct {
	credentials.TransportCredentials
	lane func(net.Conn)
}

// ServerHandshake is credentials.TransportCredentials'.
func (s splitter) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var first [prefaceSize]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, nil, err
	}
	if first[0] != Magic&0xff || first[1] != Magic>>8 { // neither HTTP/2 nor TLS begins so
		return s.TransportCredentials.ServerHandshake(&unread{Conn: conn, first: first[:]})
	}
	if first[2] != Version || first[3] != kindLane {
		return nil, nil, malformed("a lane of version %d, kind %d", first[2], first[3])
	}
	s.lane(conn)
	return nil, nil, credentials.ErrConnDispatched
}

// ClientHandshake is never called.
func (s splitter) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, malformed("a splitter is a server's")
}

// Clone is credentials.TransportCredentials'.
func (s splitter) Clone() credentials.TransportCredentials {
	return splitter{s.TransportCredentials.Clone(), s.lane}
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

// serverCredentials are a server's; conf nil means without TLS.
func serverCredentials(conf *tls.Config, lane func(net.Conn)) credentials.TransportCredentials {
	return splitter{transport(conf), lane}
}
