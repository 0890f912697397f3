package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// The operations on one name. What concerns this set alone goes straight to the
// store, under the name's lock; see owner_dir.go and owner_multi.go for the rest.

// mendMax is how often an operation is tried again after this set's copy of
// the directory was made or refreshed.
const mendMax = 4

// mend makes good what made the store refuse an operation in dir, if it is a
// copy of the directory that is missing or old here, and reports whether to try
// again. parent is the version that the caller assumed, 0 for any.
func (o *Owner) mend(ctx context.Context, v *view, dir volume.ID, parent uint64, err error, try int) bool {
	if v.single || try >= mendMax || !isErrno(err, syscall.ESTALE) || v.home(dir) == o.self {
		return false
	}
	ctx = quiet(ctx)
	if isOutdated(err) {
		version, rerr := o.refreshHere(ctx, v, dir)
		return rerr == nil && version == parent
	}
	if _, _, perr := o.store.Path(ctx, dir); !isStale(perr) {
		return perr == nil // somebody else made it meanwhile; or something else is not here, as further tries show
	}
	return o.ensure(ctx, v, dir) == nil
}

// Lookup implements volume.FS. It waits while an operation over several sets
// has the name.
func (o *Owner) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	v, err := o.admit(ctx, "lookup", dir, name)
	if err != nil {
		return volume.Attr{}, err
	}
	if err := o.names.visible(ctx, nameKey{dir, name}); err != nil {
		return volume.Attr{}, err
	}
	return o.lookupHere(ctx, v, dir, name)
}

// lookupHere is Lookup for whoever has the name's lock, or needs none.
func (o *Owner) lookupHere(ctx context.Context, v *view, dir volume.ID, name string) (volume.Attr, error) {
	for try := 0; ; try++ {
		a, err := o.store.Lookup(ctx, dir, name)
		if err == nil || !o.mend(ctx, v, dir, 0, err, try) {
			return a, err
		}
	}
}

// Create implements volume.FS. If the file's data went elsewhere for want of
// space, the answer is what it is for a pointer, with Attr.ID = n.ID.
func (o *Owner) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	v, err := o.admit(ctx, "create", dir, name)
	if err == nil {
		err = n.CheckEmpty("create", name)
	}
	if err != nil {
		return nil, volume.Attr{}, err
	}
	if v.single {
		return o.store.Create(ctx, dir, name, n, f)
	}
	decides, ctx := ctx, quiet(ctx)
	k := nameKey{dir, name}
	if err := o.names.lock(ctx, k, false, true); err != nil {
		return nil, volume.Attr{}, err
	}
	mine := true
	defer func() {
		if mine {
			o.names.unlock(k)
		}
	}()
	if n.ID.IsZero() {
		n.ID = volume.NewID(o.self)
	}
	if o.space.low.Load() {
		h := held{o: o, names: []nameKey{k}}
		a, done, err := o.createAway(decides, v, k, n, &h)
		mine = len(h.names) > 0
		if done {
			return nil, a, err
		}
	}
	o.space.used.Store(true)
	for try := 0; ; try++ {
		file, a, err := o.store.Create(decides, dir, name, n, f)
		if err == nil && file != nil {
			o.marks.inherit(a.ID, dir)
			return &ownedFile{File: file, o: o}, a, nil
		}
		if err == nil || !o.mend(ctx, v, dir, n.Parent, err, try) {
			return nil, a, err
		}
	}
}

// Make implements volume.FS.
func (o *Owner) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	v, err := o.admit(ctx, "make", dir, name)
	if err == nil {
		err = n.CheckBears("make", name)
	}
	if err != nil {
		return volume.Attr{}, err
	}
	if v.single {
		return o.store.Make(ctx, dir, name, n)
	}
	decides, ctx := ctx, quiet(ctx)
	k := nameKey{dir, name}
	if err := o.names.lock(ctx, k, false, true); err != nil {
		return volume.Attr{}, err
	}
	h := held{o: o, names: []nameKey{k}}
	defer h.release()
	if n.ID.IsZero() {
		n.ID = volume.NewID(o.self)
	}
	if n.Mode&syscall.S_IFMT == syscall.S_IFREG && o.space.low.Load() {
		if a, done, err := o.createAway(decides, v, k, n, &h); done {
			return a, err
		}
	}
	if n.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return o.makeHere(ctx, decides, v, k, n)
	}
	if v.home(n.ID) != o.self {
		return o.makeFar(ctx, v, k, n, volume.RequestOf(decides))
	}
	a, err := o.makeHere(ctx, decides, v, k, n)
	if err == nil {
		err = o.spread(ctx, v, k, a.ID)
	}
	return a, err
}

// makeHere makes an object, whose name is locked, in this set's store; what a dead
// directory is in the way of as well.
func (o *Owner) makeHere(ctx, decides context.Context, v *view, k nameKey, n volume.Node) (volume.Attr, error) {
	for try := 0; ; try++ {
		a, err := o.store.Make(decides, k.dir, k.name, n)
		switch {
		case err == nil:
			o.marks.inherit(a.ID, k.dir)
			return a, nil
		case isErrno(err, syscall.EEXIST) && try < mendMax && o.clearDead(ctx, v, k.dir, k.name):
		case !o.mend(ctx, v, k.dir, n.Parent, err, try):
			return a, err
		}
	}
}

// Present implements volume.Dater. Of a name whose object may lie in another set this one does not date all that is changed.
func (o *Owner) Present() (volume.Time, bool) {
	if !o.view.Load().single {
		return volume.Time{}, false
	}
	return volume.PresentOf(o.store)
}

// RemoveAll implements volume.Remover, where the volume has one set.
func (o *Owner) RemoveAll(ctx context.Context, all []volume.Removal) {
	if o.view.Load().single {
		volume.RemoveAll(ctx, o.store, all)
		return
	}
	for i := range all {
		all[i].Remove(ctx, o)
	}
}

// Empty implements volume.Remover: it tells of the names that are here.
func (o *Owner) Empty(ctx context.Context, dir volume.ID, but func(string) bool) (bool, error) {
	return o.store.Empty(ctx, dir, but)
}

// Unlink implements volume.FS.
func (o *Owner) Unlink(ctx context.Context, dir volume.ID, name string) error {
	v, err := o.admit(ctx, "unlink", dir, name)
	if err != nil {
		return err
	}
	if v.single {
		return o.store.Unlink(ctx, dir, name)
	}
	decides, ctx := ctx, quiet(ctx)
	k := nameKey{dir, name}
	if err := o.names.lock(ctx, k, false, true); err != nil {
		return err
	}
	held := held{o: o, names: []nameKey{k}}
	defer held.release()
	a, err := o.lookupHere(ctx, v, dir, name)
	switch {
	case err != nil:
		return err
	case a.IsDir():
		return fail("unlink", name, syscall.EISDIR)
	case a.Held == 0:
		return o.store.Unlink(decides, dir, name)
	}
	if !o.reaches(ctx, v, a.Held) {
		return unavailable("unlink", a.Held)
	}
	d := planNames([]nameChange{{name: k, owner: o.self, before: o.objectOf(a)}})
	ctx, cancel := detached(ctx)
	defer cancel()
	it := &intent{request: volume.RequestOf(decides), own: []nameKey{k}}
	if err := o.begin(ctx, it); err != nil {
		return err
	}
	return o.carry(ctx, v, it, d, &held)
}

// objectOf tells what an entry of this set leads to.
func (o *Owner) objectOf(a volume.Attr) object {
	if a.ID.IsZero() {
		return object{}
	}
	return object{a.ID, a.Type(), orSet(a.Held, o.self)}
}

func orSet(a, b volume.SetID) volume.SetID {
	if a != 0 {
		return a
	}
	return b
}

// Link implements volume.FS.
func (o *Owner) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	v, err := o.admit(ctx, "link", dir, name)
	if err != nil {
		return volume.Attr{}, err
	}
	if v.single {
		return o.store.Link(ctx, id, dir, name)
	}
	if dir == volume.Root && name == volume.Reserved {
		return volume.Attr{}, fail("link", name, syscall.EINVAL)
	}
	decides, ctx := ctx, quiet(ctx)
	k := nameKey{dir, name}
	if err := o.names.lock(ctx, k, false, true); err != nil {
		return volume.Attr{}, err
	}
	held := held{o: o, names: []nameKey{k}}
	defer held.release()
	for try := 0; ; try++ {
		a, err := o.store.Link(decides, id, dir, name)
		switch {
		case err == nil:
			o.marks.inherit(id, dir)
			return a, nil
		case o.mend(ctx, v, dir, 0, err, try):
		case isStale(err):
			return o.linkAway(decides, v, id, k, &held)
		default:
			return a, err
		}
	}
}

// Getattr, Readlink, Open and the attribute operations concern objects, and
// those that are here are the store's.

// Getattr implements volume.FS.
func (o *Owner) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	return o.store.Getattr(ctx, id)
}

// Readlink implements volume.FS.
func (o *Owner) Readlink(ctx context.Context, id volume.ID) (string, error) {
	return o.store.Readlink(ctx, id)
}

// Open implements volume.FS.
func (o *Owner) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	file, err := o.store.Open(ctx, id, f)
	if err != nil || o.view.Load().single {
		return file, err
	}
	return &ownedFile{File: file, o: o}, nil
}

// Setattr implements volume.FS. A directory's attributes are its home's affair,
// which hands them on to the copies.
func (o *Owner) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	v := o.view.Load()
	if err := o.atHome(ctx, v, "setattr", id); err != nil {
		return volume.Attr{}, err
	}
	if err := o.tellTimes(ctx, v, id, c); err != nil {
		return volume.Attr{}, err
	}
	a, err := o.store.Setattr(ctx, id, c)
	if err == nil && !v.single && a.IsDir() && c.Mask&^explicitTimes != 0 {
		o.refreshOthers(ctx, v, id, timesOf(c, a))
	}
	return a, err
}

// Getxattr implements volume.FS.
func (o *Owner) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	return o.store.Getxattr(ctx, id, name)
}

// Listxattr implements volume.FS.
func (o *Owner) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	return o.store.Listxattr(ctx, id)
}

// Setxattr implements volume.FS.
func (o *Owner) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	v := o.view.Load()
	if err := o.atHome(ctx, v, "setxattr", id); err != nil {
		return err
	}
	err := o.store.Setxattr(ctx, id, name, value, f)
	if err == nil {
		o.aclChanged(ctx, v, id, name)
	}
	return err
}

// Removexattr implements volume.FS.
func (o *Owner) Removexattr(ctx context.Context, id volume.ID, name string) error {
	v := o.view.Load()
	if err := o.atHome(ctx, v, "removexattr", id); err != nil {
		return err
	}
	err := o.store.Removexattr(ctx, id, name)
	if err == nil {
		o.aclChanged(ctx, v, id, name)
	}
	return err
}

// atHome refuses a change of a directory's attributes anywhere but at home.
// Objects born here cost nothing; the others are looked at.
func (o *Owner) atHome(ctx context.Context, v *view, op string, id volume.ID) error {
	if v.single || v.home(id) == o.self {
		return nil
	}
	a, err := o.store.Getattr(ctx, id)
	if err == nil && a.IsDir() {
		return &volume.Error{Op: op, Where: id.String(), Errno: syscall.ESTALE, Reason: volume.Outdated}
	}
	return err
}

// ReadDir implements volume.FS: the names that this set owns.
func (o *Owner) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	v := o.view.Load()
	if v.single {
		return o.store.ReadDir(ctx, dir, after, max, attrs)
	}
	if stamp := volume.LayoutOf(ctx); stamp != 0 && stamp != v.version {
		return nil, false, &volume.Error{Op: "readdir", Where: dir.String(), Errno: syscall.ESTALE, Reason: volume.Outdated}
	}
	keep := func(name string) bool { return v.owner(dir, name) == o.self }
	for try := 0; ; try++ {
		list, end, err := o.store.List(ctx, dir, after, max, attrs, keep)
		if err == nil || !o.mend(ctx, v, dir, 0, err, try) {
			return list, end, err
		}
	}
}

// Sync implements volume.FS.
func (o *Owner) Sync(ctx context.Context, id volume.ID) error {
	if err := o.settleMarks(ctx, id); err != nil {
		return err
	}
	if a, err := o.store.Getattr(ctx, id); err != nil || !a.IsDir() || o.view.Load().single {
		return o.store.Sync(ctx, id) // it says what is the matter
	}
	return o.syncDirs(ctx, []volume.ID{id})
}

// Statfs implements volume.FS.
func (o *Owner) Statfs(ctx context.Context) (volume.Statfs, error) { return o.store.Statfs(ctx) }

// held is the names that an operation has locked, which an intent may take
// over. Operations release it on every way out.
type held struct {
	o     *Owner
	names []nameKey
}

func (h *held) release() {
	for _, k := range h.names {
		h.o.names.unlock(k)
	}
	h.names = nil
}
