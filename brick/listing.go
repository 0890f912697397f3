package brick

import (
	"cmp"
	"container/list"
	"slices"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// listing is the sorted index of a directory that is being listed: its names
// in order of cookie. It is made when a listing begins, then kept up to date by
// every operation that adds or removes a name, so that a page of a listing
// costs what it returns, however large the directory is and whatever happens in
// it meanwhile.
//
// Changes are recorded after the system call that made them, under the name's
// lock. While the directory is being read they are kept aside and applied
// afterwards: whatever the reading saw, for each name the last change wins.
type listing struct {
	elem *list.Element // place among the store's indexes; guarded by listings.mu

	mu struct {
		sync.Mutex
		sorted   *sortedNames  // nil: no index
		building chan struct{} // closed when the reading under way is done; nil: none is
		aside    []change      // of this reading
	}
}

// change is a name that was added or removed.
type change struct {
	name    string
	present bool
}

// add notes that the directory has the name.
func (l *listing) add(name string) { l.note(change{name, true}) }

// remove notes that the directory has the name no more.
func (l *listing) remove(name string) { l.note(change{name, false}) }

func (l *listing) note(c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.building != nil:
		l.mu.aside = append(l.mu.aside, c)
	case l.mu.sorted != nil:
		l.mu.sorted.apply(c)
	}
}

// page returns up to limit names after the cookie, and, if that is not the end,
// as many more as have the last one's cookie; and how many names there are in
// all. ok is false if there is no index.
func (l *listing) page(after volume.Cookie, limit int) (names []named, end bool, all int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.sorted == nil {
		return nil, false, 0, false
	}
	names, end = l.mu.sorted.page(after, limit)
	return names, end, l.mu.sorted.n, true
}

// named is a name and its cookie.
type named struct {
	cookie volume.Cookie
	name   string
}

func compareNamed(a, b named) int {
	if c := cmp.Compare(a.cookie, b.cookie); c != 0 {
		return c
	}
	return cmp.Compare(a.name, b.name)
}

// sortedNames is a sorted sequence of names, in chunks so that a change moves
// few of them. Invariant: no chunk is empty; all of one precede all of the next.
type sortedNames struct {
	chunks [][]named
	n      int
}

// chunkMax is the number of names at which a chunk is divided.
const chunkMax = 512

// newSortedNames takes over names and sorts them.
func newSortedNames(names []named) *sortedNames {
	slices.SortFunc(names, compareNamed)
	names = slices.Compact(names)
	s := &sortedNames{n: len(names)}
	for len(names) > 0 {
		k := min(len(names), chunkMax/2)
		s.chunks = append(s.chunks, names[:k:k])
		names = names[k:]
	}
	return s
}

// find returns the chunk and place where x is or belongs.
func (s *sortedNames) find(x named) (chunk, place int, found bool) {
	chunk, _ = slices.BinarySearchFunc(s.chunks, x, func(c []named, x named) int { return compareNamed(c[len(c)-1], x) })
	if chunk == len(s.chunks) {
		return chunk, 0, false
	}
	place, found = slices.BinarySearchFunc(s.chunks[chunk], x, compareNamed)
	return chunk, place, found
}

// apply makes a change.
func (s *sortedNames) apply(c change) {
	x := named{volume.CookieOf(c.name), c.name}
	i, j, found := s.find(x)
	if found == c.present {
		return
	}
	if !c.present {
		s.n--
		if s.chunks[i] = slices.Delete(s.chunks[i], j, j+1); len(s.chunks[i]) == 0 {
			s.chunks = slices.Delete(s.chunks, i, i+1)
		}
		return
	}
	s.n++
	if len(s.chunks) == 0 {
		s.chunks = [][]named{{x}}
		return
	}
	if i == len(s.chunks) { // after all: the last chunk takes it
		i--
		j = len(s.chunks[i])
	}
	s.chunks[i] = slices.Insert(s.chunks[i], j, x)
	if k := len(s.chunks[i]) / 2; len(s.chunks[i]) >= chunkMax {
		right := slices.Clone(s.chunks[i][k:])
		s.chunks[i] = slices.Clip(s.chunks[i][:k])
		s.chunks = slices.Insert(s.chunks, i+1, right)
	}
}

// page is listing.page.
func (s *sortedNames) page(after volume.Cookie, limit int) (names []named, end bool) {
	i, j, _ := s.find(named{after + 1, ""})
	names = make([]named, 0, min(limit, s.n))
	for ; i < len(s.chunks); i, j = i+1, 0 {
		for _, x := range s.chunks[i][j:] {
			if len(names) >= limit && x.cookie != names[len(names)-1].cookie {
				return names, false
			}
			names = append(names, x)
		}
	}
	return names, true
}

// listings bounds the names that all indexes of a store hold together: beyond
// it, the indexes that were used least recently go.
type listings struct {
	limit int // names

	mu struct {
		sync.Mutex
		lru   *list.List // *listed, most recently used first
		names int
	}
}

// listed is an index and its number of names when it was made.
type listed struct {
	l *listing
	n int
}

// used notes that l, of n names, is in use, and drops what is too much.
func (c *listings) used(l *listing, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.lru == nil {
		c.mu.lru = list.New()
	}
	if l.elem != nil {
		c.mu.lru.MoveToFront(l.elem)
		e := l.elem.Value.(*listed)
		c.mu.names += n - e.n
		e.n = n
	} else {
		l.elem = c.mu.lru.PushFront(&listed{l, n})
		c.mu.names += n
	}
	for c.mu.names > c.limit && c.mu.lru.Len() > 1 {
		c.removeLocked(c.mu.lru.Back().Value.(*listed).l)
	}
}

// forget drops l's index, if it has one: its directory is closed.
func (c *listings) forget(l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.elem != nil {
		c.removeLocked(l)
	}
}

func (c *listings) removeLocked(l *listing) {
	c.mu.names -= l.elem.Value.(*listed).n
	c.mu.lru.Remove(l.elem)
	l.elem = nil
	l.mu.Lock()
	l.mu.sorted = nil
	l.mu.Unlock()
}
