package dht

import (
	"context"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Finder = (*Distribute)(nil)

// Find implements volume.ShortFinder: all sets are asked, side by side, for the number does not tell where the object is.
func (d *Distribute) Find(ctx context.Context, short uint64) (volume.ID, error) {
	v := d.view.Load()
	question := &step{op: opFind, numbers: []uint64{short}}
	var mu sync.Mutex
	var found volume.ID
	errs := each(v.ids, func(set volume.SetID) error {
		a, err := v.question(ctx, set, question)
		if err == nil {
			mu.Lock()
			found = a.id
			mu.Unlock()
		}
		return err
	})
	if !found.IsZero() {
		return found, nil
	}
	for _, err := range errs {
		if !isStale(err) {
			return found, err // it may be there
		}
	}
	return found, fail("find", "", syscall.ESTALE)
}

// Parent implements volume.Finder: a directory's home knows it.
func (d *Distribute) Parent(ctx context.Context, dir volume.ID) (volume.ID, error) {
	if dir == volume.Root {
		return dir, fail("parent", dir.String(), syscall.ESTALE)
	}
	v := d.view.Load()
	a, err := v.question(ctx, v.home(dir), &step{op: opFetch, dir: dir})
	if err == nil {
		return a.dir, nil
	}
	if isErrno(err, syscall.EAGAIN) || isErrno(err, syscall.ENOTDIR) { // it is about to go, or no directory
		err = fail("parent", dir.String(), syscall.ESTALE)
	}
	return volume.ID{}, err
}

// question asks a set. A Step waits for no connection, as other requests do: where there is none one of those comes
// first, and then the Step again.
func (v *view) question(ctx context.Context, set volume.SetID, s *step) (*answer, error) {
	t, err := v.set("find", set)
	if err != nil {
		return nil, err
	}
	b, err := t.Step(ctx, s.encode())
	if volume.ReasonOf(err) == volume.Unavailable || volume.ReasonOf(err) == volume.NotPrimary {
		if _, e := t.Getattr(ctx, volume.Root); e == nil {
			b, err = t.Step(ctx, s.encode())
		}
	}
	if err != nil {
		return nil, err
	}
	return decodeAnswer(b)
}

// findStep answers which object here has a number.
func (o *Owner) findStep(ctx context.Context, s *step) (*answer, error) {
	if len(s.numbers) != 1 {
		return nil, fail("find", "", syscall.EINVAL)
	}
	id, err := volume.Find(ctx, o.store, s.numbers[0])
	return &answer{id: id}, err
}
