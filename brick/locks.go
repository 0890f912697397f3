package brick

import (
	"cmp"
	"slices"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// nameLocks order what happens to one name in one directory. Names share
// locks: a lock is found by a hash. Whoever needs several takes them at once
// (lock), never one after the other.
type nameLocks struct {
	stripes [nameStripes]sync.RWMutex
}

const nameStripes = 1024

// lockName is a name to be locked: an entry of a directory, or a discard's key
// in the pseudo-directory of the zero ID.
type lockName struct {
	dir  volume.ID
	name string
}

func (l *nameLocks) stripe(dir volume.ID, name string) int {
	h := uint64(dir[0])<<8 | uint64(dir[1]) | uint64(dir[2])<<16 | uint64(dir[3])<<24 + 14695981039346656037
	for i := 0; i < len(name); i++ {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return int((h ^ h>>32) % nameStripes)
}

// one returns the lock of one name, for who needs no other.
func (l *nameLocks) one(dir volume.ID, name string) *sync.RWMutex {
	return &l.stripes[l.stripe(dir, name)]
}

// lock locks all of the names for writing and returns what unlocks them.
func (l *nameLocks) lock(names ...lockName) (unlock func()) {
	var buf [4]int
	n := buf[:0]
	for _, x := range names {
		n = append(n, l.stripe(x.dir, x.name))
	}
	slices.Sort(n)
	n = slices.Compact(n)
	for _, i := range n {
		l.stripes[i].Lock()
	}
	return func() {
		for _, i := range n {
			l.stripes[i].Unlock()
		}
	}
}

// objects keeps, by ID, what is true of objects now and not on the disk: which
// are open; and what the number of links doesn't tell: which of them are
// Mortar's own. A stripe's lock also orders what changes the links of its objects.
type objects struct {
	stripes [objectStripes]objectStripe
}

const objectStripes = 1024

type objectStripe struct {
	number int // its place among the stripes, which is the order of locking
	sync.RWMutex
	open   map[volume.ID]*object  // guarded by the lock; nil until needed
	extra  map[volume.ID]extra    // likewise
	failed map[volume.ID]struct{} // likewise: an fsync of the object failed
	quiet  map[volume.ID]quiet    // likewise; at most quietMax
}

// extra counts links that are no names, the index's aside.
type extra struct {
	discards int
	kept     bool // in .mortar/open
	held     bool // and stays there until Release; only with kept
}

func (e extra) links() uint32 {
	n := uint32(e.discards)
	if e.kept {
		n++
	}
	return n
}

func (o *objects) stripe(id volume.ID) *objectStripe {
	return &o.stripes[(uint(id[4])|uint(id[5])<<8)%objectStripes]
}

// lock locks the stripes of the objects for writing and returns what unlocks them.
func (o *objects) lock(ids ...volume.ID) (unlock func()) {
	n := make([]*objectStripe, 0, 2)
	for _, id := range ids {
		n = append(n, o.stripe(id))
	}
	slices.SortFunc(n, func(a, b *objectStripe) int { return cmp.Compare(a.number, b.number) })
	n = slices.Compact(n)
	for _, st := range n {
		st.Lock()
	}
	return func() {
		for _, st := range n {
			st.Unlock()
		}
	}
}

// setExtra notes an object's extra links; the lock is held.
func (s *objectStripe) setExtra(id volume.ID, e extra) {
	if e == (extra{}) {
		delete(s.extra, id)
		return
	}
	if s.extra == nil {
		s.extra = make(map[volume.ID]extra)
	}
	s.extra[id] = e
}

// addDiscards changes the number of discards that keep an object; the lock is held.
func (s *objectStripe) addDiscards(id volume.ID, n int) {
	e := s.extra[id]
	e.discards += n
	s.setExtra(id, e)
}

// setKept notes whether an object is in .mortar/open; the lock is held.
func (s *objectStripe) setKept(id volume.ID, kept bool) {
	e := s.extra[id]
	e.kept, e.held = kept, e.held && kept
	s.setExtra(id, e)
}

// keep notes that an object was moved to .mortar/open; the lock is held.
func (s *objectStripe) keep(id volume.ID, fx fixed) {
	if s.setKept(id, true); fx.Keep {
		s.hold(id)
	}
}

// unhold takes back hold, but for the link itself; the lock is held.
func (s *objectStripe) unhold(id volume.ID) {
	e := s.extra[id]
	e.held = false
	s.setExtra(id, e)
}

// hold notes that an object is in .mortar/open until Release; the lock is held.
func (s *objectStripe) hold(id volume.ID) {
	e := s.extra[id]
	e.kept, e.held = true, true
	s.setExtra(id, e)
}
