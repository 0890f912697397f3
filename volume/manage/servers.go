package manage

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// serversMax bounds the servers of a pool.
const serversMax = 1024

// serverState says where in the pool a server stands.
type serverState string

const (
	joined  serverState = ""        // it is a server of the pool
	joining serverState = "joining" // a probe of it was begun
	leaving serverState = "leaving" // a detach of it was begun
)

// serverRecord is a daemon of the pool.
type serverRecord struct {
	V       int         `json:"v"`
	ID      string      `json:"id"`
	State   serverState `json:"state,omitempty"`
	Order   int64       `json:"order"`           // of joining, from 1
	Host    string      `json:"host"`            // as it was first probed; else the machine's name
	Names   []string    `json:"names,omitempty"` // other names and addresses by which it was probed or is reached
	Addr    string      `json:"addr,omitempty"`  // host or address by which other servers and clients reach it; "": alone so far
	Port    int         `json:"port"`            // of its API; its store's are the next two
	Listen  string      `json:"listen"`          // its --listen, for people
	Release string      `json:"release"`
	Role    string      `json:"role,omitempty"` // what it should be in the store, by the controller
}

// api returns where the server's daemon answers.
func (r *serverRecord) api() string { return r.join(0) }

// peerURL and endpoint are where its store's member answers the other members
// and those servers that have none.
func (r *serverRecord) peerURL() string  { return quorum.PeerURL(r.host(), r.Port+1) }
func (r *serverRecord) endpoint() string { return r.join(2) }

func (r *serverRecord) host() string {
	if r.Addr == "" {
		return r.Host
	}
	return r.Addr
}

func (r *serverRecord) join(offset int) string {
	return net.JoinHostPort(r.host(), strconv.Itoa(r.Port+offset))
}

// called reports whether host is a name or an address of the server.
func (r *serverRecord) called(host string) bool {
	host = strings.TrimSuffix(host, ".")
	return sameHost(r.Host, host) || r.Addr != "" && sameHost(r.Addr, host) ||
		slices.ContainsFunc(r.Names, func(n string) bool { return sameHost(n, host) })
}

// sameHost compares two names or addresses.
func sameHost(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x, y := net.ParseIP(a), net.ParseIP(b)
	return x != nil && y != nil && x.Equal(y)
}

// name adds a name to those by which the server is known.
func (r *serverRecord) name(host string) {
	if host != "" && !r.called(host) {
		r.Names = append(slices.Clone(r.Names), host)
	}
}

// clone returns a copy that can be changed.
func (r *serverRecord) clone() *serverRecord {
	c := *r
	c.Names = slices.Clone(r.Names)
	return &c
}

// ordered returns the servers in order of joining.
func ordered(s *snapshot) []*serverRecord {
	out := make([]*serverRecord, 0, len(s.servers))
	for _, r := range s.servers {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *serverRecord) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), strings.Compare(a.ID, b.ID))
	})
	return out
}

// nextOrder is the order of a server that joins now.
func nextOrder(s *snapshot) int64 {
	var last int64
	for _, r := range s.servers {
		last = max(last, r.Order)
	}
	return last + 1
}

// findServer returns the server with a name or address among the hosts; nil if
// there is none.
func findServer(s *snapshot, hosts ...string) *serverRecord {
	for _, r := range ordered(s) {
		if slices.ContainsFunc(hosts, r.called) {
			return r
		}
	}
	return nil
}

// bricksOn counts the bricks of volumes on a server.
func bricksOn(s *snapshot, server string) int {
	n := 0
	for _, v := range s.volumes {
		for _, b := range v.all() {
			if b.Server == server {
				n++
			}
		}
	}
	return n
}

// describeServer is a server as the API tells of it.
func (d *daemon) describeServer(s *snapshot, r *serverRecord) api.Peer {
	p := api.Peer{
		ID: r.ID, Host: r.Host, Listen: r.api(), State: api.PeerJoined,
		Connected: s.alive[r.ID] != "", Self: r.ID == d.id(), Release: r.Release,
	}
	for _, n := range r.Names {
		if !sameHost(n, r.Host) {
			p.Names = append(p.Names, n)
		}
	}
	switch r.State {
	case joining:
		p.State = api.PeerProbed
	case leaving:
		p.State = api.PeerLeaving
	}
	if p.Self {
		p.Connected = true
	}
	return p
}
