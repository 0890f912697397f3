package manage

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// ClusterRestore implements api.Pool. A daemon whose state was lost takes the
// UUID that the backup has for its address; so its bricks are its own again.
func (d *daemon) ClusterRestore(ctx context.Context, b api.Backup) (api.Cluster, error) {
	return changeAlways(ctx, d, poolQueue, func(ctx context.Context) (api.Cluster, error) {
		f, id, err := d.restorable(b)
		if err != nil {
			return api.Cluster{}, err
		}
		d.log.Warn("restoring the cluster from a backup", "cluster", f.Cluster, "id", id, "incarnation", f.Incarnation)
		ctx, cancel := context.WithTimeout(ctx, foundTimeout)
		defer cancel()
		if err := d.found(ctx, f, id); err != nil {
			return api.Cluster{}, refuse("The backup can't be restored: %v", err)
		}
		if err := d.begun(ctx); err != nil {
			return api.Cluster{}, err
		}
		return d.ClusterStatus(ctx)
	})
}

// found makes the store of the founding this daemon's, which is called id from then on.
func (d *daemon) found(ctx context.Context, f quorum.Founding, id string) error {
	old := d.id()
	err := d.store.Rename(ctx, id)
	if err != nil {
		return err
	}
	d.cfg.step("restore")
	if err = d.store.Found(ctx, f); err != nil {
		_ = d.store.Rename(ctx, old) // it is alone: that can't fail
		return err
	}
	return d.rename(id)
}

// rename gives the daemon another UUID.
func (d *daemon) rename(id string) error {
	if id == d.id() {
		return nil
	}
	if err := writeIdentity(d.dir.path, id); err != nil {
		return err
	}
	d.dir.id.Store(id)
	return nil
}

// restorable checks a backup and returns what the new store is founded with, and
// the UUID that this daemon has in it.
func (d *daemon) restorable(b api.Backup) (f quorum.Founding, id string, err error) {
	now := d.view.now()
	if st := d.store.Status(); st.Role != quorum.Alone || len(now.servers) > 1 || len(now.volumes) > 0 {
		return f, "", refuse("A backup is restored on a server that is alone and has no volumes; this one %s.", what(st.Role, now))
	}
	k, s, err := readKept(b.Data)
	if err != nil {
		return f, "", refuse("The backup %v.", err)
	}
	own := d.ownRecord(s)
	if own == nil {
		var hosts []string
		for _, r := range ordered(s) {
			hosts = append(hosts, r.host())
		}
		return f, "", refuse("This server is none of those of the backup (%s): restore it on one of them, under its name or address.", strings.Join(hosts, ", "))
	}
	inc, err := d.checkRestored(s, own, k.Incarnation)
	if err != nil {
		return f, "", err
	}
	e := *s.epoch
	e.Incarnation, e.MapBase = inc, max(e.MapBase, mapBase(inc))
	f = quorum.Founding{Cluster: k.Cluster, Incarnation: inc}
	if len(s.servers) > 1 {
		f.Host = own.Addr
		if d.host != "" {
			f.Host = d.host
		}
	}
	for _, kv := range keysOf(s) {
		switch kind, name := splitKey(kv.Key); {
		case kind == epochKey:
			kv.Value = []byte(encode(&e))
		case kind == serversPrefix:
			r := s.servers[name].clone()
			r.Role = api.RoleClient
			if r.ID == own.ID {
				r.Role = api.RoleVoter
			}
			kv.Value = json.RawMessage(encode(r))
		}
		f.Keys = append(f.Keys, kv)
	}
	return f, own.ID, nil
}

func what(role quorum.Role, s *snapshot) string {
	if role != quorum.Alone || len(s.servers) > 1 {
		return "is in a pool"
	}
	return "has volumes"
}

// ownRecord is the record of this server in a backup: by its UUID, else by its
// address or name.
func (d *daemon) ownRecord(s *snapshot) *serverRecord {
	if r := s.servers[d.id()]; r != nil {
		return r
	}
	for _, r := range ordered(s) {
		if d.host != "" && (r.Addr == d.host || r.called(d.host)) {
			return r
		}
	}
	for _, r := range ordered(s) {
		if d.host == "" && (r.Addr != "" && d.isOwnHost(r.Addr) || d.isOwnHost(r.Host) || slices.ContainsFunc(r.Names, d.isOwnHost)) {
			return r
		}
	}
	if len(s.servers) == 1 && d.host != "" { // a server that was alone had no address for others
		for _, r := range s.servers {
			if r.Addr == "" && d.isOwnHost(r.Host) {
				return r
			}
		}
	}
	return nil
}

// checkRestored compares this server's bricks with the backup and returns the
// incarnation to begin: later than any that they have seen.
func (d *daemon) checkRestored(s *snapshot, own *serverRecord, incarnation uint64) (uint64, error) {
	for _, v := range s.volumes {
		for _, b := range v.Bricks {
			if b.Server != own.ID || v.Phase != settled && v.Phase != deleting {
				continue
			}
			want := brick.Identity{VolumeID: v.ID, Volume: v.Name, Set: b.Set, BrickID: b.ID}
			id, err := brick.ReadIdentity(b.Path)
			if err != nil {
				return 0, refuse("The brick %s of volume %s is not there: %s. Mount its disk and restore again.", b.name(), v.Name, identityTrouble(b.Path, err))
			}
			if id != want {
				return 0, refuse("%s is not the brick of volume %s that the backup has there: it is brick %s of volume %s.", b.name(), v.Name, id.BrickID, id.Volume)
			}
			if seen, err := brick.ReadSeen(b.Path); err == nil {
				incarnation = max(incarnation, seen.Map>>incarnationShift+1)
			}
		}
	}
	return incarnation + 1, nil
}
