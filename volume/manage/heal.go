package manage

import (
	"context"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
)

// healTimeout bounds the question to a brick how its set's healing is, and the
// asking of one to begin.
const healTimeout = 5 * time.Second

// asked is what a brick said of its set.
type asked struct {
	brick brickRecord
	addr  string
	info  wire.HealInfo
}

// VolumeHealInfo implements api.Repair.
func (d *daemon) VolumeHealInfo(ctx context.Context, r api.VolumeRequest) (api.HealInfo, error) {
	snap, err := d.look(ctx)
	if err != nil {
		return api.HealInfo{}, err
	}
	v, err := healable(snap, r.Name)
	if err != nil {
		return api.HealInfo{}, err
	}
	return d.healInfo(snap, v, d.askPrimaries(ctx, snap, v)), nil
}

// VolumeHeal implements api.Repair.
func (d *daemon) VolumeHeal(ctx context.Context, r api.HealRequest) (api.HealInfo, error) {
	snap, err := d.look(ctx)
	if err != nil {
		return api.HealInfo{}, err
	}
	v, err := healable(snap, r.Name)
	if err != nil {
		return api.HealInfo{}, err
	}
	primaries := d.askPrimaries(ctx, snap, v)
	for _, set := range v.setIDs() {
		p, ok := primaries[set]
		if !ok {
			return api.HealInfo{}, refuse("Set %d has no primary that answers, so too few of its bricks are there to heal anything: see `mortar volume status %s detail`.", set, v.Name)
		}
		ctx, cancel := context.WithTimeout(ctx, healTimeout)
		err := wire.StartHeal(ctx, p.brick.ID, p.addr, r.Full)
		cancel()
		if err != nil {
			return api.HealInfo{}, refuse("Brick %s, the primary of set %d, does not begin: %v.", p.brick.name(), set, err)
		}
	}
	return d.healInfo(snap, v, primaries), nil
}

// healable returns the started volume with sets of several members. The errors are GlusterFS's.
func healable(snap *snapshot, name string) (*volumeRecord, error) {
	v := snap.volume(name)
	switch {
	case v == nil:
		return nil, noVolume(name)
	case v.Replica <= 1:
		return nil, refuse("Volume %s is not of type replicate/disperse", name)
	case v.State != api.Started:
		return nil, refuse("Volume %s is not started.", name)
	}
	return v, nil
}

// askPrimaries asks all members that run, side by side, and returns the one of
// each set that serves it: the configuration may not have heard of it yet, or not any more.
func (d *daemon) askPrimaries(ctx context.Context, snap *snapshot, v *volumeRecord) map[volume.SetID]asked {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	out := map[volume.SetID]asked{}
	for _, b := range v.Bricks {
		h := snap.haveOf(v.ID, b.ID)
		if h.Is != running || h.Port == 0 {
			continue
		}
		a := asked{brick: b, addr: brickAddr(snap.servers[b.Server], h)}
		wg.Go(func() {
			var err error
			if a.info, err = wire.FetchHeal(ctx, b.ID, a.addr); err != nil {
				d.log.Debug("a brick does not tell how its set is", "brick", b.name(), "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, ok := out[b.Set]; a.info.Serving && (!ok || a.info.Epoch > other.info.Epoch) {
				out[b.Set] = a
			}
		})
	}
	wg.Wait()
	return out
}

// healInfo puts together what the primaries said.
func (d *daemon) healInfo(snap *snapshot, v *volumeRecord, primaries map[volume.SetID]asked) api.HealInfo {
	out := api.HealInfo{Name: v.Name, ID: v.ID}
	now := time.Now()
	for _, b := range v.Bricks {
		h := api.BrickHeal{Brick: describeBrick(b), Set: b.Set}
		h.Role, _ = snap.role(v, b)
		h.Connected, _, _ = d.online(snap, b, snap.haveOf(v.ID, b.ID))
		p, ok := primaries[b.Set]
		for _, m := range p.info.Members {
			if m.ID != b.ID {
				continue
			}
			h.Known, h.Connected, h.State = true, m.Connected || b.ID == p.brick.ID, m.State
			h.Role = api.RoleBehind
			switch {
			case b.ID == p.brick.ID:
				h.Role = api.RolePrimary
			case m.InSync:
				h.Role = api.RoleInSync
			}
			h.Pending, h.Entries, h.LastError = m.Pending, m.Entries, m.LastErr
			h.HealedFiles, h.HealedBytes, h.Total, h.Started = m.HealedFiles, m.HealedBytes, m.Total, m.StartedAt
			if m.ETA > 0 {
				h.Ends = now.Add(time.Duration(m.ETA) * time.Second).Truncate(time.Second)
			}
		}
		if !ok && h.Role == api.RolePrimary { // it was
			h.Role = api.RoleInSync
		}
		out.Bricks = append(out.Bricks, h)
	}
	return out
}
