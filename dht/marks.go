package dht

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/mortarfs/mortar/volume"
)

// marks tell which objects here need something on another set that may not be
// durable there: a directory its copy at home, an object the pointer that was
// put for it, and what gets a name in such a directory inherits. A sync of an object
// makes that durable first, and the regular settling makes marks void. Nearly
// always there are none, and asking costs one atomic load.
//
// A mark names a directory on the other set. What the object needs there is the
// directory itself, the entries in it, and the directories above it, up to the
// root; see syncPath for how these become durable.
type marks struct {
	some atomic.Bool
	mu   struct {
		sync.Mutex
		seq     uint64                  // counts marks
		settled map[need]uint64         // marks of this need up to this are void; with a zero directory all of the set
		objects map[volume.ID][]setMark // at most marksMax
		crowd   map[volume.SetID]*crowd // who found no place among them, by what set they need
	}
}

// need is a directory on a set that must be durable; a zero one: all of the set.
type need struct {
	set volume.SetID
	dir volume.ID
}

type setMark struct {
	need
	seq uint64
}

// crowd remembers very many objects that need all of a set, in little space: it
// never forgets one, and takes one in some thousands for another (a Bloom filter).
// They are many only while a set is away for long, and an object that does not
// need that set must not be held up by it.
type crowd struct {
	seq  uint64 // the latest mark's
	bits [crowdBits / 64]uint64
}

// crowdBits is a power of two: 1 MiB of them.
const crowdBits = 1 << 23

// places calls f for the bits of an ID.
func (c *crowd) places(id volume.ID, f func(word *uint64, bit uint64)) {
	h := xxhash.Sum64(id[:])
	for range 4 {
		f(&c.bits[h%crowdBits/64], 1<<(h%64))
		h = h>>23 | h<<41
	}
}

func (c *crowd) add(id volume.ID, seq uint64) {
	c.seq = seq
	c.places(id, func(word *uint64, bit uint64) { *word |= bit })
}

func (c *crowd) has(id volume.ID) bool {
	all := true
	c.places(id, func(word *uint64, bit uint64) { all = all && *word&bit != 0 })
	return all
}

const (
	// marksMax bounds the objects remembered; further ones join a crowd.
	marksMax = 1 << 16
	// needsMax bounds the directories remembered for an object, and asked for in
	// one step; where there are more, the whole set is settled.
	needsMax = 32
	// settledMax bounds the needs of which is known that they were met.
	settledMax = 1 << 12
)

// add notes that id needs dir on set.
func (m *marks) add(id volume.ID, set volume.SetID, dir volume.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(id, need{set, dir})
}

func (m *marks) addLocked(id volume.ID, n need) {
	if m.mu.objects == nil {
		m.mu.objects, m.mu.crowd, m.mu.settled = map[volume.ID][]setMark{}, map[volume.SetID]*crowd{}, map[need]uint64{}
	}
	m.mu.seq++
	m.some.Store(true)
	list, seq := m.mu.objects[id], m.mu.seq
	if list == nil && len(m.mu.objects) >= marksMax {
		if m.mu.crowd[n.set] == nil {
			m.mu.crowd[n.set] = &crowd{}
		}
		m.mu.crowd[n.set].add(id, seq)
		return
	}
	for i := range list {
		if list[i].set == n.set && (list[i].dir == n.dir || list[i].dir.IsZero()) {
			list[i].seq = seq
			return
		}
	}
	// A directory's own copy on a set takes what lies above it along.
	full := len(list) >= needsMax
	if n.dir == id || full {
		list = slices.DeleteFunc(list, func(old setMark) bool { return old.set == n.set })
	}
	if full {
		n.dir = volume.ID{}
	}
	m.mu.objects[id] = append(list, setMark{n, seq})
}

// inherit gives id the marks of the directory that got a name for it.
func (m *marks) inherit(id, dir volume.ID) {
	if !m.some.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.needsLocked(dir) {
		m.addLocked(id, n)
	}
}

// countsLocked reports whether a mark is not void.
func (m *marks) countsLocked(mark setMark) bool {
	return mark.seq > m.mu.settled[need{set: mark.set}] && mark.seq > m.mu.settled[mark.need]
}

// needs returns what id needs, and the count to hand to done when that has been
// made durable.
func (m *marks) needs(id volume.ID) (list []need, seq uint64) {
	if !m.some.Load() {
		return nil, 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.needsLocked(id), m.mu.seq
}

func (m *marks) needsLocked(id volume.ID) (list []need) {
	for _, mark := range m.mu.objects[id] {
		if m.countsLocked(mark) {
			list = append(list, mark.need)
		}
	}
	for set, c := range m.mu.crowd {
		if n := (need{set: set}); c.has(id) && m.countsLocked(setMark{n, c.seq}) {
			list = append(list, n)
		}
	}
	return list
}

// done makes the marks of a need up to seq void.
func (m *marks) done(n need, seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.settled == nil || seq <= m.mu.settled[n] {
		return
	}
	if !n.dir.IsZero() {
		if len(m.mu.settled) < settledMax {
			m.mu.settled[n] = seq
		}
		return
	}
	m.mu.settled[n] = seq
	for id, list := range m.mu.objects {
		live := slices.DeleteFunc(list, func(mark setMark) bool { return !m.countsLocked(mark) })
		if len(live) == 0 {
			delete(m.mu.objects, id)
		} else {
			m.mu.objects[id] = live
		}
	}
	if c := m.mu.crowd[n.set]; c != nil && c.seq <= seq {
		delete(m.mu.crowd, n.set)
	}
	for old, at := range m.mu.settled {
		if old.set == n.set && at <= seq && !old.dir.IsZero() {
			delete(m.mu.settled, old)
		}
	}
	m.some.Store(len(m.mu.objects)+len(m.mu.crowd) > 0)
}

// sets returns all sets with marks that count, and the count for done.
func (m *marks) sets() (list []need, seq uint64) {
	if !m.some.Load() {
		return nil, 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[volume.SetID]bool{}
	note := func(mark setMark) {
		if !seen[mark.set] && m.countsLocked(mark) {
			seen[mark.set] = true
			list = append(list, need{set: mark.set})
		}
	}
	for _, marks := range m.mu.objects {
		for _, mark := range marks {
			note(mark)
		}
	}
	for set, c := range m.mu.crowd {
		note(setMark{need{set: set}, c.seq})
	}
	return list, m.mu.seq
}
