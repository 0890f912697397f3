package manage

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// Bounds of a transaction.
const (
	storeTimeout  = 5 * time.Second         // all attempts together
	commitAttempt = 1500 * time.Millisecond // one attempt
	commitPause   = 100 * time.Millisecond  // between them
)

// commit carries out a transaction and waits until the view shows it. The
// error is errConflict if a condition did not hold. A transaction without an
// answer (a voter died over it) is asked again: that it was carried out the
// first time shows in the records being what it makes them.
func (d *daemon) commit(ctx context.Context, step string, conditions []clientv3.Cmp, ops ...clientv3.Op) (*snapshot, error) {
	d.cfg.step(step)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	unknown := false
	for {
		c := d.store.Client()
		current, end := whileCurrent(ctx, d.store, c)
		attempt, cancel := context.WithTimeout(current, commitAttempt)
		r, err := c.Txn(attempt).If(conditions...).Then(ops...).Commit()
		cancel()
		end()
		if err != nil {
			if ctx.Err() != nil || !mayRepeat(err) {
				return nil, d.storeTrouble(ctx, err)
			}
			unknown = true
			select {
			case <-ctx.Done():
			case <-time.After(commitPause):
			}
			continue
		}
		snap, err := d.view.written(ctx, c, r.Header.Revision)
		if err != nil {
			return nil, d.storeTrouble(ctx, err)
		}
		if !r.Succeeded && !(unknown && shows(snap, ops)) {
			return snap, errConflict
		}
		d.cfg.step(step + " done")
		return snap, nil
	}
}

// errConflict is a transaction whose conditions did not hold.
var errConflict = errors.New("the configuration was changed by another")

// mayRepeat reports whether a transaction that failed may succeed another time:
// no voter was there for it, or the client was exchanged.
func mayRepeat(err error) bool {
	var e rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &e) {
		code = e.Code()
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled ||
		quorum.Changing(err)
}

// shows reports whether the records are what the operations make them. Where a
// task is among them it alone says so: no other transaction writes the same, and
// what it asks for may be under way, so that keepers have changed other records.
func shows(s *snapshot, ops []clientv3.Op) bool {
	for _, op := range ops {
		if kind, _ := splitKey(string(op.KeyBytes())); kind == tasksPrefix && op.IsPut() {
			return string(s.raw[string(op.KeyBytes())].value) == string(op.ValueBytes())
		}
	}
	for _, op := range ops {
		r, there := s.raw[string(op.KeyBytes())]
		if op.IsPut() && (!there || string(r.value) != string(op.ValueBytes())) || op.IsDelete() && there {
			return false
		}
	}
	return true
}

// noTask is the condition that no task is under way for the volume, hasTask that this one is.
func noTask(volume string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(taskKey(volume)), "=", 0)
}

func hasTask(t *taskRecord) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(taskKey(t.Volume)), "=", encode(t))
}

func putVolume(v *volumeRecord) clientv3.Op { return clientv3.OpPut(volumeKey(v.Name), encode(v)) }
func putTask(t *taskRecord) clientv3.Op     { return clientv3.OpPut(taskKey(t.Volume), encode(t)) }
func endTask(t *taskRecord) clientv3.Op     { return clientv3.OpDelete(taskKey(t.Volume)) }

// dropVolume are the operations that remove a volume and its bricks' records.
func dropVolume(v *volumeRecord) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpDelete(volumeKey(v.Name)),
		clientv3.OpDelete(havePrefix+v.ID+"/", clientv3.WithPrefix()),
		clientv3.OpDelete(setsPrefix+v.ID+"/", clientv3.WithPrefix()),
	}
}

// writeHave records what a brick is, while its volume lives. It may be called
// again after an error, though the record may be written by then: one that is as
// it should be stays as it is, for a write of it would make a new map.
func (d *daemon) writeHave(ctx context.Context, o order, h haveRecord) error {
	key := haveKey(o.volume.ID, o.brick.ID)
	d.cfg.step("have " + string(h.Is))
	c := d.store.Client()
	ctx, end := whileCurrent(ctx, d.store, c)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), ">", 0), clientv3.Compare(clientv3.Value(key), "!=", encode(h))).
		Then(clientv3.OpPut(key, encode(h))).Commit()
	return err
}
