package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// Config says what to mount, and where.
type Config struct {
	FS      volume.FS
	Dir     string // the mount point; it must exist
	Source  string // as the kernel shall show it
	Subdir  string // of the volume, to be the mount's root; "": all of it
	Options Options
	Logger  *slog.Logger // nil: slog.Default()
}

// maxBackground is how many requests the kernel has on their way that no one
// waits for one by one: read-ahead, direct I/O's pieces, pages of mappings.
const maxBackground = 256

// Server is a mount that is being served.
type Server struct {
	path   string
	device int // a second descriptor of the connection, for the watcher
	server *gofuse.Server
	front  *front
	done   chan struct{} // closed when all is over
}

// Mount mounts a volume and serves it until it is unmounted, by Unmount or by
// anyone. It returns when the mount can be used. ctx bounds only Mount itself.
// Errors are one sentence; then nothing is mounted.
//
// A process should leave alone what it serves itself, above all before Mount has
// returned (see pollOnce): a thread that waits in the kernel for an answer of
// its own process can keep that process from ending. umount -f helps then.
func Mount(ctx context.Context, cfg Config) (*Server, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	root, err := resolve(ctx, cfg.FS, cfg.Subdir)
	if err != nil {
		return nil, err
	}
	path, err := mountPoint(cfg.Dir, cfg.Source)
	if err != nil {
		return nil, err
	}
	device, err := openDevice()
	if err != nil {
		return nil, err
	}
	if err := mount2(device, cfg.Source, path, cfg.Options.Flags); err != nil {
		unix.Close(device)
		return nil, err
	}
	s := &Server{path: path, front: newFront(cfg.FS, root, cfg.Options, log), done: make(chan struct{})}
	if s.device, err = unix.FcntlInt(uintptr(device), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		unix.Unmount(path, unix.MNT_DETACH)
		unix.Close(device)
		return nil, fmt.Errorf("mounting on %s failed: %w", cfg.Dir, err)
	}
	s.front.watcher.device = s.device
	extra := capabilities(cfg.Options)
	if exports(cfg.FS, root) {
		extra |= gofuse.CAP_EXPORT_SUPPORT
	}
	// go-fuse takes the descriptor over, and answers INIT before it returns.
	s.server, err = gofuse.NewServer(s.front, fmt.Sprint("/dev/fd/", device), &gofuse.MountOptions{
		MaxBackground:        maxBackground,
		MaxWrite:             volume.IOMax,
		Name:                 strings.TrimPrefix(fsType, "fuse."),
		FsName:               cfg.Source,
		Debug:                cfg.Options.Trace,
		Logger:               slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		DisableSplice:        true, // replies are in memory; go-fuse would write each header to a pipe first
		DisableReadDirPlus:   cfg.Options.NoReadDirPlus,
		EnableLocks:          true,
		EnableAcl:            cfg.Options.ACL,
		ExtraCapabilities:    extra,
		DisabledCapabilities: gofuse.CAP_PASSTHROUGH | gofuse.CAP_NO_OPEN_SUPPORT,
	})
	if err != nil {
		unix.Unmount(path, unix.MNT_DETACH)
		unix.Close(s.device)
		return nil, fmt.Errorf("mounting on %s failed: the kernel and FUSE do not agree: %w", cfg.Dir, err)
	}
	go s.serve()
	pollOnce(path)
	s.tune(cfg.Options, log)
	return s, nil
}

// tune sets, and finds, what the kernel has beside the file system. All of it can be done without.
func (s *Server) tune(o Options, log *slog.Logger) {
	device, err := deviceOf(s.path)
	if err != nil {
		log.Info("the mount's device is not known", "error", err)
		return
	}
	if err := setReadAhead(device, o.ReadAhead); err != nil {
		log.Info("the kernel's read-ahead stays as it is", "error", err)
	}
	if err := s.front.census.open(device); err != nil {
		log.Info("the kernel does not tell how many requests it has", "error", err)
	}
}

// idleReaders is how many goroutines of go-fuse wait for requests at most, in a process that had so many processors
// (GOMAXPROCS) when it mounted. They wait in read(2), and each keeps the processor that it came with: if all processors are kept
// that way, Go's runtime looks every 20 µs for one to take away, as long as there is traffic, which on two processors was a third of what a
// mount cost (180 of 550 µs for a file made, written and unlinked). So a mount needs as many more than its work.
func idleReaders(processors int) int {
	const least, most = 2, 16 // go-fuse's bounds, of which it compares with >
	return min(max(processors, least), most) + 1
}

func (s *Server) serve() {
	s.server.Serve() // calls front.OnUnmount at its end
	unix.Close(s.device)
	close(s.done)
}

// resolve finds the directory that is to be the mount's root.
func resolve(ctx context.Context, fs volume.FS, subdir string) (volume.ID, error) {
	a, err := fs.Getattr(ctx, volume.Root)
	if err != nil {
		return volume.ID{}, fmt.Errorf("the volume can't be read: %w", err)
	}
	for name := range strings.SplitSeq(subdir, "/") {
		if name == "" {
			continue
		}
		if a, err = fs.Lookup(ctx, a.ID, name); err != nil {
			return volume.ID{}, fmt.Errorf("directory %s of the volume: %w", subdir, volume.ErrnoOf(err))
		}
		if !a.IsDir() {
			return volume.ID{}, fmt.Errorf("%s of the volume is not a directory", subdir)
		}
	}
	return a.ID, nil
}

// pollOnce makes the kernel ask for POLL now, which go-fuse answers with
// ENOSYS, on a name that go-fuse keeps for that. Later, the Go runtime of a
// program that opens a file here asks from within epoll_ctl; if that program is
// this process (a test), it could then hold the last thread that might answer.
func pollOnce(path string) {
	fd, err := unix.Open(filepath.Join(path, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

// Path returns the mount point, without symbolic links in it.
func (s *Server) Path() string { return s.path }

// Done is closed when the mount has been removed, by whomever, all requests are
// answered and all files closed.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait waits for Done.
func (s *Server) Wait() { <-s.done }

// Unmount removes the mount and waits until it is over. Errors: EBUSY, somebody
// has a file or directory open. On a mount that is gone it does nothing.
func (s *Server) Unmount() error { return s.unmount(0) }

// Detach removes the mount from the tree although it may be in use (umount -l),
// and does not wait: who has files open can go on with them.
func (s *Server) Detach() error { return s.unmount(unix.MNT_DETACH) }

func (s *Server) unmount(flags int) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	err := unix.Unmount(s.path, flags|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: not mounted any more
		return fmt.Errorf("unmounting %s: %w", s.path, err)
	}
	if flags == 0 && err == nil {
		s.Wait()
	}
	return nil
}
