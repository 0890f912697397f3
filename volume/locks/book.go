package locks

import (
	"slices"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// Book is what somebody was granted elsewhere, as far as he has heard. The zero
// Book is empty and ready.
type Book struct {
	mu struct {
		sync.Mutex
		files map[volume.ID][]volume.Lock
		doubt map[doubt]bool
	}
}

// doubt is an owner that may have more on a file than is written.
type doubt struct {
	id    volume.ID
	owner volume.LockOwner
	flock bool
}

// Entry is a lock on a file.
type Entry struct {
	ID   volume.ID
	Lock volume.Lock
}

// Note writes down that a lock was set. Answers may overtake each other, so what
// another owner has, or had, is not looked at.
func (b *Book) Note(id volume.ID, l volume.Lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := set(b.mu.files[id], l)
	if len(held) == 0 {
		delete(b.mu.files, id)
	} else {
		if b.mu.files == nil {
			b.mu.files = map[volume.ID][]volume.Lock{}
		}
		b.mu.files[id] = held
	}
}

// Weaken takes from what l's owner has in l's range what is more than l, and returns that.
func (b *Book) Weaken(id volume.ID, l volume.Lock) (gone []volume.Lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.mu.files[id] {
		if same(&h, &l) && overlap(&h, &l) && h.Type > l.Type {
			h.Start, h.End = max(h.Start, l.Start), min(h.End, l.End)
			gone = append(gone, h)
		}
	}
	for _, h := range gone {
		h.Type = l.Type
		b.mu.files[id] = set(b.mu.files[id], h)
	}
	return gone
}

// Change takes from l's owner what he has in l's range of another type, and reports whether that is anything.
func (b *Book) Change(id volume.ID, l volume.Lock) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	other := func(h volume.Lock) bool { return same(&h, &l) && overlap(&h, &l) && h.Type != l.Type }
	if !slices.ContainsFunc(b.mu.files[id], other) {
		return false
	}
	if b.mu.files[id] = slices.DeleteFunc(b.mu.files[id], other); len(b.mu.files[id]) == 0 {
		delete(b.mu.files, id)
	}
	return true
}

// Sure ends the doubt about an owner of whom everything was unlocked.
func (b *Book) Sure(id volume.ID, l volume.Lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.Start == 0 && l.End == volume.LockEnd {
		delete(b.mu.doubt, doubt{id, l.Owner, l.Flock})
	}
}

// Certain ends all doubts: what is written is what the other side has now.
func (b *Book) Certain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.doubt = nil
}

// Doubt writes down that nobody knows whether a lock was set.
func (b *Book) Doubt(id volume.ID, l volume.Lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.doubt == nil {
		b.mu.doubt = map[doubt]bool{}
	}
	b.mu.doubt[doubt{id, l.Owner, l.Flock}] = true
}

// Has reports whether l's owner has anything in l's range, or may have.
func (b *Book) Has(id volume.ID, l volume.Lock) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.doubt[doubt{id, l.Owner, l.Flock}] ||
		slices.ContainsFunc(b.mu.files[id], func(h volume.Lock) bool { return same(&h, &l) && overlap(&h, &l) })
}

// All lists what is held.
func (b *Book) All() (all []Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, held := range b.mu.files {
		for _, l := range held {
			all = append(all, Entry{id, l})
		}
	}
	return all
}

// Lose forgets all that is written, and returns the files that something was held of.
func (b *Book) Lose() []volume.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []volume.ID
	for id := range b.mu.files {
		ids = append(ids, id)
	}
	b.mu.files, b.mu.doubt = nil, nil
	return ids
}
