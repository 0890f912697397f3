package brick

import (
	"bytes"
	"container/list"
	"slices"
	"strconv"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// dir is an open directory. There is one of it for a directory at a time, as
// long as anybody holds it or the cache has room.
type dir struct {
	id   volume.ID
	fd   int
	proc string // "/proc/self/fd/N/": prefix of the paths that l*xattr(2) take

	refs int           // guarded by the cache's shard
	elem *list.Element // likewise

	// attr is held for reading by who makes or renames something into the
	// directory, for writing by who changes what it would inherit or takes the
	// directory out of the tree.
	attr sync.RWMutex
	in   inherit // guarded by attr

	list listing
}

// inherit is what the directory's children take from it.
type inherit struct {
	known      bool
	gone       bool // removed: nothing may be made here any more
	meta       dirMeta
	gid        uint32
	setgid     bool
	defaultACL bool
}

// lockAttrs locks the attr of one directory (nil: none) for writing and of
// others for reading, in order of their IDs.
func lockAttrs(write *dir, read ...*dir) (unlock func()) {
	all := slices.Clone(read)
	if write != nil {
		all = append(all, write)
	}
	slices.SortFunc(all, func(a, b *dir) int { return bytes.Compare(a.id[:], b.id[:]) })
	all = slices.Compact(all)
	for _, d := range all {
		if d == write {
			d.attr.Lock()
		} else {
			d.attr.RLock()
		}
	}
	return func() {
		for _, d := range all {
			if d == write {
				d.attr.Unlock()
			} else {
				d.attr.RUnlock()
			}
		}
	}
}

// dirCache holds open directories by ID, the least recently used of which are
// closed when there are too many and nobody holds them.
type dirCache struct {
	sys      sys.Sys
	listings *listings
	perShard int
	shards   [dirShards]dirShard
}

const dirShards = 16

type dirShard struct {
	mu struct {
		sync.Mutex
		m   map[volume.ID]*dir
		lru *list.List // *dir, most recently used first
	}
}

func newDirCache(k sys.Sys, l *listings, limit int) *dirCache {
	c := &dirCache{sys: k, listings: l, perShard: max(limit/dirShards, 4)}
	for i := range c.shards {
		c.shards[i].mu.m = make(map[volume.ID]*dir)
		c.shards[i].mu.lru = list.New()
	}
	return c
}

func (c *dirCache) shard(id volume.ID) *dirShard { return &c.shards[id[1]%dirShards] }

// get returns the directory if it is open. Who has it calls put.
func (c *dirCache) get(id volume.ID) *dir {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.mu.m[id]
	if d == nil {
		return nil
	}
	d.refs++
	s.mu.lru.MoveToFront(d.elem)
	return d
}

// put gives a directory back.
func (c *dirCache) put(d *dir) {
	s := c.shard(d.id)
	s.mu.Lock()
	d.refs--
	closing := d.refs == 0 && d.elem == nil
	s.mu.Unlock()
	if closing {
		c.release(d)
	}
}

// release closes a directory that nobody holds or can find any more.
func (c *dirCache) release(d *dir) {
	c.listings.forget(&d.list)
	c.sys.Close(d.fd)
}

// add takes over the descriptor of a directory and returns it held. If the
// directory is here already, that one is returned and the descriptor closed.
func (c *dirCache) add(id volume.ID, fd int) *dir {
	s := c.shard(id)
	s.mu.Lock()
	if d := s.mu.m[id]; d != nil {
		d.refs++
		s.mu.Unlock()
		c.sys.Close(fd)
		return d
	}
	d := &dir{id: id, fd: fd, proc: "/proc/self/fd/" + strconv.Itoa(fd) + "/", refs: 1}
	d.elem = s.mu.lru.PushFront(d)
	s.mu.m[id] = d
	old := s.evict(c.perShard)
	s.mu.Unlock()
	for _, o := range old {
		c.release(o)
	}
	return d
}

// evict takes out directories that nobody holds until the limit is kept.
func (s *dirShard) evict(limit int) (old []*dir) {
	for e := s.mu.lru.Back(); e != nil && s.mu.lru.Len() > limit; {
		d := e.Value.(*dir)
		prev := e.Prev()
		if d.refs == 0 {
			s.mu.lru.Remove(e)
			d.elem = nil
			delete(s.mu.m, d.id)
			old = append(old, d)
		}
		e = prev
	}
	return old
}

// drop forgets a directory that was removed; it is closed when nobody holds it.
func (c *dirCache) drop(id volume.ID) {
	s := c.shard(id)
	s.mu.Lock()
	d := s.mu.m[id]
	if d == nil {
		s.mu.Unlock()
		return
	}
	delete(s.mu.m, id)
	s.mu.lru.Remove(d.elem)
	d.elem = nil
	closing := d.refs == 0
	s.mu.Unlock()
	if closing {
		c.release(d)
	}
}

// close closes all directories, held or not.
func (c *dirCache) close() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for id, d := range s.mu.m {
			delete(s.mu.m, id)
			c.release(d)
		}
		s.mu.lru.Init()
		s.mu.Unlock()
	}
}
