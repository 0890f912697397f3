package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Rename implements volume.FS.
func (o *Owner) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, f volume.RenameFlags) error {
	v, err := o.admit(ctx, "rename", newDir, newName)
	if err != nil {
		return err
	}
	if v.single {
		return o.store.Rename(ctx, oldDir, oldName, newDir, newName, f)
	}
	if err := volume.CheckName("rename", oldName); err != nil {
		return err
	}
	if oldDir.IsZero() { // no directory; and the token's name lies there
		return fail("rename", oldName, syscall.ESTALE)
	}
	if f > volume.RenameExchange || oldDir == volume.Root && oldName == volume.Reserved || newDir == volume.Root && newName == volume.Reserved {
		return fail("rename", oldName, syscall.EINVAL)
	}
	decides, ctx := ctx, quiet(ctx)
	r := &rename{o: o, v: v, request: volume.RequestOf(decides), old: nameKey{oldDir, oldName}, new: nameKey{newDir, newName}, flags: f}
	r.oldOwner = v.owner(oldDir, oldName)
	if r.old == r.new {
		return r.onItself(ctx)
	}
	if r.oldOwner == o.self {
		if done, err := r.here(ctx, decides); done {
			return err
		}
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	err = r.try(ctx, false)
	if r.wantToken { // it is a directory between parents, and another such rename runs
		err = r.try(ctx, true)
	}
	return err
}

// rename is a rename on its way.
type rename struct {
	o         *Owner
	v         *view
	request   volume.Request
	old, new  nameKey
	oldOwner  volume.SetID
	flags     volume.RenameFlags
	src, dst  object // what the names lead to; dst.id zero: nothing
	it        *intent
	held      held
	token     bool // the volume's rename token is ours
	wantToken bool
}

func (r *rename) exchange() bool { return r.flags&volume.RenameExchange != 0 }

// onItself is a rename of a name to itself.
func (r *rename) onItself(ctx context.Context) error {
	_, err := r.o.Lookup(ctx, r.old.dir, r.old.name)
	if err == nil && r.flags&volume.RenameNoReplace != 0 {
		err = fail("rename", r.new.name, syscall.EEXIST)
	}
	return err
}

// here renames if that concerns this store alone: both names are owned, and
// what they lead to is held, here, and no directory is among it.
func (r *rename) here(ctx, decides context.Context) (done bool, err error) {
	o := r.o
	if err := o.names.lockTwo(ctx, r.old, r.new, false); err != nil {
		return true, err
	}
	r.held = held{o: o, names: []nameKey{r.old, r.new}}
	defer r.held.release()
	if err := r.look(ctx); err != nil {
		return true, err
	}
	if done, err := r.check(); done {
		return true, err
	}
	if r.src.set != o.self || r.src.isDir() || !r.dst.id.IsZero() && (r.dst.set != o.self || r.dst.isDir()) {
		return false, nil
	}
	if err := o.store.Rename(decides, r.old.dir, r.old.name, r.new.dir, r.new.name, r.flags); err != nil {
		return true, err
	}
	o.marks.inherit(r.src.id, r.new.dir)
	return true, nil
}

// look looks both names up here.
func (r *rename) look(ctx context.Context) error {
	a, err := r.o.lookupHere(ctx, r.v, r.old.dir, r.old.name)
	if err != nil {
		return err
	}
	r.src = r.o.objectOf(a)
	return r.lookNew(ctx)
}

func (r *rename) lookNew(ctx context.Context) error {
	a, err := r.o.lookupHere(ctx, r.v, r.new.dir, r.new.name)
	if err != nil && !isErrno(err, syscall.ENOENT) {
		return err
	}
	if isErrno(err, syscall.ENOENT) {
		a = volume.Attr{}
	}
	if a.IsDir() && r.o.clearDead(ctx, r.v, r.new.dir, r.new.name) {
		a = volume.Attr{}
	}
	r.dst = r.o.objectOf(a)
	return nil
}

// check decides what the two names alone can decide.
func (r *rename) check() (done bool, err error) {
	switch {
	case r.src.id.IsZero():
		return true, fail("rename", r.old.name, syscall.ENOENT)
	case r.exchange() && r.dst.id.IsZero():
		return true, fail("rename", r.new.name, syscall.ENOENT)
	case r.flags&volume.RenameNoReplace != 0 && !r.dst.id.IsZero():
		return true, fail("rename", r.new.name, syscall.EEXIST)
	case r.src.id == r.dst.id:
		return true, nil // two names of one object: nothing happens
	case r.exchange():
		return false, nil
	case r.src.isDir() && !r.dst.id.IsZero() && !r.dst.isDir():
		return true, fail("rename", r.new.name, syscall.ENOTDIR)
	case !r.src.isDir() && r.dst.isDir():
		return true, fail("rename", r.new.name, syscall.EISDIR)
	}
	return false, nil
}

// try is one try of a rename over several sets.
func (r *rename) try(ctx context.Context, withToken bool) error {
	o := r.o
	own := []nameKey{r.new}
	if r.oldOwner == o.self {
		own = append(own, r.old)
	}
	it := &intent{request: r.request, own: own}
	err := o.begin(ctx, it)
	if err != nil {
		return err
	}
	r.it, r.held, r.token, r.wantToken = it, held{o: o}, false, false
	r.src, r.dst = object{}, object{}
	defer r.held.release()
	if withToken {
		err = r.takeToken(ctx, 0)
	}
	if err == nil {
		err = r.reserve(ctx)
	}
	done := false
	if err == nil {
		done, err = r.check()
	}
	if err != nil || done {
		o.giveUp(ctx, r.v, it, &r.held)
		return err
	}
	if r.src.isDir() || r.exchange() && r.dst.isDir() {
		return r.directory(ctx)
	}
	for _, set := range []volume.SetID{r.src.set, r.dst.set} {
		if set != 0 && !o.reaches(ctx, r.v, set) {
			o.giveUp(ctx, r.v, it, &r.held)
			return unavailable("rename", set)
		}
	}
	after := object{}
	if r.exchange() {
		after = r.dst
	}
	d := planNames([]nameChange{
		{name: r.new, owner: o.self, before: r.dst, after: r.src},
		{name: r.old, owner: r.oldOwner, before: r.src, after: after},
	})
	return o.carry(ctx, r.v, it, d, &r.held)
}

// reserve holds both names and learns what they lead to. In the common case the
// new name's lock is free: then the old name's owner holds that name and links
// the file under its new name in a single step. Since that is against the
// order of names it does not wait for the old name; if it would have to, all
// is done again in order.
func (r *rename) reserve(ctx context.Context) error {
	o := r.o
	if r.oldOwner == o.self {
		if err := o.names.lockTwo(ctx, r.old, r.new, true); err != nil {
			return err
		}
		r.held.names = []nameKey{r.old, r.new}
		return r.look(ctx)
	}
	lockNew := func(wait bool) error {
		if err := o.names.lock(ctx, r.new, true, wait); err != nil {
			return err
		}
		r.held.names = []nameKey{r.new}
		return r.lookNew(ctx)
	}
	err := lockNew(false)
	if err == nil {
		err = r.reserveOld(ctx, noWait|r.link())
	}
	if !isErrno(err, syscall.EBUSY) {
		return err
	}
	r.held.release()
	if r.old.before(r.new) {
		if err := r.reserveOld(ctx, 0); err != nil {
			return err
		}
		return lockNew(true)
	}
	if err := lockNew(true); err != nil {
		return err
	}
	return r.reserveOld(ctx, r.link())
}

// link asks for the link along with the reservation where nothing speaks against it.
func (r *rename) link() uint8 {
	if r.exchange() || r.dst.isDir() || r.flags&volume.RenameNoReplace != 0 && !r.dst.id.IsZero() {
		return 0
	}
	return wantLink
}

// reserveOld holds the old name at its owner.
func (r *rename) reserveOld(ctx context.Context, flags uint8) error {
	s := &step{
		op: opReserve, intent: r.it.number, flags: flags, dir: r.old.dir, name: r.old.name,
		dir2: r.new.dir, name2: r.new.name, id: r.dst.id, set: r.dst.set,
	}
	r.it.touched[r.oldOwner] = true
	a, err := r.o.tell(ctx, r.v, r.oldOwner, s)
	if err != nil {
		return err
	}
	if !a.id.IsZero() {
		r.src = object{a.id, a.mode, orSet(a.held, r.oldOwner)}
	}
	if a.linked {
		r.it.linked = r.oldOwner
	}
	return nil
}

// Link and create over sets.

// where finds the set that holds an object that is no directory.
func (o *Owner) where(ctx context.Context, v *view, id volume.ID) (object, error) {
	ask := func(sets []volume.SetID) (object, error) {
		found := make([]object, len(sets))
		index := make(map[volume.SetID]int, len(sets))
		for i, set := range sets {
			index[set] = i
		}
		errs := each(sets, func(set volume.SetID) error {
			a, err := o.tell(ctx, v, set, &step{op: opWhere, id: id})
			if err == nil {
				found[index[set]] = object{id, a.mode, set}
			}
			return err
		})
		var unsure error
		for i, err := range errs {
			if err == nil {
				return found[i], nil
			}
			if !isStale(err) {
				unsure = err
			}
		}
		if unsure != nil {
			return object{}, unsure
		}
		return object{}, fail("link", id.String(), syscall.ESTALE)
	}
	if b := id.Born(); v.has(b) && b != o.self {
		if obj, err := ask([]volume.SetID{b}); err == nil || !isStale(err) {
			return obj, err
		}
	}
	return ask(o.others(v))
}

// linkAway gives an object that lies elsewhere a name that this set owns.
func (o *Owner) linkAway(ctx context.Context, v *view, id volume.ID, k nameKey, h *held) (volume.Attr, error) {
	if _, err := o.lookupHere(ctx, v, k.dir, k.name); !isErrno(err, syscall.ENOENT) {
		if err == nil {
			err = fail("link", k.name, syscall.EEXIST)
		}
		return volume.Attr{}, err
	}
	obj, err := o.where(ctx, v, id)
	if err != nil {
		return volume.Attr{}, err
	}
	if obj.isDir() {
		return volume.Attr{}, fail("link", k.name, syscall.EPERM)
	}
	dctx, cancel := detached(ctx)
	defer cancel()
	it := &intent{request: volume.RequestOf(ctx), own: []nameKey{k}}
	if err := o.begin(dctx, it); err != nil {
		return volume.Attr{}, err
	}
	// The name held where the object lies keeps it from now on, though its last
	// other name be removed. Whoever finds none of the two must not find this one later.
	o.names.hide(k)
	if err := o.carry(dctx, v, it, planNames([]nameChange{{name: k, owner: o.self, after: obj}}), h); err != nil {
		return volume.Attr{}, err
	}
	set, err := v.set("link", obj.set)
	if err != nil {
		return volume.Attr{}, err
	}
	return set.Getattr(quiet(ctx), id)
}

// createAway makes a file whose data goes to the set with the most free space,
// with a pointer here. Not done: it should be made here, as ever, and h still
// has the name. What it is made with it gets before the pointer is there: until then nobody finds it.
func (o *Owner) createAway(ctx context.Context, v *view, k nameKey, n volume.Node, h *held) (a volume.Attr, done bool, err error) {
	set := o.roomiest(v)
	if set == 0 {
		return a, false, nil
	}
	if _, err := o.lookupHere(ctx, v, k.dir, k.name); !isErrno(err, syscall.ENOENT) {
		return a, false, nil
	}
	it := &intent{request: volume.RequestOf(ctx), own: []nameKey{k}}
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := o.begin(ctx, it); err != nil {
		return a, false, nil
	}
	n.Mode |= syscall.S_IFREG
	it.touched[set], it.linked = false, set
	plain := n.Plain()
	b, err := o.tell(ctx, v, set, &step{op: opBirth, intent: it.number, dir: k.dir, name: k.name, node: &plain, cred: volume.CredOf(ctx)})
	if err == nil && n.Bears() {
		err = o.fill(ctx, v, set, &n)
	}
	if err != nil {
		o.log.Debug("a file was not made where there is space", "set", set, "err", err)
		o.giveUp(ctx, v, it, h)
		if !isUnsure(err) && o.names.lock(ctx, k, false, false) == nil { // all was undone
			h.names = []nameKey{k}
			return a, false, nil
		}
		return a, true, err
	}
	d := planNames([]nameChange{{name: k, owner: o.self, after: object{n.ID, syscall.S_IFREG, set}}})
	if err := o.carry(ctx, v, it, d, h); err != nil {
		return a, true, err
	}
	return volume.Attr{ID: n.ID, Mode: b.mode, Held: set}, true, nil
}

// fill gives a file that was made on another set what is to be in it.
func (o *Owner) fill(ctx context.Context, v *view, set volume.SetID, n *volume.Node) error {
	s, err := v.set("make", set)
	if err != nil {
		return err
	}
	f, err := s.Open(ctx, n.ID, volume.Write)
	if err != nil {
		return err
	}
	defer f.Close()
	var flags volume.WriteFlags
	if volume.CredOf(ctx).UID != 0 { // its owner writes it
		flags = volume.WriteKillPriv
	}
	_, err = f.WriteSet(ctx, n.Data, 0, flags, n.Then)
	return err
}
