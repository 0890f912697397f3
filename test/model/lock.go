package model

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Lock implements volume.File. (Its arithmetic is package locks', which has a
// simple-minded model of its own in its tests.)
func (h *file) Lock(ctx context.Context, l volume.Lock, wait bool) error {
	if err := h.lockable(ctx, "lock"); err != nil {
		return err
	}
	if wait {
		return h.fs.locks.Wait(ctx, h.id, l)
	}
	return h.fs.locks.Set(h.id, l)
}

// TestLock implements volume.File.
func (h *file) TestLock(ctx context.Context, l volume.Lock) (volume.Lock, error) {
	if err := h.lockable(ctx, "test lock"); err != nil {
		return volume.Lock{}, err
	}
	return h.fs.locks.Test(h.id, l)
}

func (h *file) lockable(ctx context.Context, op string) error {
	o, err := h.enter(ctx, op, 0)
	if err != nil {
		return err
	}
	defer h.fs.leave()
	if o == nil {
		return fail(op, h.id.String(), syscall.EBADF)
	}
	return nil
}
