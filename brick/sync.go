package brick

import (
	"context"
	"time"

	"github.com/mortarfs/mortar/brick/fsynclog"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Sync makes the file durable. Once it has failed it fails for good: the kernel
// forgets what it could not write, so a second try would lie.
func (h *file) Sync(ctx context.Context, dataOnly bool) error {
	const op = "fsync"
	if err := start(ctx, op); err != nil {
		return err
	}
	return h.s.syncObject(op, h.o.id, h.anyFD(), dataOnly)
}

// syncObject makes a regular file durable: by way of the log, if that has all that is not durable yet, or really.
func (s *Store) syncObject(op string, id volume.ID, fd int, dataOnly bool) error {
	if err := s.failedBefore(op, id); err != nil {
		return err
	}
	x := &s.fsyncs
	o := x.hold(id)
	defer x.drop(o)
	if last, ok := x.inLog(o); ok {
		err := x.log.Force(last)
		if err == nil {
			return nil
		}
		s.abandonLog(err)
	}
	return s.syncReally(op, o, fd, dataOnly)
}

// inLog returns the record up to which the log must be forced to make an object durable. ok is false if that is not enough.
func (x *fsyncs) inLog(o *fsynced) (last fsynclog.Seq, ok bool) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !o.logged || o.unlogged {
		return 0, false
	}
	o.written, o.used = 0, time.Now()
	o.proved++
	return o.last, true
}

// syncReally makes a regular file durable with fsync(2), and void what the log has of it. It may put it into logged mode.
func (s *Store) syncReally(op string, o *fsynced, fd int, dataOnly bool) error {
	x := &s.fsyncs
	b := s.beginSync(o)
	if err := s.syncFD(op, o.id, fd, dataOnly && !b.base); err != nil {
		return err
	}
	if b.logged && x.log.Live(o.id) {
		if err := x.log.Mark(o.id, b.before); err != nil {
			s.abandonLog(err)
		}
	}
	if x.endSync(o, b) {
		select {
		case x.wanted <- struct{}{}:
		default:
		}
	}
	return s.failedBefore(op, o.id) // the log may have been abandoned, without success
}

// realSync is what was so when a real fsync began.
type realSync struct {
	logged bool         // the object was in logged mode
	before fsynclog.Seq // then: earlier records of it are of writes that had ended
	quiet  bool         // no change was under way that the log will not have
	begun  uint64       // how many of those there had been
	base   bool         // all of the object is to be durable afterwards, its attributes too
}

// beginSync notes the beginning of a real fsync.
func (s *Store) beginSync(o *fsynced) (b realSync) {
	x := &s.fsyncs
	sh := x.shard(o.id)
	sh.mu.Lock()
	b = realSync{logged: o.logged, quiet: o.under == 0, begun: o.begun, base: !x.off && (o.logged || o.quick+1 >= o.need())}
	sh.mu.Unlock()
	if b.logged {
		o.order.Lock() // of no write the record is there and the data are not
		b.before = x.log.Next()
		o.order.Unlock()
	}
	return b
}

// endSync notes the end of a real fsync, and reports whether a log should be made for the object. The object has a new base if nothing was changed
// meanwhile but what the log has.
func (x *fsyncs) endSync(o *fsynced, b realSync) (wanted bool) {
	sh := x.shard(o.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !b.quiet || o.begun != b.begun {
		return false
	}
	switch {
	case o.logged != b.logged:
		return false
	case o.logged:
		o.unlogged, o.written, o.used = false, 0, time.Now()
		return false
	case o.quick > 0 && o.written > fsyncSmall:
		o.quick = 0
	}
	o.quick++
	o.written = 0
	if o.quick < o.need() || !b.base || x.off {
		return false
	}
	if !x.log.Usable() || x.logged.Load() >= fsyncLogged {
		return true
	}
	x.logged.Add(1)
	o.logged, o.unlogged, o.last, o.proved, o.used = true, false, 0, 0, time.Now()
	return false
}

// syncFD syncs an object by its descriptor and remembers a failure.
func (s *Store) syncFD(op string, id volume.ID, fd int, dataOnly bool) error {
	if err := s.failedBefore(op, id); err != nil {
		return err
	}
	call := s.sys.Fsync
	if dataOnly {
		call = s.sys.Fdatasync
	}
	if err := call(fd); err != nil {
		s.rememberFailed(op, id, err)
		return s.failedBefore(op, id)
	}
	return nil
}

// fsyncByID makes a regular file durable, really, if it exists.
func (s *Store) fsyncByID(op string, id volume.ID) error {
	fd, err := s.sys.Open(s.indexFD, indexPath(id), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fail(op, id.String(), err)
	}
	defer s.sys.Close(fd)
	return s.syncFD(op, id, fd, false)
}

func (s *Store) failedBefore(op string, id volume.ID) error {
	st := s.objs.stripe(id)
	st.RLock()
	defer st.RUnlock()
	if _, failed := st.failed[id]; failed {
		return damaged(op, id.String(), "an earlier write to the disk failed")
	}
	return nil
}

func (s *Store) rememberFailed(op string, id volume.ID, err error) {
	st := s.objs.stripe(id)
	st.Lock()
	if st.failed == nil {
		st.failed = make(map[volume.ID]struct{})
	}
	st.failed[id] = struct{}{}
	st.Unlock()
	s.sick(op, err)
}

func (h *file) syncFailed(op string) error        { return h.s.failedBefore(op, h.o.id) }
func (h *file) markFailed(what string, err error) { h.s.rememberFailed(what, h.o.id, err) }
