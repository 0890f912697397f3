package behind

import (
	"context"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// Objects that are unborn, or not open below though somebody has them open, are found by their names, too. Whatever would tell
// that a name is not there yet, or take it away, comes here first.

const side = 16 // objects that are handed on side by side, for who needs several

// enter has an object found by its name.
func (f *FS) enter(o *object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.mu.names[o.place.dir]
	if in == nil {
		in = map[string]*object{}
		f.mu.names[o.place.dir] = in
	}
	if in[o.place.name] == nil {
		f.named.Add(1)
	}
	in[o.place.name] = o
}

// leave takes that back.
func (f *FS) leave(o *object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.mu.names[o.place.dir]
	if in[o.place.name] != o {
		return
	}
	f.named.Add(-1)
	if delete(in, o.place.name); len(in) == 0 {
		delete(f.mu.names, o.place.dir)
	}
}

// claim waits until nobody has claimed any of some names, and claims them until release. Who takes a name away has what was made under it
// open below first, and who creates a file that is unborn has it found by its name when it is reserved: between the one's look and his removal the other
// could come, be made when the removal waits for that, and lose its name before it is open.
func (f *FS) claim(ctx context.Context, op string, names ...place) (release func(), err error) {
	if f.reserver == nil {
		return func() {}, nil
	}
	for {
		taken, release := f.tryClaim(names)
		if taken == nil {
			return release, nil
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, &volume.Error{Op: op, Where: names[0].name, Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
	}
}

// tryClaim claims names; or returns what ends the claim of one of them.
func (f *FS) tryClaim(names []place) (taken <-chan struct{}, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range names {
		if c := f.mu.claims[p]; c != nil {
			return c, nil
		}
	}
	mine := make(chan struct{})
	for _, p := range names {
		f.mu.claims[p] = mine
	}
	return nil, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range names {
			delete(f.mu.claims, p)
		}
		close(mine)
	}
}

// findName returns the object that was made, or is to be, under a name, nil if there is none to be found.
func (f *FS) findName(dir volume.ID, name string) *object {
	if f.named.Load() == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.names[dir][name]
}

// bearName has the file made that is to have a name; and what dir is, if that is no directory.
func (f *FS) bearName(dir volume.ID, name string) {
	f.bear(dir)
	if o := f.findName(dir, name); o != nil && o.unborn.Load() {
		o.hand()
	}
}

// rouseName has what was made under a name open below.
func (f *FS) rouseName(ctx context.Context, dir volume.ID, name string) {
	f.bear(dir)
	if o := f.findName(dir, name); o != nil {
		o.rouse(ctx)
	}
}

// bear has an object made, if it is unborn.
func (f *FS) bear(id volume.ID) {
	if f.unborn.Load() == 0 {
		return
	}
	if o := f.find(id); o != nil && o.unborn.Load() {
		o.hand()
	}
}

// bearIn has all files made that are to have names in a directory, bearAll those of all directories.
func (f *FS) bearIn(dir volume.ID) {
	if f.unborn.Load() == 0 {
		return
	}
	f.mu.Lock()
	all := f.unbornLocked(nil, dir)
	f.mu.Unlock()
	handAll(all)
}

func (f *FS) bearAll() {
	if f.unborn.Load() == 0 {
		return
	}
	var all []*object
	f.mu.Lock()
	for dir := range f.mu.names {
		all = f.unbornLocked(all, dir)
	}
	f.mu.Unlock()
	handAll(all)
}

// unbornLocked adds the objects to all that are unborn in a directory.
func (f *FS) unbornLocked(all []*object, dir volume.ID) []*object {
	for _, o := range f.mu.names[dir] {
		if o.unborn.Load() {
			all = append(all, o)
		}
	}
	return all
}

// depend hands on what is kept back of an object, and of the names in it, for who depends on it.
func (f *FS) depend(id volume.ID) {
	f.settle(id)
	f.bearIn(id)
}

// handAll hands on what is kept back of objects, some of them at a time.
func handAll(all []*object) {
	if len(all) == 1 {
		all[0].hand()
		return
	}
	var work sync.WaitGroup
	places := make(chan struct{}, side)
	for _, o := range all {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			o.hand()
		})
	}
	work.Wait()
}

// Readlink implements volume.FS. A file is no link, but it is there.
func (f *FS) Readlink(ctx context.Context, id volume.ID) (string, error) {
	f.bear(id)
	return f.FS.Readlink(ctx, id)
}

// Make implements volume.FS.
func (f *FS) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	f.bearName(dir, name)
	return f.FS.Make(ctx, dir, name, n)
}

// Unlink implements volume.FS.
func (f *FS) Unlink(ctx context.Context, dir volume.ID, name string) error {
	release, err := f.claim(ctx, "unlink", place{dir, name})
	if err != nil {
		return err
	}
	defer release()
	f.rouseName(ctx, dir, name)
	return f.FS.Unlink(ctx, dir, name)
}

// Rmdir implements volume.FS. What is to be in the directory is not looked for: it has another name here.
func (f *FS) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	f.bearAll()
	return f.FS.Rmdir(ctx, dir, name)
}

// Rename implements volume.FS. Either name may be a directory's, in which something is to be.
func (f *FS) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, flags volume.RenameFlags) error {
	release, err := f.claim(ctx, "rename", place{oldDir, oldName}, place{newDir, newName})
	if err != nil {
		return err
	}
	defer release()
	f.bearAll()
	f.rouseName(ctx, oldDir, oldName)
	f.rouseName(ctx, newDir, newName)
	return f.FS.Rename(ctx, oldDir, oldName, newDir, newName, flags)
}

// Statfs implements volume.FS.
func (f *FS) Statfs(ctx context.Context) (volume.Statfs, error) {
	f.bearAll()
	return f.FS.Statfs(ctx)
}
