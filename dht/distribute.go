package dht

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Config is what a Distribute is made of.
type Config struct {
	Map    *spec.Map
	Sets   map[volume.SetID]volume.Set // all sets of the map; they need not be up
	Logger *slog.Logger                // nil: none

	// Believe is how long what the sets said of a directory's attributes may be
	// used again (see heard); 0: never, every answer is as of its request.
	Believe time.Duration
}

// Distribute makes one file system of a volume's sets: it sends each request to
// the set that the hash of the name, or the ID, says. It keeps no state that it
// could not lose: bounded caches.
type Distribute struct {
	log  *slog.Logger
	view atomic.Pointer[view]

	elsewhere idCache[volume.SetID] // files that do not lie where they were born
	versions  idCache[uint64]       // Attr.Version of directories, as last seen
	heard     heard                 // of directories, a moment ago
	seen      idCache[sight]        // by nameID: what names led to lately, see distribute_again.go
	held      idCache[volume.SetID] // by nameID: where a name's object lay when it was looked up, in scattered directories

	mu struct {
		sync.Mutex
		updated chan struct{} // closed by the next Update
	}
}

var _ volume.FS = (*Distribute)(nil)

// New returns a Distribute. It panics if the map is not valid, which whoever
// brought it has checked.
func New(cfg Config) *Distribute {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Distribute{log: cfg.Logger}
	d.heard.believe = cfg.Believe
	d.mu.updated = make(chan struct{})
	if err := d.Update(cfg.Map, cfg.Sets); err != nil {
		panic(err)
	}
	return d
}

// Update gives it a newer map and the sets to go with it; an older one is not
// taken. Errors: the map is not valid.
func (d *Distribute) Update(m *spec.Map, sets map[volume.SetID]volume.Set) error {
	v, err := newView(m, sets)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.view.Load(); old != nil && old.m.Version > m.Version {
		return nil
	}
	d.view.Store(v)
	close(d.mu.updated)
	d.mu.updated = make(chan struct{})
	return nil
}

// Limits of trying again.
const (
	triesMax   = 6
	updateWait = 250 * time.Millisecond // for a newer map, when a set says that ours is not its own
)

// nameOp sends an operation on a name to its owner, again if the map has changed.
func (d *Distribute) nameOp(ctx context.Context, op string, dir volume.ID, name string, f func(ctx context.Context, s volume.Set) error) error {
	if err := volume.CheckName(op, name); err != nil {
		return err
	}
	for try := 0; ; try++ {
		v := d.view.Load()
		s, err := v.set(op, v.owner(dir, name))
		if err != nil {
			return err
		}
		err = f(d.stamp(ctx, v), s)
		if !isOutdated(err) || try >= triesMax {
			return d.final(d.noDir(ctx, v, op, err, dir))
		}
		d.awaitUpdate(ctx, v)
	}
}

// noDir tells ENOTDIR from ESTALE where a set has said that it has no such
// directory: what is no directory lies elsewhere.
func (d *Distribute) noDir(ctx context.Context, v *view, op string, err error, dirs ...volume.ID) error {
	if v.single || !isStale(err) {
		return err
	}
	for _, dir := range dirs {
		if a, aerr := d.attrOf(ctx, dir); aerr == nil && !a.IsDir() {
			return fail(op, dir.String(), syscall.ENOTDIR)
		}
	}
	return err
}

// stamp notes on a request by which layout its target was chosen.
func (d *Distribute) stamp(ctx context.Context, v *view) context.Context {
	if v.single {
		return ctx
	}
	return volume.WithLayout(ctx, v.version)
}

// final turns a set's insistence that we are outdated into what a caller can
// make sense of.
func (d *Distribute) final(err error) error {
	if isOutdated(err) {
		return &volume.Error{Op: "distribute", Errno: syscall.EIO, Reason: volume.Unavailable, Err: err}
	}
	return err
}

// awaitUpdate waits a while for another map than v's.
func (d *Distribute) awaitUpdate(ctx context.Context, v *view) {
	d.mu.Lock()
	updated := d.mu.updated
	d.mu.Unlock()
	if d.view.Load() != v {
		return
	}
	timer := time.NewTimer(updateWait)
	defer timer.Stop()
	select {
	case <-updated:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// idOp sends an operation on an object to the set that holds it: where it was
// last seen, where it was born, or wherever it is found. A directory's home is
// asked by the same rule.
func (d *Distribute) idOp(ctx context.Context, op string, id volume.ID, f func(ctx context.Context, s volume.Set) error) error {
	v := d.view.Load()
	set, cached := d.elsewhere.get(id)
	if !cached || !v.has(set) {
		set = v.home(id)
	}
	s, err := v.set(op, set)
	if err == nil {
		err = f(ctx, s)
	}
	if v.single || !isErrno(err, syscall.ESTALE) || id == volume.Root {
		return err
	}
	found, ferr := d.find(ctx, v, id, set)
	if ferr != nil {
		return ferr
	}
	s, err = v.set(op, found)
	if err != nil {
		return err
	}
	return f(ctx, s)
}

// find asks all sets but one for a file. A directory is not found: its home has
// said that it does not exist. Like whatever a client asks it waits for sets that nobody serves, as long as network.timeout says.
func (d *Distribute) find(ctx context.Context, v *view, id volume.ID, but volume.SetID) (volume.SetID, error) {
	var mu sync.Mutex
	var found volume.SetID
	sets := make([]volume.SetID, 0, len(v.ids))
	for _, set := range v.ids {
		if set != but {
			sets = append(sets, set)
		}
	}
	s := step{op: opWhere, id: id}
	question := s.encode()
	ctx, cancel := context.WithTimeout(ctx, spec.Values(v.m.Options).Duration("network.timeout"))
	defer cancel()
	errs := each(sets, func(set volume.SetID) error {
		b, err := v.ask(ctx, set, question)
		if isErrno(err, syscall.ETIMEDOUT) {
			return unavailable("find", set)
		}
		if err != nil {
			return err
		}
		a, err := decodeAnswer(b)
		if err == nil && a.mode != syscall.S_IFDIR {
			mu.Lock()
			found = set
			mu.Unlock()
		}
		return err
	})
	if found != 0 {
		d.elsewhere.put(id, found)
		return found, nil
	}
	d.elsewhere.drop(id)
	for _, err := range errs {
		if isUnsure(err) {
			return 0, err
		}
	}
	return 0, fail("find", id.String(), syscall.ESTALE)
}

// learn keeps in mind what a set said of an object.
func (d *Distribute) learn(v *view, a volume.Attr, at volume.SetID) {
	switch {
	case a.IsDir():
		d.versions.put(a.ID, a.Version)
	case at != v.home(a.ID):
		d.elsewhere.put(a.ID, at)
	}
}
