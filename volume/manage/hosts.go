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

// hostPeer returns the UUID of the daemon that a brick's host names. For now
// that is this one, or the error is GlusterFS's about a host that is not in the
// cluster: other servers come with the pool of peers.
func (d *daemon) hostPeer(ctx context.Context, host string) (string, error) {
	if d.isOwnHost(host) {
		return d.dir.id, nil
	}
	if net.ParseIP(host) == nil {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return "", api.Errorf(api.ErrGeneric, "Failed to find host %s", host)
		}
		if slices.ContainsFunc(addrs, d.isOwnHost) {
			return d.dir.id, nil
		}
	}
	return "", api.Errorf(api.ErrGeneric, "Host %s is not in 'Peer in Cluster' state", host)
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
