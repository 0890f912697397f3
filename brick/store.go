package brick

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/locks"
	"golang.org/x/sys/unix"
)

// Store serves one brick. See the package comment for the format and the order
// of locks.
type Store struct {
	path     string
	identity Identity
	opt      Options
	log      *slog.Logger
	sys      sys.Sys

	// Descriptors that stay open from Open to Close.
	rootFD, mortarFD, indexFD, openFD, discardFD, tmpFD int
	indexProc, discardProc, tmpProc                     string // "/proc/self/fd/N/"
	dev                                                 uint64 // of the file system
	fsType                                              int64  // statfs(2)'s

	dirs   *dirCache
	inodes *inodes
	names  nameLocks
	objs   objects

	// tree is held for reading while a directory is looked for by its place in
	// the index, for writing by who moves or removes directories.
	tree sync.RWMutex

	times    fixedTimes
	listings listings
	discards discardTable
	journal  *journal
	settle   group
	fsyncs   fsyncs
	locks    locks.Table // of who uses the Store without a server, which has its own

	// waiting is set from Open until Orphans: clients may still come back to
	// what they had open, so what is kept in .mortar/open counts as open.
	waiting atomic.Bool
	opened  volume.Time   // when Open began
	notes   atomic.Bool   // a note was left in .mortar/tmp, see resolveNote
	serial  atomic.Uint64 // numbers names in .mortar/tmp

	unhealthy struct {
		sync.Mutex
		err error
	}
}

var _ volume.Store = (*Store)(nil)

// Brick returns the brick's directory as it was given to Open.
func (s *Store) Brick() string { return s.path }

// Identity returns the brick's identity.
func (s *Store) Identity() Identity { return s.identity }

// Unhealthy returns why the store should no longer be trusted: the first
// failure of an fsync, syncfs or journal write. nil: it is well.
func (s *Store) Unhealthy() error {
	s.unhealthy.Lock()
	defer s.unhealthy.Unlock()
	return s.unhealthy.err
}

// sick notes that what was written may be lost.
func (s *Store) sick(what string, err error) {
	s.unhealthy.Lock()
	first := s.unhealthy.err == nil
	if first {
		s.unhealthy.err = &volume.Error{Op: what, Where: s.path, Errno: syscall.EIO, Reason: volume.Damaged, Err: err}
	}
	failed := s.unhealthy.err
	s.unhealthy.Unlock()
	if !first {
		return
	}
	s.log.Error("the brick can't make data durable; replace its disk", "brick", s.path, "operation", what, "err", err)
	if s.opt.Unhealthy != nil {
		s.opt.Unhealthy(failed)
	}
}

// start says whether an operation may begin: its context has not ended.
func start(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &volume.Error{Op: op, Errno: volume.ErrnoOf(err), Err: err}
	}
	return nil
}

// fail makes an Error of what a system call or another method returned.
func fail(op, where string, err error) error {
	var ve *volume.Error
	if errors.As(err, &ve) {
		return err
	}
	e := &volume.Error{Op: op, Where: where, Errno: volume.ErrnoOf(err)}
	switch e.Errno {
	case unix.EIO:
		e.Reason = volume.Damaged
	case unix.EUCLEAN, unix.EBADF, unix.ENOTCONN, unix.EBADMSG:
		e.Errno, e.Reason, e.Err = unix.EIO, volume.Damaged, err
	}
	return e
}

// stale is the error for an ID that is not here.
func stale(op string, id volume.ID) error {
	return &volume.Error{Op: op, Where: id.String(), Errno: unix.ESTALE}
}

// noObject is the cause of an error for what contradicts itself on the disk, or
// is none of Mortar's, as opposed to a disk that can't be read.
type noObject struct{ error }

func (e noObject) Unwrap() error { return e.error }

// damaged is the error for what contradicts itself on the disk.
func damaged(op, where, format string, a ...any) error {
	return &volume.Error{Op: op, Where: where, Errno: unix.EIO, Reason: volume.Damaged, Err: noObject{fmt.Errorf(format, a...)}}
}

// hidden reports whether name is Mortar's own directory.
func hidden(dir volume.ID, name string) bool {
	return dir == volume.Root && name == volume.Reserved
}

// checkNew says why name can't be made in dir: EPERM for Mortar's own.
func checkNew(op string, dir volume.ID, name string) error {
	if err := volume.CheckName(op, name); err != nil {
		return err
	}
	if hidden(dir, name) {
		return volume.Errorf(op, name, unix.EPERM, "the name is Mortar's own")
	}
	return nil
}

// checkOld says why name can't be in dir: ENOENT for Mortar's own.
func checkOld(op string, dir volume.ID, name string) error {
	if err := volume.CheckName(op, name); err != nil {
		return err
	}
	if hidden(dir, name) {
		return &volume.Error{Op: op, Where: name, Errno: unix.ENOENT}
	}
	return nil
}

// Statfs tells how full the brick's file system is.
func (s *Store) Statfs(ctx context.Context) (volume.Statfs, error) {
	const op = "statfs"
	if err := start(ctx, op); err != nil {
		return volume.Statfs{}, err
	}
	f, err := s.sys.Statfs(s.rootFD)
	if err != nil {
		return volume.Statfs{}, fail(op, s.path, err)
	}
	unit := uint64(f.FragSize)
	if unit == 0 {
		unit = uint64(f.BlockSize)
	}
	return volume.Statfs{
		Total: f.Blocks * unit, Free: f.Free * unit, Available: f.Available * unit,
		Files: f.Files, FilesFree: f.FilesFree,
		BlockSize: uint32(f.BlockSize), NameMax: volume.NameMax,
	}, nil
}

// Settle makes everything applied so far durable: syncfs(2).
func (s *Store) Settle(ctx context.Context) error {
	const op = "settle"
	err := s.settle.do(ctx, func() error {
		if err := s.Unhealthy(); err != nil {
			return err
		}
		if err := s.sys.Syncfs(s.rootFD); err != nil {
			s.sick("syncfs", err)
			return err
		}
		return nil
	})
	if err != nil {
		return fail(op, s.path, err)
	}
	return nil
}

// Journal returns the owner's journal.
func (s *Store) Journal() volume.Journal { return s.journal }
