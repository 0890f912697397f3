package model

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Finder = (*FS)(nil)

// Find implements volume.ShortFinder.
func (s *FS) Find(ctx context.Context, short uint64) (volume.ID, error) {
	if err := s.enter(ctx, "find", ""); err != nil {
		return volume.ID{}, err
	}
	defer s.mu.Unlock()
	for id := range s.mu.objects {
		if id.Short() == short {
			return id, nil
		}
	}
	return volume.ID{}, fail("find", "", syscall.ESTALE)
}

// Parent implements volume.Finder.
func (s *FS) Parent(ctx context.Context, dir volume.ID) (volume.ID, error) {
	if err := s.enter(ctx, "parent", dir.String()); err != nil {
		return volume.ID{}, err
	}
	defer s.mu.Unlock()
	o, err := s.mu.find("parent", dir)
	if err == nil && (o.mode&syscall.S_IFMT != syscall.S_IFDIR || dir == volume.Root) {
		err = fail("parent", dir.String(), syscall.ESTALE)
	}
	if err != nil {
		return volume.ID{}, err
	}
	return o.parent, nil
}
