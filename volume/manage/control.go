package manage

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
	"github.com/mortarfs/mortar/volume/spec"
)

// Times of the controller.
const (
	controlPause = 200 * time.Millisecond // between steps
	controlLook  = 5 * time.Second        // between looks when there is nothing to do
	deadAfter    = 30 * time.Second       // a voter without a sign is replaced
	stepTimeout  = 10 * time.Second
)

// control is one daemon's part in adjusting the voters, until ctx ends. One
// daemon at a time, the controller, compares the members of the store with what
// quorum.Plan wants and takes one step after another; each is derived from what
// is, never remembered. The controller is who holds the key "controller", which
// hangs on its lease.
func (d *daemon) control(ctx context.Context) {
	c := &controller{d: d, silent: map[uint64]time.Time{}, seen: map[string]time.Time{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		snap, changed := d.view.next()
		next := controlLook
		if snap.control != d.id() { // what was seen the last time is of no use
			clear(c.silent)
			clear(c.seen)
		}
		switch {
		case !snap.stale.IsZero() || d.lease.Load() == 0:
			next = time.Second
		case snap.control == "" || snap.alive[snap.control] == "":
			d.stand(ctx, snap)
			next = time.Second
		case snap.control == d.id() && snap.epoch.Incarnation < d.store.Status().Pool.Incarnation:
			if err := d.settleEpoch(ctx); err != nil {
				next = time.Second
			}
		case snap.control == d.id() && len(snap.servers) > 1:
			if c.step(ctx, snap) {
				next = controlPause
			}
		}
		timer.Reset(next)
		servers := encodeServers(snap)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-changed:
				snap, changed = d.view.next()
				waiting = encodeServers(snap) == servers // what it has no part in
			}
		}
	}
}

// encodeServers says all that the controller acts on.
func encodeServers(s *snapshot) string {
	text := s.control
	for _, r := range ordered(s) {
		text += " " + r.ID + string(r.State) + r.Role + r.peerURL()
		if s.alive[r.ID] != "" {
			text += "+"
		}
	}
	return text
}

// stand makes this daemon the controller if there is none.
func (d *daemon) stand(ctx context.Context, snap *snapshot) {
	lease := clientv3.LeaseID(d.lease.Load())
	none := clientv3.Compare(clientv3.CreateRevision(controlKey), "=", 0)
	if snap.control != "" {
		none = clientv3.Compare(clientv3.Value(controlKey), "=", snap.control)
	}
	_, err := d.commit(ctx, "stand", []clientv3.Cmp{none, clientv3.Compare(clientv3.Value(aliveKey(d.id())), "=", d.boot)},
		clientv3.OpPut(controlKey, d.id(), clientv3.WithLease(lease)))
	if err == nil && len(snap.servers) > 1 {
		d.log.Info("this server adjusts the voters of the configuration store")
	}
}

// controller is what the controller remembers between its looks.
type controller struct {
	d      *daemon
	silent map[uint64]time.Time // since when a member does not answer
	seen   map[string]time.Time // when a server was last there; of one never seen: since when this one looks
	last   string               // step, as it was logged
}

// step takes the next step; false: there is none.
func (c *controller) step(ctx context.Context, snap *snapshot) bool {
	d := c.d
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	members, err := d.store.Members(ctx)
	if err != nil {
		d.log.Debug("the members of the store can't be listed", "error", err)
		return true
	}
	c.note(members, time.Now())
	if c.drop(ctx, snap, members) {
		return true
	}
	servers := c.candidates(snap, time.Now())
	step := quorum.Plan(servers, members, maxVoters(snap))
	if text := step.String(); text != c.last {
		d.log.Info("voters of the configuration store", "step", text)
		c.last = text
	}
	if err := d.want(ctx, snap, servers, members, step); err != nil {
		d.log.Warn("what servers should be can't be recorded", "error", err)
		return true
	}
	switch step.Kind {
	case quorum.StepNone:
		return false
	case quorum.StepWait:
		return true
	}
	d.cfg.step("voters " + step.String())
	if err := d.store.Do(ctx, step); err != nil && !errors.Is(err, quorum.ErrNotReady) {
		d.log.Warn("a step towards the wanted voters failed", "step", step.String(), "error", err)
	}
	return true
}

// note keeps since when members do not answer, and marks those that are dead.
func (c *controller) note(members []quorum.Member, now time.Time) {
	there := map[uint64]bool{}
	for i := range members {
		m := &members[i]
		there[m.ID] = true
		if m.Answers {
			delete(c.silent, m.ID)
			continue
		}
		if c.silent[m.ID].IsZero() {
			c.silent[m.ID] = now
		}
		m.Dead = now.Sub(c.silent[m.ID]) > c.d.cfg.deadAfter
	}
	for id := range c.silent {
		if !there[id] {
			delete(c.silent, id)
		}
	}
}

// drop removes a member whose server is there and has none, for its state was
// lost: there is no waiting for it, and it may get a new one then.
func (c *controller) drop(ctx context.Context, snap *snapshot, members []quorum.Member) bool {
	for _, m := range members {
		r := snap.servers[m.Name]
		if m.Answers || r == nil || snap.alive[r.ID] == "" || r.ID == c.d.id() {
			continue
		}
		conn, id, err := c.d.ask(ctx, r.api(), peerTimeout)
		if err != nil {
			continue
		}
		conn.Close()
		if id.ID != r.ID || id.Role != api.RoleClient {
			continue
		}
		if err := c.d.store.Remove(ctx, m.ID); err != nil {
			c.d.log.Warn("a member whose server has lost it can't be removed", "host", r.Host, "error", err)
			continue
		}
		c.d.log.Warn("a member was removed: its server is there without it", "host", r.Host)
		return true
	}
	return false
}

// upGrace is how long a server counts as there after it last was, and at first:
// daemons that restart, and all after a controller did, are no reason to choose others.
const upGrace = 2 * aliveTTL

// candidates are the servers that may have a vote, in order of joining.
func (c *controller) candidates(s *snapshot, now time.Time) []quorum.Server {
	var out []quorum.Server
	for _, r := range ordered(s) {
		if s.alive[r.ID] != "" || c.seen[r.ID].IsZero() {
			c.seen[r.ID] = now
		}
		if r.State == joined && r.Addr != "" {
			out = append(out, quorum.Server{ID: r.ID, Peer: r.peerURL(), Up: now.Sub(c.seen[r.ID]) < upGrace})
		}
	}
	return out
}

// maxVoters is the option cluster.max-voters.
func maxVoters(s *snapshot) int {
	set := map[string]string{}
	for _, o := range s.cluster.Options {
		set[o.Name] = o.Value
	}
	return int(spec.Values(set).Int("cluster.max-voters"))
}

// want records in the servers' records what they should be in the store: who
// has a vote or is to get one. A server acts on it by itself (member).
func (d *daemon) want(ctx context.Context, snap *snapshot, servers []quorum.Server, members []quorum.Member, step quorum.Step) error {
	for _, r := range ordered(snap) {
		role := api.RoleClient
		i := slices.IndexFunc(members, func(m quorum.Member) bool { return m.Name == r.ID || m.Name == "" && m.Peer == r.peerURL() })
		if i >= 0 && !(step.Kind == quorum.StepRemove && step.Member == members[i].ID) || step.Kind == quorum.StepAdd && step.Server == r.ID {
			role = api.RoleVoter
		}
		if role == r.Role || r.State == leaving {
			continue
		}
		changed := r.clone()
		changed.Role = role
		if _, err := d.commit(ctx, "want "+role, []clientv3.Cmp{serverIs(r)}, putServer(changed)); err != nil && err != errConflict {
			return err
		}
	}
	return nil
}

// memberPause is how often a server tries to become what it should be.
const memberPause = 300 * time.Millisecond

// member makes this server's part in the store what its record wants, until ctx
// ends. A removed voter becomes a client by itself, in package quorum.
func (d *daemon) member(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	hinted := ""
	for ctx.Err() == nil {
		snap, changed := d.view.next()
		exchanged := d.store.Changed()
		next := forever
		if h := hints(snap); len(h) > 0 && hinted != encodeServers(snap) {
			d.store.Hint(h)
			hinted = encodeServers(snap)
		}
		own, st := snap.servers[d.id()], d.store.Status()
		if errors.Is(st.Err, quorum.ErrFailed) && st.Role == quorum.Alone {
			d.fail(st.Err) // in a pool it goes on with what it knows
			return
		}
		if errors.Is(st.Err, quorum.ErrSuperseded) && st.Successor != nil {
			if err := d.rejoin(ctx, *st.Successor); err != nil {
				next = memberPause
			}
		}
		if snap.stale.IsZero() && own != nil && own.Role == api.RoleVoter && own.State == joined && st.Role == quorum.Client && len(snap.servers) > 1 {
			if err := d.store.BecomeLearner(ctx, own.Addr); err != nil && ctx.Err() == nil {
				if !errors.Is(err, quorum.ErrNotMember) { // the controller is about to add it
					d.log.Warn("this server can't become a voter yet", "error", err)
				}
				next = memberPause
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-exchanged:
		case <-timer.C:
		}
	}
}

// rejoin makes this server, whose cluster was recovered without it, a client of
// what has become of it.
func (d *daemon) rejoin(ctx context.Context, p quorum.Pool) error {
	leave, ok := d.tasks.tryEnter(poolQueue)
	if !ok {
		return errConflict
	}
	defer leave()
	d.log.Warn("the cluster was recovered without this server, which joins it again", "incarnation", p.Incarnation)
	return d.become(ctx, p.Cluster, p.Incarnation, p.Endpoints)
}

// hints are where all servers' members might answer.
func hints(s *snapshot) []string {
	var out []string
	for _, r := range ordered(s) {
		if r.Addr != "" && len(s.servers) > 1 {
			out = append(out, r.endpoint())
		}
	}
	return out
}
