package brick

import (
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// inodes remembers which object an inode is, so that a stat(2) is all that a
// lookup costs. The birth time guards against an inode number that was given
// again behind the store's back; the store itself sets the entry of every inode
// that it makes. On a file system without birth times nothing is remembered.
//
// It is bounded: a full shard forgets entries at random.
type inodes struct {
	perShard int
	shards   [inodeShards]inodeShard
}

const inodeShards = 64

type inodeShard struct {
	mu struct {
		sync.Mutex
		m       map[uint64]inode
		changes uint64 // counts what get may have given otherwise before
	}
}

type inode struct {
	birth volume.Time
	node  node
}

func newInodes(limit int) *inodes {
	c := &inodes{perShard: max(limit/inodeShards, 1)}
	for i := range c.shards {
		c.shards[i].mu.m = make(map[uint64]inode)
	}
	return c
}

// shard spreads neighbouring inodes.
func (c *inodes) shard(ino uint64) *inodeShard {
	return &c.shards[ino*0x9e3779b97f4a7c15>>58%inodeShards]
}

// get returns the object that the inode with these attributes is.
func (c *inodes) get(i *sys.Info) (node, bool) {
	if !i.HasBtime {
		return node{}, false
	}
	s := c.shard(i.Ino)
	s.mu.Lock()
	e, ok := s.mu.m[i.Ino]
	s.mu.Unlock()
	return e.node, ok && e.birth == i.Btime
}

// mark returns what learn takes: it is asked for before the inode's attributes are read.
func (c *inodes) mark(ino uint64) uint64 {
	s := c.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.changes
}

// learn notes what was read from the disk, unless it may be out of date.
func (c *inodes) learn(i *sys.Info, n node, mark uint64) {
	s := c.shard(i.Ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.mu.m[i.Ino]; s.mu.changes == mark && !(ok && e.birth == i.Btime) {
		c.put(s, i, n)
	}
}

// set notes which object the inode is from now on.
func (c *inodes) set(i *sys.Info, n node) {
	s := c.shard(i.Ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.put(s, i, n)
}

// change notes that an inode's node has changed.
func (c *inodes) change(i *sys.Info, n node) {
	s := c.shard(i.Ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes++
	c.put(s, i, n)
}

// put enters n; the shard is locked.
func (c *inodes) put(s *inodeShard, i *sys.Info, n node) {
	if !i.HasBtime {
		return
	}
	if _, ok := s.mu.m[i.Ino]; !ok && len(s.mu.m) >= c.perShard {
		for k := range s.mu.m {
			delete(s.mu.m, k)
			break
		}
	}
	s.mu.m[i.Ino] = inode{i.Btime, n}
}

// drop forgets the inode.
func (c *inodes) drop(ino uint64) {
	s := c.shard(ino)
	s.mu.Lock()
	delete(s.mu.m, ino)
	s.mu.changes++
	s.mu.Unlock()
}
