package manage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// poolQueue is where changes of the pool queue within a daemon: no volume has
// such a name.
const poolQueue = "the pool"

// joinTimeout bounds the joining of a server that was asked to.
const joinTimeout = 15 * time.Second

// PeerProbe implements api.Pool.
//
//	1 the other daemon says who it is; refusals end here, and nothing has changed
//	2 a daemon that was alone begins to listen for the others
//	3 servers/UUID{joining} is recorded
//	4 the other one is told to join: it drops its own empty store, uses the
//	  pool's, and makes its record {} itself
//
// Cut off anywhere, the same probe again completes it, and a detach removes what
// there is. Whether the new one becomes a voter the controller decides later.
func (d *daemon) PeerProbe(ctx context.Context, r api.PeerRequest) (api.PeerReply, error) {
	host, port, err := splitHost(r.Host, d.port)
	if err != nil {
		return api.PeerReply{}, err
	}
	return change(ctx, d, poolQueue, func(ctx context.Context) (api.PeerReply, error) {
		return d.probe(ctx, host, port)
	})
}

func (d *daemon) probe(ctx context.Context, host string, port int) (api.PeerReply, error) {
	snap, err := d.fresh(ctx)
	if err != nil {
		return api.PeerReply{}, err
	}
	if d.isOwnHost(host) && port == d.port {
		return judgeProbe(snap, d.id(), host, api.Identity{ID: d.id()}).note, nil
	}
	addr, c, id, err := d.meet(ctx, host, port)
	if err != nil {
		return api.PeerReply{}, err
	}
	defer c.Close()
	v := judgeProbe(snap, d.id(), host, id)
	switch {
	case v.refusal != "":
		return v.note, api.Errorf(v.errno, "%s", v.refusal)
	case v.done:
		if id.ID != d.id() {
			err = d.addName(ctx, snap, id.ID, host)
		}
		return v.note, err
	}
	if err := d.openUp(ctx, snap, id.Seen); err != nil {
		return api.PeerReply{}, err
	}
	if err := d.recordJoining(ctx, host, addr, id); err != nil {
		return api.PeerReply{}, err
	}
	d.cfg.step("join")
	snap, err = d.fresh(ctx)
	if err != nil {
		return api.PeerReply{}, err
	}
	_, err = c.Join(ctx, api.JoinRequest{
		Server: id.ID, Cluster: snap.epoch.Cluster, Incarnation: snap.epoch.Incarnation, From: d.id(), Endpoints: endpoints(snap),
	})
	if err != nil {
		return api.PeerReply{}, api.Errorf(api.ErrGeneric, "%s could not join the pool: %v; `mortar peer probe %s` tries again, `mortar peer detach %s` gives it up", host, err, host, host)
	}
	d.cfg.step("joined")
	wait, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if _, err := d.view.until(wait, func(s *snapshot) bool {
		r := s.servers[id.ID]
		return r != nil && r.State == joined && s.alive[id.ID] != ""
	}); err != nil {
		return api.PeerReply{}, api.Errorf(api.ErrGeneric, "%s has joined the pool but does not answer; see its log", host)
	}
	d.log.Info("server joined", "host", host, "id", id.ID, "address", addr)
	return api.PeerReply{}, nil
}

// meet connects to the daemon to be probed and returns its address and who it is.
func (d *daemon) meet(ctx context.Context, host string, port int) (addr string, c *api.Conn, id api.Identity, err error) {
	const away = "Probe returned with Transport endpoint is not connected"
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	hosts, err := resolve(ctx, host)
	if err != nil {
		return "", nil, id, api.Errorf(api.ErrUnreachable, "%s: the name %s is not known (%v)", away, host, shortLookup(err))
	}
	addr = hosts[len(hosts)-1]
	if len(hosts) > 1 {
		addr = hosts[1] // the first address, which the resolver prefers
	}
	c, id, err = d.ask(ctx, net.JoinHostPort(addr, strconv.Itoa(port)), peerTimeout)
	var e *api.Error
	switch {
	case err == nil:
		return addr, c, id, nil
	case errors.As(err, &e) && e.Errno != api.ErrUnreachable:
		return "", nil, id, api.Errorf(api.ErrGeneric, "%s: %s", host, e.Message)
	}
	return "", nil, id, api.Errorf(api.ErrUnreachable, "%s: no daemon answers on %s within %v; is `mortar daemon` running there?", away, net.JoinHostPort(addr, strconv.Itoa(port)), peerTimeout)
}

func shortLookup(err error) string {
	var e *net.DNSError
	if errors.As(err, &e) {
		return e.Err
	}
	return err.Error()
}

// addName adds a name by which a server was probed again.
func (d *daemon) addName(ctx context.Context, snap *snapshot, id, host string) error {
	old := snap.servers[id]
	r := old.clone()
	r.name(host)
	return d.replaceServer(ctx, "name", old, r)
}

// replaceServer changes a server's record.
func (d *daemon) replaceServer(ctx context.Context, step string, old, r *serverRecord) error {
	if encode(old) == encode(r) {
		return nil
	}
	_, err := d.commit(ctx, step, []clientv3.Cmp{serverIs(old)}, putServer(r))
	if err == errConflict {
		return busy("the pool")
	}
	return err
}

func putServer(r *serverRecord) clientv3.Op { return clientv3.OpPut(serverKey(r.ID), encode(r)) }

// serverIs is the condition that a server's record is still this.
func serverIs(r *serverRecord) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(serverKey(r.ID)), "=", encode(r))
}

// openUp makes the store of a daemon that was alone listen, where the other one
// sees this one: seen.
func (d *daemon) openUp(ctx context.Context, snap *snapshot, seen string) error {
	old := snap.servers[d.id()]
	r := old.clone()
	if d.host != "" {
		r.Addr = d.host
	} else if r.Addr == "" {
		r.Addr = seen
	}
	if r.Addr == "" {
		return refuse("The other server can't tell by which address it sees this one; name it with --listen")
	}
	if name := r.Host; name != r.Addr { // this machine's: who knows whether the others know it
		r.Host = r.Addr
		r.name(name)
	}
	r.Role = api.RoleVoter
	if len(snap.servers) > 1 { // it has been so before
		return nil
	}
	if err := d.store.Listen(ctx, r.Addr); err != nil {
		return refuse("The configuration store can't listen for other servers: %v", err)
	}
	return d.replaceServer(ctx, "open up", old, r)
}

// recordJoining records the server that is to join, unless that is done.
func (d *daemon) recordJoining(ctx context.Context, host, addr string, id api.Identity) error {
	for range 5 { // another may join at the same time
		snap, err := d.fresh(ctx)
		if err != nil {
			return err
		}
		if old := snap.servers[id.ID]; old != nil {
			r := old.clone()
			r.name(host)
			r.Addr, r.Port, r.Release = addr, id.Port, id.Release
			return d.replaceServer(ctx, "joining again", old, r)
		}
		if other := findServer(snap, host, addr); other != nil && other.Port == id.Port {
			return refuse("%s is server %s of the pool, which another daemon has taken the place of; detach it first: `mortar peer detach %s force`", host, other.ID, host)
		}
		r := &serverRecord{
			V: recordVersion, ID: id.ID, State: joining, Order: nextOrder(snap), Host: host, Addr: addr,
			Port: id.Port, Listen: fmt.Sprintf("%s:%d", addr, id.Port), Release: id.Release, Role: api.RoleClient,
		}
		_, err = d.commit(ctx, "joining", []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(serversPrefix), "<", snap.revision+1).WithPrefix(),
		}, putServer(r))
		if err != errConflict {
			return err
		}
	}
	return busy("the pool")
}
