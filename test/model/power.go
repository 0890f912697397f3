package model

import (
	"maps"
	"math/rand/v2"

	"github.com/mortarfs/mortar/volume"
)

// What a loss of power leaves.
//
// The past is a row of trees, one a change, of which the first is durable. A
// loss of power goes back to one of them, as on a file system with an ordered
// journal, and then brings back what was synced since: Settle and the sync of a
// file make all durable, the least and the most that a file system does
// there, but the sync of a directory only that directory, and what its entries lead
// to as new: a directory without entries, a file without content. In
// particular the entry that leads to the directory is not durable by it.
//
// What moves from one directory to another is durable in both or in neither, as
// renames are on every file system, so such directories are pinned together.

// theDiscards stands for the discards as if they were a directory.
var theDiscards = volume.ID{}

// PowerLoss simulates the loss of power and the next start: the store is as it
// was at some moment between its last sync (Settle, a synced write, a file's
// Sync) and now, which rng chooses, except for directories that were synced
// after that moment; the journal keeps what was synced and a prefix of the
// rest. The store must have been made WithPowerLoss.
func (s *Store) PowerLoss(rng *rand.Rand) {
	if !s.history {
		panic("model: PowerLoss of a store that was not made WithPowerLoss")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.boot++
	s.locks.Drop(func(volume.LockOwner) bool { return true })
	r := rest{past: s.mu.past, pins: s.mu.pins, at: rng.IntN(len(s.mu.past))}
	s.mu.tree = *r.tree()
	s.mu.restart()
	s.durable()
	s.journal.powerLoss(rng)
}

// tie notes that something has moved between two directories.
func (s *FS) tie(a, b volume.ID) {
	if s.history && a != b {
		s.mu.ties[a] = append(s.mu.ties[a], b)
		s.mu.ties[b] = append(s.mu.ties[b], a)
	}
}

// pin makes a directory durable, and those that are tied to it.
func (s *FS) pin(dir volume.ID) {
	if !s.history {
		return
	}
	now := len(s.mu.past) - 1
	for todo := []volume.ID{dir}; len(todo) > 0; {
		id := todo[0]
		todo = append(todo[1:], s.mu.ties[id]...)
		s.mu.pins[id] = now
		delete(s.mu.ties, id)
	}
}

// rest puts together what a loss of power leaves.
type rest struct {
	past []*tree
	pins map[volume.ID]int
	at   int // the moment gone back to
	out  *tree
}

// moment is the tree that says what a directory is like.
func (r *rest) moment(dir volume.ID) int { return max(r.at, r.pins[dir]) }

func (r *rest) tree() *tree {
	r.out = &tree{objects: map[volume.ID]*object{}, discards: maps.Clone(r.past[r.moment(theDiscards)].discards)}
	root := r.copyOf(volume.Root, r.moment(volume.Root))
	root.names = 1
	for todo := []*object{root}; len(todo) > 0; todo = todo[1:] {
		todo = append(todo, r.fill(todo[0])...)
	}
	for _, x := range r.out.discards {
		if x.ptr.Held == 0 {
			r.object(x.ptr.ID, r.moment(theDiscards)).keeps++
		}
	}
	for id, o := range r.past[r.at].objects { // open, or kept for who had it open
		if (o.opens > 0 || o.orphan || o.held) && r.out.objects[id] == nil {
			for todo := []*object{r.object(id, r.at)}; len(todo) > 0 && todo[0].isDir(); todo = todo[1:] {
				todo = append(todo, r.fill(todo[0])...)
			}
		}
	}
	for _, o := range r.out.objects {
		o.held = o.held && o.names == 0
	}
	for _, o := range r.out.objects {
		r.out.pages += int64(len(o.data.pages))
	}
	return r.out
}

// fill gives a directory its entries, and returns the directories among them.
func (r *rest) fill(d *object) (dirs []*object) {
	when := r.moment(d.id)
	was := r.past[when].objects[d.id]
	if was == nil {
		return nil // it was new, and never synced itself
	}
	for name, p := range was.children {
		if p.Held == 0 {
			o := r.object(p.ID, when)
			o.names++
			if o.isDir() {
				o.parent, o.name = d.id, name
				dirs = append(dirs, o)
			}
		}
		d.children[name] = p
	}
	return dirs
}

// object returns what an entry leads to that was there at a moment.
func (r *rest) object(id volume.ID, when int) *object {
	if o := r.out.objects[id]; o != nil {
		return o
	}
	if own := r.moment(id); r.past[own].objects[id] != nil {
		return r.copyOf(id, own)
	}
	o := r.copyOf(id, when)
	o.data = data{}
	return o
}

// copyOf makes an object as it was at a moment, without what leads to it.
func (r *rest) copyOf(id volume.ID, when int) *object {
	o := *r.past[when].objects[id]
	o.names, o.keeps = 0, 0
	o.data = o.data.clone()
	o.xattrs = maps.Clone(o.xattrs)
	if o.isDir() {
		o.children = map[string]volume.Pointer{}
	}
	r.out.objects[id] = &o
	return &o
}
