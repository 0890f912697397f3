package brick

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Options of Open. The zero value serves whatever brick is there.
type Options struct {
	// Logger takes what an administrator should know; nil: nothing is logged.
	Logger *slog.Logger

	// Expect is the identity that the brick must have; fields that are zero are not compared.
	Expect Identity

	// Reclaim says that clients that had files open before a restart will open
	// them again: until Orphans, a file that was born before this start and
	// loses its last name is kept for them.
	Reclaim bool

	// Unhealthy is called once, when the first write to the disk has failed
	// (see Store.Unhealthy). It must not call the store.
	Unhealthy func(error)

	// Boot is the ID of the kernel's boot, at most 72 bytes; "": what the kernel says. After another boot what the log of fsyncs
	// has is written to its objects, for the page cache is not what it was.
	Boot string

	// Bounds of caches; 0: the default.
	Directories int // open directories, each a descriptor: a quarter of RLIMIT_NOFILE, at most 8192
	Inodes      int // known inodes, about 100 bytes each: 1<<18
	Listed      int // names in sorted indexes, about 60 bytes each: 1<<20

	// For tests.
	sys       sys.Sys       // nil: sys.Real
	noLog     bool          // fsync is always the real one
	segment   int64         // of the log of fsyncs, bytes; 0: fsynclog.SegmentSize
	fsyncIdle time.Duration // 0: fsyncIdle
}

// Open opens the brick at path, mends what a crash has left unfinished, and
// keeps others from opening it until Close.
//
// The process's umask becomes 0: modes are the callers' (see volume.Node).
//
// Errors: ENOENT, there is no brick; EINVAL, its identity is truncated, foreign
// or of an unknown version, or not the expected one; EBUSY, another process serves it.
func Open(path string, opt Options) (*Store, error) {
	const op = "open brick"
	s := &Store{path: path, opt: opt, log: opt.Logger, sys: opt.sys, opened: volume.TimeOf(time.Now()),
		rootFD: -1, mortarFD: -1, indexFD: -1, openFD: -1, discardFD: -1, tmpFD: -1}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.sys == nil {
		s.sys = sys.Real{}
	}
	for i := range s.objs.stripes {
		s.objs.stripes[i].number = i
	}
	var err error
	if s.identity, err = ReadIdentity(path); err != nil {
		return nil, err
	}
	if err := s.identity.matches(&opt.Expect); err != nil {
		return nil, volume.Errorf(op, path, unix.EINVAL, "%w", err)
	}
	syscall.Umask(0)
	if err := s.open0(op); err != nil {
		s.Close()
		return nil, fail(op, path, err)
	}
	return s, nil
}

// matches says how an identity differs from the expected one.
func (i *Identity) matches(want *Identity) error {
	for _, f := range []struct{ what, have, want string }{
		{"volume", i.Volume + " (" + i.VolumeID + ")", want.Volume + " (" + want.VolumeID + ")"},
		{"set", strconv.Itoa(int(i.Set)), strconv.Itoa(int(want.Set))},
		{"brick", i.BrickID, want.BrickID},
	} {
		asked := f.want != "" && f.want != "0" && f.want != " ()"
		if f.what == "volume" {
			asked = want.VolumeID != "" && want.VolumeID != i.VolumeID || want.Volume != "" && want.Volume != i.Volume
		}
		if asked && f.have != f.want {
			return fmt.Errorf("the directory holds a brick of %s %s, not of %s", f.what, f.have, f.want)
		}
	}
	return nil
}

// open0 opens the brick's directories, takes its lock and mends it.
func (s *Store) open0(op string) error {
	var err error
	open := func(dirfd int, name string) int {
		if err != nil {
			return -1
		}
		var fd int
		if fd, err = s.sys.Open(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
			return -1
		}
		return fd
	}
	s.rootFD = open(unix.AT_FDCWD, s.path)
	s.mortarFD = open(s.rootFD, volume.Reserved)
	s.indexFD = open(s.mortarFD, indexDir)
	s.openFD = open(s.mortarFD, openDir)
	s.discardFD = open(s.mortarFD, discardDir)
	s.tmpFD = open(s.mortarFD, tmpDir)
	if err != nil {
		return err
	}
	if err := s.sys.Flock(s.mortarFD, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		return volume.Errorf(op, s.path, unix.EBUSY, "another process serves the brick")
	} else if err != nil {
		return err
	}
	s.indexProc, s.tmpProc, s.discardProc = procPath(s.indexFD), procPath(s.tmpFD), procPath(s.discardFD)
	s.listings.limit = orDefault(s.opt.Listed, 1<<20)
	s.inodes = newInodes(orDefault(s.opt.Inodes, 1<<18))
	s.dirs = newDirCache(s.sys, &s.listings, orDefault(s.opt.Directories, directoryLimit()))
	info, err := s.sys.Stat(s.rootFD, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	s.dev = info.Dev
	disk, err := s.sys.Statfs(s.rootFD)
	if err != nil {
		return err
	}
	s.fsType = disk.Type
	fd, err := s.sys.Open(s.rootFD, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	root := s.dirs.add(volume.Root, fd) // and never put back: it stays
	if n, err := s.identify(op, root.proc+".", s.path, &info); err != nil {
		return err
	} else if n.ID != volume.Root || n.Held != 0 {
		return volume.Errorf(op, s.path, unix.EINVAL, "its directory has the ID %s, not the root's", n.ID)
	}
	logFD := open(s.mortarFD, logDir)
	if err != nil {
		return err
	}
	if s.journal, err = openJournal(s.sys, logFD, s.sick); err != nil {
		s.sys.Close(logFD)
		return fmt.Errorf("%s/%s/%s: %w", volume.Reserved, logDir, journalFile, err)
	}
	if err := s.sweep(op); err != nil {
		return err
	}
	return s.openLog(op, logFD)
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) + "/" }

func orDefault(v, def int) int {
	if v > 0 {
		return v
	}
	return def
}

// directoryLimit is the default bound of open directories.
func directoryLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 256
	}
	return int(min(r.Cur/4, 8192))
}

// tmpName returns a name for .mortar/tmp that is not in use.
func (s *Store) tmpName(prefix string) string {
	return prefix + "." + strconv.FormatUint(s.serial.Add(1), 36)
}

// Close gives the brick up. No call may be under way and every File closed:
// what is open still and has no name stays in .mortar/open, as after a crash. What
// fsync has promised is durable in the objects then: the log of fsyncs is empty.
func (s *Store) Close() error {
	s.closeLog()
	for i := range s.objs.stripes {
		st := &s.objs.stripes[i]
		st.Lock()
		for id, o := range st.open {
			delete(st.open, id)
			s.closeObject(o)
		}
		st.Unlock()
	}
	if s.dirs != nil {
		s.dirs.close()
	}
	if s.journal != nil {
		s.journal.close()
	}
	for _, fd := range []*int{&s.tmpFD, &s.discardFD, &s.openFD, &s.indexFD, &s.mortarFD, &s.rootFD} {
		if *fd >= 0 {
			s.sys.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

// Hold makes all that has no name stay until Release, as if it had lost its name
// with volume.Fixed.Keep: what a start finds in .mortar/open was open at the
// set's primary, which alone can tell whether it still is. So nothing waits for
// Orphans any more. It is called by who serves a member of a set, before that.
func (s *Store) Hold() {
	for i := range s.objs.stripes {
		st := &s.objs.stripes[i]
		st.Lock()
		for id, e := range st.extra {
			if e.kept {
				e.held = true
				st.extra[id] = e
			}
		}
		st.Unlock()
	}
	s.waiting.Store(false)
}

// Orphans removes what is kept in .mortar/open without a name and is neither
// open nor held.
func (s *Store) Orphans(ctx context.Context) error {
	const op = "orphans"
	if err := start(ctx, op); err != nil {
		return err
	}
	s.waiting.Store(false)
	var failed error
	for i := range s.objs.stripes {
		st := &s.objs.stripes[i]
		st.Lock()
		for id, e := range st.extra {
			if e.kept && !e.held && st.open[id] == nil {
				if err := s.removeKept(st, id); err != nil {
					failed = fail(op, id.String(), err)
				}
			}
		}
		st.Unlock()
		if err := start(ctx, op); err != nil {
			return err
		}
	}
	return failed
}
