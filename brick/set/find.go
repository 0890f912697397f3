package set

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.ShortFinder = store{}

// Find implements volume.ShortFinder. What is found may be undone yet: who uses it asks about that.
func (s store) Find(ctx context.Context, short uint64) (id volume.ID, err error) {
	err = s.ask(ctx, "find", func() error { id, err = volume.Find(ctx, s.member(), short); return err })
	return id, err
}
