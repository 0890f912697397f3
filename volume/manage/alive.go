package manage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// A daemon is alive as long as the store holds its key alive/UUID, whose value
// says which of its lives it is; the key hangs on a lease that the daemon keeps
// up. It serves the status, and the taking over of tasks, which a compare-and-swap
// protects: nothing else may be concluded from it.
const (
	aliveTTL      = 5 * time.Second
	alivePause    = 100 * time.Millisecond // before it is tried again
	aliveCall     = 2 * time.Second        // bounds one call
	alivePatience = 3 * time.Second        // of a change for the daemon's own key
)

// errRemoved is a daemon whose record is gone: it was taken out of the pool.
var errRemoved = errors.New("this server was taken out of the pool")

// attend enrolls this daemon and keeps its key, until ctx ends.
func (d *daemon) attend(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		err := d.attendOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRemoved) {
			d.wasRemoved(ctx)
		} else if err != nil {
			d.log.Debug("the daemon can't say that it is there", "error", err)
		}
		pause.Reset(alivePause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// attendOnce keeps the key until the lease or the client is lost.
func (d *daemon) attendOnce(ctx context.Context) error {
	c := d.store.Client()
	life := ctx
	ctx, end := whileCurrent(ctx, d.store, c)
	defer end()
	// What is known must be this very store's: the last one had a record of this server too.
	if _, err := d.view.until(ctx, func(s *snapshot) bool { return s.stale.IsZero() && s.from == c }); err != nil {
		return err
	}
	if err := d.enroll(ctx); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, aliveCall)
	defer cancel()
	lease, err := c.Grant(call, int64(d.cfg.aliveTTL/time.Second))
	if err != nil {
		return err
	}
	r, err := c.Txn(call).
		If(clientv3.Compare(clientv3.CreateRevision(serverKey(d.id())), ">", 0)).
		Then(clientv3.OpPut(aliveKey(d.id()), d.boot, clientv3.WithLease(lease.ID))).Commit()
	if err != nil {
		return err
	}
	if !r.Succeeded {
		return errRemoved
	}
	kept, err := c.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	d.lease.Store(int64(lease.ID))
	defer d.lease.Store(0)
	for there := true; there; {
		s, changed := d.view.next()
		if s.stale.IsZero() && s.servers[d.id()] == nil {
			return errRemoved
		}
		select {
		case _, there = <-kept:
		case <-changed:
		case <-ctx.Done():
			there = false
		}
	}
	if life.Err() != nil { // an orderly end is seen at once
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), aliveCall/4)
		defer cancel()
		_, err = c.Revoke(call, lease.ID)
		return err
	}
	return errors.New("the lease was lost")
}

// attended waits until the others can see this daemon: before that it begins nothing.
func (d *daemon) attended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, alivePatience)
	defer cancel()
	if _, err := d.view.until(ctx, func(s *snapshot) bool { return s.stale.IsZero() && s.alive[d.id()] == d.boot }); err != nil {
		return d.storeTrouble(ctx, err)
	}
	return nil
}

// enroll writes this daemon's own record where it is not what it should be. The
// first daemon of a cluster makes the cluster.
func (d *daemon) enroll(ctx context.Context) error {
	snap := d.view.now()
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	old := snap.servers[d.id()]
	r := &serverRecord{V: recordVersion, ID: d.id(), Order: 1, Host: name}
	switch {
	case old != nil:
		r = old.clone()
	case len(snap.servers) > 0:
		return errRemoved
	}
	r.Listen, r.Port, r.Release = d.listen, d.port, d.cfg.Version
	if d.addr != "" {
		r.Addr = d.addr
	}
	if r.State == joining {
		r.State = joined
	}
	if old != nil && encode(old) == encode(r) && snap.epoch.V != 0 {
		return nil
	}
	same := clientv3.Compare(clientv3.CreateRevision(serverKey(r.ID)), "=", 0)
	if old != nil {
		same = clientv3.Compare(clientv3.Value(serverKey(r.ID)), "=", encode(old))
	}
	ops := []clientv3.Op{clientv3.OpPut(serverKey(r.ID), encode(r))}
	if snap.epoch.V == 0 {
		ops = append(ops, clientv3.OpPut(epochKey, encode(&epochRecord{V: recordVersion, Cluster: d.clusterID(), Incarnation: d.store.Status().Pool.Incarnation})))
	}
	_, err = d.commit(ctx, "enroll", []clientv3.Cmp{same}, ops...)
	return err
}

// wasRemoved is called when the store does not have this server's record. It
// makes sure of that.
func (d *daemon) wasRemoved(ctx context.Context) {
	leave, ok := d.tasks.tryEnter(poolQueue)
	if !ok {
		return
	}
	defer leave()
	snap, err := d.fresh(ctx)
	switch {
	case err != nil || len(snap.servers) == 0 || snap.servers[d.id()] != nil:
	case d.store.Status().Role == quorum.Alone:
		d.fail(fmt.Errorf("the configuration in %s is another server's: its identity file and its store do not belong together", d.dir.path))
	default:
		d.leave(ctx, "it was detached")
	}
}
