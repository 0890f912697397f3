package dht

import (
	"encoding/binary"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/mortarfs/mortar/volume"
)

// idCache is a bounded map from IDs to small values. When a shard is full a
// few entries, whichever the runtime's map order brings up, make room.
type idCache[V any] struct {
	shards [16]struct {
		mu struct {
			sync.RWMutex
			m map[volume.ID]V
		}
	}
}

// cacheMax bounds an idCache: 16 Ki entries, some 640 KiB.
const cacheMax = 1 << 14

func (c *idCache[V]) get(id volume.ID) (V, bool) {
	s := &c.shards[cacheHash(id)%16]
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.mu.m[id]
	return v, ok
}

func (c *idCache[V]) put(id volume.ID, v V) {
	s := &c.shards[cacheHash(id)%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.m == nil {
		s.mu.m = map[volume.ID]V{}
	}
	if len(s.mu.m) >= cacheMax/16 {
		n := 0
		for old := range s.mu.m {
			delete(s.mu.m, old)
			if n++; n == 16 {
				break
			}
		}
	}
	s.mu.m[id] = v
}

// nameID makes a key of an idCache of a name in a directory.
func nameID(dir volume.ID, name string) volume.ID {
	binary.LittleEndian.PutUint64(dir[:], binary.LittleEndian.Uint64(dir[:])^xxhash.Sum64String(name))
	return dir
}

func (c *idCache[V]) drop(id volume.ID) {
	s := &c.shards[cacheHash(id)%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.m, id)
}
