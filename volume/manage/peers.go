package manage

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// peerTimeout bounds the asking of another daemon who it is.
const peerTimeout = 3 * time.Second

// ask connects to a daemon and asks who it is.
func (d *daemon) ask(ctx context.Context, addr string, bound time.Duration) (*api.Conn, api.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	c, err := api.DialFrom(ctx, d.host, addr)
	if err != nil {
		return nil, api.Identity{}, err
	}
	id, err := c.Identify(ctx, api.IdentifyRequest{From: d.id(), Cluster: d.view.now().epoch.Cluster})
	if err != nil {
		c.Close()
		return nil, id, err
	}
	return c, id, nil
}

// Identify implements api.Pool.
func (d *daemon) Identify(ctx context.Context, r api.IdentifyRequest) (api.Identity, error) {
	if err := d.ready(ctx); err != nil {
		return api.Identity{}, err
	}
	s := d.view.now()
	quorum := false
	if s.stale.IsZero() && !d.silent() {
		if fresh, err := d.view.fresh(ctx); err == nil {
			s, quorum = fresh, true
		}
	}
	host, _ := os.Hostname() // "" tells as much
	id := api.Identity{
		ID: d.id(), Cluster: s.epoch.Cluster, Incarnation: s.epoch.Incarnation, Release: d.cfg.Version,
		Major: api.Major, Minor: api.Minor, Records: recordVersion, Hostname: host, Port: d.port,
		Servers: len(s.servers), Volumes: len(s.volumes), Quorum: quorum, Endpoints: endpoints(s),
		Role: string(d.store.Status().Role),
	}
	_, id.Known = s.servers[r.From]
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(*net.TCPAddr); ok {
			id.Seen = a.IP.String()
		}
	}
	return id, nil
}

// endpoints are where the voters answer clients.
func endpoints(s *snapshot) []string {
	var out []string
	for _, r := range ordered(s) {
		if r.Role == api.RoleVoter && r.Addr != "" {
			out = append(out, r.endpoint())
		}
	}
	return out
}

// verdict is what a probe comes to before anything is done.
type verdict struct {
	note    api.PeerReply // it is done already
	done    bool
	refusal string // it may not be done
	errno   int
}

// judgeProbe decides whether the daemon that answered as id may be taken in.
// host is how it was probed.
func judgeProbe(s *snapshot, self, host string, id api.Identity) verdict {
	known := s.servers[id.ID]
	switch {
	case id.ID == self:
		return verdict{done: true, note: api.PeerReply{Number: api.NoteLocalhost, Note: "Probe on localhost not needed"}}
	case id.Records != recordVersion:
		return verdict{errno: api.ErrGeneric, refusal: fmt.Sprintf(
			"%s writes records of version %d and this cluster of version %d: use releases of the same major version (%s runs %s)", host, id.Records, recordVersion, host, id.Release)}
	case known != nil && known.State == joined && id.Cluster == s.epoch.Cluster:
		return verdict{done: true, note: api.PeerReply{Number: api.NotePeer, Note: fmt.Sprintf("Host %s port %d already in peer list", host, id.Port)}}
	case known != nil && known.State == leaving:
		return verdict{errno: api.ErrGeneric, refusal: fmt.Sprintf("%s is being detached; finish that first with `mortar peer detach %s`", host, host)}
	case known == nil && len(s.servers) >= serversMax:
		return verdict{errno: api.ErrGeneric, refusal: fmt.Sprintf("The pool has %d servers already, the most that it can have", len(s.servers))}
	case id.Cluster == s.epoch.Cluster: // it has not learnt yet that it was taken out, or its joining was cut off
		return verdict{}
	case id.Servers > 1:
		return verdict{errno: api.ErrGeneric, refusal: fmt.Sprintf(
			"%s is either already part of another cluster or having volumes configured: it belongs to a cluster of %d servers; detach it there first", host, id.Servers)}
	case id.Volumes > 0:
		return verdict{errno: api.ErrGeneric, refusal: fmt.Sprintf(
			"%s is either already part of another cluster or having volumes configured: it has volumes (%d); delete them first, or probe from there", host, id.Volumes)}
	}
	return verdict{}
}

// splitHost splits HOST or HOST:PORT as peer commands take it; port is the
// given one where it has none.
func splitHost(s string, port int) (host string, _ int, err error) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, refuse("%s is an invalid address", s)
		}
		s, port = h, int(n)
	}
	if s == "" || len(s) > 255 || slices.ContainsFunc([]rune(s), func(r rune) bool { return r <= ' ' || r == '/' || r == ',' }) {
		return "", 0, refuse("%s is an invalid address", strconv.Quote(s))
	}
	return s, port, nil
}
