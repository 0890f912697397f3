package manage

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// lookupTimeout bounds the resolution of a host's name.
const lookupTimeout = 3 * time.Second

// hostPeer returns the UUID of the server that a brick's host names: this one,
// or one of the pool by any of its names and addresses. What a name means is
// decided now, for good. The errors are GlusterFS's.
func (d *daemon) hostPeer(ctx context.Context, s *snapshot, host string) (string, error) {
	hosts, err := resolve(ctx, host)
	if slices.ContainsFunc(hosts, d.isOwnHost) {
		return d.id(), nil
	}
	r := findServer(s, hosts...)
	switch {
	case r == nil && err != nil:
		return "", api.Errorf(api.ErrGeneric, "Failed to find host %s", host)
	case r == nil || r.State != joined:
		return "", api.Errorf(api.ErrGeneric, "Host %s is not in 'Peer in Cluster' state", host)
	}
	return r.ID, nil
}

// resolve returns a host and its addresses, the host alone with the error that
// it has none.
func resolve(ctx context.Context, host string) ([]string, error) {
	hosts := []string{host}
	if net.ParseIP(host) != nil {
		return hosts, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	return append(hosts, addrs...), err
}

// isOwnHost reports whether host is "localhost", this machine's name, or an
// address of this daemon. A daemon that listens on one loopback address shares
// the machine with others: of the loopback addresses only that one is its own.
func (d *daemon) isOwnHost(host string) bool {
	if strings.EqualFold(host, "localhost") || host == d.host {
		return true
	}
	if name, err := os.Hostname(); err == nil && strings.EqualFold(strings.TrimSuffix(host, "."), name) {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	own := net.ParseIP(d.host)
	switch {
	case own != nil && own.Equal(ip):
		return true
	case own != nil && own.IsLoopback():
		return false
	case ip.IsLoopback():
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}
