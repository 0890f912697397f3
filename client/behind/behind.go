// Package behind is the layer that hands small writes on a little later than they
// are made (GlusterFS's write-behind): a program that writes a file in small pieces, or
// writes and then calls fsync(2) or close(2), waits for one request and not for one each.
//
//	File.WriteAt ──▶ run of bytes ──▶ WriteAt of the layer below: when something else is asked of the
//	                                  object, at Sync (in the same request), Flush and Close, or Delay later
//
// Each object has at most one run: bytes that follow each other, written through one File. What
// does not fit is preceded by the hand-over of the run. So the layer below sees the writes of an object in
// their order, and whoever uses the volume through this layer never notices a delay: everything that depends on
// contents, size or times of an object hands its run on first. Another client sees what was written when
// it is handed on: at the latest Delay after the first byte of a run, and before close(2) and fsync(2) return and before
// a lock on the object is given up.
//
// A run that can't be handed on is lost, and the File through which it was written says so
// once: at the next write, Sync or Flush. For a while nothing is delayed then, so that a full volume
// says so at once to whoever writes on.
//
// A file that is created is not even made at once, if the layer below can reserve its name (volume.Reserver):
//
//	Create ──▶ Reserve; the object is unborn ──▶ Make with the run and the change of attributes in it: at Flush, Sync and
//	                                             Close, Delay later, or before anything that would tell the difference
//
// So a small file costs one change of the volume, not two. What is unborn is an object whose run has a birth; it
// is found by its name, too (names.go). These have it born first: what depends on a run, and writes that do not
// fit it; what is asked of its ID; what concerns its name; what lists its directory, or tells or changes that one's attributes; and Rmdir,
// Rename, Statfs, which may concern any directory. If it can't be made, the name does not exist, its File
// says why at the next write, Sync or Flush, and whatever else is asked of it is ESTALE. If the outcome is not known it
// is an error all the same, though the name may be there. Of a file to which nothing was done yet Getattr tells what is foreseen, and
// its atime and mtime then stay as they were told.
//
// What was born is not open below. It is opened when something needs that: a read, a later write, a lock; before this layer
// takes away a name of it; and Delay after its birth, for it will be open for longer then, and another client may remove it at any
// time, which it must survive. If that happens earlier (one that waited for the reserved name, say), who made it can open it all the same: the server
// keeps it open for a while. A file that is closed before costs no open.
//
// A file that was made through this layer (with O_EXCL, or unborn before), and that nobody else has opened or asked about since, may also have
// changes of its attributes delayed: its times, owner, mode. They follow the run, and go with it as one request (File.WriteSet): what
// cp -a and tar do to each file that they make costs two requests: Create and this, or Reserve and Make. What attributes such a
// file will have is known here, but for what another client does to it (object.attr).
//
// Writes that are large, must be durable at once (O_SYNC), bypass caches (O_DIRECT) or change more than contents (WriteKillPriv)
// are never delayed. Into what is unborn go all that fit a run: each would be a change of its own, and there are no privileges to clear.
//
// Locks: an object's, then FS.mu or a file's; an object's is held while its run is handed on, it is made, or opened below. Births of
// different objects run side by side. Reserve is called without any.
package behind

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/volume"
)

const (
	// Delay is for how long a write is kept back at most.
	Delay = 20 * time.Millisecond

	smallMax   = 64 << 10         // bytes of a write that may be delayed
	runMax     = 256 << 10        // bytes of a run
	keptMax    = 64 << 20         // bytes of all runs
	offMax     = int64(1) << 42   // from here on a write may be too far out for a brick, which must be told at once
	tightAfter = 10 * time.Second // for how long nothing is delayed after a failure
)

// FS is a volume.FS whose files delay writes.
type FS struct {
	volume.FS
	off   atomic.Bool
	kept  atomic.Int64 // bytes
	runs  atomic.Int64 // objects that have one
	born  atomic.Int64 // objects whose attributes are known
	tight atomic.Int64 // until when nothing is delayed, ns of the Unix epoch

	reserver volume.Reserver // the layer below, if it is one
	unborn   atomic.Int64    // objects that are, or are about to be
	named    atomic.Int64    // objects in mu.names
	refusing atomic.Int64    // directories in mu.refused
	turning  sync.WaitGroup  // off

	mu struct {
		sync.Mutex
		objects map[volume.ID]*object            // that are open
		looks   int                              // that are under way
		handed  map[volume.ID]bool               // objects whose runs were handed on meanwhile, and directories in which something was born
		names   map[volume.ID]map[string]*object // that are unborn or latent, by directory and name
		refused map[volume.ID]time.Time          // directories that are not asked for names until then
		claims  map[place]chan struct{}          // names that somebody has claimed, until it is closed
	}
}

// New returns a layer upon fs. It must be closed when it is not used any more.
func New(fs volume.FS) *FS {
	f := &FS{FS: fs}
	f.mu.objects, f.mu.handed = map[volume.ID]*object{}, map[volume.ID]bool{}
	f.mu.names, f.mu.refused = map[volume.ID]map[string]*object{}, map[volume.ID]time.Time{}
	f.mu.claims = map[place]chan struct{}{}
	f.reserver, _ = fs.(volume.Reserver)
	return f
}

// SetEnabled says whether anything is delayed from now on. If not, what is being delayed is handed on at once; who calls need
// not wait for that, for he may be the one who brings the news that it needs.
func (f *FS) SetEnabled(on bool) {
	if was := !f.off.Swap(!on); was && !on {
		f.turning.Go(f.settleAll)
	}
}

// Close hands on what is left.
func (f *FS) Close() {
	f.SetEnabled(false)
	f.turning.Wait()
	f.settleAll()
}

// object returns an open object with one more reference, which release takes back, and whether it is the first.
func (f *FS) object(id volume.ID) (o *object, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o = f.mu.objects[id]
	if o == nil {
		o = &object{fs: f, id: id}
		f.mu.objects[id] = o
	}
	o.refs++
	return o, o.refs == 1
}

func (f *FS) release(id volume.ID, o *object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.refs--; o.refs == 0 {
		delete(f.mu.objects, id)
	}
}

// find returns an object that has a run or whose attributes are known, nil if it is none such.
func (f *FS) find(id volume.ID) *object {
	if f.runs.Load() == 0 && f.born.Load() == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.objects[id]
}

// settle hands an object's run on, for who depends on it.
func (f *FS) settle(id volume.ID) {
	if o := f.find(id); o != nil {
		o.settle()
	}
}

// A look is a request for attributes of objects that its answer names first. What was kept back of one when it began may be
// handed on while it is under way, before or after the servers look: then the answer does not count.

// look begins a look; looked must follow if there may be anything kept back.
func (f *FS) look() (some bool) {
	if f.runs.Load() == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.looks++
	return true
}

func (f *FS) looked(some bool) {
	if !some {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.looks--; f.mu.looks == 0 {
		clear(f.mu.handed)
	}
}

// outdated reports whether what a look has told of an object does not count. If so what is kept back, of it or of
// what is in it, may be handed on yet.
func (f *FS) outdated(id volume.ID, some bool) bool {
	o := f.find(id)
	if o != nil && o.told() {
		return true
	}
	if !some {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.handed[id] || len(f.unbornLocked(nil, id)) > 0
}

// noteHanded notes, for looks, that an object's run was handed on.
func (f *FS) noteHanded(id volume.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.looks > 0 {
		f.mu.handed[id] = true
	}
}

// settleAll hands on all runs.
func (f *FS) settleAll() {
	if f.runs.Load() == 0 {
		return
	}
	f.mu.Lock()
	all := make([]*object, 0, len(f.mu.objects))
	for _, o := range f.mu.objects {
		if o.some.Load() {
			all = append(all, o)
		}
	}
	f.mu.Unlock()
	handAll(all)
}

// Lookup implements volume.FS.
func (f *FS) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	f.bearName(dir, name)
	some := f.look()
	defer f.looked(some)
	a, err := f.FS.Lookup(ctx, dir, name)
	if err == nil && f.outdated(a.ID, some) {
		f.depend(a.ID)
		return f.FS.Lookup(ctx, dir, name)
	}
	return a, err
}

// Getattr implements volume.FS.
func (f *FS) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	if o := f.find(id); o != nil {
		if a, ok := o.foreseen(); ok {
			return a, nil
		}
		o.settle()
	}
	f.bearIn(id)
	return f.FS.Getattr(ctx, id)
}

// Setattr implements volume.FS.
func (f *FS) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	f.depend(id)
	return f.FS.Setattr(ctx, id, c)
}

// Create implements volume.FS.
func (f *FS) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, flags volume.Flags) (volume.File, volume.Attr, error) {
	f.bearName(dir, name)
	if file, a, ok := f.conceive(ctx, dir, name, n, flags); ok {
		return file, a, nil
	}
	if flags&volume.Truncate != 0 { // it may be a name of an object that is there
		f.settleAll()
	}
	some := f.look()
	defer f.looked(some)
	file, a, err := f.FS.Create(ctx, dir, name, n, flags)
	if err != nil || file == nil {
		return file, a, err
	}
	if f.outdated(a.ID, some) {
		f.settle(a.ID)
		if b, err := file.Getattr(ctx); err == nil {
			a = b
		}
	}
	h := f.open(file, flags)
	if flags&volume.Excl != 0 {
		h.o.bear(h, a)
	}
	return h, a, nil
}

// Open implements volume.FS.
func (f *FS) Open(ctx context.Context, id volume.ID, flags volume.Flags) (volume.File, error) {
	if flags&volume.Truncate != 0 {
		f.settle(id)
	} else {
		f.bear(id)
	}
	file, err := f.FS.Open(ctx, id, flags)
	if err != nil {
		return nil, err
	}
	return f.open(file, flags), nil
}

// Link implements volume.FS.
func (f *FS) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	f.settle(id)
	f.bearName(dir, name)
	return f.FS.Link(ctx, id, dir, name)
}

// ReadDir implements volume.FS.
func (f *FS) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	f.bear(dir)
	f.bearIn(dir)
	some := attrs && f.look()
	defer f.looked(some)
	entries, end, err := f.FS.ReadDir(ctx, dir, after, max, attrs)
	if attrs {
		for i := range entries {
			if f.outdated(entries[i].ID, some) {
				entries[i].HasAttr, entries[i].Attr = false, volume.Attr{}
			}
		}
	}
	return entries, end, err
}

// Getxattr implements volume.FS. A write takes security.capability away.
func (f *FS) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	f.depend(id)
	return f.FS.Getxattr(ctx, id, name)
}

// Setxattr implements volume.FS.
func (f *FS) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, flags volume.XattrFlags) error {
	f.depend(id)
	return f.FS.Setxattr(ctx, id, name, value, flags)
}

// Listxattr implements volume.FS.
func (f *FS) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	f.depend(id)
	return f.FS.Listxattr(ctx, id)
}

// Removexattr implements volume.FS.
func (f *FS) Removexattr(ctx context.Context, id volume.ID, name string) error {
	f.depend(id)
	return f.FS.Removexattr(ctx, id, name)
}

// Sync implements volume.FS.
func (f *FS) Sync(ctx context.Context, id volume.ID) error {
	f.depend(id)
	return f.FS.Sync(ctx, id)
}
