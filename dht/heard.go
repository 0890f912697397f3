package dht

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// heard remembers for a moment what the sets said of directories. The kernel
// asks for a directory's attributes again after each change that it makes in
// it, and then one set knows something new, the owner of the name: the others
// need not be asked each time, and it tells with its answer. What another client changes is seen that moment
// later; what this one changes it forgets here before the change is answered.
type heard struct {
	believe time.Duration // how long; 0: nothing is remembered
	age     atomic.Uint64 // counts forgetAll
	shards  [16]heardShard
}

type heardShard struct {
	sync.Mutex
	m map[volume.ID]*said // guarded
}

// heardMax bounds the directories remembered.
const heardMax = 1 << 12

// said is what was said of one directory.
type said struct {
	since time.Time // of the oldest answer in parts
	age   uint64    // heard.age when parts were said
	turn  uint64    // grows when something is forgotten or changed: an answer to an older question is not kept
	lost  uint64    // grows when something is forgotten: nor is what a change from before told
	parts map[volume.SetID]volume.Attr

	// scattered: some of its names were seen to be pointers, so a change of one
	// may concern several sets.
	scattered bool
}

func (h *heard) shard(id volume.ID) *heardShard { return &h.shards[cacheHash(id)%16] }

// of returns what is said of a directory; the shard is locked.
func (mu *heardShard) of(id volume.ID) *said {
	if s := mu.m[id]; s != nil {
		return s
	}
	if mu.m == nil {
		mu.m = map[volume.ID]*said{}
	}
	if len(mu.m) >= heardMax/16 {
		for old := range mu.m { // any one: its like comes up again soon enough
			delete(mu.m, old)
			break
		}
	}
	s := &said{}
	mu.m[id] = s
	return s
}

func (s *said) forget() {
	s.parts = nil
	s.turn++
	s.lost++
}

// ask returns what is still believed of a directory, to be completed by
// asking, and the turn to come back with. parts is the caller's.
func (h *heard) ask(id volume.ID) (parts map[volume.SetID]volume.Attr, turn uint64) {
	parts = map[volume.SetID]volume.Attr{}
	if h.believe == 0 {
		return parts, 0
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	s := mu.of(id)
	if h.old(s) {
		s.forget()
	}
	maps.Copy(parts, s.parts)
	return parts, s.turn
}

// knows reports whether the set's word on a directory is still believed.
func (h *heard) knows(id volume.ID, set volume.SetID) bool {
	if h.believe == 0 {
		return false
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	s := mu.m[id]
	if s == nil || h.old(s) {
		return false
	}
	_, ok := s.parts[set]
	return ok
}

// tell remembers the answers to a question of that turn.
func (h *heard) tell(id volume.ID, turn uint64, began time.Time, parts map[volume.SetID]volume.Attr) {
	if h.believe == 0 {
		return
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	s := mu.m[id]
	if s == nil || s.turn != turn || s.age != h.age.Load() {
		return
	}
	if s.parts == nil {
		s.since = began
	}
	s.parts = parts
}

// old reports whether nothing is believed any more, and if so makes ready for
// new answers. The shard is locked.
func (h *heard) old(s *said) bool {
	if age := h.age.Load(); s.age != age {
		s.age, s.since = age, time.Time{}
	}
	return time.Since(s.since) > h.believe
}

// forgetAll drops everything: a directory was removed, and which is not known.
func (h *heard) forgetAll() { h.age.Add(1) }

// forget drops what all sets said of a directory.
func (h *heard) forget(id volume.ID) {
	if h.believe == 0 {
		return
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	if s := mu.m[id]; s != nil {
		s.forget()
	}
}

// change is a change of one name in a directory, by a request to one set that
// may tell how the directory is afterwards.
type change struct {
	dir    volume.ID
	began  time.Time
	age    uint64 // heard.age then
	turn   uint64 // said.turn then
	lost   uint64 // said.lost then
	told   bool   // it was asked what the set tells
	alone  bool   // the set is the only one
	beside volume.Beside
	only   bool // it is known which sets it concerns, though the directory be scattered
}

// begin returns a change and the context to make it with. It must be ended by changed. alone: the volume has one set.
func (h *heard) begin(ctx context.Context, dir volume.ID, alone bool) (context.Context, *change) {
	c := &change{dir: dir, alone: alone}
	if h.believe == 0 {
		return ctx, c
	}
	mu := h.shard(dir)
	mu.Lock()
	defer mu.Unlock()
	s := mu.m[dir]
	if !alone && (s == nil || s.parts == nil) {
		return ctx, c // what the others say is not known
	}
	s = mu.of(dir)
	c.began, c.age, c.turn, c.lost, c.told = time.Now(), h.age.Load(), s.turn, s.lost, true
	return volume.WithBeside(ctx, &c.beside), c
}

// changed drops what these sets said of the directory, of a scattered one what
// all said. What the first told with its answer is remembered in place of that, unless something was forgotten meanwhile. Of
// changes that were under way at a time the one was made last that tells the latest time of modification.
func (h *heard) changed(c *change, sets ...volume.SetID) {
	if h.believe == 0 {
		return
	}
	mu := h.shard(c.dir)
	mu.Lock()
	defer mu.Unlock()
	s := mu.m[c.dir]
	if s == nil {
		return
	}
	unmet := s.turn == c.turn // by another change
	s.turn++
	told := c.told && c.beside.Dir.ID == c.dir && s.lost == c.lost && h.age.Load() == c.age
	if s.scattered && !c.only || h.old(s) || !told && c.alone {
		s.parts = nil
	}
	if !told {
		s.lost++ // which of two changes was made last is not known, if the other one tells
	}
	switch {
	case s.parts == nil && told && c.alone:
		s.since, s.age = c.began, c.age
		s.parts = map[volume.SetID]volume.Attr{sets[0]: c.beside.Dir}
		return
	case s.parts == nil:
		return
	}
	kept := maps.Clone(s.parts)
	for _, set := range sets[1:] {
		if set != sets[0] {
			delete(kept, set)
		}
	}
	switch was, there := kept[sets[0]]; {
	case !told:
		delete(kept, sets[0])
	case unmet || !there || was.Mtime.Before(c.beside.Dir.Mtime):
		kept[sets[0]] = c.beside.Dir
		if c.alone {
			s.since = c.began
		}
	}
	s.parts = kept
}

// isScattered reports whether a directory is known to have pointers.
func (h *heard) isScattered(id volume.ID) bool {
	if h.believe == 0 {
		return false
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	s := mu.m[id]
	return s != nil && s.scattered
}

// scatter notes that a directory has pointers.
func (h *heard) scatter(id volume.ID) {
	if h.believe == 0 {
		return
	}
	mu := h.shard(id)
	mu.Lock()
	defer mu.Unlock()
	if s := mu.m[id]; s != nil {
		s.scattered = true
	}
}
