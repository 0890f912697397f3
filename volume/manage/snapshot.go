package manage

import (
	"fmt"
	"maps"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// rawRecord is a record as it is stored.
type rawRecord struct {
	value    []byte // never changed
	revision int64  // of its last change
}

// snapshot is all records at one revision. It is never changed once published.
type snapshot struct {
	revision int64
	stale    time.Time                         // not zero: the last known state, of this time; zero: the store's own word
	from     *clientv3.Client                  // that it was read with; nil: from a file
	load     uint64                            // which reading of all records it began with
	raw      map[string]rawRecord              // by key: the others are read from these
	volumes  map[string]*volumeRecord          // by name
	have     map[string]map[string]*haveRecord // by volume's and brick's UUID
	sets     map[setRef]*setRecord             // of sets of several members
	tasks    map[string]*taskRecord            // by volume's name
	servers  map[string]*serverRecord          // by UUID
	alive    map[string]string                 // by server's UUID: which life of it is there
	control  string                            // UUID of the daemon that adjusts the voters; "" none
	cluster  *clusterRecord
	epoch    *epochRecord
	changed  map[string]int64 // by UUID of a volume: the newest revision of it, its sets' and its bricks' have records; of a server: of its record
}

// setRef names a set of a volume, by the volume's UUID.
type setRef struct {
	volume string
	set    volume.SetID
}

func newSnapshot(revision int64) *snapshot {
	return &snapshot{
		revision: revision,
		raw:      map[string]rawRecord{},
		volumes:  map[string]*volumeRecord{},
		have:     map[string]map[string]*haveRecord{},
		sets:     map[setRef]*setRecord{},
		tasks:    map[string]*taskRecord{},
		servers:  map[string]*serverRecord{},
		alive:    map[string]string{},
		cluster:  &clusterRecord{},
		epoch:    &epochRecord{},
		changed:  map[string]int64{},
	}
}

// volume returns the volume of a name if anybody should see it, else nil.
func (s *snapshot) volume(name string) *volumeRecord {
	if v := s.volumes[name]; v.visible() {
		return v
	}
	return nil
}

// volumeOf returns the volume with a UUID if anybody should see it, else nil.
func (s *snapshot) volumeOf(id string) *volumeRecord {
	for _, v := range s.volumes {
		if v.ID == id && v.visible() {
			return v
		}
	}
	return nil
}

// stateOf returns the state of a set of several members; of a set of one it is empty.
func (s *snapshot) stateOf(id string, set volume.SetID) spec.SetState {
	if r := s.sets[setRef{id, set}]; r != nil {
		return r.State
	}
	return spec.SetState{}
}

// haveOf returns what a brick is; absent if nothing was ever written.
func (s *snapshot) haveOf(volume, brick string) haveRecord {
	if h := s.have[volume][brick]; h != nil {
		return *h
	}
	return haveRecord{}
}

// mapVersion is the version of a volume's map: the newest revision of what it
// is made of, above the cluster's base, so that it never goes back.
func (s *snapshot) mapVersion(v *volumeRecord) uint64 {
	newest := s.changed[v.ID]
	for _, b := range v.Bricks {
		newest = max(newest, s.changed[b.Server])
	}
	return s.epoch.MapBase + uint64(newest)
}

// clone copies the maps, not the records.
func (s *snapshot) clone() *snapshot {
	c := *s
	c.raw = maps.Clone(s.raw)
	c.volumes, c.tasks, c.servers = maps.Clone(s.volumes), maps.Clone(s.tasks), maps.Clone(s.servers)
	c.have, c.changed, c.alive, c.sets = maps.Clone(s.have), maps.Clone(s.changed), maps.Clone(s.alive), maps.Clone(s.sets)
	return &c
}

// put applies a record; s is not published yet.
func (s *snapshot) put(key string, r rawRecord) error {
	if !strings.HasPrefix(key, root) {
		return nil // not ours
	}
	kind, name := splitKey(key)
	var err error
	switch kind {
	case volumesPrefix:
		v := &volumeRecord{}
		if err = decode(r.value, key, v); err == nil {
			s.volumes[name] = v
			s.changed[v.ID] = max(s.changed[v.ID], r.revision)
		}
	case havePrefix:
		h := &haveRecord{}
		if err = decode(r.value, key, h); err == nil {
			volume, brick, _ := splitHave(key)
			m := maps.Clone(s.have[volume])
			if m == nil {
				m = map[string]*haveRecord{}
			}
			m[brick] = h
			s.have[volume] = m
			s.changed[volume] = max(s.changed[volume], r.revision)
		}
	case setsPrefix:
		state := &setRecord{}
		if err = decode(r.value, key, state); err == nil {
			id, set := splitSet(key)
			s.sets[setRef{id, set}] = state
			s.changed[id] = max(s.changed[id], r.revision)
		}
	case tasksPrefix:
		t := &taskRecord{}
		if err = decode(r.value, key, t); err == nil {
			s.tasks[name] = t
		}
	case serversPrefix:
		v := &serverRecord{}
		if err = decode(r.value, key, v); err == nil {
			s.servers[name] = v
			s.changed[name] = r.revision
		}
	case alivePrefix:
		s.alive[name] = string(r.value)
	case controlKey:
		s.control = string(r.value)
	case optionsKey:
		c := &clusterRecord{}
		if err = decode(r.value, key, c); err == nil {
			s.cluster = c
		}
	case epochKey:
		e := &epochRecord{}
		if err = decode(r.value, key, e); err == nil {
			s.epoch = e
		}
	}
	if err != nil {
		return err
	}
	s.raw[key] = r
	return nil
}

// drop applies the removal of a record; s is not published yet.
func (s *snapshot) drop(key string) {
	delete(s.raw, key)
	switch kind, name := splitKey(key); kind {
	case volumesPrefix:
		if v := s.volumes[name]; v != nil {
			delete(s.changed, v.ID)
		}
		delete(s.volumes, name)
	case havePrefix:
		volume, brick, _ := splitHave(key)
		if m := maps.Clone(s.have[volume]); m != nil {
			delete(m, brick)
			if s.have[volume] = m; len(m) == 0 {
				delete(s.have, volume)
				delete(s.changed, volume)
			}
		}
	case setsPrefix:
		id, set := splitSet(key)
		delete(s.sets, setRef{id, set})
	case tasksPrefix:
		delete(s.tasks, name)
	case serversPrefix:
		delete(s.servers, name)
		delete(s.changed, name)
	case alivePrefix:
		delete(s.alive, name)
	case controlKey:
		s.control = ""
	case optionsKey:
		s.cluster = &clusterRecord{}
	case epochKey:
		s.epoch = &epochRecord{}
	}
}

// splitKey tells what kind of record a key is of, and its name.
func splitKey(key string) (kind, name string) {
	for _, p := range []string{volumesPrefix, havePrefix, setsPrefix, tasksPrefix, serversPrefix, alivePrefix} {
		if name, ok := strings.CutPrefix(key, p); ok {
			return p, name
		}
	}
	return key, ""
}

// snapshotOf reads records.
func snapshotOf(revision int64, records map[string]rawRecord) (*snapshot, error) {
	s := newSnapshot(revision)
	for key, r := range records {
		if err := s.put(key, r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// epochRecord says which cluster the records are of, and in which of its lives.
type epochRecord struct {
	V           int    `json:"v"`
	Cluster     string `json:"cluster"`           // UUID
	Incarnation uint64 `json:"incarnation"`       // raised by each recover and restore; from 1
	MapBase     uint64 `json:"mapBase,omitempty"` // added to revisions for maps' versions: they never go back
}

func (e *epochRecord) String() string { return fmt.Sprintf("%s.%d", e.Cluster, e.Incarnation) }
