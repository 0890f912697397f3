package brick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mortarfs/mortar/brick/fsynclog"
	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

const (
	// fsyncIdle is how long an object stays in logged mode without being written or synced.
	fsyncIdle = 5 * time.Second
	// fsyncSpare is how much room the file system must have for a log to be made, in segments.
	fsyncSpare = 16
	// bootFile tells the kernel's boot.
	bootFile = "/proc/sys/kernel/random/boot_id"
)

// openLog opens the log of fsyncs, if there is one, and does what it is there for.
func (s *Store) openLog(op string, logFD int) error {
	x := &s.fsyncs
	// Btrfs never overwrites in place, and allocates for each force.
	x.off = s.opt.noLog || s.fsType == unix.BTRFS_SUPER_MAGIC
	boot := s.opt.Boot
	if boot == "" {
		b, err := os.ReadFile(bootFile)
		if err != nil {
			return err
		}
		boot = strings.TrimSpace(string(b))
	}
	l, found, err := fsynclog.Open(fsynclog.Config{Sys: s.sys, Dir: logFD, Tmp: s.tmpFD, TmpName: s.tmpName, Boot: boot, Size: s.opt.segment})
	if err != nil {
		return fmt.Errorf("the log of fsyncs in %s/%s: %w", volume.Reserved, logDir, err)
	}
	x.log, x.wanted, x.stop = l, make(chan struct{}, 1), make(chan struct{})
	if l.Exists() {
		whole, err := s.recoverLog(op, found, boot)
		if err == nil && whole {
			err = l.Begin()
		}
		if err != nil {
			return err
		}
		x.off = x.off || !whole
	}
	if !x.off {
		x.tasks.Go(s.keepLog)
	}
	return nil
}

// recoverLog makes durable, in the objects, what the log promised. not whole: the disk refuses, which is remembered of
// all that the log has something of: it stays as it is, for the next start.
func (s *Store) recoverLog(op string, found fsynclog.Found, boot string) (whole bool, err error) {
	if len(found.Records) == 0 {
		return true, nil
	}
	of := make(map[volume.ID][]fsynclog.Record)
	for _, r := range found.Records {
		of[r.ID] = append(of[r.ID], r)
	}
	s.log.Info("making durable what the log of fsyncs has", "brick", s.path, "objects", len(of), "booted", found.Boot != boot)
	var failed error
	for _, id := range found.Objects() {
		if found.Boot == boot {
			err = s.fsyncByID(op, id)
		} else {
			err = s.replay(op, id, of[id])
		}
		if err != nil && volume.ErrnoOf(err) != unix.EIO {
			return false, fmt.Errorf("what fsync promised of %s can't be written: %w", id, err)
		}
		if err != nil {
			failed = err
		}
	}
	if failed != nil {
		s.loseLog(found.Objects(), failed)
	}
	return failed == nil, nil
}

// replay writes records of an object to it, durably, if it exists still.
func (s *Store) replay(op string, id volume.ID, recs []fsynclog.Record) error {
	info, err := s.sys.Stat(s.indexFD, indexPath(id), noFollow)
	if err == unix.ENOENT || err == nil && info.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := s.sys.Open(s.indexFD, indexPath(id), unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer s.sys.Close(fd)
	for _, r := range recs {
		if err := writeAll(s.sys, fd, r.Data, r.Off); err != nil {
			return err
		}
	}
	mtime := sys.Timespec{Time: recs[len(recs)-1].Mtime}
	if err := s.sys.Utimens(fd, "", sys.Timespec{Omit: true}, mtime, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return s.syncFD(op, id, fd, false)
}

// keepLog makes the log when it is wanted first, then empties what has become full, until Close.
func (s *Store) keepLog() {
	x := &s.fsyncs
	if !x.log.Exists() {
		select {
		case <-x.stop:
			return
		case <-x.wanted:
		}
		if err := s.makeLog(); err != nil {
			s.log.Warn("there is no log of fsyncs: they take longer", "brick", s.path, "err", err)
			return
		}
	}
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		s.watchIdle()
	}()
	for {
		select {
		case <-idle: // not before: it may wait for room
			return
		case <-x.log.Full():
			s.emptyLog()
		}
	}
}

// makeLog makes the log's segments unless the file system is nearly full.
func (s *Store) makeLog() error {
	disk, err := s.Statfs(context.Background())
	if err != nil {
		return err
	}
	size := s.opt.segment
	if size == 0 {
		size = fsynclog.SegmentSize
	}
	if disk.Available < fsyncSpare*uint64(size) {
		return unix.ENOSPC
	}
	return s.fsyncs.log.Make()
}

// emptyLog empties the segment that is full. It waits while the process has not even a descriptor for it.
func (s *Store) emptyLog() {
	x := &s.fsyncs
	for {
		err := s.tryEmpty()
		if err == nil {
			return
		}
		if e := volume.ErrnoOf(err); e != unix.EMFILE && e != unix.ENFILE && e != unix.ENOMEM {
			s.abandonLog(err)
			return
		}
		select {
		case <-x.stop:
			s.abandonLog(err)
			return
		case <-time.After(time.Second):
		}
	}
}

// tryEmpty makes all durable that the full segment has, and empties it.
func (s *Store) tryEmpty() error {
	ids, ok := s.fsyncs.log.ToEmpty()
	if !ok {
		return nil
	}
	for _, id := range ids {
		if err := s.fsyncByID("fsync", id); err != nil {
			return err
		}
	}
	return s.fsyncs.log.Empty()
}

// watchIdle takes objects out of logged mode that were not used for a while, until Close.
func (s *Store) watchIdle() {
	limit := s.opt.fsyncIdle
	if limit == 0 {
		limit = fsyncIdle
	}
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for {
		select {
		case <-s.fsyncs.stop:
			return
		case <-tick.C:
			s.leaveIdle(time.Now().Add(-limit))
		}
	}
}

// leaveIdle takes objects out of logged mode that were not used since then.
func (s *Store) leaveIdle(since time.Time) {
	x := &s.fsyncs
	for i := range x.shards {
		sh := &x.shards[i]
		var idle []*fsynced
		sh.mu.Lock()
		for _, o := range sh.m {
			if o.logged && o.used.Before(since) {
				o.refs++
				idle = append(idle, o)
			}
		}
		sh.mu.Unlock()
		for _, o := range idle {
			if err := s.leave("fsync", o, true); err != nil {
				s.log.Warn("an idle file stays in the log of fsyncs", "brick", s.path, "id", o.id, "err", err)
			}
			x.drop(o)
		}
	}
}

// inLiveLog reports whether the log has something of the object.
func (s *Store) inLiveLog(id volume.ID) bool { return s.fsyncs.log != nil && s.fsyncs.log.Live(id) }

// abandonLog gives the log up because of err: what it has is made durable in the objects and the log removed. If that fails, it will
// be replayed at a start, so nothing more can be promised of the objects. When it returns, either is done. order may be held, no stripe.
func (s *Store) abandonLog(err error) {
	x := &s.fsyncs
	x.gaveUp.Do(func() {
		s.log.Error("the log of fsyncs is given up: they take longer", "brick", s.path, "err", err)
		x.log.GiveUp(err)
		ids := x.log.Objects()
		var errs []error
		for _, id := range ids {
			errs = append(errs, s.fsyncByID("fsync", id))
		}
		failed := errors.Join(errs...)
		if failed == nil {
			failed = x.log.Remove()
		}
		if failed != nil {
			s.loseLog(ids, failed)
		}
	})
}

// loseLog notes that objects can't be made durable any more, because a log of them stays that may be older.
func (s *Store) loseLog(ids []volume.ID, err error) {
	for _, id := range ids {
		s.rememberFailed("fsync", id, err)
	}
}

// closeLog ends what keeps the log. If all that it has can be made durable in the objects it is left empty, so that the brick
// needs no replay, wherever it is opened next.
func (s *Store) closeLog() {
	x := &s.fsyncs
	if x.log == nil {
		return
	}
	close(x.stop)
	x.tasks.Wait()
	if x.log.Written() && s.drainLog() != nil {
		s.log.Warn("the log of fsyncs is not empty: the next start makes its contents durable", "brick", s.path)
	}
	x.log.Close()
	x.log = nil
}

// drainLog makes all durable that the log has, and empties it.
func (s *Store) drainLog() error {
	for _, id := range s.fsyncs.log.Objects() {
		if err := s.fsyncByID("fsync", id); err != nil {
			return err
		}
	}
	return s.fsyncs.log.Begin()
}
