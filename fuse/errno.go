package fuse

import (
	"context"
	"log/slog"
	"sync"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mortarfs/mortar/volume"
)

// status is the one place where an error becomes the number that the kernel is
// given.
//
//   - ESTALE stays: the kernel looks the path up once more without its cache.
//   - ETIMEDOUT becomes EIO: no application expects it from a file.
//   - ENOSYS becomes EOPNOTSUPP: to the kernel, ENOSYS means "never ask again",
//     for the life of the mount; who means that returns gofuse.ENOSYS itself.
//   - What the kernel would refuse (0, numbers of its own above 511) is EIO.
func status(err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	switch errno := volume.ErrnoOf(err); {
	case errno == syscall.ETIMEDOUT:
		return gofuse.EIO
	case errno == syscall.ENOSYS:
		return gofuse.Status(syscall.EOPNOTSUPP)
	case errno == 0 || errno > 511:
		return gofuse.EIO
	default:
		return gofuse.Status(errno)
	}
}

// grumbler logs what users see as EIO, at most one line a second.
type grumbler struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		last    time.Time
		dropped int // lines not written since last
	}
}

const grumbleEvery = time.Second

// fail is status, with a line in the log if the answer is EIO.
func (f *front) fail(op string, err error) gofuse.Status {
	s := status(err)
	if s == gofuse.EIO {
		f.grumble.line(op, err)
	}
	return s
}

func (g *grumbler) line(op string, err error) {
	g.mu.Lock()
	now := time.Now()
	if now.Sub(g.mu.last) < grumbleEvery {
		g.mu.dropped++
		g.mu.Unlock()
		return
	}
	dropped := g.mu.dropped
	g.mu.last, g.mu.dropped = now, 0
	g.mu.Unlock()
	g.log.LogAttrs(context.Background(), slog.LevelWarn, "an operation failed",
		slog.String("op", op), slog.Any("error", err), slog.Int("more", dropped))
}
