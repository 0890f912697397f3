package manage

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// VolumeResetBrick implements api.Repair.
func (d *daemon) VolumeResetBrick(ctx context.Context, r api.BrickRequest) (api.Volume, error) {
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		old, i, err := d.theBrick(ctx, r)
		if err != nil {
			return api.Volume{}, err
		}
		if r.With == "" {
			err = d.resetStart(ctx, r, old, i)
		} else {
			err = d.resetCommit(ctx, r, old, i)
		}
		if err != nil {
			return api.Volume{}, err
		}
		return d.describe(d.view.now().volumes[r.Name]), nil
	})
}

// resetStart takes a brick out of service.
func (d *daemon) resetStart(ctx context.Context, r api.BrickRequest, old *volumeRecord, i int) error {
	b := old.Bricks[i]
	if b.Out {
		return nil
	}
	if err := d.mayGo(old, b); err != nil {
		return err
	}
	v, t := old.clone(), d.newTask(kindReset, old, r.Force)
	v.Bricks[i].Out, v.Generation, t.Brick = true, v.Generation+1, b.ID
	for server := range d.absent(ctx, d.view.now(), []brickRecord{b}) {
		t.Away = append(t.Away, server)
	}
	_, err := d.commit(ctx, t.Kind+" begin", []clientv3.Cmp{noTask(t.Volume), unchanged(old)}, putVolume(v), putTask(t))
	if err == errConflict {
		return busy(t.Volume)
	}
	if err == nil {
		err = d.finish(ctx, r.Name)
	}
	if err == nil {
		d.log.Info("brick taken out of service", "volume", r.Name, "brick", b.name())
	}
	return err
}

// finishReset waits until the brick has ended and takes its seat among those in
// sync, or lets it run again.
func (d *daemon) finishReset(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	i := v.place(t.Brick)
	err := d.outOfService(ctx, t, v)
	if err == nil {
		err = d.withoutMember(ctx, t, v, v.Bricks[i], t.Kind+" end", endTask(t))
	}
	var why *refusal
	if !errors.As(err, &why) {
		return err
	}
	v = v.clone()
	v.Bricks[i].Out, v.Generation = false, v.Generation+1
	if _, err := d.commit(ctx, t.Kind+" undone", []clientv3.Cmp{hasTask(t)}, putVolume(v), endTask(t)); err != nil {
		return err
	}
	return why.error
}

// resetCommit puts what is at a brick's place into service again.
func (d *daemon) resetCommit(ctx context.Context, r api.BrickRequest, old *volumeRecord, i int) error {
	b := old.Bricks[i]
	if !b.Out {
		return refuse("Source brick must be stopped. Please use gluster volume reset-brick <volname> <dst-brick> start.")
	}
	snap := d.view.now()
	coming, err := d.comingBrick(ctx, snap, b, r.With)
	if err != nil {
		return err
	}
	if coming.Server != b.Server || coming.Path != b.Path {
		return refuse("When destination brick is new, please use gluster volume replace-brick <volname> <src-brick> <dst-brick> commit force")
	}
	// Nothing that is not this very brick with its data may be taken for it: what was
	// emptied becomes another brick of the same place, and is healed as such.
	coming.Replaces, coming.Reuse = b.ID, r.Force
	if err := d.exchange(ctx, d.newTask(kindRenew, old, r.Force), old, b, coming); err != nil {
		return err
	}
	d.log.Info("brick put into service again", "volume", r.Name, "brick", b.name())
	return nil
}
