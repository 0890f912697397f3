package manage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of asking the store.
const (
	loadTimeout = 5 * time.Second        // all records
	loadPause   = 300 * time.Millisecond // before that is tried again
	askAttempt  = 600 * time.Millisecond // of one question to one voter
	askAttempts = 2
)

// view keeps the newest snapshot. It begins with the last one that an earlier
// life of the daemon has kept, if there is one, and is brought up to date as
// soon as the store answers; after that a watch keeps it up. When the store is
// another (the daemon joined or left a pool) it begins anew.
type view struct {
	store source
	log   *slog.Logger
	mu    struct {
		sync.Mutex
		snap    *snapshot
		changed chan struct{} // closed and replaced at each change
		loads   uint64        // readings of all records that were begun
		anew    chan struct{} // closed and replaced to have them read anew
	}
}

// source is the store as far as the view needs it. Its client is replaced now
// and then; calls on one that was replaced would be tried again for seconds.
type source interface {
	Client() *clientv3.Client
	Changed() <-chan struct{}
}

// whileCurrent returns a context that also ends when c is the store's client no
// more. The function must be called.
func whileCurrent(ctx context.Context, st source, c *clientv3.Client) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := st.Changed()
			if st.Client() != c {
				cancel()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// newView returns a view that knows s, which may be nil: nothing. Its goroutine is follow.
func newView(store source, s *snapshot, log *slog.Logger) *view {
	if s == nil {
		s = unknown()
	}
	v := &view{store: store, log: log}
	v.mu.changed, v.mu.anew = make(chan struct{}), make(chan struct{})
	v.mu.snap = s
	return v
}

// unknown is the snapshot of who knows nothing.
func unknown() *snapshot {
	s := newSnapshot(0)
	s.stale = time.Now()
	return s
}

// load reads all records at one revision. Records that can't be read are an
// error: nothing may be decided without them.
func load(ctx context.Context, c *clientv3.Client, opts ...clientv3.OpOption) (*snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	r, err := c.Get(ctx, root, append(opts, clientv3.WithPrefix())...)
	if err != nil {
		return nil, err
	}
	records := make(map[string]rawRecord, len(r.Kvs))
	for _, kv := range r.Kvs {
		records[string(kv.Key)] = rawRecord{kv.Value, kv.ModRevision}
	}
	return snapshotOf(r.Header.Revision, records)
}

// readOwn makes what this server's own member has on disk the last known state,
// if that is newer: it needs no majority. Without a member nothing happens.
func (v *view) readOwn(ctx context.Context) {
	s, err := load(ctx, v.store.Client(), clientv3.WithSerializable())
	if err != nil {
		return
	}
	s.stale = time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.mu.snap; !old.stale.IsZero() && (s.epoch.Incarnation > old.epoch.Incarnation || s.epoch.Incarnation == old.epoch.Incarnation && s.revision > old.revision) {
		v.set(s)
	}
}

// follow keeps the view up to date until ctx ends.
func (v *view) follow(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	quiet := false
	for ctx.Err() == nil {
		c := v.store.Client()
		told, err := v.followOne(ctx, c)
		if ctx.Err() != nil {
			return
		}
		quiet = quiet && !told
		if c != v.store.Client() {
			continue
		}
		level := slog.LevelDebug
		if !quiet {
			level, quiet = slog.LevelWarn, true
		}
		v.log.Log(ctx, level, "the configuration can't be followed, going on with what is known", "error", err)
		pause.Reset(loadPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// followOne reads all records with c and watches them until that ends. told: it
// got as far as to know them.
func (v *view) followOne(ctx context.Context, c *clientv3.Client) (told bool, err error) {
	ctx, cancel := whileCurrent(ctx, v.store, c)
	defer cancel()
	v.mu.Lock()
	v.mu.loads++
	begun, anew := v.mu.loads, v.mu.anew
	v.mu.Unlock()
	s, err := load(ctx, c)
	if err != nil {
		return false, err
	}
	s.from, s.load = c, begun
	if !v.publish(s, anew) {
		return false, nil
	}
	return true, v.watch(ctx, c, s, anew)
}

// watch applies changes to s as they come. It ends with an error.
func (v *view) watch(ctx context.Context, c *clientv3.Client, s *snapshot, anew chan struct{}) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// All keys there are: a revision that something else raised must be reached too.
	changes := c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(s.revision+1))
	for {
		var r clientv3.WatchResponse
		ok := false
		select {
		case r, ok = <-changes:
		case <-anew:
			return errAnew
		}
		switch {
		case !ok:
			return errors.New("the watch was closed")
		case r.Err() != nil:
			return r.Err()
		case len(r.Events) == 0:
			continue
		}
		s = s.clone()
		// Not the header's revision: of a watch that lags behind it is ahead of the events.
		s.revision = r.Events[len(r.Events)-1].Kv.ModRevision
		for _, e := range r.Events {
			if e.Type == mvccpb.Event_DELETE {
				s.drop(string(e.Kv.Key))
			} else if err := s.put(string(e.Kv.Key), rawRecord{e.Kv.Value, e.Kv.ModRevision}); err != nil {
				v.log.Error("a record that can't be read is left out", "error", err)
			}
		}
		if !v.publish(s, anew) {
			return errAnew
		}
	}
}

// errAnew ends a watch of a store that is ours no more.
var errAnew = errors.New("the store is another")

// publish makes s the newest snapshot, unless it is of a store that is ours no more.
func (v *view) publish(s *snapshot, anew chan struct{}) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.from != v.store.Client() || anew != v.mu.anew {
		return false
	}
	v.set(s)
	return true
}

// forget begins anew: the store is another.
func (v *view) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.mu.anew)
	v.mu.anew = make(chan struct{})
	v.set(unknown())
}

// set needs mu.
func (v *view) set(s *snapshot) {
	v.mu.snap = s
	close(v.mu.changed)
	v.mu.changed = make(chan struct{})
}

// now returns the newest snapshot.
func (v *view) now() *snapshot {
	s, _ := v.next()
	return s
}

// next returns the newest snapshot and a channel that is closed when there is a newer one.
func (v *view) next() (*snapshot, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.snap, v.mu.changed
}

// until waits for a snapshot for which done is true.
func (v *view) until(ctx context.Context, done func(*snapshot) bool) (*snapshot, error) {
	for {
		s, changed := v.next()
		if done(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-changed:
		}
	}
}

// reached waits for a snapshot that shows what the client c has just said is
// revision r: from its watch, or read anew since.
func (v *view) reached(ctx context.Context, c *clientv3.Client, r int64) (*snapshot, error) {
	v.mu.Lock()
	loads := v.mu.loads
	v.mu.Unlock()
	return v.until(ctx, func(s *snapshot) bool {
		return s.stale.IsZero() && (s.from == c && s.revision >= r || s.load > loads)
	})
}

// written is reached for what the client c has written. c may be exchanged for another one at any moment, also before the call,
// and the records read by that one already: nothing new need come then, and the store is asked what there is.
func (v *view) written(ctx context.Context, c *clientv3.Client, r int64) (*snapshot, error) {
	current, end := whileCurrent(ctx, v.store, c)
	s, err := v.reached(current, c, r)
	end()
	if err == nil || ctx.Err() != nil {
		return s, err
	}
	return v.fresh(ctx)
}

// fresh returns a snapshot that holds all that any daemon had written before
// the call. A question that one voter leaves unanswered goes to another.
func (v *view) fresh(ctx context.Context) (*snapshot, error) {
	var err error
	for range askAttempts {
		c := v.store.Client()
		attempt, end := whileCurrent(ctx, v.store, c)
		attempt, cancel := context.WithTimeout(attempt, askAttempt)
		var r *clientv3.GetResponse
		if r, err = c.Get(attempt, optionsKey, clientv3.WithCountOnly()); err == nil {
			// The revision of the last change anywhere; the view only hears of changes
			// below root, and what else is written it reads past.
			var s *snapshot
			if s, err = v.reached(attempt, c, r.Header.Revision); err == nil {
				cancel()
				end()
				return s, nil
			}
		}
		cancel()
		end()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, err
}
