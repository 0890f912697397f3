package fuse

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// A node is an object that the kernel knows: one for each ID, as long as the
// kernel holds at least one lookup of it.
type node struct {
	id         volume.ID
	number     uint64 // the kernel's NodeID
	generation uint64 // what else of the ID a file handle has room for
	lookups    uint64 // guarded by the shard's mu; unused for the root

	// changed is the front's change count at the latest change of the object's
	// attributes, or of a directory's names, through this mount. dirHandle has
	// the use of it.
	changed atomic.Uint64

	// noCaps is until when (nanoseconds of the front's clock) the object is
	// taken to have no security.capability; 0: not known.
	noCaps atomic.Int64

	// loose is the group, plus 1, of a file with S_ISGID and without execution
	// by the group, as its attributes were last told; 0: no such file.
	loose atomic.Uint64

	opening atomic.Int32 // OPENs that are under way

	size, mtime atomic.Int64 // of what is a regular file, as they were last told to the kernel: bytes, ns

	locked atomic.Bool          // locks were asked for, of what is a regular file
	grants grants               // of what is a regular file
	dir    atomic.Pointer[node] // of a regular file: where it was found last
	strict atomic.Int64         // of a directory: until when (front's clock) names in it are not believed; see lock.go

	memory atomic.Pointer[memory] // nil of a regular file, and before its attributes were seen
}

const nodeShards = 64 // a power of 2

// nodes is the table of what the kernel knows. NodeIDs are the IDs' short forms, so that a file handle, which has
// nothing else, leads to its object whoever has forgotten that (export.go). The root is FUSE's, and the kernel
// never forgets it.
type nodes struct {
	root   *node
	shards [nodeShards]struct {
		mu struct {
			sync.RWMutex
			byNumber map[uint64]*node
		}
	}
}

func newNodes(root volume.ID) *nodes {
	t := &nodes{root: &node{id: root, number: gofuse.FUSE_ROOT_ID, lookups: 1}}
	for i := range t.shards {
		t.shards[i].mu.byNumber = make(map[uint64]*node)
	}
	t.shards[shardOf(t.root.number)].mu.byNumber[t.root.number] = t.root
	return t
}

func shardOf(number uint64) int { return int(number & (nodeShards - 1)) }

// numberOf returns the NodeID of an object.
func (t *nodes) numberOf(id volume.ID) uint64 {
	if id == t.root.id {
		return t.root.number
	}
	return id.Short()
}

// get returns the node that the kernel calls number, nil if there is none.
func (t *nodes) get(number uint64) *node {
	s := &t.shards[shardOf(number)]
	s.mu.RLock()
	n := s.mu.byNumber[number]
	s.mu.RUnlock()
	return n
}

// known returns the node of an ID if the kernel holds it, without counting.
func (t *nodes) known(id volume.ID) *node {
	if n := t.get(t.numberOf(id)); n != nil && n.id == id {
		return n
	}
	return nil
}

// look counts one lookup of id and returns its node; nil if the kernel holds another object that has
// the same number, which is less likely than that two files of the volume have the same inode number.
func (t *nodes) look(id volume.ID) *node {
	number := t.numberOf(id)
	s := &t.shards[shardOf(number)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.byNumber[number]
	if n == nil {
		n = &node{id: id, number: number, generation: uint64(binary.BigEndian.Uint32(id[8:]))}
		s.mu.byNumber[number] = n
	}
	if n.id != id {
		return nil
	}
	n.lookups++
	return n
}

// forget takes count lookups back.
func (t *nodes) forget(number, count uint64) {
	if number == t.root.number {
		return
	}
	s := &t.shards[shardOf(number)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.byNumber[number]
	switch {
	case n == nil:
	case n.lookups > count:
		n.lookups -= count
	default:
		n.lookups = 0
		delete(s.mu.byNumber, number)
	}
}

// len returns how many nodes there are, the root included.
func (t *nodes) len() int {
	sum := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		sum += len(s.mu.byNumber)
		s.mu.RUnlock()
	}
	return sum
}

// setAttr fills out from a.
func setAttr(out *gofuse.Attr, a *volume.Attr) {
	*out = gofuse.Attr{
		Ino:       a.ID.Inode(),
		Size:      uint64(a.Size),
		Blocks:    uint64(a.Blocks),
		Atime:     uint64(a.Atime.Sec),
		Mtime:     uint64(a.Mtime.Sec),
		Ctime:     uint64(a.Ctime.Sec),
		Atimensec: a.Atime.Nsec,
		Mtimensec: a.Mtime.Nsec,
		Ctimensec: a.Ctime.Nsec,
		Mode:      a.Mode,
		Nlink:     a.Nlink,
		Owner:     gofuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:      uint32(a.Rdev), // makedev(3) and the kernel's new_encode_dev agree below 12:20 bits, which is all that dev_t has
		Blksize:   blockSize,
	}
}

// blockSize is st_blksize, in bytes: what stdio and cp take as the unit of their
// requests, each of which costs a round trip. More would make stdio's buffers
// so large that malloc maps and unmaps them on each fopen.
const blockSize = 64 << 10

// seconds splits a timeout as the protocol wants it.
func seconds(d time.Duration) (sec uint64, nsec uint32) {
	return uint64(d / time.Second), uint32(d % time.Second)
}

// entry answers a request that made or found an object: its node is counted.
// dir is where it was found, nil if that is not known.
func (f *front) entry(out *gofuse.EntryOut, dir *node, a *volume.Attr) (*node, gofuse.Status) {
	n := f.nodes.look(a.ID)
	if n == nil {
		return nil, statusENOMEM
	}
	n.remember(a, dir)
	n.note(a)
	out.NodeId, out.Generation = n.number, n.generation
	if a.IsRegular() && dir != nil {
		n.dir.Store(dir)
	}
	out.EntryValid, out.EntryValidNsec = f.believed(dir, f.opts.EntryTimeout)
	out.AttrValid, out.AttrValidNsec = f.attrValid(a)
	setAttr(&out.Attr, a)
	return n, gofuse.OK
}

// attr answers a request with the attributes of n.
func (f *front) attr(out *gofuse.AttrOut, n *node, a *volume.Attr) gofuse.Status {
	n.remember(a, nil)
	n.note(a)
	out.AttrValid, out.AttrValidNsec = f.attrValid(a)
	setAttr(&out.Attr, a)
	return gofuse.OK
}

// attrValid is for how long the kernel may believe attributes: what is only foreseen for no time.
func (f *front) attrValid(a *volume.Attr) (sec uint64, nsec uint32) {
	if a.Foreseen {
		return 0, 0
	}
	return seconds(f.opts.AttributeTimeout)
}

// touch notes that n was changed through this mount. It comes before the
// reply to the request that changed it.
func (f *front) touch(n *node) { n.changed.Store(f.changes.Add(1)) }
