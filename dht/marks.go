package dht

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/mortarfs/mortar/volume"
)

// marks tell which objects here need something on another set that may not be
// durable there: a directory's home that made it, the owner of a pointer that
// was put, and what lies in such a directory inherits. A sync of an object
// settles those sets first, and the marks of a settled set are void. Nearly
// always there are none, and asking costs one atomic load.
type marks struct {
	some atomic.Bool
	mu   struct {
		sync.Mutex
		seq     uint64                   // counts marks
		settled map[volume.SetID]uint64  // marks of the set up to this are void
		objects map[volume.ID][]setMark  // at most marksMax
		all     map[volume.SetID]setMark // for objects that found no place
	}
}

type setMark struct {
	set volume.SetID
	seq uint64
}

// marksMax bounds the objects remembered; beyond it a mark counts for all objects.
const marksMax = 1 << 16

// add notes that id needs set.
func (m *marks) add(id volume.ID, set volume.SetID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(id, set)
}

func (m *marks) addLocked(id volume.ID, set volume.SetID) {
	if m.mu.objects == nil {
		m.mu.objects, m.mu.all, m.mu.settled = map[volume.ID][]setMark{}, map[volume.SetID]setMark{}, map[volume.SetID]uint64{}
	}
	m.mu.seq++
	m.some.Store(true)
	mark := setMark{set, m.mu.seq}
	list := m.mu.objects[id]
	for i := range list {
		if list[i].set == set {
			list[i] = mark
			return
		}
	}
	if list == nil && len(m.mu.objects) >= marksMax {
		m.mu.all[set] = mark
		return
	}
	m.mu.objects[id] = append(list, mark)
}

// inherit gives id the marks of the directory that got a name for it.
func (m *marks) inherit(id, dir volume.ID) {
	if !m.some.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mark := range m.mu.objects[dir] {
		if mark.seq > m.mu.settled[mark.set] {
			m.addLocked(id, mark.set)
		}
	}
}

// needs returns the sets that id needs settled.
func (m *marks) needs(id volume.ID) []volume.SetID {
	if !m.some.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var sets []volume.SetID
	for _, mark := range m.mu.objects[id] {
		if mark.seq > m.mu.settled[mark.set] {
			sets = append(sets, mark.set)
		}
	}
	for _, mark := range m.mu.all {
		if mark.seq > m.mu.settled[mark.set] {
			sets = append(sets, mark.set)
		}
	}
	return sets
}

// now returns the count to hand to done when a settling that begins now has succeeded.
func (m *marks) now() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.seq
}

// done makes the marks of set up to seq void and forgets what is void.
func (m *marks) done(set volume.SetID, seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.settled == nil || seq <= m.mu.settled[set] {
		return
	}
	m.mu.settled[set] = seq
	for id, list := range m.mu.objects {
		live := list[:0]
		for _, mark := range list {
			if mark.seq > m.mu.settled[mark.set] {
				live = append(live, mark)
			}
		}
		if len(live) == 0 {
			delete(m.mu.objects, id)
		} else {
			m.mu.objects[id] = live
		}
	}
	for s, mark := range m.mu.all {
		if mark.seq <= m.mu.settled[s] {
			delete(m.mu.all, s)
		}
	}
	m.some.Store(len(m.mu.objects)+len(m.mu.all) > 0)
}

// sets returns all sets with marks that count.
func (m *marks) sets() []volume.SetID {
	if !m.some.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[volume.SetID]bool{}
	var sets []volume.SetID
	note := func(mark setMark) {
		if mark.seq > m.mu.settled[mark.set] && !seen[mark.set] {
			seen[mark.set] = true
			sets = append(sets, mark.set)
		}
	}
	for _, list := range m.mu.objects {
		for _, mark := range list {
			note(mark)
		}
	}
	for _, mark := range m.mu.all {
		note(mark)
	}
	return sets
}

// settleMarks makes durable what id needs on other sets. A set that can't be
// asked is an error: what the caller is about to promise is not so.
func (o *Owner) settleMarks(ctx context.Context, id volume.ID) error {
	return o.settleSets(ctx, o.marks.needs(id))
}

func (o *Owner) settleSets(ctx context.Context, sets []volume.SetID) error {
	if len(sets) == 0 {
		return nil
	}
	// This set's part in it must be known as ended, or it would be undone.
	if err := o.store.Journal().Sync(ctx); err != nil {
		return err
	}
	v := o.view.Load()
	errs := each(sets, func(set volume.SetID) error {
		if !v.has(set) {
			return nil
		}
		seq := o.marks.now()
		_, err := o.tell(ctx, v, set, &step{op: opSettle})
		if err == nil {
			o.marks.done(set, seq)
		}
		return err
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ownedFile is a store's file whose Sync settles first what it needs elsewhere.
type ownedFile struct {
	volume.File
	o *Owner
}

// Sync implements volume.File.
func (f *ownedFile) Sync(ctx context.Context, dataOnly bool) error {
	if f.o.marks.some.Load() {
		if err := f.o.settleMarks(ctx, f.ID()); err != nil {
			return err
		}
	}
	return f.File.Sync(ctx, dataOnly)
}

// Unwrap returns the store's file.
func (f *ownedFile) Unwrap() volume.File { return f.File }
