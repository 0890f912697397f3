package manage

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// successorTimeout bounds the wait for another member to become primary before
// the primary's brick loses its place. Without that the others would wait for their
// promise to run out: it takes no longer, but it is longer than to see a process end.
const successorTimeout = 5 * time.Second

// VolumeReplaceBrick implements api.Repair. The brick that goes keeps its directory as it is.
func (d *daemon) VolumeReplaceBrick(ctx context.Context, r api.BrickRequest) (api.Volume, error) {
	return change(ctx, d, r.Name, func(ctx context.Context) (api.Volume, error) {
		old, i, err := d.theBrick(ctx, r)
		if err != nil {
			return api.Volume{}, err
		}
		b := old.Bricks[i]
		if err := d.mayGo(old, b); err != nil {
			return api.Volume{}, err
		}
		snap := d.view.now()
		coming, err := d.comingBrick(ctx, snap, b, r.With)
		if err != nil {
			return api.Volume{}, err
		}
		for _, v := range snap.volumes {
			if overlaps(v.all(), coming) {
				return api.Volume{}, refuse("Brick: %s not available. Brick may be containing or be contained by an existing brick.", coming.name())
			}
		}
		if err := d.exchange(ctx, d.newTask(kindReplace, old, r.Force), old, b, coming); err != nil {
			return api.Volume{}, err
		}
		d.log.Info("brick replaced", "volume", r.Name, "brick", b.name(), "with", coming.name())
		return d.describe(d.view.now().volumes[r.Name]), nil
	})
}

// theBrick finds the brick that a request is about, in a volume that has sets of several members.
func (d *daemon) theBrick(ctx context.Context, r api.BrickRequest) (*volumeRecord, int, error) {
	v, err := d.existing(ctx, r.Name)
	if err != nil {
		return nil, 0, err
	}
	if v.Replica <= 1 {
		return nil, 0, refuse("Volume %s is not of type replicate/disperse: what is on its bricks is nowhere else", r.Name)
	}
	host, path, err := spec.ParseBrick(r.Brick)
	if err != nil {
		return nil, 0, refuse("%v", err)
	}
	for i, b := range v.Bricks {
		if b.name() == spec.JoinBrick(host, path) {
			return v, i, nil
		}
	}
	server, _ := d.hostPeer(ctx, d.view.now(), host) // "" where the name is nobody's
	for i, b := range v.Bricks {
		if b.Server == server && b.Path == path {
			return v, i, nil
		}
	}
	return nil, 0, refuse("brick: %s does not exist in volume: %s", r.Brick, r.Name)
}

// comingBrick is the record of a brick that is to take b's place at a HOST:/PATH.
func (d *daemon) comingBrick(ctx context.Context, snap *snapshot, b brickRecord, at string) (brickRecord, error) {
	host, path, err := spec.ParseBrick(at)
	if err != nil {
		return brickRecord{}, refuse("%v", err)
	}
	server, err := d.hostPeer(ctx, snap, host)
	if err != nil {
		return brickRecord{}, err
	}
	coming := brickRecord{ID: newUUID(), Server: server, Host: host, Path: path, Set: b.Set, Arbiter: b.Arbiter, Phase: checking}
	_, err = d.needServers(ctx, snap, []brickRecord{coming}, false)
	return coming, err
}

// mayGo refuses to take a brick out of its set whose going would lose what was
// acknowledged, or, if it is there, stop the set.
func (d *daemon) mayGo(v *volumeRecord, b brickRecord) error {
	snap := d.view.now()
	s := snap.stateOf(v.ID, b.Set)
	if _, in := s.Seat(b.ID); !in {
		return nil
	}
	left := len(s.InSync) - 1
	if left == 0 {
		return refuse("Brick %s is the only one of its set that has everything that was acknowledged: heal another first, see `mortar volume heal %s info`.", b.name(), v.Name)
	}
	quorum := spec.QuorumOf(v.options(), v.Replica, v.Arbiter)
	if online, _, _ := d.online(snap, b, snap.haveOf(v.ID, b.ID)); online && v.Run && left < quorum {
		return refuse("Without brick %s %d of its set would be in sync, and the set needs %d to go on (cluster.quorum-type): heal the others first, see `mortar volume heal %s info`.", b.name(), left, quorum, v.Name)
	}
	return nil
}

// exchange records the task that has coming take b's place, and carries it out.
func (d *daemon) exchange(ctx context.Context, t *taskRecord, old *volumeRecord, b, coming brickRecord) error {
	v := old.clone()
	v.Coming, v.Generation = []brickRecord{coming}, v.Generation+1
	t.Brick, t.New, t.WasOut = b.ID, coming.ID, b.Out
	for server := range d.absent(ctx, d.view.now(), []brickRecord{b}) {
		t.Away = append(t.Away, server)
	}
	servers := clientv3.Compare(clientv3.ModRevision(serversPrefix), "<", d.view.now().revision+1).WithPrefix()
	_, err := d.commit(ctx, t.Kind+" begin", []clientv3.Cmp{noTask(t.Volume), unchanged(old), servers},
		putVolume(v), putTask(t), clientv3.OpPut(haveKey(v.ID, coming.ID), encode(haveRecord{V: recordVersion})))
	if err == errConflict {
		return busy(t.Volume)
	}
	if err != nil {
		return err
	}
	return d.finish(ctx, t.Volume)
}

// finishReplace has the coming brick made and put in its place, or unmade.
func (d *daemon) finishReplace(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	if t.Undo == nil && !t.Swapped {
		done, next, err := d.takePlace(ctx, t, v)
		var why *refusal
		switch {
		case errors.As(err, &why):
			if t, v, err = d.undoReplace(ctx, t, next, why.error); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			t, v = done, next
		}
	}
	if t.Undo != nil {
		failure, err := d.awaitThese(ctx, t, v, v.Coming, createTimeout)
		if err != nil {
			return err
		}
		if failure != nil {
			d.log.Error("what a failed replace-brick made can't be removed", "brick", failure.brick.name(), "why", failure.text)
		}
		v = v.clone()
		v.Coming = nil
		if _, err := d.commit(ctx, t.Kind+" undone", []clientv3.Cmp{hasTask(t)}, putVolume(v),
			clientv3.OpDelete(haveKey(v.ID, t.New)), endTask(t)); err != nil {
			return err
		}
		return t.Undo
	}
	i := max(v.place(t.New), v.place(t.Brick))
	failure, err := d.awaitThese(ctx, t, v, v.Bricks[i:i+1], d.cfg.StartTimeout+5*time.Second)
	if err != nil {
		return err
	}
	if _, err := d.commit(ctx, t.Kind+" end", []clientv3.Cmp{hasTask(t)}, endTask(t)); err != nil {
		return err
	}
	if failure != nil {
		return refuse("Brick %s is in its place, but can't be started: %s. The daemon keeps trying; see its log %s.",
			failure.brick.name(), failure.text, d.brickLog(v.Name, failure.brick.Path))
	}
	return nil
}

// refusal is why a task that has begun is to be undone, a sentence.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// refusalOf makes a refusal of a brick that failed, nil if none did.
func refusalOf(f *brickFailure) error {
	if f == nil {
		return nil
	}
	return &refusal{refuse("%s", f.text)}
}

// undoReplace turns the task back.
func (d *daemon) undoReplace(ctx context.Context, t *taskRecord, v *volumeRecord, why error) (*taskRecord, *volumeRecord, error) {
	before := hasTask(t)
	var e *api.Error
	if !errors.As(why, &e) {
		e = api.Errorf(api.ErrGeneric, "%v", why)
	}
	t, v = undo(t, e), v.clone()
	v.Generation++
	for i := range v.Coming {
		v.Coming[i].Phase = undoing
	}
	if i := v.place(t.Brick); t.Kind == kindReplace && i >= 0 && !t.WasOut {
		v.Bricks[i].Out = false
	}
	_, err := d.commit(ctx, t.Kind+" undo", []clientv3.Cmp{before}, putVolume(v), putTask(t))
	return t, v, err
}

// takePlace takes the steps to the exchange of the bricks. It returns the task
// and the volume as they are recorded by then, the volume also with a refusal.
func (d *daemon) takePlace(ctx context.Context, t *taskRecord, v *volumeRecord) (*taskRecord, *volumeRecord, error) {
	wait := func(bound time.Duration) error {
		failure, err := d.awaitThese(ctx, t, v, v.Coming, bound)
		if err == nil {
			err = refusalOf(failure)
		}
		return err
	}
	advance := func(step string, to phase, f func(v *volumeRecord, coming *brickRecord)) error {
		next := v.clone()
		next.Generation++
		next.Coming[0].Phase = to
		f(next, &next.Coming[0])
		_, err := d.commit(ctx, step, []clientv3.Cmp{hasTask(t)}, putVolume(next))
		if err == nil {
			v = next
		}
		return err
	}
	if v.Coming[0].Phase == checking {
		if err := wait(checkTimeout); err != nil {
			return t, v, err
		}
		h := d.view.now().haveOf(v.ID, t.New)
		if h.Kept {
			return d.keepBrick(ctx, t, v)
		}
		if err := advance("brick checked", creating, func(_ *volumeRecord, c *brickRecord) { c.Made = h.Missing }); err != nil {
			return t, v, err
		}
	}
	if v.Coming[0].Phase == creating {
		if err := wait(createTimeout); err != nil {
			return t, v, err
		}
		if err := advance("brick made", made, func(v *volumeRecord, c *brickRecord) {
			v.Bricks[v.place(t.Brick)].Out = true
		}); err != nil {
			return t, v, err
		}
	}
	if err := d.outOfService(ctx, t, v); err != nil {
		return t, v, err
	}
	return d.swapBricks(ctx, t, v)
}

// outOfService waits until the brick that the task is about has ended, or its
// server is away, and for the set to go on without it.
func (d *daemon) outOfService(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	i := v.place(t.Brick)
	b := v.Bricks[i]
	failure, err := d.awaitThese(ctx, t, v, v.Bricks[i:i+1], d.cfg.StopTimeout+killGrace+5*time.Second)
	switch {
	case err != nil:
		return err
	case failure != nil && !failure.away:
		return &refusal{refuse("Brick %s does not end: %s.", b.name(), failure.text)}
	}
	wait, cancel := context.WithTimeout(ctx, successorTimeout)
	defer cancel()
	_, _ = d.view.until(wait, func(s *snapshot) bool { return s.stateOf(v.ID, b.Set).Primary != b.ID || !s.mayGoOn(v, b) })
	return ctx.Err()
}

// mayGoOn reports whether a member in sync other than b runs.
func (s *snapshot) mayGoOn(v *volumeRecord, b brickRecord) bool {
	for _, seat := range s.stateOf(v.ID, b.Set).InSync {
		if seat.Member != b.ID && s.haveOf(v.ID, seat.Member).Is == running {
			return true
		}
	}
	return false
}

// keepBrick puts the brick that is at its place still into service again.
func (d *daemon) keepBrick(ctx context.Context, t *taskRecord, v *volumeRecord) (*taskRecord, *volumeRecord, error) {
	before := hasTask(t)
	next, done := v.clone(), *t
	done.Swapped = true
	next.Generation++
	i := next.place(t.Brick)
	next.Bricks[i].Out, next.Bricks[i].Host = false, v.Coming[0].Host
	next.Coming = nil
	_, err := d.commit(ctx, "brick kept", []clientv3.Cmp{before}, putVolume(next), putTask(&done), clientv3.OpDelete(haveKey(v.ID, t.New)))
	return &done, next, err
}

// swapBricks gives the coming brick its place: the record of the volume and the
// state of the set change in one transaction. The set may change its state
// until then.
func (d *daemon) swapBricks(ctx context.Context, t *taskRecord, v *volumeRecord) (*taskRecord, *volumeRecord, error) {
	next, done := v.clone(), *t
	done.Swapped = true
	next.Generation++
	b, coming := v.Bricks[v.place(t.Brick)], v.Coming[0]
	coming.Phase, coming.Replaces, coming.Reuse, coming.Made = settled, "", false, false
	next.Bricks[v.place(t.Brick)], next.Coming = coming, nil
	err := d.withoutMember(ctx, t, v, b, "brick swapped", putVolume(next), putTask(&done), clientv3.OpDelete(haveKey(v.ID, b.ID)))
	if err != nil {
		return t, v, err
	}
	return &done, next, nil
}

// withoutMember carries out a task's operations together with the brick's loss of its seat among
// those in sync. The error is a refusal if it is the only one there.
func (d *daemon) withoutMember(ctx context.Context, t *taskRecord, v *volumeRecord, b brickRecord, step string, ops ...clientv3.Op) error {
	key := setKey(v.ID, b.Set)
	for range alterAttempts {
		snap, err := d.fresh(ctx)
		if err != nil {
			return err
		}
		if now := snap.tasks[t.Volume]; now == nil || encode(now) != encode(t) {
			return errTaken
		}
		r := snap.sets[setRef{v.ID, b.Set}]
		if r == nil {
			return &refusal{refuse("Nothing is known of the state of set %d of volume %s.", b.Set, v.Name)}
		}
		next := r.State.Without(b.ID)
		if len(next.InSync) == 0 {
			return &refusal{refuse("Brick %s is the only one of its set that has everything that was acknowledged, since the others fell behind meanwhile: heal another first, see `mortar volume heal %s info`.", b.name(), v.Name)}
		}
		all := ops
		if !next.Equal(r.State) {
			all = append(all[:len(all):len(all)], clientv3.OpPut(key, encode(setRecord{V: replicatedV, State: next, By: t.ID})))
		}
		same := clientv3.Compare(clientv3.ModRevision(key), "=", snap.raw[key].revision)
		if _, err = d.commit(ctx, step, []clientv3.Cmp{hasTask(t), same}, all...); err != errConflict {
			return err
		}
	}
	return busy(t.Volume)
}
