package dht

import (
	"context"
	"syscall"
)

// The steps of removing a directory.

// markDying bars copies of a directory with its home here.
func (o *Owner) markDying(ctx context.Context, v *view, s *step) (*answer, error) {
	if v.home(s.dir) != o.self {
		return nil, fail("dying", s.dir.String(), syscall.EINVAL)
	}
	p := o.partOf(partKey{s.from, s.intent}, true)
	if p == nil {
		return nil, tooLate("dying", s)
	}
	defer p.mu.Unlock()
	if _, err := o.store.Copy(ctx, s.dir); err != nil {
		return nil, err
	}
	o.mu.Lock()
	other, taken := o.mu.dying[s.dir]
	if !taken {
		o.mu.dying[s.dir] = p.key
	}
	o.mu.Unlock()
	if taken && other != p.key {
		return nil, fail("dying", s.dir.String(), syscall.EBUSY)
	}
	p.mu.dying = s.dir
	if err := o.save(ctx, p); err != nil {
		return nil, err
	}
	return &answer{}, o.empty(ctx, v, s.dir)
}

// goneStep removes the copy of a directory for an intent; at home that decides
// the intent, and its part ends.
func (o *Owner) goneStep(ctx context.Context, v *view, s *step) (*answer, error) {
	k := partKey{s.from, s.intent}
	if v.home(s.dir) != o.self {
		o.mu.Lock()
		ended := o.ended(k)
		o.mu.Unlock()
		if ended {
			return nil, tooLate("gone", s)
		}
		return &answer{}, o.gone(ctx, v, s.dir)
	}
	p := o.partOf(k, false)
	if p == nil || p.mu.dying != s.dir {
		if p != nil {
			p.mu.Unlock()
		}
		if _, _, err := o.store.Path(ctx, s.dir); isStale(err) {
			return &answer{}, nil // it was done, and the answer got lost
		}
		return nil, tooLate("gone", s) // not marked: it must not go unguarded
	}
	defer p.mu.Unlock()
	if err := o.gone(ctx, v, s.dir); err != nil || s.flags&last == 0 {
		return &answer{}, err
	}
	return &answer{}, o.end(ctx, p)
}
