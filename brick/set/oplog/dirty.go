package oplog

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
)

// DirtyOptions are a Dirty's. The zero DirtyOptions are good.
type DirtyOptions struct {
	Sys   sys.Sys // makes the system calls; nil: sys.Real
	Limit int     // keys of a generation, more of which become Full; 0: 1,000,000
	Born  int     // newborn objects of a generation that are known; 0: 200,000
}

// dirtyPrefix begins the names of the generations' files: dirty.1, dirty.2 …
const dirtyPrefix = "dirty"

// bornMargin is how much earlier than the clock says an object may be dated: file
// systems take the time from a clock that moves with the timer's ticks.
const bornMargin = time.Second

// Dirty is the dirty list: in what this member may differ from others after its machine
// has lost power, because it was changed after the last checkpoint. A key is in
// the list durably before what it stands for is changed:
//
//	h := d.Add(keys…)            // or Born, for what the change makes
//	err := d.Sync(ctx, h)        // returns at once if all is in the list already
//	… apply the change …
//	d.Release(h)                 // always
//
// Checkpoint begins a new generation of the list, makes durable what was changed under the
// older ones, and deletes those. Objects that are born are not listed, but the directory
// in which they are: as the Entry of the name "", which stands for all that is in the
// directory. So unpacking a tree into an old directory lists one key.
//
// # What recovery must do
//
// Keys tells what to compare. For an Entry with the name "" compare all that the
// directory has. Whatever an Entry of the list leads to (of each name, if it is that of "") that
// was born since Since, by the clock and on the disk of the member whose list it is,
// is to be compared as a whole: attributes, contents and, if it is a directory,
// all that is in it, and again what is newborn there. So is what has no name: it may be newborn, too. That covers
// everything: an object that was born is reached from where it was born or from where it was moved, or has lost its
// name, and what is older is listed by itself. When all is made equal, a Checkpoint empties the list.
type Dirty struct {
	dir string
	opt DirtyOptions

	checkpoint chan struct{} // one place, taken by a Checkpoint under way

	mu struct {
		sync.Mutex
		now *generation
		old []*generation
	}
}

// generation is what was listed between two checkpoints.
type generation struct {
	set    *KeySet
	number uint64
	since  time.Time

	// Guarded by the Dirty's mu.
	born  map[volume.ID]Stamp // newborn objects, and when what covers them is durable
	holds int
	idle  chan struct{} // closed when holds gets 0; nil: nobody waits for that
}

// Hold is a change under way, in the generation of the list in which it is listed.
type Hold struct {
	g     *generation
	until Stamp
}

// OpenDirty opens the dirty list in the directory dir, and makes it if there is none.
func OpenDirty(dir string, opt DirtyOptions) (*Dirty, error) {
	const op = "dirty list open"
	if opt.Born <= 0 {
		opt.Born = 200_000
	}
	d := &Dirty{dir: dir, opt: opt, checkpoint: make(chan struct{}, 1)}
	f, err := openFolder(opt.Sys, dir)
	if err != nil {
		return nil, fail(op, dir, err)
	}
	ns, err := f.numbered(dirtyPrefix)
	f.close()
	if err != nil {
		return nil, fail(op, dir, err)
	}
	if len(ns) == 0 {
		ns = []uint64{1}
	}
	for _, n := range ns {
		g, err := d.begin(n)
		if err != nil {
			d.Close()
			return nil, err
		}
		d.mu.old = append(d.mu.old, g)
	}
	last := len(ns) - 1
	d.mu.now, d.mu.old = d.mu.old[last], d.mu.old[:last]
	return d, nil
}

// begin opens the generation n, or makes it.
func (d *Dirty) begin(n uint64) (*generation, error) {
	set, err := OpenKeySet(d.dir, numberedName(dirtyPrefix, n), SetOptions{
		Sys: d.opt.Sys, Limit: d.opt.Limit, number: n, time: time.Now().UnixNano(),
	})
	if err != nil {
		return nil, err
	}
	return &generation{set: set, number: n, since: time.Unix(0, set.file.head.time), born: map[volume.ID]Stamp{}}, nil
}

// Add lists keys. The Hold must be given to Release.
func (d *Dirty) Add(keys ...Key) Hold {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.mu.now
	g.holds++
	return Hold{g, g.add(keys)}
}

// Born lists keys of a change that makes the object id, which was never there before,
// in the directory dir. From now on nothing about the object needs to be listed.
func (d *Dirty) Born(id, dir volume.ID, keys ...Key) Hold {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.mu.now
	g.holds++
	// A clock that was set back would date the object before the generation: then it is listed as any other.
	if len(g.born) >= d.opt.Born || time.Now().Before(g.since) {
		return Hold{g, g.add(keys)}
	}
	until, ok := g.born[dir]
	if !ok {
		until = g.set.Add(Key{Kind: EntryKey, ID: dir})
	}
	g.born[id] = until
	return Hold{g, max(until, g.add(keys))}
}

// add lists the keys that are not covered, and returns when all are durable.
func (g *generation) add(keys []Key) (until Stamp) {
	for _, k := range keys {
		stamp, born := g.born[k.ID]
		if !born {
			all := Key{Kind: EntryKey, ID: k.ID}
			if k.Kind == EntryKey && g.set.Has(all) {
				k = all
			}
			stamp = g.set.Add(k)
		}
		until = max(until, stamp)
	}
	return until
}

// Sync makes durable what h has listed; see KeySet.Sync.
func (d *Dirty) Sync(ctx context.Context, h Hold) error { return h.g.set.Sync(ctx, h.until) }

// Release ends the change: it has been applied, or will not be.
func (d *Dirty) Release(h Hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.g.holds--
	if h.g.holds == 0 && h.g.idle != nil {
		close(h.g.idle)
		h.g.idle = nil
	}
}

// Checkpoint begins a new generation, waits until the changes of the older ones are
// applied, calls settle, which makes durable all that was applied before (syncfs), and deletes the older
// ones. An error, settle's or another one, leaves them to the next Checkpoint. With nothing
// listed it does nothing.
func (d *Dirty) Checkpoint(ctx context.Context, settle func(context.Context) error) error {
	const op = "checkpoint"
	select {
	case d.checkpoint <- struct{}{}:
		defer func() { <-d.checkpoint }()
	case <-ctx.Done():
		return fail(op, d.dir, ctx.Err())
	}
	d.mu.Lock()
	now := d.mu.now
	nothing := len(d.mu.old) == 0 && now.holds == 0 && len(now.born) == 0 && now.set.Len() == 0
	d.mu.Unlock()
	if nothing {
		return nil
	}
	next, err := d.begin(now.number + 1)
	if err != nil {
		return fail(op, d.dir, err)
	}
	d.mu.Lock()
	d.mu.now, d.mu.old = next, append(d.mu.old, now)
	old := slices.Clone(d.mu.old)
	d.mu.Unlock()
	for _, g := range old {
		if err := d.wait(ctx, g); err != nil {
			return fail(op, d.dir, err)
		}
	}
	if err := settle(ctx); err != nil {
		return fail(op, d.dir, err)
	}
	for _, g := range old {
		if err := g.set.Delete(); err != nil {
			return fail(op, d.dir, err)
		}
		d.mu.Lock()
		d.mu.old = d.mu.old[1:]
		d.mu.Unlock()
	}
	return nil
}

// wait waits until no change is under way in g.
func (d *Dirty) wait(ctx context.Context, g *generation) error {
	d.mu.Lock()
	if g.holds > 0 && g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	d.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// generations returns all of them, the newest last.
func (d *Dirty) generations() []*generation {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.mu.old)
	if d.mu.now != nil {
		all = append(all, d.mu.now)
	}
	return all
}

// Keys returns what is listed, in order; see Dirty for what it stands for.
func (d *Dirty) Keys() []Key {
	var keys []Key
	for _, g := range d.generations() {
		keys = append(keys, g.set.Keys()...)
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}

// Since is the time, by this member's clock, from which on what was born may
// not be listed by itself.
func (d *Dirty) Since() time.Time {
	var since time.Time
	for i, g := range d.generations() {
		if i == 0 || g.since.Before(since) {
			since = g.since
		}
	}
	return since.Add(-bornMargin)
}

// Damage says why the list was read as Full; nil: it was not.
func (d *Dirty) Damage() error {
	for _, g := range d.generations() {
		if err := g.set.Damage(); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the use of the list. No Checkpoint may be under way.
func (d *Dirty) Close() error {
	for _, g := range d.generations() {
		g.set.Close()
	}
	return nil
}
