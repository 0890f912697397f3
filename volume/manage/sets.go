package manage

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// The state of a set of several members is a record of its own, sets/VOLUME/SET,
// that its members change through the daemons, not any task: whoever fails over
// waits for it. The revision by which they name what they have read is
// etcd's of the record, above the base of the store's incarnation: a store that
// was made anew begins to count anew.

// swapAttempts bounds how often a swap is tried when the volume's record
// changes meanwhile.
const swapAttempts = 10

// setBounds of asking the store for a set.
const (
	setAttempt = 700 * time.Millisecond // one question to one voter
	swapBound  = 2 * time.Second        // of a swap that was sent: its outcome is unknown then
)

// setAt is a set's record as the store has it.
type setAt struct {
	record   setRecord
	stored   string // the record's form
	revision int64  // etcd's
	base     int64  // to be added for the API
}

// SetState implements api.Sets.
func (d *daemon) SetState(ctx context.Context, r api.SetRef) (api.SetStateReply, error) {
	if err := d.ready(ctx); err != nil {
		return api.SetStateReply{}, err
	}
	at, err := d.readSet(ctx, r)
	if err != nil {
		return api.SetStateReply{}, err
	}
	return api.SetStateReply{State: at.record.State, Revision: at.base + at.revision}, nil
}

// readSet reads a set's record linearizably. Without a majority of the voters it
// fails as soon as that is known.
func (d *daemon) readSet(ctx context.Context, r api.SetRef) (setAt, error) {
	if d.silent() {
		return setAt{}, d.lost(errSilent)
	}
	at, err := whileMajority(ctx, d, func(ctx context.Context) (setAt, error) { return d.readSetOnce(ctx, r) })
	if err != nil {
		return at, d.storeTrouble(ctx, err)
	}
	if at.revision != 0 {
		return at, decode([]byte(at.stored), setKey(r.Volume, r.Set), &at.record)
	}
	switch snap, err := d.fresh(ctx); {
	case err != nil:
		return at, err
	case snap.volumeOf(r.Volume) == nil:
		return at, noVolume(r.Volume)
	}
	return at, api.Errorf(api.ErrInvalid, "Volume %s has no set %d of several members.", r.Volume, r.Set)
}

// readSetOnce asks one voter; a set that does not exist has revision 0.
func (d *daemon) readSetOnce(ctx context.Context, r api.SetRef) (setAt, error) {
	before := d.store.Status().Pool.Incarnation
	c := d.store.Client()
	ctx, end := whileCurrent(ctx, d.store, c)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, setAttempt)
	defer cancel()
	key := setKey(r.Volume, r.Set)
	got, err := c.Get(ctx, key)
	if err != nil {
		return setAt{}, err
	}
	if d.store.Client() != c || d.store.Status().Pool.Incarnation != before {
		return setAt{}, context.Canceled // tried again
	}
	at := setAt{base: int64(mapBase(max(before, 1)))}
	if len(got.Kvs) == 0 {
		return at, nil
	}
	at.revision, at.stored = got.Kvs[0].ModRevision, string(got.Kvs[0].Value)
	return at, nil
}

// SwapSetState implements api.Sets.
func (d *daemon) SwapSetState(ctx context.Context, r api.SwapRequest) (api.SetStateReply, error) {
	if err := d.ready(ctx); err != nil {
		return api.SetStateReply{}, err
	}
	if r.ID == "" || len(r.ID) > lifeMax {
		return api.SetStateReply{}, api.Errorf(api.ErrInvalid, "A swap has an ID of 1 to %d bytes.", lifeMax)
	}
	sent := false
	for range swapAttempts {
		at, err := d.readSet(ctx, r.SetRef)
		if err != nil {
			return api.SetStateReply{}, unknownIf(sent, err)
		}
		switch {
		case at.record.By == r.ID: // an earlier attempt's
			return api.SetStateReply{State: at.record.State, Revision: at.base + at.revision}, nil
		case at.base+at.revision != r.Revision:
			return api.SetStateReply{}, conflict(r.SetRef)
		}
		snap := d.view.now()
		v := snap.volumeOf(r.Volume)
		if v == nil || !snap.stale.IsZero() {
			if snap, err = d.fresh(ctx); err != nil {
				return api.SetStateReply{}, unknownIf(sent, err)
			}
			if v = snap.volumeOf(r.Volume); v == nil {
				return api.SetStateReply{}, noVolume(r.Volume)
			}
		}
		if err := spec.CheckSwap(at.record.State, r.Next, v.members(r.Set)); err != nil {
			return api.SetStateReply{}, api.Errorf(api.ErrInvalid, "Set %d of volume %s can't have this state: %v.", r.Set, v.Name, err)
		}
		done, revision, err := d.swapOnce(ctx, r, at, snap.raw[volumeKey(v.Name)].revision, v.Name)
		switch {
		case err != nil && ctx.Err() == nil && mayRepeat(err):
			sent = true
		case err != nil:
			return api.SetStateReply{}, unknownIf(true, d.storeTrouble(ctx, err))
		case done:
			return api.SetStateReply{State: r.Next, Revision: at.base + revision}, nil
		}
	}
	return api.SetStateReply{}, unknownIf(sent, busy(r.Volume))
}

// swapOnce makes one transaction of a swap. It was not done, for certain, if there is no
// error: the set's record has changed, or the volume's, which the view will know soon.
func (d *daemon) swapOnce(ctx context.Context, r api.SwapRequest, at setAt, volumeAt int64, name string) (done bool, revision int64, err error) {
	d.cfg.step("swap")
	c := d.store.Client()
	ctx, end := whileCurrent(ctx, d.store, c)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, swapBound)
	defer cancel()
	key := setKey(r.Volume, r.Set)
	t, err := c.Txn(ctx).If(
		// By value too: of a store that was made anew meanwhile the revision could be another record's.
		clientv3.Compare(clientv3.ModRevision(key), "=", at.revision),
		clientv3.Compare(clientv3.Value(key), "=", at.stored),
		clientv3.Compare(clientv3.ModRevision(volumeKey(name)), "=", volumeAt),
	).Then(clientv3.OpPut(key, encode(setRecord{V: replicatedV, State: r.Next, By: r.ID}))).Commit()
	if err != nil {
		return false, 0, err
	}
	if !t.Succeeded {
		_, err = d.view.reached(ctx, c, t.Header.Revision)
	}
	return t.Succeeded, t.Header.Revision, err
}

func conflict(r api.SetRef) error {
	return api.Errorf(api.ErrConflict, "The state of set %d of volume %s was changed by another.", r.Set, r.Volume)
}

// unknownIf says of an error that what was asked for may have happened.
func unknownIf(sent bool, err error) error {
	if !sent {
		return err
	}
	return api.Errorf(api.ErrUnknown, "%s", err.Error())
}

// members are the UUIDs of a set's bricks.
func (v *volumeRecord) members(set volume.SetID) []string {
	var out []string
	for _, b := range v.Bricks {
		if b.Set == set {
			out = append(out, b.ID)
		}
	}
	return out
}

// setIDs are the volume's sets of several members.
func (v *volumeRecord) setIDs() []volume.SetID {
	var out []volume.SetID
	for _, b := range v.Bricks {
		if v.Replica > 1 && !slices.Contains(out, b.Set) {
			out = append(out, b.Set)
		}
	}
	return out
}

// putSets are the operations that make the states of a new volume's sets.
func putSets(v *volumeRecord) []clientv3.Op {
	var out []clientv3.Op
	for _, set := range v.setIDs() {
		r := setRecord{V: replicatedV, State: spec.NewSetState(v.members(set))}
		out = append(out, clientv3.OpPut(setKey(v.ID, set), encode(r)))
	}
	return out
}
