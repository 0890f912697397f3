package oplog

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/mortarfs/mortar/volume"
)

// content is what is in a KeySet: keys that are pending, and keys that were taken out to
// be worked off and are not done. A key that is added while it is out is both. It
// is not safe for concurrent use, and does no I/O: what must be written is told by the results.
type content struct {
	limit int // keys, more of which become Full
	full  item
	items map[Key]item // all but extents and Full
	files map[volume.ID]*file

	order []Key // what became pending, in order; extents as their object's, without range
	head  int   // order[:head] has been looked at

	n     int   // keys: items and spans, not Full
	bytes int64 // of their encodings
	gen   uint64
	// rewrite is set when the file on the disk holds much more than this: Full, which is done.
	rewrite bool
}

// item is the state of a key.
type item struct {
	stamp   Stamp
	pending bool
	out     uint64 // the generation in which it was taken; 0: it is not out
}

// file is the state of a file's extents.
type file struct {
	pending, out spans
	gen          uint64 // in which out was taken
}

// Taken is a key that was taken out of a KeySet to be worked off.
type Taken struct {
	Key Key
	Gen uint64
}

func newContent(limit int) *content {
	return &content{limit: limit, items: map[Key]item{}, files: map[volume.ID]*file{}}
}

// push notes that k became pending.
func (c *content) push(k Key) {
	if len(c.order) > 2*c.n+1024 {
		c.thin()
	}
	c.order = append(c.order, k)
}

// thin drops from order what isn't pending any more or is there twice.
func (c *content) thin() {
	seen := make(map[Key]bool, c.n)
	kept := c.order[:0]
	for _, k := range c.order[c.head:] {
		if f := c.files[k.ID]; !seen[k] && (c.items[k].pending || k.Kind == ExtentKey && f != nil && len(f.pending) > 0) {
			seen[k] = true
			kept = append(kept, k)
		}
	}
	c.order, c.head = kept, 0
}

// empty takes all keys out but Full.
func (c *content) empty() {
	clear(c.items)
	clear(c.files)
	c.order, c.head, c.n, c.bytes = nil, 0, 0, 0
}

// add adds k. until is the stamp at which it is durable: an earlier one's or, if write tells that
// w must be written, stamp.
func (c *content) add(k Key, stamp Stamp) (until Stamp, w Key, write bool) {
	if !k.Valid() {
		k = Full
	}
	switch {
	case c.full.pending:
		return c.full.stamp, Key{}, false
	case k == Full:
		c.empty()
		c.full.pending = true
		if c.full.out != 0 {
			return c.full.stamp, Key{}, false
		}
		c.full.stamp = stamp
		return stamp, Full, true
	case k.Kind == ExtentKey:
		until, w, write = c.addExtent(k, stamp)
	default:
		until, w, write = c.addItem(k, stamp)
	}
	if c.n > c.limit {
		return c.add(Full, stamp)
	}
	return until, w, write
}

func (c *content) addItem(k Key, stamp Stamp) (Stamp, Key, bool) {
	it, known := c.items[k]
	if it.pending {
		return it.stamp, Key{}, false
	}
	if !known {
		c.n, c.bytes, it.stamp = c.n+1, c.bytes+keySize(k), stamp
		if c.full.out != 0 {
			it.stamp, known = c.full.stamp, true
		}
	}
	it.pending = true
	c.items[k] = it
	c.push(k)
	return it.stamp, k, !known
}

func (c *content) addExtent(k Key, stamp Stamp) (Stamp, Key, bool) {
	f := c.files[k.ID]
	if f == nil {
		f = &file{}
		c.files[k.ID] = f
	}
	s := spanOf(k)
	if until, ok := f.pending.covers(s); ok {
		return until, Key{}, false
	}
	if c.full.out != 0 {
		return c.put(k, f, s, c.full.stamp, stamp)
	}
	if until, ok := f.out.covers(s); ok {
		return c.put(k, f, s, until, stamp)
	}
	until, w, write := c.put(k, f, s, stamp, stamp)
	if !write {
		w = s.key(k)
	}
	return until, w, true
}

// put makes s of the file f, which k names, pending; at is the stamp at which it is
// on the disk. If the file got too many ranges, so that more than s became pending, that is to
// be written, at stamp.
func (c *content) put(k Key, f *file, s span, at, stamp Stamp) (until Stamp, w Key, write bool) {
	before := len(f.pending)
	s.stamp = at
	var whole span
	f.pending, whole = f.pending.add(s)
	c.count(len(f.pending) - before)
	if before == 0 {
		c.push(Key{Kind: ExtentKey, ID: k.ID})
	}
	if before < spansMax || len(f.pending) > 1 || c.full.out != 0 {
		return at, Key{}, false
	}
	f.pending[0].stamp = stamp
	return stamp, whole.key(k), true
}

// count notes that there are n spans more.
func (c *content) count(n int) {
	c.n += n
	c.bytes += int64(n) * keySize(Key{Kind: ExtentKey})
}

// take takes out up to n pending keys, the oldest first; ranges of a file
// all together, which may make it a few more. While a range of a file is out, no other one
// of it is taken.
func (c *content) take(n int) (ts []Taken) {
	c.gen++
	if c.full.pending {
		if c.full.out != 0 {
			return nil
		}
		c.full.pending, c.full.out = false, c.gen
		return []Taken{{Full, c.gen}}
	}
	for ; c.head < len(c.order) && len(ts) < n; c.head++ {
		k := c.order[c.head]
		if k.Kind == ExtentKey {
			f := c.files[k.ID]
			if f == nil || len(f.out) > 0 {
				continue
			}
			f.pending, f.out, f.gen = nil, f.pending, c.gen
			for _, s := range f.out {
				ts = append(ts, Taken{s.key(k), c.gen})
			}
		} else if it := c.items[k]; it.pending && it.out == 0 {
			it.pending, it.out = false, c.gen
			c.items[k] = it
			ts = append(ts, Taken{k, c.gen})
		}
	}
	if c.head > 1024 && c.head > len(c.order)/2 {
		c.order, c.head = slices.Clone(c.order[c.head:]), 0
	}
	return ts
}

// finish ends that t is out: it is done or, if again is set, pending once more. What
// must be written of it follows: keys that are gone, and one that was added.
func (c *content) finish(t Taken, again bool, stamp Stamp) (gone []Key, w Key, write bool) {
	k := t.Key
	switch {
	case k == Full:
		if c.full.out != t.Gen {
			return
		}
		c.full.out = 0
		if again && !c.full.pending {
			c.empty()
			c.full.pending = true
		}
		c.rewrite = !c.full.pending
	case k.Kind == ExtentKey:
		return c.returnSpan(t, again, stamp)
	default:
		it, known := c.items[k]
		if !known || it.out != t.Gen {
			return
		}
		it.out, it.pending = 0, it.pending || again
		if it.pending {
			c.items[k] = it
			c.push(k)
			return
		}
		delete(c.items, k)
		c.n, c.bytes = c.n-1, c.bytes-keySize(k)
		gone = []Key{k}
	}
	return
}

func (c *content) returnSpan(t Taken, again bool, stamp Stamp) (gone []Key, w Key, write bool) {
	k, f := t.Key, c.files[t.Key.ID]
	if f == nil || f.gen != t.Gen {
		return
	}
	i := slices.IndexFunc(f.out, func(s span) bool { return s.key(k) == k })
	if i < 0 {
		return
	}
	s := f.out[i]
	f.out = slices.Delete(f.out, i, i+1)
	c.count(-1)
	if again {
		_, w, write = c.put(k, f, s, s.stamp, stamp)
	} else {
		gone = spans{s}.less(f.pending).keys(k)
	}
	if len(f.out) == 0 && len(f.pending) > 0 {
		c.push(Key{Kind: ExtentKey, ID: k.ID})
	}
	c.drop(k.ID, f)
	return
}

// drop forgets the file f if nothing of it is left.
func (c *content) drop(id volume.ID, f *file) {
	if len(f.out) == 0 && len(f.pending) == 0 {
		delete(c.files, id)
	}
}

// remove takes k away, pending or out, and Full with everything. Of extents goes what is pending and in
// k, and what is out and wholly in k. It returns what must be written as removed.
func (c *content) remove(k Key) (gone []Key) {
	if k == Full {
		c.empty()
		c.full = item{}
		c.rewrite = true
		return nil
	}
	if k.Kind == ExtentKey {
		return c.removeExtent(k)
	}
	if _, ok := c.items[k]; !ok {
		return nil
	}
	delete(c.items, k)
	c.n, c.bytes = c.n-1, c.bytes-keySize(k)
	return []Key{k}
}

func (c *content) removeExtent(k Key) (gone []Key) {
	f := c.files[k.ID]
	if f == nil || k.Off > math.MaxInt64-grain {
		return nil
	}
	s := span{off: (k.Off + grain - 1) &^ (grain - 1), end: k.end()}
	if s.end != math.MaxInt64 {
		s.end &^= grain - 1
	}
	if s.end <= s.off {
		return nil
	}
	before := len(f.pending) + len(f.out)
	f.pending = f.pending.without(s)
	f.out = slices.DeleteFunc(f.out, func(o span) bool { return s.off <= o.off && o.end <= s.end })
	c.count(len(f.pending) + len(f.out) - before)
	gone = spans{s}.less(f.out).keys(k)
	if len(f.out) == 0 && len(f.pending) > 0 {
		c.push(Key{Kind: ExtentKey, ID: k.ID})
	}
	c.drop(k.ID, f)
	return gone
}

// has reports whether k, or any part of it, is here.
func (c *content) has(k Key) bool {
	if c.full.pending || c.full.out != 0 {
		return true
	}
	if k.Kind != ExtentKey {
		_, ok := c.items[k]
		return ok
	}
	f := c.files[k.ID]
	return f != nil && (f.pending.overlaps(spanOf(k)) || f.out.overlaps(spanOf(k)))
}

// len is the number of keys.
func (c *content) len() int {
	if c.full.pending || c.full.out != 0 {
		return c.n + 1
	}
	return c.n
}

// each calls f with every key.
func (c *content) each(f func(Key)) {
	if c.full.pending || c.full.out != 0 {
		f(Full)
	}
	for k := range c.items {
		f(k)
	}
	for id, e := range c.files {
		all := slices.Clone(e.pending)
		for _, s := range e.out {
			all, _ = all.add(s)
		}
		for _, s := range all {
			f(s.key(Key{ID: id}))
		}
	}
}

// compareKeys orders keys by kind, object, name, place.
func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Off, b.Off))
}
