package model

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Put implements volume.Store.
func (s *Store) Put(ctx context.Context, dir volume.ID, name string, e volume.Pointer, old volume.ID, k volume.Key) error {
	if err := s.enter(ctx, "put", name); err != nil {
		return err
	}
	defer s.leave()
	d, p, err := s.mu.place("put", dir, name)
	if err != nil {
		return err
	}
	e.Mode &= syscall.S_IFMT
	if p.ID == e.ID && p.Held == e.Held {
		return nil
	}
	if err := s.mu.mayPut(name, p, e, old); err != nil {
		return err
	}
	now := s.now()
	if !old.IsZero() {
		if err := s.discard(d, name, p, k, now); err != nil {
			return err
		}
	}
	if e.Held == 0 {
		e.Mode = s.mu.objects[e.ID].mode & syscall.S_IFMT
	}
	s.mu.insert(d, name, e)
	s.mu.changed(e, now)
	d.touch(now)
	return nil
}

// mayPut checks that e may take the place of p, which must be old.
func (t *tree) mayPut(name string, p, e volume.Pointer, old volume.ID) error {
	o := t.objects[e.ID]
	switch {
	case e.ID.IsZero(), e.Held != 0 && e.Mode == 0:
		return fail("put", name, syscall.EINVAL)
	case e.Held == 0 && o == nil:
		return fail("put", e.ID.String(), syscall.ESTALE)
	case e.Held == 0 && o.isDir():
		return fail("put", name, syscall.EPERM)
	case old.IsZero() && !p.ID.IsZero():
		return fail("put", name, syscall.EEXIST)
	case p.ID != old:
		return fail("put", name, syscall.ESTALE)
	}
	return nil
}

// discard takes a name out of the tree and keeps what it leads to as k.
func (s *Store) discard(d *object, name string, p volume.Pointer, k volume.Key, now moment) error {
	if _, ok := s.mu.discards[k]; ok {
		return fail("discard", name, syscall.EEXIST)
	}
	if o := s.mu.objects[p.ID]; p.Held == 0 && o.isDir() && len(o.children) > 0 {
		return fail("discard", name, syscall.ENOTEMPTY)
	}
	s.remove(d, name)
	if p.Held == 0 {
		s.mu.objects[p.ID].keeps++
	}
	s.mu.changed(p, now)
	d.touch(now)
	s.mu.discards[k] = discard{dir: d.id, name: name, ptr: p}
	s.tie(d.id, theDiscards)
	return nil
}

// Discard implements volume.Store.
func (s *Store) Discard(ctx context.Context, dir volume.ID, name string, id volume.ID, k volume.Key) error {
	if err := s.enter(ctx, "discard", name); err != nil {
		return err
	}
	defer s.leave()
	d, p, err := s.mu.place("discard", dir, name)
	if err != nil {
		return err
	}
	if p.ID != id || id.IsZero() {
		if _, ok := s.mu.discards[k]; ok {
			return nil
		}
		return fail("discard", name, syscall.ESTALE)
	}
	return s.discard(d, name, p, k, s.now())
}

// Purge implements volume.Store.
func (s *Store) Purge(ctx context.Context, k volume.Key) error {
	if err := s.enter(ctx, "purge", fmt.Sprint(k)); err != nil {
		return err
	}
	defer s.leave()
	if x, ok := s.mu.discards[k]; ok {
		s.release(k, x)
	}
	return nil
}

// release forgets a discard and what only it kept.
func (s *Store) release(k volume.Key, x discard) {
	delete(s.mu.discards, k)
	if x.ptr.Held == 0 {
		s.mu.objects[x.ptr.ID].keeps--
		s.hold(x.ptr)
	}
	s.mu.reap(x.ptr)
}

// Restore implements volume.Store.
func (s *Store) Restore(ctx context.Context, k volume.Key) error {
	if err := s.enter(ctx, "restore", fmt.Sprint(k)); err != nil {
		return err
	}
	defer s.leave()
	x, ok := s.mu.discards[k]
	if !ok {
		return nil
	}
	name := x.name
	d, p, err := s.mu.place("restore", x.dir, name)
	if err != nil {
		return err
	}
	if !p.ID.IsZero() {
		if p == x.ptr || x.ptr.Held == 0 && s.mu.objects[x.ptr.ID].names > 0 {
			s.release(k, x)
			return nil
		}
		suffix := fmt.Sprintf(".restored-%d-%d-%d", k.Set, k.Intent, k.Part)
		name = name[:min(len(name), volume.NameMax-len(suffix))] + suffix
		if _, taken := d.children[name]; taken {
			return fail("restore", name, syscall.EEXIST)
		}
	}
	now := s.now()
	s.tie(d.id, theDiscards)
	s.mu.insert(d, name, x.ptr)
	s.mu.changed(x.ptr, now)
	d.touch(now)
	s.release(k, x)
	return nil
}

// Discards implements volume.Store.
func (s *Store) Discards(ctx context.Context) ([]volume.Discarded, error) {
	if err := s.enter(ctx, "discards", ""); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var all []volume.Discarded
	for k, x := range s.mu.discards {
		all = append(all, volume.Discarded{Key: k, Dir: x.dir, Name: x.name, Pointer: x.ptr})
	}
	slices.SortFunc(all, func(a, b volume.Discarded) int {
		return cmp.Or(cmp.Compare(a.Key.Set, b.Key.Set), cmp.Compare(a.Key.Intent, b.Key.Intent), cmp.Compare(a.Key.Part, b.Key.Part))
	})
	return all, nil
}
