package manage

import (
	"context"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// Join implements api.Pool: this daemon becomes a server of the asker's pool.
// Doing it again, wherever it was cut off, does no harm.
func (d *daemon) Join(ctx context.Context, r api.JoinRequest) (api.Identity, error) {
	return changeAlways(ctx, d, poolQueue, func(ctx context.Context) (api.Identity, error) {
		if err := d.join(ctx, r); err != nil {
			return api.Identity{}, err
		}
		return d.Identify(ctx, api.IdentifyRequest{From: r.From, Cluster: r.Cluster})
	})
}

func (d *daemon) join(ctx context.Context, r api.JoinRequest) error {
	s := d.view.now()
	if r.Server != d.id() {
		return refuse("This is server %s, not %s", d.id(), r.Server)
	}
	if d.clusterID() != r.Cluster {
		if why := d.taken(s); why != "" {
			return refuse("%s", why)
		}
	}
	d.log.Info("joining a pool", "cluster", r.Cluster, "from", r.From)
	d.cfg.step("join begin")
	if err := d.become(ctx, r.Cluster, r.Incarnation, r.Endpoints); err != nil {
		return refuse("The pool's configuration store can't be reached at %v: %v", r.Endpoints, err)
	}
	d.cfg.step("join stored")
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if _, err := d.view.until(ctx, func(s *snapshot) bool { return s.stale.IsZero() && s.alive[d.id()] == d.boot }); err != nil {
		return refuse("The pool's configuration can't be read; see this server's log")
	}
	return nil
}

// taken says why this daemon may not be given another cluster.
func (d *daemon) taken(s *snapshot) string {
	switch {
	case len(s.servers) > 1:
		return "It is either already part of another cluster or having volumes configured: it belongs to a cluster of several servers; detach it there first"
	case len(s.volumes) > 0:
		return "It is either already part of another cluster or having volumes configured: it has volumes; delete them first"
	}
	return ""
}

// become makes the store of the cluster at the endpoints this daemon's, which it
// uses as a client, whatever it had before.
func (d *daemon) become(ctx context.Context, cluster string, incarnation uint64, endpoints []string) error {
	if err := d.store.BecomeClient(ctx, quorum.Pool{Cluster: cluster, Incarnation: incarnation, Endpoints: endpoints}); err != nil {
		return err
	}
	d.view.forget()
	return nil
}

// Leave implements api.Pool: this daemon was detached. It makes sure of that.
func (d *daemon) Leave(ctx context.Context, r api.LeaveRequest) (api.Identity, error) {
	return changeAlways(ctx, d, poolQueue, func(ctx context.Context) (api.Identity, error) {
		if r.Server != d.id() || r.Cluster != d.clusterID() {
			return api.Identity{}, refuse("This is server %s of another cluster", d.id())
		}
		if !d.findOut(ctx).removed {
			return api.Identity{}, refuse("The pool has this server still")
		}
		d.leave(ctx, "it was detached")
		return d.Identify(ctx, api.IdentifyRequest{})
	})
}

// leave drops the pool's configuration: this daemon is alone again, in a cluster
// of its own, and its bricks' processes end.
func (d *daemon) leave(ctx context.Context, why string) {
	d.log.Warn("this server is in the pool no more and begins anew, alone", "why", why, "cluster", d.clusterID())
	if err := d.store.BecomeAlone(ctx, newUUID()); err != nil {
		d.log.Error("the pool's configuration can't be dropped", "error", err)
		return
	}
	d.view.forget()
}

// found out from the other servers of the last known view.
type findings struct {
	removed   bool   // a majority's word: this server is in the pool no more
	newer     uint64 // a higher incarnation of the cluster, that this server is in; 0: none
	endpoints []string
}

// findTimeout bounds the asking of the others.
const findTimeout = 1500 * time.Millisecond

// findOut asks the other servers, those of the last known view, what they know
// of this one. Only what a daemon says that has a majority behind it counts.
func (d *daemon) findOut(ctx context.Context) findings {
	s := d.view.now()
	cluster := d.clusterID()
	answers := make(chan api.Identity, len(s.servers))
	asked := 0
	for _, r := range s.servers {
		if r.ID == d.id() {
			continue
		}
		asked++
		go func() { // ends within findTimeout; the channel has room
			c, id, err := d.ask(ctx, r.api(), findTimeout)
			if err == nil {
				c.Close()
			}
			answers <- id
		}()
	}
	var out findings
	for range asked {
		id := <-answers
		switch {
		case id.Cluster != cluster || !id.Quorum || id.Incarnation < d.store.Status().Pool.Incarnation:
		case !id.Known:
			out.removed = true
		case id.Incarnation > d.store.Status().Pool.Incarnation:
			out.newer, out.endpoints = id.Incarnation, id.Endpoints
		default: // all is well there
			out.endpoints = id.Endpoints
		}
	}
	return out
}

// inquirePause is how often a daemon without the store asks the others.
const inquirePause = 2 * time.Second

// inquire asks the other servers what has become of the pool while the store
// does not answer, until ctx ends. Was this server detached, it begins anew; was
// the cluster recovered without it, it comes back as a client.
func (d *daemon) inquire(ctx context.Context) {
	tick := time.NewTicker(inquirePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := d.view.now()
		if s.stale.IsZero() && !d.silent() || len(s.servers) < 2 {
			continue
		}
		leave, ok := d.tasks.tryEnter(poolQueue)
		if !ok {
			continue
		}
		switch f := d.findOut(ctx); {
		case f.removed:
			d.leave(ctx, "it was detached while it was away")
		case f.newer > 0:
			if err := d.become(ctx, d.clusterID(), f.newer, f.endpoints); err != nil {
				d.log.Warn("the recovered cluster can't be joined", "error", err)
			}
		}
		leave()
	}
}
