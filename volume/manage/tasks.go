package manage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// Bounds of waiting.
const (
	storeTimeout = 10 * time.Second // for one transaction
	queueTimeout = 60 * time.Second // for the changes of a volume that came before
	resumePause  = 2 * time.Second  // before a task that could not be finished is tried again
)

// tasks lets the changes of each volume through one at a time.
type tasks struct {
	mu struct {
		sync.Mutex
		queues map[string]*queue // by volume's name
	}
}

type queue struct {
	token chan struct{} // holds one while nobody is in
	users int           // in or waiting; guarded by tasks.mu
}

func newTasks() *tasks {
	t := &tasks{}
	t.mu.queues = map[string]*queue{}
	return t
}

// enter waits for the volume's turn. leave must be called after a nil error.
func (t *tasks) enter(ctx context.Context, volume string) (leave func(), err error) {
	t.mu.Lock()
	q := t.mu.queues[volume]
	if q == nil {
		q = &queue{token: make(chan struct{}, 1)}
		q.token <- struct{}{}
		t.mu.queues[volume] = q
	}
	q.users++
	t.mu.Unlock()
	quit := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if q.users--; q.users == 0 {
			delete(t.mu.queues, volume)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	select {
	case <-q.token:
		return func() { q.token <- struct{}{}; quit() }, nil
	case <-ctx.Done():
		quit()
		return nil, busy(volume)
	}
}

func busy(volume string) error {
	return refuse("Another transaction is in progress for %s. Please try again after some time.", volume)
}

// change runs f, which changes a volume, in its turn, and waits for it. The
// daemon, not the request, owns f's goroutine: who goes away stops nothing.
// Before f a task that was left over is finished.
func change[T any](ctx context.Context, d *daemon, volume string, f func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := d.ready(ctx); err != nil {
		return zero, err
	}
	if err := d.dir.checkSpace(); err != nil {
		return zero, refuse("%v", err)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	own := context.WithoutCancel(ctx)
	if !d.spawn(func(life context.Context) {
		own, cancel := context.WithCancel(own)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		var r result
		defer func() { done <- r }()
		leave, err := d.tasks.enter(own, volume)
		if err != nil {
			r.err = err
			return
		}
		defer leave()
		if err := d.finishLeftover(own, volume); err != nil {
			r.err = err
			return
		}
		r.value, r.err = f(own)
	}) {
		return zero, errEnding
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

var errEnding = api.Errorf(api.ErrGeneric, "The daemon is ending.")

// finishLeftover finishes the volume's task if there is one. Its outcome is not
// this caller's affair; only if it is there still is that an error.
func (d *daemon) finishLeftover(ctx context.Context, volume string) error {
	snap, err := d.fresh(ctx)
	if err != nil {
		return err
	}
	t := snap.tasks[volume]
	if t == nil {
		return nil
	}
	if t.Server != d.dir.id {
		return busy(volume)
	}
	_ = d.finish(ctx, t.Volume)
	if d.view.now().tasks[volume] != nil {
		return busy(volume)
	}
	return nil
}

// resume finishes, at the daemon's start and whenever one was left, the tasks
// of this daemon that nobody is at work on.
func (d *daemon) resume(ctx context.Context) {
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for ctx.Err() == nil {
		snap, changed := d.view.next()
		left := false
		for name, t := range snap.tasks {
			if t.Server == d.dir.id {
				left = d.resumeOne(ctx, name) || left
			}
		}
		next := forever
		if left {
			next = resumePause
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
	}
}

// resumeOne finishes a task unless somebody has the volume's turn, and reports
// whether there may be one left.
func (d *daemon) resumeOne(ctx context.Context, volume string) (left bool) {
	leave, ok := d.tasks.tryEnter(volume)
	if !ok {
		return true
	}
	defer leave()
	t := d.view.now().tasks[volume]
	if t == nil {
		return false
	}
	d.log.Info("finishing a task that was left", "kind", t.Kind, "volume", volume)
	if err := d.finish(ctx, volume); err != nil && ctx.Err() == nil {
		d.log.Warn("a task that was left did not succeed", "kind", t.Kind, "volume", volume, "error", err)
	}
	return d.view.now().tasks[volume] != nil
}

// tryEnter is enter without waiting.
func (t *tasks) tryEnter(volume string) (leave func(), ok bool) {
	t.mu.Lock()
	busy := t.mu.queues[volume] != nil
	t.mu.Unlock()
	if busy {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	leave, err := t.enter(ctx, volume)
	return leave, err == nil
}

// commit carries out a transaction and waits until the view shows it. The
// error is errConflict if a condition did not hold.
func (d *daemon) commit(ctx context.Context, step string, conditions []clientv3.Cmp, ops ...clientv3.Op) (*snapshot, error) {
	d.cfg.step(step)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := d.store.client.Txn(ctx).If(conditions...).Then(ops...).Commit()
	if err != nil {
		return nil, storeTrouble(err)
	}
	snap, err := d.view.reached(ctx, r.Header.Revision)
	if err != nil {
		return nil, storeTrouble(err)
	}
	if !r.Succeeded {
		return snap, errConflict
	}
	d.cfg.step(step + " done")
	return snap, nil
}

// errConflict is a transaction whose conditions did not hold.
var errConflict = errors.New("the configuration was changed by another")

// storeTrouble is the sentence about a store that did not do as it was asked.
func storeTrouble(err error) error {
	if errors.Is(err, context.Canceled) {
		return errEnding
	}
	return refuse("The configuration store does not answer: %v.", err)
}

// fresh is view.fresh with a bound and a sentence.
func (d *daemon) fresh(ctx context.Context) (*snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s, err := d.view.fresh(ctx)
	if err != nil {
		return nil, storeTrouble(err)
	}
	return s, nil
}

// newTask makes the record of a change.
func (d *daemon) newTask(kind string, v *volumeRecord, force bool) *taskRecord {
	return &taskRecord{
		V: recordVersion, ID: newUUID(), Kind: kind, Volume: v.Name, VolumeID: v.ID,
		Server: d.dir.id, Force: force, Begun: time.Now().UTC().Truncate(time.Second),
	}
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
	}
}

// writeHave records what a brick is, while its volume lives.
func (d *daemon) writeHave(ctx context.Context, o order, h haveRecord) error {
	key := haveKey(o.volume.ID, o.brick.ID)
	d.cfg.step("have " + string(h.Is))
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := d.store.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), ">", 0)).
		Then(clientv3.OpPut(key, encode(h))).Commit()
	return err
}

// finish carries the volume's task on to its end, whoever began it and however
// far it got. The caller has the volume's turn. The error is the task's outcome.
func (d *daemon) finish(ctx context.Context, volume string) error {
	snap := d.view.now()
	t, v := snap.tasks[volume], snap.volumes[volume]
	switch {
	case t == nil:
		return nil
	case v == nil || v.ID != t.VolumeID: // can't be: they are changed together
		_, err := d.commit(ctx, "drop task", []clientv3.Cmp{hasTask(t)}, endTask(t))
		return err
	}
	switch t.Kind {
	case kindCreate:
		return d.finishCreate(ctx, t, v)
	case kindStart:
		return d.finishStart(ctx, t, v)
	case kindStop:
		return d.finishStop(ctx, t, v)
	case kindDelete:
		return d.finishDelete(ctx, t, v)
	}
	return fmt.Errorf("task %s of volume %s has the unknown kind %q: it is a newer release's", t.ID, volume, t.Kind)
}

// awaitBricks waits until each brick of the volume has answered the
// generation. It returns the first that failed, nil if none did; the error says
// which brick has not answered when the bound was reached.
func (d *daemon) awaitBricks(ctx context.Context, v *volumeRecord, bound time.Duration) (*brickFailure, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	want := v.want()
	var waiting *brickRecord
	var failure *brickFailure
	_, err := d.view.until(ctx, func(s *snapshot) bool {
		waiting, failure = nil, nil
		for i := range v.Bricks {
			b := &v.Bricks[i]
			h := s.haveOf(v.ID, b.ID)
			switch {
			case h.Generation < v.Generation:
				waiting = b
			case h.Is == failed || h.Is == down:
				if failure == nil {
					failure = &brickFailure{*b, h.Error}
				}
			case h.Is != want:
				waiting = b
			}
		}
		return waiting == nil
	})
	if err == nil {
		return failure, nil
	}
	if errors.Is(err, context.Canceled) {
		return nil, errEnding
	}
	return &brickFailure{*waiting, "no answer within " + bound.String()}, nil
}

// brickFailure is a brick that did not become what it should.
type brickFailure struct {
	brick brickRecord
	text  string
}
