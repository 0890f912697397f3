package manage

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// incarnationShift is how far the versions of maps of two incarnations of a
// cluster are apart: no incarnation has so many revisions.
const incarnationShift = 40

// mapBase is what is added to an incarnation's revisions at least.
func mapBase(incarnation uint64) uint64 { return (incarnation - 1) << incarnationShift }

// foundTimeout bounds the making of a new store.
const foundTimeout = time.Minute

// ClusterRecover implements api.Pool.
func (d *daemon) ClusterRecover(ctx context.Context) (api.Cluster, error) {
	return changeAlways(ctx, d, poolQueue, func(ctx context.Context) (api.Cluster, error) {
		if err := d.recoverStore(ctx); err != nil {
			return api.Cluster{}, err
		}
		if err := d.begun(ctx); err != nil {
			return api.Cluster{}, err
		}
		return d.ClusterStatus(ctx)
	})
}

// recoverStore makes what this daemon has the store of a new incarnation: a
// voter what its member's log holds, a client what it last saw.
func (d *daemon) recoverStore(ctx context.Context) error {
	st := d.store.Status()
	if st.Role == quorum.Alone {
		return refuse("This server is alone: there is nothing to recover.")
	}
	switch h := d.health(ctx); {
	case errors.Is(st.Err, quorum.ErrSuperseded):
		return refuse("%v: the cluster was recovered elsewhere already, and this server joins it by itself.", st.Err)
	case h.Answer >= h.Majority:
		return refuse("A majority of the voters answers (%d of %d): there is nothing to recover.", h.Answer, len(h.Voters))
	}
	if f := d.findOut(ctx); f.newer > 0 {
		return refuse("The cluster was recovered elsewhere already, and this server joins it by itself.")
	}
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	d.log.Warn("recovering the cluster from this server", "role", st.Role, "revision", d.view.now().revision)
	d.cfg.step("recover")
	var err error
	if st.Role == quorum.Voter {
		err = d.store.Recover(ctx)
	} else {
		s := d.view.now()
		if s.servers[d.id()] == nil {
			return refuse("This server does not know the configuration: recover the cluster on another.")
		}
		err = d.store.Found(ctx, quorum.Founding{
			Cluster: st.Pool.Cluster, Incarnation: st.Pool.Incarnation + 1, Host: s.servers[d.id()].Addr, Keys: keysOf(s),
		})
	}
	if err != nil {
		return refuse("The cluster can't be recovered from this server: %v", err)
	}
	return nil
}

// keysOf are a snapshot's records as a new store takes them.
func keysOf(s *snapshot) []quorum.KeyValue {
	var out []quorum.KeyValue
	for key, r := range s.raw {
		if kind, _ := splitKey(key); kind != alivePrefix && kind != controlKey {
			out = append(out, quorum.KeyValue{Key: key, Value: r.value})
		}
	}
	return out
}

// begun waits until the new store of this daemon is the one that it works with,
// in its new incarnation.
func (d *daemon) begun(ctx context.Context) error {
	d.view.forget()
	ctx, cancel := context.WithTimeout(ctx, storeStartTimeout)
	defer cancel()
	want := d.store.Status().Pool.Incarnation
	for {
		_, err := d.view.until(ctx, func(s *snapshot) bool { return s.stale.IsZero() && s.alive[d.id()] == d.boot })
		if err == nil {
			d.away.set(false)
			err = d.settleEpoch(ctx)
		}
		switch {
		case err == nil && d.view.now().epoch.Incarnation == want:
			return nil
		case ctx.Err() != nil:
			return refuse("The new configuration store does not answer: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(alivePause):
		}
	}
}

// settleEpoch makes the epoch's record that of the store's incarnation: where the
// cluster was recovered, maps go on above all that the earlier one can have had.
func (d *daemon) settleEpoch(ctx context.Context) error {
	snap, err := d.fresh(ctx)
	if err != nil {
		return err
	}
	inc := d.store.Status().Pool.Incarnation
	if snap.epoch.Incarnation >= inc {
		return nil
	}
	e := *snap.epoch
	e.Incarnation, e.MapBase = inc, max(e.MapBase, mapBase(inc))
	_, err = d.commit(ctx, "epoch", []clientv3.Cmp{epochIs(snap.epoch)}, clientv3.OpPut(epochKey, encode(&e)))
	if err == errConflict {
		return nil
	}
	return err
}

func epochIs(e *epochRecord) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(epochKey), "=", encode(e))
}

// raiseSeen looks, at the start and in each incarnation of the cluster, at what
// the bricks of this server have seen, and raises the versions of maps and
// layouts above it, until ctx ends.
func (d *daemon) raiseSeen(ctx context.Context) {
	done := uint64(0) // the incarnation in which it was done
	retry := time.NewTimer(forever)
	defer retry.Stop()
	for ctx.Err() == nil {
		snap, changed := d.view.next()
		if inc := snap.epoch.Incarnation; snap.stale.IsZero() && inc != 0 && inc != done {
			if err := d.raise(ctx); err == nil {
				done = inc
			} else if ctx.Err() == nil {
				d.log.Warn("the versions that the bricks have seen can't be taken up", "error", err)
				retry.Reset(reportRetry)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-retry.C:
		}
	}
}

// raise raises the versions once.
func (d *daemon) raise(ctx context.Context) error {
	seen := map[string]brick.Seen{} // by brick's UUID; read first: who asks later knows more than they did
	for _, v := range d.view.now().volumes {
		for _, b := range v.Bricks {
			if b.Server != d.id() || v.Phase != settled {
				continue
			}
			s, err := brick.ReadSeen(b.Path)
			if err == nil {
				seen[b.ID] = s
			} else if volume.ErrnoOf(err) != syscall.ENOENT {
				d.log.Warn("what a brick has seen can't be read", "brick", b.name(), "error", err)
			}
		}
	}
	for range 5 {
		snap, err := d.fresh(ctx)
		if err != nil {
			return err
		}
		conditions, ops := raised(snap, seen)
		if len(ops) == 0 {
			return nil
		}
		d.log.Warn("bricks have seen newer versions than the configuration's: going on above them")
		if _, err = d.commit(ctx, "raise", conditions, ops...); err != errConflict {
			return err
		}
	}
	return errConflict
}

// raised are the changes that put maps and layouts above what bricks have seen.
func raised(s *snapshot, seen map[string]brick.Seen) (conditions []clientv3.Cmp, ops []clientv3.Op) {
	e := *s.epoch
	for _, v := range s.volumes {
		layout := v.Layouts[0].Version
		for _, b := range v.Bricks {
			saw := seen[b.ID]
			if now := s.mapVersion(v) - s.epoch.MapBase + e.MapBase; saw.Map > now {
				e.MapBase += saw.Map - now
			}
			if saw.Layout > layout {
				layout = saw.Layout + 1 // that version may have said something else
			}
		}
		if layout != v.Layouts[0].Version {
			changed := v.clone()
			changed.Layouts[0].Version = layout
			conditions, ops = append(conditions, unchanged(v)), append(ops, putVolume(changed))
		}
	}
	if e != *s.epoch {
		conditions, ops = append(conditions, epochIs(s.epoch)), append(ops, clientv3.OpPut(epochKey, encode(&e)))
	}
	return conditions, ops
}

// ClusterBackup implements api.Pool.
func (d *daemon) ClusterBackup(ctx context.Context) (api.Backup, error) {
	s, err := d.look(ctx)
	if err != nil {
		return api.Backup{}, err
	}
	b, err := keep(s, d.id(), time.Now())
	if err != nil {
		return api.Backup{}, fmt.Errorf("the configuration can't be written as a backup: %w", err)
	}
	return api.Backup{Data: append(b, '\n')}, nil
}
