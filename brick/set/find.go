package set

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.ShortFinder = store{}

// Find implements volume.ShortFinder. What is found may be undone yet: who uses it asks about that.
func (s store) Find(ctx context.Context, short uint64) (id volume.ID, err error) {
	f, ok := s.member().(volume.ShortFinder)
	if !ok {
		return id, &volume.Error{Op: "find", Errno: syscall.EOPNOTSUPP}
	}
	err = s.ask(ctx, "find", func() error { id, err = f.Find(ctx, short); return err })
	return id, err
}
