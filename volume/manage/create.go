package manage

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/dht"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// VolumeCreate implements api.Daemon.
func (d *daemon) VolumeCreate(ctx context.Context, r api.CreateRequest) (api.Volume, error) {
	if err := checkCreate(&r); err != nil {
		return api.Volume{}, err
	}
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		return d.create(ctx, r)
	})
}

// checkCreate checks what can be checked without knowing anything else, and
// puts the bricks' names into their canonical form.
func checkCreate(r *api.CreateRequest) error {
	if err := spec.CheckVolumeName(r.Name); err != nil {
		return refuse("%v", err)
	}
	if len(r.Bricks) > bricksMax {
		return refuse("A volume can have at most %d bricks, not %d.", bricksMax, len(r.Bricks))
	}
	if r.Transport != "" && r.Transport != "tcp" {
		return refuse("Transport type %s is not supported: Mortar knows tcp only.", r.Transport)
	}
	shape := shapeOf(r)
	if err := shape.Check(); err != nil {
		return refuse("%v", err)
	}
	if err := shape.Served(); err != nil {
		return refuse("%v", err)
	}
	names, err := spec.CheckBricks(r.Bricks)
	if err != nil {
		return refuse("%v", err)
	}
	r.Bricks = names
	return nil
}

func shapeOf(r *api.CreateRequest) spec.Shape {
	return spec.Shape{
		Bricks: len(r.Bricks), Stripe: r.Stripe, Replica: r.Replica, Arbiter: r.Arbiter,
		Disperse: r.Disperse, Redundancy: r.Redundancy,
	}
}

// create makes a volume; the caller has the name's turn. Whatever is wrong
// with the request is found before anything is written.
func (d *daemon) create(ctx context.Context, r api.CreateRequest) (api.Volume, error) {
	for range 5 { // another daemon may change something between the look and the leap
		snap, err := d.fresh(ctx)
		if err != nil {
			return api.Volume{}, err
		}
		if snap.volumes[r.Name] != nil {
			return api.Volume{}, api.Errorf(0, "Volume %s already exists", r.Name)
		}
		if len(snap.volumes) >= volumesMax {
			return api.Volume{}, refuse("There are %d volumes already, the most that a cluster can have.", len(snap.volumes))
		}
		bricks, err := d.newBricks(ctx, snap, r)
		if err == nil {
			_, err = d.needServers(ctx, snap, bricks, false)
		}
		if err != nil {
			return api.Volume{}, err
		}
		v, err := newVolume(r, bricks)
		if err != nil {
			return api.Volume{}, err
		}
		t := d.newTask(kindCreate, v, r.Force)
		ops := append(putSets(v), putVolume(v), putTask(t))
		for _, b := range v.Bricks {
			ops = append(ops, clientv3.OpPut(haveKey(v.ID, b.ID), encode(haveRecord{V: recordVersion})))
		}
		_, err = d.commit(ctx, "create begin", []clientv3.Cmp{
			noTask(v.Name),
			clientv3.Compare(clientv3.CreateRevision(volumeKey(v.Name)), "=", 0),
			// No volume has come or changed since its bricks were compared with these.
			clientv3.Compare(clientv3.ModRevision(volumesPrefix), "<", snap.revision+1).WithPrefix(),
			// Nor has a server of the pool: none of them is about to leave.
			clientv3.Compare(clientv3.ModRevision(serversPrefix), "<", snap.revision+1).WithPrefix(),
		}, ops...)
		if err == errConflict {
			continue
		}
		if err != nil {
			return api.Volume{}, err
		}
		if err := d.finish(ctx, v.Name); err != nil {
			return api.Volume{}, err
		}
		d.log.Info("volume created", "volume", v.Name, "bricks", len(v.Bricks))
		return d.describe(v), nil
	}
	return api.Volume{}, busy(r.Name)
}

// newBricks checks the bricks of a request against the snapshot. What only their
// servers can see, their keepers look at.
func (d *daemon) newBricks(ctx context.Context, snap *snapshot, r api.CreateRequest) ([]brickRecord, error) {
	var bricks []brickRecord
	shape := shapeOf(&r)
	members := shape.Members()
	for i, name := range r.Bricks {
		host, path, err := spec.ParseBrick(name)
		if err != nil {
			return nil, refuse("%v", err)
		}
		server, err := d.hostPeer(ctx, snap, host)
		if err != nil {
			return nil, err
		}
		b := brickRecord{ID: newUUID(), Server: server, Host: host, Path: path, Set: volume.SetID(i/members + 1)}
		b.Arbiter = shape.Arbiter > 0 && i%members == members-1
		if overlaps(bricks, b) {
			return nil, refuse("Brick: %s not available. Brick may be containing or be contained by an existing brick.", name)
		}
		for _, v := range snap.volumes {
			if overlaps(v.all(), b) {
				return nil, refuse("Brick: %s not available. Brick may be containing or be contained by an existing brick.", name)
			}
		}
		if !r.Force && slices.ContainsFunc(bricks, func(o brickRecord) bool { return o.Set == b.Set && o.Server == b.Server }) {
			return nil, refuse("%s", sameServer)
		}
		bricks = append(bricks, b)
	}
	return bricks, nil
}

// sameServer is GlusterFS's warning about members of a set that would be lost together.
const sameServer = "Multiple bricks of a replicate volume are present on the same server. This setup is not optimal. " +
	"Bricks should be on different nodes to have best fault tolerant configuration. " +
	"Use 'force' at the end of the command if you want to override this behavior."

// overlaps reports whether a brick is, contains, or lies in one of the others on its server.
func overlaps(bricks []brickRecord, b brickRecord) bool {
	return slices.ContainsFunc(bricks, func(o brickRecord) bool {
		return o.Server == b.Server && (spec.Within(o.Path, b.Path) || spec.Within(b.Path, o.Path))
	})
}

// newVolume makes the record of a volume whose bricks are to be made.
func newVolume(r api.CreateRequest, bricks []brickRecord) (*volumeRecord, error) {
	shape := shapeOf(&r)
	var weights []dht.Weight
	for i := 0; i < len(bricks); i += shape.Members() {
		weights = append(weights, dht.Weight{Set: bricks[i].Set, Weight: 1})
	}
	layout, err := dht.NewLayout(1, weights)
	if err != nil {
		return nil, refuse("The bricks can't be given shares of the volume: %v.", err)
	}
	options := spec.Fresh(shape.Members() > 1)
	slices.Reverse(options) // `volume info` shows the newest first
	v := &volumeRecord{
		V: recordVersion, Name: r.Name, ID: newUUID(), Phase: checking, State: api.Created,
		Force: r.Force, Generation: 1, Bricks: bricks,
		RootHome: bricks[0].Set, NextSet: volume.SetID(len(weights) + 1),
		Layouts: []spec.Layout{layout}, Options: options,
		Created: time.Now().UTC().Truncate(time.Second),
	}
	if shape.Members() > 1 {
		v.V, v.Replica, v.Arbiter = replicatedV, shape.Members(), shape.Arbiter
	}
	return v, nil
}

// createTimeout bounds the making of bricks, which is a few hundred directories each.
const createTimeout = time.Minute

// checkTimeout bounds the looking at a directory, under which a disk may be slow.
const checkTimeout = 15 * time.Second

// finishCreate has the bricks' directories looked at, waits for them to be made,
// or unmakes them.
func (d *daemon) finishCreate(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	if v.Phase == checking {
		made, err := d.finishCheck(ctx, t, v)
		if err != nil {
			return err
		}
		v = made
	}
	if t.Undo == nil {
		failure, err := d.awaitBricks(ctx, t, v, createTimeout)
		if err != nil {
			return err
		}
		v = v.clone()
		if failure == nil {
			v.Phase, v.Force = settled, false
			for i := range v.Bricks {
				v.Bricks[i].Made = false
			}
			_, err := d.commit(ctx, "create end", []clientv3.Cmp{hasTask(t)}, putVolume(v), endTask(t))
			return err
		}
		before := hasTask(t)
		t, v = undo(t, api.Errorf(api.ErrGeneric, "%s", failure.text)), v.clone()
		v.Phase, v.Generation = undoing, v.Generation+1
		if _, err := d.commit(ctx, "create undo", []clientv3.Cmp{before}, putVolume(v), putTask(t)); err != nil {
			return err
		}
	}
	failure, err := d.awaitBricks(ctx, t, v, createTimeout)
	if err != nil {
		return err
	}
	if failure != nil { // it stays for an administrator to look at, and the path says whose it was
		d.log.Error("what a failed create made can't be removed", "brick", failure.brick.name(), "why", failure.text)
	}
	_, err = d.commit(ctx, "create undone", []clientv3.Cmp{hasTask(t)}, append(dropVolume(v), endTask(t))...)
	if err != nil {
		return err
	}
	return t.Undo
}

// finishCheck waits until each brick's own server has looked at its directory,
// and orders them to be made; or drops the volume, of which nothing is there yet.
func (d *daemon) finishCheck(ctx context.Context, t *taskRecord, v *volumeRecord) (*volumeRecord, error) {
	failure, err := d.awaitBricks(ctx, t, v, checkTimeout)
	if err != nil {
		return nil, err
	}
	if failure != nil {
		if _, err := d.commit(ctx, "create refused", []clientv3.Cmp{hasTask(t)}, append(dropVolume(v), endTask(t))...); err != nil {
			return nil, err
		}
		return nil, refuse("%s", failure.text)
	}
	snap := d.view.now()
	v = v.clone()
	v.Phase, v.Generation = creating, v.Generation+1
	for i, b := range v.Bricks {
		v.Bricks[i].Made = snap.haveOf(v.ID, b.ID).Missing
	}
	_, err = d.commit(ctx, "create checked", []clientv3.Cmp{hasTask(t)}, putVolume(v))
	return v, err
}

// undo returns the task turned back because of e.
func undo(t *taskRecord, e *api.Error) *taskRecord {
	u := *t
	u.Undo = e
	return &u
}
