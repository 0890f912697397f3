package manage

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// Bounds of waiting.
const (
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
	return changeAlways(ctx, d, volume, func(ctx context.Context) (T, error) {
		var zero T
		if _, err := d.fresh(ctx); err != nil { // a store without a majority refuses at once
			return zero, err
		}
		if err := d.attended(ctx); err != nil {
			return zero, err
		}
		if err := d.finishLeftover(ctx, volume); err != nil {
			return zero, err
		}
		return f(ctx)
	})
}

// changeAlways is change for what does not need the store to answer.
func changeAlways[T any](ctx context.Context, d *daemon, volume string, f func(context.Context) (T, error)) (T, error) {
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

// finishLeftover finishes the volume's task if there is one that nobody is at
// work on. Its outcome is not this caller's affair; only if it is there still
// is that an error.
func (d *daemon) finishLeftover(ctx context.Context, volume string) error {
	snap, err := d.fresh(ctx)
	if err != nil {
		return err
	}
	if snap.tasks[volume] == nil {
		return nil
	}
	if d.take(ctx, snap, volume) {
		_ = d.finish(ctx, volume)
	}
	if d.view.now().tasks[volume] != nil {
		return busy(volume)
	}
	return nil
}

// take makes a task this daemon's own that is its own or nobody's: whose daemon
// is not there any more, or was restarted. Of several daemons that try, one succeeds.
func (d *daemon) take(ctx context.Context, snap *snapshot, volume string) bool {
	t := snap.tasks[volume]
	switch {
	case t == nil:
		return false
	case t.Server == d.id() && t.Boot == d.boot:
		return true
	case t.Server != d.id() && snap.alive[t.Server] == t.Boot:
		return false
	}
	mine := *t
	mine.Server, mine.Boot = d.id(), d.boot
	_, err := d.commit(ctx, "take over", []clientv3.Cmp{hasTask(t)}, putTask(&mine))
	if err == nil {
		d.log.Info("taking over a task", "kind", t.Kind, "volume", volume, "from", t.Server)
	}
	return err == nil
}

// resume finishes, at the daemon's start and whenever one was left, the tasks
// that nobody is at work on.
func (d *daemon) resume(ctx context.Context) {
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for ctx.Err() == nil {
		snap, changed := d.view.next()
		left := false
		if snap.stale.IsZero() && snap.alive[d.id()] == d.boot {
			for name, t := range snap.tasks {
				if t.Server == d.id() || snap.alive[t.Server] != t.Boot {
					left = d.resumeOne(ctx, name) || left
				}
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
	if !d.take(ctx, d.view.now(), volume) {
		return d.view.now().tasks[volume] != nil
	}
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

// newTask makes the record of a change.
func (d *daemon) newTask(kind string, v *volumeRecord, force bool) *taskRecord {
	return &taskRecord{
		V: recordVersion, ID: newUUID(), Kind: kind, Volume: v.Name, VolumeID: v.ID,
		Server: d.id(), Boot: d.boot, Force: force, Begun: time.Now().UTC().Truncate(time.Second),
	}
}

// finish carries the volume's task, which is this daemon's, on to its end,
// whoever began it and however far it got. The caller has the volume's turn.
// The error is the task's outcome.
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
	err := d.carryOn(ctx, t, v)
	if err == errConflict || err == errTaken {
		d.log.Warn("another daemon carries on a task of this one", "kind", t.Kind, "volume", volume)
		return refuse("Another server carries the change of volume %s on, for this one was away for a moment; see `mortar volume info %s`.", volume, volume)
	}
	return err
}

func (d *daemon) carryOn(ctx context.Context, t *taskRecord, v *volumeRecord) error {
	switch t.Kind {
	case kindCreate:
		return d.finishCreate(ctx, t, v)
	case kindStart:
		return d.finishStart(ctx, t, v)
	case kindStop:
		return d.finishStop(ctx, t, v)
	case kindDelete:
		return d.finishDelete(ctx, t, v)
	case kindReplace, kindRenew:
		return d.finishReplace(ctx, t, v)
	case kindReset:
		return d.finishReset(ctx, t, v)
	}
	return fmt.Errorf("task %s of volume %s has the unknown kind %q: it is a newer release's", t.ID, v.Name, t.Kind)
}
