package behind

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Finder = (*FS)(nil)

// Find implements volume.ShortFinder.
func (f *FS) Find(ctx context.Context, short uint64) (volume.ID, error) {
	return volume.Find(ctx, f.FS, short)
}

// Parent implements volume.Finder.
func (f *FS) Parent(ctx context.Context, dir volume.ID) (volume.ID, error) {
	return volume.ParentOf(ctx, f.FS, dir)
}
