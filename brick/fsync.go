package brick

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/fsynclog"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// fsyncs decides which objects are made durable by way of the log of fsyncs (package fsynclog), see "Fsync" in the package
// comment. It knows every change of a regular file that is under way, and remembers of some files how they were synced.
type fsyncs struct {
	log    *fsynclog.Log
	off    bool         // the log is not to be used here
	logged atomic.Int32 // objects in logged mode
	wanted chan struct{}
	stop   chan struct{}
	tasks  sync.WaitGroup
	gaveUp sync.Once
	shards [fsyncShards]fsyncShard
}

const (
	fsyncShards = 64
	// fsyncKnown is how many objects a shard remembers without their being in logged mode.
	fsyncKnown = 32
	// fsyncLogged bounds the objects in logged mode.
	fsyncLogged = 1000
	// fsyncSmall is how much is written between two fsyncs of a file that is worth logging, bytes.
	fsyncSmall = 64 << 10
	// fsyncLong is how much a logged object takes without a Sync before it is left to the kernel, bytes.
	fsyncLong = 256 << 10
	// fsyncProved is how many Syncs show that it was right to log an object.
	fsyncProved = 16
)

type fsyncShard struct {
	mu sync.Mutex // a leaf
	m  map[volume.ID]*fsynced
}

// fsynced is what is known of the Syncs of a regular file, and of what is under way with it.
type fsynced struct {
	id volume.ID

	// order is held over a write in logged mode and the making of its record, and while the object leaves the mode.
	order sync.Mutex

	// Guarded by the shard.
	refs     int          // calls that look at it
	logged   bool         // the mode; it ends under order, too
	unlogged bool         // in logged mode: attributes or names have changed since the base, or a write could not be noted
	under    int          // changes under way of which the log will have nothing
	begun    uint64       // how many of those there were
	written  int64        // bytes, since the last Sync
	quick    int          // real fsyncs in a row with little between them
	proved   int          // Syncs since it was logged
	lapses   int          // how often in a row it left the mode for having been put there wrongly
	last     fsynclog.Seq // its newest record
	used     time.Time    // when it was last written or synced; in logged mode only
}

func (x *fsyncs) shard(id volume.ID) *fsyncShard { return &x.shards[id[3]%fsyncShards] }

// hold returns what is known of an object; drop must follow.
func (x *fsyncs) hold(id volume.ID) *fsynced {
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o := sh.m[id]
	if o == nil {
		if sh.m == nil {
			sh.m = make(map[volume.ID]*fsynced)
		}
		o = &fsynced{id: id}
		sh.m[id] = o
	}
	o.refs++
	return o
}

// drop forgets the object if nothing is remarkable about it, and another one if too many are remembered.
func (x *fsyncs) drop(o *fsynced) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.refs--
	switch {
	case o.refs > 0 || o.logged:
	case o.quick == 0 && o.lapses == 0:
		delete(sh.m, o.id)
	case len(sh.m) > fsyncKnown:
		for id, other := range sh.m {
			if other.refs == 0 && !other.logged {
				delete(sh.m, id)
				break
			}
		}
	}
}

// need is how many real fsyncs in a row with little between them put the object into logged mode.
func (o *fsynced) need() int { return 2 << min(o.lapses, 6) }

// beginPlain notes that a change begins of which the log will have nothing; end must follow. It may not in logged
// mode, unless the change is of attributes or names alone.
func (x *fsyncs) beginPlain(o *fsynced, attrs bool) bool {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if o.logged && !attrs {
		return false
	}
	o.under++
	o.begun++
	o.unlogged = true
	return true
}

// endPlain notes that n bytes were written, or that something else was done, after which the object is not one
// that is just written and synced.
func (x *fsyncs) endPlain(o *fsynced, n int, write bool) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.under--
	o.written += int64(n)
	if !write {
		o.quick = 0
	}
}

// touch is called before a change of objects' attributes or names, what it returns after it: the next Sync is a real one.
func (s *Store) touch(ids ...volume.ID) (end func()) {
	x := &s.fsyncs
	for _, id := range ids {
		x.beginPlain(x.hold(id), true)
	}
	return func() {
		for _, id := range ids {
			o := x.hold(id)
			x.endPlain(o, 0, false)
			x.drop(o)
			x.drop(o)
		}
	}
}

// alter is called before a change of a regular file's contents, size or times that is no small write, what it
// returns after it: the file leaves logged mode. No stripe is locked. An error is remembered like that of an fsync.
func (s *Store) alter(op string, id volume.ID) (end func(), err error) {
	x := &s.fsyncs
	o := x.hold(id)
	for !x.beginPlain(o, false) {
		if err := s.leave(op, o, false); err != nil {
			x.drop(o)
			return nil, err
		}
	}
	return func() {
		x.endPlain(o, 0, false)
		x.drop(o)
	}, nil
}

// writeNoted writes p at off by write, which says how much it wrote. In logged mode the log gets a record of it. h.o.size is held.
func (h *file) writeNoted(op string, p []byte, off int64, write func() (int, error)) (int, error) {
	x := &h.s.fsyncs
	o := x.hold(h.o.id)
	defer x.drop(o)
	for !x.beginPlain(o, false) {
		n, done, err := h.writeLogged(o, op, p, off, write)
		if done || err != nil {
			return n, err
		}
	}
	n, err := write()
	x.endPlain(o, n, true)
	return n, err
}

// writeLogged is writeNoted for an object in logged mode. Neither done nor failed: it has left that, and nothing was written.
func (h *file) writeLogged(o *fsynced, op string, p []byte, off int64, write func() (int, error)) (n int, done bool, err error) {
	x := &h.s.fsyncs
	o.order.Lock()
	defer o.order.Unlock()
	if !x.isLogged(o) {
		return 0, false, nil
	}
	if len(p) > fsynclog.DataMax || x.long(o) || !x.log.Reserve(len(p)) {
		return 0, false, h.s.leaveLocked(op, o, h.wr, false)
	}
	n, err = write()
	info, e := h.s.sys.Stat(h.wr, "", unix.AT_EMPTY_PATH)
	if e != nil {
		x.log.Unreserve(len(p))
		x.unnoted(o)
		if e := h.s.leaveLocked(op, o, h.wr, false); e != nil && err == nil {
			err = e
		}
		return n, true, err
	}
	seq, e := x.log.Append(fsynclog.Record{ID: o.id, Off: off, Data: p[:n], Mtime: info.Mtime}, len(p))
	if e != nil {
		h.s.abandonLog(e)
		x.setPlain(o, false)
		return n, true, err
	}
	x.noted(o, seq, n)
	return n, true, err
}

// noted notes that the log has a record of n bytes that were written.
func (x *fsyncs) noted(o *fsynced, seq fsynclog.Seq, n int) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.last, o.used = seq, time.Now()
	o.written += int64(n)
}

// unnoted notes that something was written of which the log has nothing.
func (x *fsyncs) unnoted(o *fsynced) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.begun++
	o.unlogged = true
}

// isLogged reports whether the object is in logged mode; under order it stays there.
func (x *fsyncs) isLogged(o *fsynced) bool {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return o.logged
}

// long reports whether an object in logged mode is not synced as often as to be worth it.
func (x *fsyncs) long(o *fsynced) bool {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return o.written > fsyncLong
}

// leave takes an object out of logged mode. idle: it was not used for a while; otherwise it may be left alone longer next time.
func (s *Store) leave(op string, o *fsynced, idle bool) error {
	o.order.Lock()
	defer o.order.Unlock()
	if !s.fsyncs.isLogged(o) {
		return nil
	}
	return s.leaveLocked(op, o, -1, idle)
}

// leaveLocked is leave with order held: what the log has of the object is made durable in the object, then voided in the log, durably.
// fd is a descriptor of the object, -1: there is none.
func (s *Store) leaveLocked(op string, o *fsynced, fd int, idle bool) error {
	x := &s.fsyncs
	if x.log.Live(o.id) {
		before := x.log.Next()
		err := error(nil)
		if fd >= 0 {
			err = s.syncFD(op, o.id, fd, false)
		} else {
			err = s.fsyncByID(op, o.id)
		}
		if err != nil {
			return err
		}
		if err := x.log.Mark(o.id, before); err != nil {
			s.abandonLog(err)
		}
	}
	x.setPlain(o, idle)
	return nil
}

// setPlain ends logged mode; order is held.
func (x *fsyncs) setPlain(o *fsynced, idle bool) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	o.logged, o.written, o.quick = false, 0, 0
	x.logged.Add(-1)
	switch {
	case idle:
		o.quick = o.need() - 1
	case o.proved < fsyncProved:
		o.lapses++
	default:
		o.lapses = 0
	}
}
