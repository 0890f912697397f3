package manage

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// existing returns the volume for a change of it.
func (d *daemon) existing(ctx context.Context, name string) (*volumeRecord, error) {
	snap, err := d.fresh(ctx)
	if err != nil {
		return nil, err
	}
	v := snap.volume(name)
	if v == nil {
		return nil, noVolume(name)
	}
	return v, nil
}

func noVolume(name string) error {
	return api.Errorf(api.ErrNoVolume, "Volume %s does not exist", name)
}

// begin records a task and the volume that it makes, if the servers of its
// bricks are there. A forced start or stop does without those that are not, and
// so does a delete, for the bricks of a stopped volume have nothing to do.
func (d *daemon) begin(ctx context.Context, t *taskRecord, old, v *volumeRecord) (err error) {
	if t.Away, err = d.needServers(ctx, d.view.now(), v.Bricks, t.Force || t.Kind == kindDelete); err != nil {
		return err
	}
	_, err = d.commit(ctx, t.Kind+" begin", []clientv3.Cmp{noTask(t.Volume), unchanged(old)}, putVolume(v), putTask(t))
	if err == errConflict {
		return busy(t.Volume)
	}
	return err
}

// unchanged is the condition that the volume is still what it was.
func unchanged(v *volumeRecord) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(volumeKey(v.Name)), "=", encode(v))
}

// VolumeStart implements api.Daemon.
func (d *daemon) VolumeStart(ctx context.Context, r api.VolumeRequest) (api.Volume, error) {
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		old, err := d.existing(ctx, r.Name)
		if err != nil {
			return api.Volume{}, err
		}
		if old.State == api.Started && !r.Force {
			return api.Volume{}, refuse("Volume %s already started", r.Name)
		}
		v := old.clone()
		v.Run, v.Generation = true, v.Generation+1
		if err := d.begin(ctx, d.newTask(kindStart, v, r.Force), old, v); err != nil {
			return api.Volume{}, err
		}
		if err := d.finish(ctx, r.Name); err != nil {
			return api.Volume{}, err
		}
		d.log.Info("volume started", "volume", r.Name)
		v.State = api.Started
		return d.describe(v), nil
	})
}

// finishStart waits for the bricks to be attached. One that is not turns the
// start back, unless it was forced: then what can run runs.
func (d *daemon) finishStart(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	if t.Undo == nil {
		failure, err := d.awaitBricks(ctx, t, v, d.cfg.StartTimeout+5*time.Second)
		if err != nil {
			return err
		}
		if failure == nil || t.Force {
			if failure != nil {
				d.log.Warn("volume started without a brick", "volume", v.Name, "brick", failure.brick.name(), "why", failure.text)
			}
			v = v.clone()
			v.State = api.Started
			_, err := d.commit(ctx, "start end", []clientv3.Cmp{hasTask(t)}, putVolume(v), endTask(t))
			if err == nil && failure != nil && failure.lost && v.Replica > 1 {
				return refuse("Brick %s can't be started: %s.", failure.brick.name(), failure.text)
			}
			return err
		}
		before := hasTask(t)
		t = undo(t, api.Errorf(api.ErrGeneric, "Brick %s can't be started: %s. See its log %s.",
			failure.brick.name(), failure.text, d.brickLog(v.Name, failure.brick.Path)))
		v = v.clone()
		v.Run, v.Generation = false, v.Generation+1
		if _, err := d.commit(ctx, "start undo", []clientv3.Cmp{before}, putVolume(v), putTask(t)); err != nil {
			return err
		}
	}
	if err := d.awaitEnd(ctx, t, v); err != nil {
		return err
	}
	if _, err := d.commit(ctx, "start undone", []clientv3.Cmp{hasTask(t)}, endTask(t)); err != nil {
		return err
	}
	return t.Undo
}

// awaitEnd waits until the volume's brick processes have ended.
func (d *daemon) awaitEnd(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	failure, err := d.awaitBricks(ctx, t, v, d.cfg.StopTimeout+killGrace+5*time.Second)
	if err == nil && failure != nil {
		if failure.away { // its own server ends it when it comes back
			d.log.Warn("a brick whose server is not there is left to it", "brick", failure.brick.name())
			return nil
		}
		err = refuse("Brick %s of volume %s does not end: %s. The daemon keeps trying.", failure.brick.name(), v.Name, failure.text)
	}
	return err
}

// VolumeStop implements api.Daemon.
func (d *daemon) VolumeStop(ctx context.Context, r api.VolumeRequest) (api.Volume, error) {
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		old, err := d.existing(ctx, r.Name)
		if err != nil {
			return api.Volume{}, err
		}
		if old.State != api.Started && !r.Force {
			return api.Volume{}, refuse("Volume %s is not in the started state", r.Name)
		}
		v := old.clone()
		v.State, v.Run, v.Generation = api.Stopped, false, v.Generation+1
		if err := d.begin(ctx, d.newTask(kindStop, v, r.Force), old, v); err != nil {
			return api.Volume{}, err
		}
		if err := d.finish(ctx, r.Name); err != nil {
			return api.Volume{}, err
		}
		d.log.Info("volume stopped", "volume", r.Name)
		return d.describe(v), nil
	})
}

func (d *daemon) finishStop(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	if err := d.awaitEnd(ctx, t, v); err != nil {
		return err
	}
	_, err := d.commit(ctx, "stop end", []clientv3.Cmp{hasTask(t)}, endTask(t))
	return err
}

// VolumeDelete implements api.Daemon. The bricks' directories stay as they are.
func (d *daemon) VolumeDelete(ctx context.Context, r api.VolumeRequest) (api.Volume, error) {
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		old, err := d.existing(ctx, r.Name)
		if err != nil {
			return api.Volume{}, err
		}
		if old.State == api.Started {
			return api.Volume{}, refuse("Volume %s has been started.Volume needs to be stopped before deletion.", r.Name)
		}
		v := old.clone()
		v.Phase, v.Run, v.Generation = deleting, false, v.Generation+1
		if err := d.begin(ctx, d.newTask(kindDelete, v, r.Force), old, v); err != nil {
			return api.Volume{}, err
		}
		if err := d.finish(ctx, r.Name); err != nil {
			return api.Volume{}, err
		}
		d.log.Info("volume deleted", "volume", r.Name)
		return d.describe(old), nil
	})
}

func (d *daemon) finishDelete(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	if err := d.awaitEnd(ctx, t, v); err != nil {
		return err
	}
	_, err := d.commit(ctx, "delete end", []clientv3.Cmp{hasTask(t)}, append(dropVolume(v), endTask(t))...)
	return err
}
