package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
)

// resolveTimeout bounds the lookup of a host name in a list of clients.
const resolveTimeout = 2 * time.Second

// Access says which clients may use a brick: the options auth.allow and
// auth.reject. Their lists hold, separated by commas, addresses, networks
// (10.0.0.0/8), host names, and patterns of addresses (192.168.*). Processes on
// the brick's own machine, which come by its own socket, are always let in.
type Access struct {
	Allow  string // "*" or "": everybody
	Reject string // "(null)" or "": nobody; it prevails over Allow
	Always []string
	// Resolve looks a host name up; nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]string, error)
}

// Check returns nil for a client that may use the brick, else a sentence.
func (a Access) Check(c wire.Client) error {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil // of this machine
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return fmt.Errorf("the client's address %s is none", host)
	}
	addr = addr.Unmap().WithZone("")
	switch {
	case a.among(addr, a.Always):
		return nil
	case a.among(addr, split(a.Reject)):
		return fmt.Errorf("%s is among the clients that auth.reject names", addr)
	case a.Allow != "" && !a.among(addr, split(a.Allow)):
		return fmt.Errorf("%s is not among the clients that auth.allow names", addr)
	}
	return nil
}

// split takes a list apart; one that is not set names nobody.
func split(list string) []string {
	if list == "" || list == "(null)" {
		return nil
	}
	return strings.Split(list, ",")
}

// among reports whether an address is meant by one of the entries. All
// entries that need no resolver are looked at first.
func (a Access) among(addr netip.Addr, entries []string) bool {
	var hosts []string
	for _, e := range entries {
		e = strings.TrimSpace(e)
		if ip, err := netip.ParseAddr(e); err == nil {
			if ip.Unmap().WithZone("") == addr {
				return true
			}
			continue
		}
		if n, err := netip.ParsePrefix(e); err == nil {
			if n.Masked().Contains(addr) {
				return true
			}
			continue
		}
		if ok, err := path.Match(e, addr.String()); err == nil && ok {
			return true
		}
		if e != "" && !strings.ContainsAny(e, "*?[@/") {
			hosts = append(hosts, e)
		}
	}
	return a.named(addr, hosts)
}

// named reports whether one of the host names is that address's.
func (a Access) named(addr netip.Addr, hosts []string) bool {
	resolve := a.Resolve
	if resolve == nil {
		resolve = net.DefaultResolver.LookupHost
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	for _, h := range hosts {
		found, err := resolve(ctx, h)
		if err != nil {
			continue
		}
		for _, s := range found {
			if ip, err := netip.ParseAddr(s); err == nil && ip.Unmap().WithZone("") == addr {
				return true
			}
		}
	}
	return false
}

// SetAccess says from now on who may use the brick, and ends the sessions of
// who may no more.
func (s *Server) SetAccess(a Access) {
	s.access.Store(&a)
	for _, sess := range s.sessions() {
		if err := a.Check(sess.describe()); err != nil {
			s.end(sess, err.Error(), lost)
		}
	}
}

// SetReadOnly says whether clients' changes are refused with EROFS: the option
// features.read-only. What sets ask of each other goes on.
func (s *Server) SetReadOnly(on bool) { s.readOnly.Store(on) }
