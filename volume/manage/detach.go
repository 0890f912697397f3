package manage

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// PeerDetach implements api.Pool.
//
//	1 servers/UUID{leaving} is recorded: nothing new is put on it
//	2 its member leaves the store, if it has one
//	3 its record goes
//	4 it is told; one that does not hear it finds out when it comes back
func (d *daemon) PeerDetach(ctx context.Context, r api.PeerRequest) (api.PeerReply, error) {
	host, _, err := splitHost(r.Host, d.port)
	if err != nil {
		return api.PeerReply{}, err
	}
	return change(ctx, d, poolQueue, func(ctx context.Context) (api.PeerReply, error) {
		return api.PeerReply{}, d.detach(ctx, host, r.Force)
	})
}

func (d *daemon) detach(ctx context.Context, host string, force bool) error {
	snap, err := d.fresh(ctx)
	if err != nil {
		return err
	}
	target, err := d.detachable(ctx, snap, host, force)
	if err != nil {
		return err
	}
	r := target.clone()
	r.State, r.Role = leaving, api.RoleClient
	snap, err = d.commit(ctx, "leaving", []clientv3.Cmp{
		serverIs(target),
		// No volume has got a brick on it since that was looked at.
		clientv3.Compare(clientv3.ModRevision(volumesPrefix), "<", snap.revision+1).WithPrefix(),
	}, putServer(r))
	if err == errConflict {
		return busy("the pool")
	}
	if err != nil {
		return err
	}
	if err := d.awaitNoMember(ctx, r.ID); err != nil {
		return refuse("%s can't leave the configuration store now: %v; detach it again in a moment", host, err)
	}
	d.cfg.step("member removed")
	there := snap.alive[r.ID] != ""
	if _, err := d.commit(ctx, "detach", []clientv3.Cmp{serverIs(r)},
		clientv3.OpDelete(serverKey(r.ID)), clientv3.OpDelete(aliveKey(r.ID))); err != nil && err != errConflict {
		return err
	}
	d.log.Info("server detached", "host", r.Host, "id", r.ID)
	if there {
		d.tellLeave(ctx, r, snap.epoch.Cluster)
	}
	return nil
}

// detachable returns the server that a detach names, or why it can't go.
func (d *daemon) detachable(ctx context.Context, snap *snapshot, host string, force bool) (*serverRecord, error) {
	hosts, _ := resolve(ctx, host) // the name alone may be in the records
	r := findServer(snap, hosts...)
	switch {
	case r != nil && r.ID == d.id(), r == nil && slices.ContainsFunc(hosts, d.isOwnHost):
		return nil, api.Errorf(api.ErrNotPeer, "%s is localhost", host)
	case r == nil:
		return nil, api.Errorf(api.ErrNotPeer, "%s is not part of cluster", host)
	case bricksOn(snap, r.ID) > 0:
		return nil, refuse("Peer %s hosts one or more bricks. If the peer is in not recoverable state then use either replace-brick or remove-brick command with force to remove all bricks from the peer and attempt the peer detach again.", host)
	case snap.alive[r.ID] == "" && r.State == joined && !force:
		return nil, refuse("One of the peers is probably down. Check with 'peer status'")
	}
	return r, nil
}

// tellLeave tells a server that it was detached. It is no matter if it can't be
// reached: it finds out by itself.
func (d *daemon) tellLeave(ctx context.Context, r *serverRecord, cluster string) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	c, err := api.DialFrom(ctx, d.host, r.api())
	if err == nil {
		defer c.Close()
		_, err = c.Leave(ctx, api.LeaveRequest{Server: r.ID, Cluster: cluster})
	}
	if err != nil {
		d.log.Warn("a detached server could not be told", "host", r.Host, "error", err)
	}
}
