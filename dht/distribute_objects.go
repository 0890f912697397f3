package dht

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Getattr implements volume.FS.
func (d *Distribute) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	v := d.view.Load()
	var a volume.Attr
	at := v.home(id)
	if d.heard.knows(id, at) {
		return d.dirAttr(ctx, v, id, 0, volume.Attr{}, "")
	}
	err := d.idOp(ctx, "getattr", id, func(ctx context.Context, s volume.Set) (err error) {
		a, err = s.Getattr(ctx, id)
		return err
	})
	switch {
	case err == nil && !a.IsDir():
		return a, nil
	case err == nil:
		return d.dirAttr(ctx, v, id, at, a, "")
	case !v.single && isUnsure(err): // a directory whose home is down has copies
		if b, derr := d.dirAttr(ctx, v, id, 0, volume.Attr{}, ""); derr == nil {
			return b, nil
		}
	}
	return a, err
}

// dirAttr puts a directory's attributes together: its home's, with the latest
// times of all sets, for each set knows when its own names changed. from has
// been asked already and has said have (0: none has). The home's word that it
// does not exist stands: ENOENT if it was looked up as name, else ESTALE.
func (d *Distribute) dirAttr(ctx context.Context, v *view, id volume.ID, from volume.SetID, have volume.Attr, name string) (volume.Attr, error) {
	home := v.home(id)
	began := time.Now()
	answers, turn := d.heard.ask(id)
	if from != 0 {
		answers[from] = have
	}
	sets := make([]volume.SetID, 0, len(v.ids))
	for _, set := range v.ids {
		if _, said := answers[set]; !said && v.up(set) {
			sets = append(sets, set)
		}
	}
	var mu sync.Mutex
	var homeErr error
	each(sets, func(set volume.SetID) error {
		a, err := v.sets[set].Getattr(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			answers[set] = a
		} else if set == home {
			homeErr = err
		}
		return err
	})
	if isErrno(homeErr, syscall.ESTALE) {
		if name != "" {
			return volume.Attr{}, fail("lookup", name, syscall.ENOENT)
		}
		return volume.Attr{}, fail("getattr", id.String(), syscall.ESTALE)
	}
	a, atHome := answers[home]
	for _, b := range answers {
		if a.ID.IsZero() {
			a = b
		}
	}
	if a.ID.IsZero() {
		return a, unavailable("getattr", home)
	}
	copies := make([]volume.Attr, 0, len(answers))
	for set, b := range answers {
		if set != home {
			copies = append(copies, b)
		}
	}
	a = withCopies(a, copies)
	if atHome {
		d.versions.put(id, a.Version)
		d.heard.tell(id, turn, began, answers)
	}
	return a, nil
}

// Setattr implements volume.FS.
func (d *Distribute) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	var a volume.Attr
	err := d.idOp(ctx, "setattr", id, func(ctx context.Context, s volume.Set) (err error) {
		a, err = s.Setattr(ctx, id, c)
		return err
	})
	v := d.view.Load()
	d.heard.forget(id)
	if err != nil || v.single || !a.IsDir() {
		return a, d.final(err)
	}
	d.versions.put(id, a.Version)
	return d.dirAttr(ctx, v, id, v.home(id), a, "")
}

// Open implements volume.FS.
func (d *Distribute) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	var file volume.File
	err := d.idOp(ctx, "open", id, func(ctx context.Context, s volume.Set) (err error) {
		file, err = s.Open(ctx, id, f)
		return err
	})
	return file, err
}

// Readlink implements volume.FS.
func (d *Distribute) Readlink(ctx context.Context, id volume.ID) (string, error) {
	var target string
	err := d.idOp(ctx, "readlink", id, func(ctx context.Context, s volume.Set) (err error) {
		target, err = s.Readlink(ctx, id)
		return err
	})
	return target, err
}

// Getxattr implements volume.FS.
func (d *Distribute) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	var value []byte
	err := d.idOp(ctx, "getxattr", id, func(ctx context.Context, s volume.Set) (err error) {
		value, err = s.Getxattr(ctx, id, name)
		return err
	})
	return value, err
}

// Setxattr implements volume.FS.
func (d *Distribute) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	defer d.heard.forget(id)
	defer d.versions.drop(id) // an ACL is part of what it counts
	return d.final(d.idOp(ctx, "setxattr", id, func(ctx context.Context, s volume.Set) error {
		return s.Setxattr(ctx, id, name, value, f)
	}))
}

// Listxattr implements volume.FS.
func (d *Distribute) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	var names []string
	err := d.idOp(ctx, "listxattr", id, func(ctx context.Context, s volume.Set) (err error) {
		names, err = s.Listxattr(ctx, id)
		return err
	})
	return names, err
}

// Removexattr implements volume.FS.
func (d *Distribute) Removexattr(ctx context.Context, id volume.ID, name string) error {
	defer d.heard.forget(id)
	defer d.versions.drop(id)
	return d.final(d.idOp(ctx, "removexattr", id, func(ctx context.Context, s volume.Set) error {
		return s.Removexattr(ctx, id, name)
	}))
}

// Sync implements volume.FS. A directory's entries are on all sets; one that
// has no copy has no entries, and one that is away is an error.
func (d *Distribute) Sync(ctx context.Context, id volume.ID) error {
	v := d.view.Load()
	if v.single {
		return d.idOp(ctx, "sync", id, func(ctx context.Context, s volume.Set) error { return s.Sync(ctx, id) })
	}
	a, err := d.attrOf(ctx, id)
	if err != nil {
		return err
	}
	if !a.IsDir() {
		return d.idOp(ctx, "sync", id, func(ctx context.Context, s volume.Set) error { return s.Sync(ctx, id) })
	}
	return first(each(v.ids, func(set volume.SetID) error {
		s, err := v.set("sync", set)
		if err == nil {
			err = s.Sync(ctx, id)
		}
		if isErrno(err, syscall.ESTALE) && set != v.home(id) {
			return nil
		}
		return err
	}))
}

// attrOf asks whoever holds an object.
func (d *Distribute) attrOf(ctx context.Context, id volume.ID) (a volume.Attr, err error) {
	err = d.idOp(ctx, "getattr", id, func(ctx context.Context, s volume.Set) (err error) {
		a, err = s.Getattr(ctx, id)
		return err
	})
	return a, err
}

// Statfs implements volume.FS: the sum of the sets that can be asked.
func (d *Distribute) Statfs(ctx context.Context) (volume.Statfs, error) {
	v := d.view.Load()
	var mu sync.Mutex
	var sum volume.Statfs
	answers := 0
	errs := each(v.ids, func(set volume.SetID) error {
		t, err := v.set("statfs", set)
		if err != nil {
			return err
		}
		s, err := t.Statfs(ctx)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		answers++
		sum.Total += s.Total
		sum.Free += s.Free
		sum.Available += s.Available
		sum.Files += s.Files
		sum.FilesFree += s.FilesFree
		sum.BlockSize = max(sum.BlockSize, s.BlockSize)
		sum.NameMax = max(sum.NameMax, s.NameMax)
		return nil
	})
	if answers == 0 {
		return sum, first(errs)
	}
	return sum, nil
}

// ReadDir implements volume.FS. Each set lists the names that it owns, in order
// of cookie, and the pages are merged as far as all of them reach. A set that
// can't be asked fails the listing: names are never left out silently.
func (d *Distribute) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	v := d.view.Load()
	if v.single {
		s, err := v.set("readdir", v.ids[0])
		if err != nil {
			return nil, false, err
		}
		return s.ReadDir(ctx, dir, after, max, attrs)
	}
	if max < 1 || max > volume.ReadDirMax {
		return nil, false, fail("readdir", dir.String(), syscall.EINVAL)
	}
	for try := 0; ; try++ {
		list, end, err := d.readDir(ctx, v, dir, after, max, attrs)
		if !isOutdated(err) || try >= triesMax {
			if after == volume.CookieStart {
				d.heard.forget(dir) // reading changes the atime
			}
			return list, end, d.final(err)
		}
		d.awaitUpdate(ctx, v)
		v = d.view.Load()
	}
}

// page is one set's part of a listing.
type page struct {
	entries []volume.Entry
	end     bool
}

func (d *Distribute) readDir(ctx context.Context, v *view, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	share := min(max, max/len(v.ids)+max/(4*len(v.ids))+8) // names spread evenly, so pages reach about equally far
	pages := make([]page, len(v.ids))
	ctx = d.stamp(ctx, v)
	errs := each(v.ids, func(set volume.SetID) error {
		i, _ := slices.BinarySearch(v.ids, set)
		s, err := v.set("readdir", set)
		if err == nil {
			pages[i].entries, pages[i].end, err = s.ReadDir(ctx, dir, after, share, attrs)
		}
		if isStale(err) && set != v.home(dir) {
			pages[i].end = true // no copy, no names
			return nil
		}
		return err
	})
	if err := first(errs); err != nil {
		return nil, false, d.noDir(ctx, v, "readdir", err, dir)
	}
	list, end := mergePages(pages, max)
	for i := range list {
		e := &list[i]
		d.see(dir, e.Name, volume.Attr{ID: e.ID, Mode: e.Mode})
		if e.Mode&syscall.S_IFMT == syscall.S_IFDIR || e.Held != 0 {
			if e.Held != 0 {
				d.elsewhere.put(e.ID, e.Held)
			}
			e.HasAttr, e.Attr, e.Held = false, volume.Attr{}, 0
		} else if e.HasAttr {
			d.learn(v, e.Attr, v.owner(dir, e.Name))
		}
	}
	return list, end, nil
}

// mergePages merges pages in order of cookie up to where the shortest page that
// is not at its end reaches, at most max entries but never part of those with
// equal cookies. The end: all that is known was returned, and nothing follows.
func mergePages(pages []page, max int) (list []volume.Entry, end bool) {
	limit, total := volume.Cookie(1<<63), 0
	for _, p := range pages {
		total += len(p.entries)
		if !p.end {
			last := volume.Cookie(0)
			if n := len(p.entries); n > 0 {
				last = p.entries[n-1].Cookie
			}
			limit = min(limit, last)
		}
	}
	list = make([]volume.Entry, 0, min(total, max))
	for {
		best := -1
		for i, p := range pages {
			if len(p.entries) > 0 && (best < 0 || p.entries[0].Cookie < pages[best].entries[0].Cookie) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		e := pages[best].entries[0]
		if e.Cookie > limit || len(list) >= max && e.Cookie != list[len(list)-1].Cookie {
			return list, false
		}
		list = append(list, e)
		pages[best].entries = pages[best].entries[1:]
	}
	for _, p := range pages {
		if !p.end {
			return list, false
		}
	}
	return list, true
}
