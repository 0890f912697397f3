package model

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Copier = (*file)(nil)

// CopyFrom implements volume.Copier: at most volume.IOMax bytes at a time.
func (h *file) CopyFrom(ctx context.Context, src volume.File, from, off, n int64, f volume.WriteFlags) (int64, error) {
	s, ok := src.(*file)
	if !ok || s.fs != h.fs {
		return 0, volume.Apart(h)
	}
	if err := volume.CheckCopy(h, s.id == h.id, from, off, n); err != nil {
		return 0, err
	}
	in, err := s.enter(ctx, "copy", volume.Read)
	if err != nil {
		return 0, err
	}
	p := make([]byte, min(n, volume.IOMax))
	p = p[:in.data.read(p, from)]
	h.fs.mu.Unlock()
	m, err := h.WriteAt(ctx, p, off, f)
	if err != nil {
		return 0, err
	}
	return int64(m), nil
}
