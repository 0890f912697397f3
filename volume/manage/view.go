package manage

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// snapshot is all records at one revision. It is never changed once published.
type snapshot struct {
	revision int64
	volumes  map[string]*volumeRecord          // by name
	have     map[string]map[string]*haveRecord // by volume's and brick's UUID
	tasks    map[string]*taskRecord            // by volume's name
	servers  map[string]*serverRecord          // by UUID
	cluster  *clusterRecord
	version  map[string]uint64 // by volume's UUID: the version of its map
}

func newSnapshot(revision int64) *snapshot {
	return &snapshot{
		revision: revision,
		volumes:  map[string]*volumeRecord{},
		have:     map[string]map[string]*haveRecord{},
		tasks:    map[string]*taskRecord{},
		servers:  map[string]*serverRecord{},
		cluster:  &clusterRecord{},
		version:  map[string]uint64{},
	}
}

// volume returns the volume of a name if anybody should see it, else nil.
func (s *snapshot) volume(name string) *volumeRecord {
	if v := s.volumes[name]; v.visible() {
		return v
	}
	return nil
}

// haveOf returns what a brick is; absent if nothing was ever written.
func (s *snapshot) haveOf(volume, brick string) haveRecord {
	if h := s.have[volume][brick]; h != nil {
		return *h
	}
	return haveRecord{}
}

// clone copies the maps, not the records.
func (s *snapshot) clone() *snapshot {
	c := *s
	c.volumes, c.tasks, c.servers = maps.Clone(s.volumes), maps.Clone(s.tasks), maps.Clone(s.servers)
	c.have, c.version = maps.Clone(s.have), maps.Clone(s.version)
	return &c
}

// put applies a record; s is not published yet.
func (s *snapshot) put(kv *mvccpb.KeyValue) error {
	key := string(kv.Key)
	switch {
	case strings.HasPrefix(key, volumesPrefix):
		v := &volumeRecord{}
		if err := decode(kv.Value, key, v); err != nil {
			return err
		}
		s.volumes[strings.TrimPrefix(key, volumesPrefix)] = v
		s.version[v.ID] = max(s.version[v.ID], uint64(kv.ModRevision))
	case strings.HasPrefix(key, havePrefix):
		h := &haveRecord{}
		if err := decode(kv.Value, key, h); err != nil {
			return err
		}
		volume, brick, _ := splitHave(key)
		m := maps.Clone(s.have[volume])
		if m == nil {
			m = map[string]*haveRecord{}
		}
		m[brick] = h
		s.have[volume] = m
		s.version[volume] = max(s.version[volume], uint64(kv.ModRevision))
	case strings.HasPrefix(key, tasksPrefix):
		t := &taskRecord{}
		if err := decode(kv.Value, key, t); err != nil {
			return err
		}
		s.tasks[strings.TrimPrefix(key, tasksPrefix)] = t
	case strings.HasPrefix(key, serversPrefix):
		r := &serverRecord{}
		if err := decode(kv.Value, key, r); err != nil {
			return err
		}
		s.servers[strings.TrimPrefix(key, serversPrefix)] = r
	case key == optionsKey:
		c := &clusterRecord{}
		if err := decode(kv.Value, key, c); err != nil {
			return err
		}
		s.cluster = c
	}
	return nil
}

// drop applies the removal of a record; s is not published yet.
func (s *snapshot) drop(key string) {
	switch {
	case strings.HasPrefix(key, volumesPrefix):
		name := strings.TrimPrefix(key, volumesPrefix)
		if v := s.volumes[name]; v != nil {
			delete(s.version, v.ID)
		}
		delete(s.volumes, name)
	case strings.HasPrefix(key, havePrefix):
		volume, brick, _ := splitHave(key)
		if m := maps.Clone(s.have[volume]); m != nil {
			delete(m, brick)
			if s.have[volume] = m; len(m) == 0 {
				delete(s.have, volume)
				delete(s.version, volume)
			}
		}
	case strings.HasPrefix(key, tasksPrefix):
		delete(s.tasks, strings.TrimPrefix(key, tasksPrefix))
	case strings.HasPrefix(key, serversPrefix):
		delete(s.servers, strings.TrimPrefix(key, serversPrefix))
	case key == optionsKey:
		s.cluster = &clusterRecord{}
	}
}

// view keeps the newest snapshot.
type view struct {
	client *clientv3.Client
	log    *slog.Logger
	mu     struct {
		sync.Mutex
		snap    *snapshot
		changed chan struct{} // closed and replaced at each change
	}
}

// openView reads all records. Its goroutine is follow.
func openView(ctx context.Context, c *clientv3.Client, log *slog.Logger) (*view, error) {
	v := &view{client: c, log: log}
	v.mu.changed = make(chan struct{})
	s, err := v.load(ctx)
	if err != nil {
		return nil, err
	}
	v.mu.snap = s
	return v, nil
}

// load reads all records at one revision. Records that can't be read are an
// error: nothing may be decided without them.
func (v *view) load(ctx context.Context) (*snapshot, error) {
	r, err := v.client.Get(ctx, root, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	s := newSnapshot(r.Header.Revision)
	for _, kv := range r.Kvs {
		if err := s.put(kv); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// follow keeps the view up to date until ctx ends.
func (v *view) follow(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for ctx.Err() == nil {
		err := v.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		v.log.Warn("the watch of the configuration ended, reading it anew", "error", err)
		retry.Reset(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
		if s, err := v.load(ctx); err == nil {
			v.publish(s)
		}
	}
}

func (v *view) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range v.client.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(v.now().revision+1)) {
		if err := r.Err(); err != nil {
			return err
		}
		if len(r.Events) == 0 {
			continue
		}
		s := v.now().clone()
		// Not the header's revision: of a watch that lags behind it is ahead of the events.
		s.revision = r.Events[len(r.Events)-1].Kv.ModRevision
		for _, e := range r.Events {
			if e.Type == mvccpb.Event_DELETE {
				s.drop(string(e.Kv.Key))
			} else if err := s.put(e.Kv); err != nil {
				v.log.Error("a record that can't be read is left out", "error", err)
			}
		}
		v.publish(s)
	}
	return fmt.Errorf("the watch was closed")
}

func (v *view) publish(s *snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
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

// reached waits for a snapshot of the revision or a newer one.
func (v *view) reached(ctx context.Context, revision int64) (*snapshot, error) {
	return v.until(ctx, func(s *snapshot) bool { return s.revision >= revision })
}

// fresh returns a snapshot that holds all that any daemon had written before the call.
func (v *view) fresh(ctx context.Context) (*snapshot, error) {
	r, err := v.client.Get(ctx, optionsKey, clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	// The revision of the last change anywhere; the view only hears of changes below
	// root, but nothing else is ever written.
	return v.reached(ctx, r.Header.Revision)
}
