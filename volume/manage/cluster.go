package manage

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// clusterID is the UUID of the cluster that this daemon is a server of.
func (d *daemon) clusterID() string { return d.store.Status().Pool.Cluster }

// PoolList implements api.Pool.
func (d *daemon) PoolList(ctx context.Context) ([]api.Peer, error) {
	s, err := d.look(ctx)
	if err != nil {
		return nil, err
	}
	connected := d.connected(ctx, s)
	out := []api.Peer{}
	var self []api.Peer
	for _, r := range ordered(s) {
		p := d.describeServer(s, r)
		p.Connected = connected[r.ID]
		if p.Self {
			self = append(self, p)
		} else {
			out = append(out, p)
		}
	}
	return append(out, self...), nil
}

// connected tells which servers are there: by the store, or if that is not
// known now by whether their daemons take a connection.
func (d *daemon) connected(ctx context.Context, s *snapshot) map[string]bool {
	if s.stale.IsZero() && !d.silent() {
		out := map[string]bool{d.id(): true}
		for id := range s.alive {
			out[id] = true
		}
		return out
	}
	return d.looked(ctx).connected
}

// ClusterStatus implements api.Pool.
func (d *daemon) ClusterStatus(ctx context.Context) (api.Cluster, error) {
	s, err := d.look(ctx)
	if err != nil {
		return api.Cluster{}, err
	}
	st := d.store.Status()
	out := api.Cluster{
		ID: st.Pool.Cluster, Incarnation: st.Pool.Incarnation, Revision: s.revision,
		Quorum: s.stale.IsZero() && !d.silent(),
	}
	if !out.Quorum {
		out.Trouble, out.LastKnown = d.lost(errSilent).Error(), s.stale
		if s.stale.IsZero() {
			out.LastKnown = time.Now().UTC().Truncate(time.Second)
		}
	} else {
		out.Controller = s.control
	}
	connected := d.connected(ctx, s)
	members := d.membersNow(ctx, out.Quorum)
	for _, r := range ordered(s) {
		p := d.describeServer(s, r)
		p.Connected = connected[r.ID]
		c := api.ClusterServer{Peer: p, Role: r.Role, Wanted: r.Role, Answers: p.Connected, Bricks: bricksOn(s, r.ID)}
		if m, ok := members[r.ID]; ok {
			c.Role, c.Answers, c.Leader = m.role, m.answers, m.leader
		} else if out.Quorum && len(s.servers) > 1 {
			c.Role = api.RoleClient
		}
		if len(s.servers) == 1 && st.Role == quorum.Alone {
			c.Role, c.Wanted, c.Answers, c.Leader = api.RoleAlone, api.RoleAlone, out.Quorum, out.Quorum
		}
		if c.Role == api.RoleVoter || c.Role == api.RoleAlone {
			out.Voters++
			if c.Answers {
				out.Answering++
			}
		}
		out.Servers = append(out.Servers, c)
	}
	return out, nil
}

// isLocalAddr reports whether this machine has the address.
func isLocalAddr(ip net.IP) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return ip.IsLoopback() || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// currentAddr is the address by which other servers reach this one now: the one
// to listen on, or the last known one if this machine has it still, or that from
// which it would speak to one of the others. "" while there is no other.
func (d *daemon) currentAddr(last *snapshot) string {
	if d.host != "" {
		return d.host
	}
	if last == nil || last.servers[d.id()] == nil || last.servers[d.id()].Addr == "" {
		return ""
	}
	known := last.servers[d.id()].Addr
	if ip := net.ParseIP(known); ip == nil || isLocalAddr(ip) {
		return known
	}
	for _, r := range ordered(last) {
		if r.ID == d.id() {
			continue
		}
		c, err := net.Dial("udp", r.api()) // sends nothing
		if err != nil {
			continue
		}
		addr := c.LocalAddr().(*net.UDPAddr).IP.String()
		c.Close()
		d.log.Warn("this server has another address than before", "address", addr, "before", known)
		return addr
	}
	return known
}

// bindAddr is the address for the store's listeners: the daemon's own, or all.
func bindAddr(host string) string {
	if host != "" {
		return host
	}
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil { // a machine without IPv6
		return "0.0.0.0"
	}
	l.Close()
	return "::"
}

// part is a server's part in the store.
type part struct {
	role            string
	answers, leader bool
}

// membersNow are the parts of the servers that have a member, by UUID: as a
// majority knows them, or else as this server's store last knew the voters.
func (d *daemon) membersNow(ctx context.Context, quorate bool) map[string]part {
	out := map[string]part{}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	health := make(chan quorum.Health, 1)
	go func() { // ends with ctx; the channel has room
		if quorate {
			health <- d.store.Health(ctx)
		} else {
			health <- d.health(ctx)
		}
	}()
	if quorate {
		members, _ := d.store.Members(ctx) // without it learners look like clients
		for _, m := range members {
			if m.Learner {
				out[m.Name] = part{role: api.RoleLearner, answers: m.Answers}
			}
		}
	}
	for _, v := range (<-health).Voters {
		name := v.Name
		if r := d.serverAt(v.Endpoint); name == "" && r != nil {
			name = r.ID
		}
		out[name] = part{api.RoleVoter, v.Answers, v.Leads}
	}
	return out
}

// serverAt is the server whose member answers clients at the endpoint.
func (d *daemon) serverAt(endpoint string) *serverRecord {
	for _, r := range d.view.now().servers {
		if r.endpoint() == endpoint {
			return r
		}
	}
	return nil
}

// awaitNoMember waits until a server that leaves has no member of the store any
// more: the controller removes it, and may have to give another its vote first.
func (d *daemon) awaitNoMember(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	tick := time.NewTicker(controlPause / 2)
	defer tick.Stop()
	url := d.view.now().servers[id].peerURL()
	for {
		members, err := d.store.Members(ctx)
		if err == nil && !slices.ContainsFunc(members, func(m quorum.Member) bool { return m.Name == id || m.Name == "" && m.Peer == url }) {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("it is a voter still, for too few of the others answer")
			}
			return err
		case <-tick.C:
		}
	}
}

// statusTimeout bounds the asking of the members for the status, for which a
// slow one is waited for.
const statusTimeout = 2 * time.Second

// leaveTimeout bounds the leaving of the store.
const leaveTimeout = 20 * time.Second
