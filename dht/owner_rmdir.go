package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Rmdir implements volume.FS.
func (o *Owner) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	v, err := o.admit(ctx, "rmdir", dir, name)
	if err != nil {
		return err
	}
	if v.single {
		return o.store.Rmdir(ctx, dir, name)
	}
	decides, ctx := ctx, quiet(ctx)
	k := nameKey{dir, name}
	if err := o.names.lock(ctx, k, false, true); err != nil {
		return err
	}
	held := held{o: o, names: []nameKey{k}}
	defer held.release()
	a, err := o.lookupHere(ctx, v, dir, name)
	if err != nil {
		return err
	}
	if !a.IsDir() {
		return fail("rmdir", name, syscall.ENOTDIR)
	}
	it := &intent{
		request: volume.RequestOf(decides), victim: a.ID, own: []nameKey{k},
		commit:  action{kind: actGone, set: o.self, dir: dir, name: name, id: a.ID},
		actions: []action{{kind: actGone, id: a.ID}},
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := o.begin(ctx, it); err != nil {
		return err
	}
	if err := o.removeDir(ctx, v, it, &held); err != nil {
		return err
	}
	for _, set := range v.ids {
		it.acked[set] = 0 // done there; in which life the settling finds out
	}
	return o.decide(ctx, v, it, &held)
}

// removeDir removes the intent's victim everywhere, at home last, by which the
// intent is decided. The name that leads to it is locked. After an error the
// intent is given up, or, where what became of it is not known, with Run.
//
//  1. at home: no more copies are made; everywhere: it is empty
//  2. everywhere but here and at home: the copy is removed, which the store
//     refuses if a name came in between; a create that comes later finds no
//     copy, asks the home for one, and waits
//  3. here, where the name is; and 4. at home
func (o *Owner) removeDir(ctx context.Context, v *view, it *intent, h *held) error {
	dir, home := it.victim, v.home(it.victim)
	for _, set := range v.ids {
		if !o.reaches(ctx, v, set) {
			o.giveUp(ctx, v, it, h)
			return unavailable("rmdir", set)
		}
	}
	for _, k := range h.names {
		o.names.hide(k)
	}
	it.touched[home] = true
	err := first(each(v.ids, func(set volume.SetID) error {
		s := &step{op: opEmpty, intent: it.number, dir: dir}
		if set == home {
			s.op = opDying
		}
		_, err := o.tell(ctx, v, set, s)
		return err
	}))
	if isStale(err) { // the home has none: this is a dead copy
		o.giveUp(ctx, v, it, h)
		o.clearDead(ctx, v, it.commit.dir, it.commit.name)
		return fail("rmdir", it.commit.name, syscall.ENOENT)
	}
	if err == nil {
		var sets []volume.SetID
		for _, set := range v.ids {
			if set != o.self && set != home {
				sets = append(sets, set)
				it.touched[set] = false
			}
		}
		err = first(each(sets, func(set volume.SetID) error {
			_, err := o.tell(ctx, v, set, &step{op: opGone, intent: it.number, dir: dir})
			return err
		}))
	}
	if err == nil && home != o.self {
		err = o.gone(ctx, v, dir)
	}
	if err != nil {
		o.giveUp(ctx, v, it, h)
		return err
	}
	s := &step{op: opGone, intent: it.number, dir: dir}
	if it.commit.kind == actGone {
		s.flags = last
	}
	_, err = o.tell(ctx, v, home, s)
	switch {
	case err == nil:
		it.aired = true
		return nil
	case isUnsure(err):
		it.names, h.names = h.names, nil
		o.rest(it)
		return err
	}
	o.giveUp(ctx, v, it, h)
	return err
}

// first returns the first of the errors that says more than that a set could
// not be asked, or else the first.
func first(errs []error) error {
	var unsure error
	for _, err := range errs {
		switch {
		case err == nil:
		case !isUnsure(err):
			return err
		case unsure == nil:
			unsure = err
		}
	}
	return unsure
}

// tokenKey is the name that stands for the volume's rename token, held at the
// root's home by who moves a directory to another parent, so that no two such
// moves together make a directory its own ancestor. It sorts before all names.
var tokenKey = nameKey{}

func (r *rename) takeToken(ctx context.Context, flags uint8) error {
	home := r.v.m.RootHome
	r.it.touched[home] = true
	_, err := r.o.tell(ctx, r.v, home, &step{op: opReserve, intent: r.it.number, flags: flags, dir: tokenKey.dir, name: tokenKey.name})
	r.token = err == nil
	return err
}

// directory renames a directory. Both names are reserved.
func (r *rename) directory(ctx context.Context) error {
	o, v, it := r.o, r.v, r.it
	err := r.prepareDirectory(ctx)
	if err != nil {
		o.giveUp(ctx, v, it, &r.held)
		return err
	}
	if r.exchange() && r.src.isDir() != r.dst.isDir() {
		return r.cross(ctx)
	}
	if r.exchange() {
		it.commit = action{
			kind: actSwap, set: o.self, id: r.src.id, dir: r.new.dir, name: r.new.name,
			old: r.dst.id, oldMode: r.dst.mode, mode: r.src.mode, dir2: r.old.dir, name2: r.old.name,
		}
	} else {
		it.commit = action{kind: actPlace, set: o.self, id: r.src.id, dir: r.new.dir, name: r.new.name}
	}
	all := it.commit
	all.set = allSets
	it.actions = []action{all}
	if !r.dst.id.IsZero() && !r.exchange() { // an empty directory is replaced: it goes first
		it.victim = r.dst.id
		it.actions = append(it.actions, action{kind: actGone, id: r.dst.id})
		if err := o.replan(ctx, it); err != nil {
			o.giveUp(ctx, v, it, &r.held)
			return err
		}
		if err := o.protect(ctx, v, it); err != nil {
			o.giveUp(ctx, v, it, &r.held)
			return err
		}
		if err := o.removeDir(ctx, v, it, &r.held); err != nil {
			return err
		}
	}
	return o.decide(ctx, v, it, &r.held)
}

// cross exchanges a file and a directory.
func (r *rename) cross(ctx context.Context) error {
	newTo := nameChange{name: r.new, owner: r.o.self, before: r.dst, after: r.src}
	oldTo := nameChange{name: r.old, owner: r.oldOwner, before: r.src, after: r.dst}
	if !r.src.isDir() {
		newTo, oldTo = oldTo, newTo
	}
	d := planCross(r.o.self, newTo, oldTo)
	return r.o.carry(ctx, r.v, r.it, d, &r.held)
}

// prepareDirectory checks what could keep a directory from being renamed.
func (r *rename) prepareDirectory(ctx context.Context) error {
	o, v := r.o, r.v
	for _, obj := range []object{r.src, r.dst} {
		set := obj.set
		if obj.isDir() { // its home must know before the names are free again
			set = v.home(obj.id)
		}
		if !obj.id.IsZero() && !o.reaches(ctx, v, set) {
			return unavailable("rename", set)
		}
	}
	if r.old.dir != r.new.dir && !r.token {
		if err := r.takeToken(ctx, noWait); err != nil {
			r.wantToken = isErrno(err, syscall.EBUSY)
			return err
		}
	}
	if r.old.dir != r.new.dir {
		if err := r.checkLoops(ctx); err != nil {
			return err
		}
	}
	for _, obj := range []object{r.src, r.dst} { // the commit moves this set's copy
		if obj.isDir() {
			if err := o.ensureIfCopy(ctx, v, obj.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkLoops refuses to put a directory below itself. Every set that can be
// asked looks at its own tree, for one that was away may not know of a move yet.
func (r *rename) checkLoops(ctx context.Context) error {
	o, v := r.o, r.v
	return first(each(v.ids, func(set volume.SetID) error {
		if set != o.self && !v.up(set) {
			return nil
		}
		_, err := o.tell(ctx, v, set, &step{op: opLoop, dir: r.new.dir, id: r.src.id})
		if err == nil && r.exchange() {
			_, err = o.tell(ctx, v, set, &step{op: opLoop, dir: r.old.dir, id: r.dst.id})
		}
		return err
	}))
}

// below refuses (EINVAL) if dir is id or lies below it here. A directory that
// has no copy here says nothing.
func (o *Owner) below(ctx context.Context, dir, id volume.ID) error {
	for range depthMax {
		if dir == id {
			return fail("rename", id.String(), syscall.EINVAL)
		}
		if dir == volume.Root {
			return nil
		}
		parent, _, err := o.store.Path(ctx, dir)
		if isStale(err) {
			return nil
		}
		if err != nil {
			return err
		}
		dir = parent
	}
	return fail("rename", id.String(), syscall.ELOOP)
}
