package brick

import (
	"context"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// fixed is what the set's primary has decided of an operation (volume.Fixed).
// The zero value is of an operation of which nobody decided anything.
type fixed struct {
	volume.Fixed
	is bool
}

func fixedOf(ctx context.Context) fixed {
	f, is := volume.FixedOf(ctx)
	return fixed{f, is}
}

// present is the operation's time for utimensat(2).
func (fx fixed) present() sys.Timespec {
	if fx.is {
		return sys.Timespec{Time: fx.Now}
	}
	return sys.Timespec{Now: true}
}

// fixedTimes remembers, of what was changed lately, the mtime that it got with
// a volume.Fixed and when that was decided. Members may apply changes that are under way at a
// time in different orders, and still end with the same mtime: the one decided last.
// A shard's lock is held over the utimensat(2), which so comes to the disk in the same order.
//
// It is bounded: a shard forgets what it has not seen among the last
// fixedRecent objects, which is long after their changes were made everywhere.
type fixedTimes struct {
	shards [fixedShards]fixedShard
}

const (
	fixedShards = 64
	fixedRecent = 256
	// fixedWindow is how many seconds a change may be late. What seems later
	// was decided by a clock that was set back, and counts.
	fixedWindow = 60
)

type fixedShard struct {
	mu struct {
		sync.Mutex
		young, old map[volume.ID]fixedTime
	}
}

// fixedTime is an mtime and when it was decided.
type fixedTime struct {
	at, mtime volume.Time
}

func (x *fixedTimes) shard(id volume.ID) *fixedShard { return &x.shards[id[2]%fixedShards] }

func (s *fixedShard) get(id volume.ID) (fixedTime, bool) {
	t, ok := s.mu.young[id]
	if !ok {
		t, ok = s.mu.old[id]
	}
	return t, ok
}

func (s *fixedShard) put(id volume.ID, t fixedTime) {
	if len(s.mu.young) >= fixedRecent {
		s.mu.young, s.mu.old = nil, s.mu.young
	}
	if s.mu.young == nil {
		s.mu.young = make(map[volume.ID]fixedTime)
	}
	s.mu.young[id] = t
}

// set calls apply with the mtime that the object gets by a change decided at
// now, which is mtime unless a later one was applied already.
func (x *fixedTimes) set(id volume.ID, now, mtime volume.Time, apply func(mtime volume.Time) error) error {
	s := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.get(id)
	if late := known && now.Before(t.at) && t.at.Sec-now.Sec <= fixedWindow; !late {
		t = fixedTime{at: now, mtime: mtime}
		s.put(id, t)
	}
	return apply(t.mtime)
}

// keep calls apply with the mtime that the object got last, or with mtime if that is not known.
func (x *fixedTimes) keep(id volume.ID, mtime volume.Time, apply func(mtime volume.Time) error) error {
	s := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, known := s.get(id); known {
		mtime = t.mtime
	}
	return apply(mtime)
}

// NewReign implements volume.Member.
func (s *Store) NewReign() {
	for i := range s.times.shards {
		sh := &s.times.shards[i]
		sh.mu.Lock()
		sh.mu.young, sh.mu.old = nil, nil
		sh.mu.Unlock()
	}
}

// forget makes the object's next change count whenever it was decided.
func (x *fixedTimes) forget(id volume.ID, apply func() error) error {
	s := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.young, id)
	delete(s.mu.old, id)
	return apply()
}

// stamp gives an object, of which contents or entries were just changed, the
// mtime that the primary decided on. A failure is no failure of the change.
func (s *Store) stamp(fx fixed, id volume.ID, fd int) {
	if !fx.is {
		return
	}
	err := s.times.set(id, fx.Now, fx.Now, func(t volume.Time) error {
		return s.sys.Utimens(fd, "", sys.Timespec{Omit: true}, sys.Timespec{Time: t}, unix.AT_EMPTY_PATH)
	})
	if err != nil {
		s.log.Warn("a modification time could not be set as the other members have it", "brick", s.path, "id", id, "err", err)
	}
}

// stampDirs is stamp for directories in which names were changed.
func (s *Store) stampDirs(fx fixed, dirs ...*dir) {
	if !fx.is {
		return
	}
	for i, d := range dirs {
		if i == 0 || d != dirs[0] {
			s.stamp(fx, d.id, d.fd)
		}
	}
}

// stampNew gives an object that has no name yet the times of its birth.
func (s *Store) stampNew(fx fixed, fd int, path string, flags int) error {
	if !fx.is {
		return nil
	}
	t := sys.Timespec{Time: fx.Now}
	return s.sys.Utimens(fd, path, t, t, flags)
}

// setTimes sets the times of a change whose other parts are made. cut: it set the size.
func (s *Store) setTimes(t *target, c *volume.Change, fx fixed) error {
	at, mt, set := newTimes(c)
	cut := c.Mask&volume.SetSize != 0 && mt.Omit
	if !fx.is {
		if cut && c.Size == t.info.Size {
			// A cut to the same length counts as a change, which not every file system thinks.
			mt, set = sys.Timespec{Now: true}, true
		}
		if !set {
			return nil
		}
		return s.sys.Utimens(t.fd, t.path, at, mt, noFollow)
	}
	if at.Now {
		at = fx.present()
	}
	if mt.Now || cut {
		mt = fx.present()
	}
	if mt.Omit {
		if at.Omit {
			return nil
		}
		return s.sys.Utimens(t.fd, t.path, at, mt, noFollow)
	}
	return s.times.set(t.ID, fx.Now, mt.Time, func(m volume.Time) error {
		return s.sys.Utimens(t.fd, t.path, at, sys.Timespec{Time: m}, noFollow)
	})
}
