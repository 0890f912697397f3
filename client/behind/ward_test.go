package behind

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// ward is a volume whose names can be reserved, and that makes files with what is in them. As the contract wants it, requests that would
// tell the difference wait while a name is reserved; how many waited until its time was over is counted. It notes all calls.
type ward struct {
	*below
	quiet bool // note nothing
	lax   bool // requests that merely look, or unlink, do not wait: they are not others'

	runs sync.RWMutex // held by what runs below; changes of mu.reserved exclude them

	mu struct {
		sync.Mutex
		reserved map[place]*reserved
		waited   int   // requests that waited
		late     int   // of them, those that waited until the time was over
		refuse   error // of Reserve
		fail     error // of Make with an ID
		lost     bool  // it is made nevertheless
	}
}

type reserved struct {
	id     volume.ID
	over   chan struct{}
	inVain bool // over by time; set before over is closed
}

func newWard() *ward {
	w := &ward{below: &below{FS: model.New()}}
	w.mu.reserved = map[place]*reserved{}
	return w
}

func (w *ward) said(format string, args ...any) {
	if !w.quiet {
		_ = w.note(format, args...)
	}
}

// forget drops what was noted.
func (w *ward) forget() {
	w.below.mu.Lock()
	defer w.below.mu.Unlock()
	w.below.mu.calls = nil
}

func (w *ward) calls() []string {
	w.below.mu.Lock()
	defer w.below.mu.Unlock()
	return slices.Clone(w.below.mu.calls)
}

// failMaking has files not made from now on, or made, but not said to be.
func (w *ward) failMaking(err error, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.fail, w.mu.lost = err, lost
}

func (w *ward) refuse(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.refuse = err
}

// Reserve implements volume.Reserver.
func (w *ward) Reserve(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	w.said("reserve %s", name)
	w.runs.Lock()
	defer w.runs.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	at := place{dir, name}
	if w.mu.refuse != nil {
		return a, w.mu.refuse
	}
	d, err := w.FS.Getattr(ctx, dir)
	if err == nil && w.mu.reserved[at] != nil {
		err = syscall.EOPNOTSUPP
	}
	if _, e := w.FS.Getxattr(ctx, dir, volume.ACLDefault); err == nil && e == nil {
		err = syscall.EOPNOTSUPP
	}
	if err == nil {
		if _, err = w.FS.Lookup(ctx, dir, name); err == nil {
			err = syscall.EEXIST
		}
	}
	if err == nil && volume.ErrnoOf(volume.CheckName("reserve", name)) != 0 || dir == volume.Root && name == volume.Reserved {
		err = syscall.EINVAL
	}
	if volume.ErrnoOf(err) != syscall.ENOENT {
		return a, err
	}
	if n.ID.IsZero() {
		n.ID = volume.NewID(0)
	}
	r := &reserved{id: n.ID, over: make(chan struct{})}
	w.mu.reserved[at] = r
	time.AfterFunc(volume.ReserveTime, func() { w.end(at, r, true) })
	now, cred := volume.TimeOf(time.Now()), volume.CredOf(ctx)
	a = volume.Attr{ID: n.ID, Mode: n.Mode &^ cred.Umask, Nlink: 1, UID: cred.UID, GID: cred.GID, Atime: now, Mtime: now, Ctime: now, Btime: now}
	if d.Mode&syscall.S_ISGID != 0 {
		a.GID = d.GID
	}
	return a, nil
}

func (w *ward) end(at place, r *reserved, inVain bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.reserved[at] == r {
		r.inVain = inVain
		delete(w.mu.reserved, at)
		close(r.over)
	}
}

// begin waits until no reservation concerns a request, and then keeps the next ones out until done.
func (w *ward) begin(concerns func(at place, id volume.ID) bool) (done func()) {
	for {
		w.runs.RLock()
		w.mu.Lock()
		var in *reserved
		for at, r := range w.mu.reserved {
			if concerns(at, r.id) {
				in = r
			}
		}
		w.mu.Unlock()
		if in == nil {
			return w.runs.RUnlock
		}
		w.runs.RUnlock()
		<-in.over
		w.mu.Lock()
		if w.mu.waited++; in.inVain {
			w.mu.late++
		}
		w.mu.Unlock()
	}
}

// looks is begin for what need not wait if the ward is lax.
func (w *ward) looks(concerns func(at place, id volume.ID) bool) (done func()) {
	if w.lax {
		concerns = func(place, volume.ID) bool { return false }
	}
	return w.begin(concerns)
}

func (w *ward) name(dir volume.ID, name string) func() {
	return w.begin(func(at place, _ volume.ID) bool { return at == place{dir, name} })
}

// file is begin for who asks of what is no directory, or finds that.
func (w *ward) file(id volume.ID) func() {
	return w.looks(func(_ place, of volume.ID) bool { return of == id })
}

func (w *ward) object(id volume.ID) func() {
	return w.looks(func(at place, of volume.ID) bool { return at.dir == id || of == id })
}

// expectNoWait fails the test if any request had to wait for a reservation: one thread alone never has to.
func (w *ward) expectNoWait(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.waited > 0 {
		t.Errorf("%d requests waited for a name that is reserved for the same client", w.mu.waited)
	}
}

// expectLate fails the test if any request had to wait for a reservation to run out.
func (w *ward) expectLate(t *testing.T, want int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.late != want {
		t.Errorf("%d requests waited until a reservation was over by time, want %d", w.mu.late, want)
	}
}

func (w *ward) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	at := place{dir, name}
	w.mu.Lock()
	r, fail, lost := w.mu.reserved[at], w.mu.fail, w.mu.lost
	w.mu.Unlock()
	if n.ID.IsZero() {
		w.said("make %s", name)
	} else {
		w.said("bear %s %d then %d", name, len(n.Data), n.Then.Mask)
	}
	if fail != nil && !lost {
		if r != nil {
			w.end(at, r, false)
		}
		return volume.Attr{}, fail
	}
	if n.ID.IsZero() {
		defer w.name(dir, name)()
		return w.FS.Make(ctx, dir, name, n)
	}
	if r == nil || r.id != n.ID { // it comes late
		r = nil
		w.name(dir, name)()
	}
	w.runs.Lock() // nobody sees it halfway
	defer w.runs.Unlock()
	if r != nil {
		defer w.end(at, r, false)
	}
	a, err := w.make(ctx, dir, name, n)
	if err == nil && fail != nil {
		err = fail
	}
	return a, err
}

// make makes a file, has its owner write it, and changes it.
func (w *ward) make(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	data, then := n.Data, n.Then
	n.Data, n.Then = nil, volume.Change{}
	if a, err = w.FS.Make(ctx, dir, name, n); err != nil || len(data) == 0 && then.Mask == 0 {
		return a, err
	}
	f, err := w.FS.Open(ctx, a.ID, volume.Write)
	if err != nil {
		return a, err
	}
	defer f.Close()
	flags := volume.WriteFlags(0)
	if volume.CredOf(ctx).UID != 0 {
		flags = volume.WriteKillPriv
	}
	if _, err = f.WriteSet(ctx, data, 0, flags, then); err != nil {
		_ = w.FS.Unlink(ctx, dir, name)
		return a, err
	}
	return f.Getattr(ctx)
}

func (w *ward) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	w.said("lookup %s", name)
	done := w.looks(func(at place, _ volume.ID) bool { return at == place{dir, name} })
	a, err := w.FS.Lookup(ctx, dir, name)
	done()
	w.hasLooked()
	return a, err
}

func (w *ward) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	w.said("create %s", name)
	defer w.name(dir, name)()
	return w.below.Create(ctx, dir, name, n, f)
}

func (w *ward) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	w.said("open %d", f)
	defer w.file(id)()
	return w.below.Open(ctx, id, f)
}

func (w *ward) Link(ctx context.Context, id volume.ID, dir volume.ID, name string) (volume.Attr, error) {
	w.said("link %s", name)
	w.file(id)()
	defer w.name(dir, name)()
	return w.FS.Link(ctx, id, dir, name)
}

func (w *ward) Unlink(ctx context.Context, dir volume.ID, name string) error {
	w.said("unlink %s", name)
	defer w.looks(func(at place, _ volume.ID) bool { return at == place{dir, name} })()
	return w.FS.Unlink(ctx, dir, name)
}

func (w *ward) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	w.said("rmdir %s", name)
	defer w.begin(func(place, volume.ID) bool { return true })()
	return w.FS.Rmdir(ctx, dir, name)
}

func (w *ward) Rename(ctx context.Context, d1 volume.ID, n1 string, d2 volume.ID, n2 string, f volume.RenameFlags) error {
	w.said("rename %s %s", n1, n2)
	defer w.begin(func(place, volume.ID) bool { return true })()
	return w.FS.Rename(ctx, d1, n1, d2, n2, f)
}

func (w *ward) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, most int, attrs bool) ([]volume.Entry, bool, error) {
	w.said("readdir")
	done := w.object(dir)
	entries, end, err := w.FS.ReadDir(ctx, dir, after, most, attrs)
	done()
	w.hasLooked()
	return entries, end, err
}

func (w *ward) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	w.said("getattr")
	defer w.object(id)()
	return w.FS.Getattr(ctx, id)
}

func (w *ward) Setattr(ctx context.Context, id volume.ID, c volume.Change) (volume.Attr, error) {
	w.said("setattr %d", c.Mask)
	defer w.object(id)()
	return w.FS.Setattr(ctx, id, c)
}

func (w *ward) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	w.said("getxattr")
	defer w.object(id)()
	return w.FS.Getxattr(ctx, id, name)
}

func (w *ward) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	w.said("setxattr")
	defer w.object(id)()
	return w.FS.Setxattr(ctx, id, name, value, f)
}

func (w *ward) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	w.said("listxattr")
	defer w.object(id)()
	return w.FS.Listxattr(ctx, id)
}

func (w *ward) Removexattr(ctx context.Context, id volume.ID, name string) error {
	w.said("removexattr")
	defer w.object(id)()
	return w.FS.Removexattr(ctx, id, name)
}

func (w *ward) Sync(ctx context.Context, id volume.ID) error {
	w.said("sync")
	defer w.object(id)()
	return w.FS.Sync(ctx, id)
}

func (w *ward) Statfs(ctx context.Context) (volume.Statfs, error) {
	w.said("statfs")
	defer w.begin(func(place, volume.ID) bool { return true })()
	return w.FS.Statfs(ctx)
}

// nursery is a layer over a ward.
type nursery struct {
	t   *testing.T
	ctx context.Context
	w   *ward
	fs  *FS
}

func newNursery(t *testing.T) *nursery {
	n := &nursery{t: t, ctx: t.Context(), w: newWard()}
	n.fs = New(n.w)
	return n
}

// create creates a file in the root.
func (n *nursery) create(name string, flags volume.Flags) (volume.File, volume.Attr) {
	n.t.Helper()
	f, a, err := n.fs.Create(n.ctx, volume.Root, name, volume.Node{Mode: syscall.S_IFREG | 0o644}, flags)
	if err != nil {
		n.t.Fatal(err)
	}
	return f, a
}

func (n *nursery) ok(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nursery) write(f volume.File, p string, at int64) {
	n.t.Helper()
	_, err := f.WriteAt(n.ctx, []byte(p), at, 0)
	n.ok(err)
}

// made returns what others see of a file in the root.
func (n *nursery) made(name string) (volume.Attr, string) {
	n.t.Helper()
	a, err := n.w.FS.Lookup(n.ctx, volume.Root, name)
	n.ok(err)
	f, err := n.w.FS.Open(n.ctx, a.ID, volume.Read)
	n.ok(err)
	defer f.Close()
	p := make([]byte, 1<<20)
	k, err := f.ReadAt(n.ctx, p, 0)
	n.ok(err)
	return a, string(p[:k])
}

// over fails the test if the layer keeps anything.
func (n *nursery) over() {
	n.t.Helper()
	f := n.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := fmt.Sprint(len(f.mu.objects), len(f.mu.names), len(f.mu.handed), len(f.mu.claims), f.mu.looks, f.unborn.Load(), f.named.Load(), f.born.Load(),
		f.runs.Load(), f.kept.Load()); s != "0 0 0 0 0 0 0 0 0 0" {
		n.t.Errorf("left behind: %s", s)
	}
}
