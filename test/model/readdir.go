package model

import (
	"cmp"
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// ReadDir implements volume.FS.
func (s *FS) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	return s.list(ctx, dir, after, max, attrs, func(string) bool { return true })
}

// list is ReadDir of the names for which keep is true.
func (s *FS) list(ctx context.Context, dir volume.ID, after volume.Cookie, limit int, attrs bool, keep func(string) bool) ([]volume.Entry, bool, error) {
	if err := s.enter(ctx, "readdir", dir.String()); err != nil {
		return nil, false, err
	}
	defer s.mu.Unlock()
	d, err := s.mu.directory("readdir", dir)
	if err == nil && (limit < 1 || limit > volume.ReadDirMax) {
		err = fail("readdir", dir.String(), syscall.EINVAL)
	}
	if err != nil {
		return nil, false, err
	}
	var all []volume.Entry
	for name, p := range d.children {
		if c := volume.CookieOf(name); c > after && keep(name) {
			all = append(all, volume.Entry{Name: name, Cookie: c, ID: p.ID, Mode: p.Mode & syscall.S_IFMT, Held: p.Held})
		}
	}
	slices.SortFunc(all, func(a, b volume.Entry) int {
		return cmp.Or(cmp.Compare(a.Cookie, b.Cookie), cmp.Compare(a.Name, b.Name))
	})
	n := min(limit, len(all))
	for n > 0 && n < len(all) && all[n].Cookie == all[n-1].Cookie {
		n++
	}
	page := slices.Clip(all[:n])
	for i := range page {
		if e := &page[i]; attrs && e.Held == 0 {
			e.HasAttr, e.Attr = true, s.mu.objects[e.ID].attr()
		}
	}
	return page, n == len(all), nil
}
