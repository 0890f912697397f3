package oplog

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// SetOptions are a KeySet's. The zero SetOptions are good.
type SetOptions struct {
	Sys   sys.Sys // makes the system calls; nil: sys.Real
	Limit int     // keys; a set that would have more has Full instead; 0: 1,000,000
	Begin []Key   // what a set has that is made, from the first moment that there is one

	number uint64 // of the dirty list's generation
	time   int64  // goes into the header of a new file
}

// Stamp says until when changes of a KeySet must be durable. 0: they are.
type Stamp uint64

// KeySet is a set of keys that lies on the disk. Its methods may be called from any number
// of goroutines.
//
// What is added and what is done is known at once, and durable after the next Sync. A set that comes back
// after a crash or a loss of power has at least all that was synced and not done; it may
// have more: what is done counts as pending again, if no Sync came after. Keys are rounded, too:
// extents to whole blocks of 1 MiB, and if there are more than 64 ranges of a file to one
// that spans them all. Keys that are not Valid count as Full.
type KeySet struct {
	folder
	name string

	mu struct {
		sync.Mutex
		c       *content
		changes []change      // not written yet
		added   Stamp         // of the newest change
		durable Stamp         // all up to this one is
		busy    chan struct{} // closed when who is writing has written; nil: nobody is
		must    bool          // changes were dropped, so the file must be written anew
		broken  error         // nothing will be durable any more
		damage  error
		closed  bool
	}

	file setFile // belongs to who is busy
}

// change is a line of the file.
type change struct {
	op  byte
	key Key
}

// The kinds of changes.
const (
	addOp    = 1
	removeOp = 2
)

// flushAt is the number of changes waiting that Done writes by itself.
const flushAt = 1024

// Add adds keys. They are durable after Sync with the Stamp that it returns; what is there already
// and durable costs no write: the Stamp is 0 then. Keys that are out (Take) are pending once more.
func (s *KeySet) Add(keys ...Key) Stamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(keys)
}

// add is Add; s.mu is locked.
func (s *KeySet) add(keys []Key) Stamp {
	var need Stamp
	before := len(s.mu.changes)
	for _, k := range keys {
		until, w, write := s.mu.c.add(k, s.mu.added+1)
		if write {
			s.mu.changes = append(s.mu.changes, change{addOp, w})
		}
		need = max(need, until)
	}
	s.changed(before)
	if need <= s.mu.durable {
		return 0
	}
	return need
}

// changed gives the changes from the given one on their stamp. s.mu is locked.
func (s *KeySet) changed(before int) {
	if len(s.mu.changes) == before && !s.mu.c.rewrite {
		return
	}
	s.mu.added++
	if len(s.mu.changes) > 2*s.mu.c.limit+flushAt { // more than there would be in a new file
		s.mu.changes, s.mu.must = nil, true
	}
}

// Take takes out up to n pending keys for working them off, those added first before others, and the ranges of a
// file all together, which can make it a few more. Each must be given back by Done or
// Back. Until then it is still in the set (Has, Keys), but not taken again.
func (s *KeySet) Take(n int) []Taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.c.take(n)
}

// Done removes keys that Take gave, those excepted that were added since: they are pending.
func (s *KeySet) Done(ts ...Taken) { s.finish(ts, false) }

// Back makes keys that Take gave pending again: they could not be worked off.
func (s *KeySet) Back(ts ...Taken) { s.finish(ts, true) }

func (s *KeySet) finish(ts []Taken, again bool) {
	s.mu.Lock()
	before := len(s.mu.changes)
	for _, t := range ts {
		gone, w, write := s.mu.c.finish(t, again, s.mu.added+1)
		for _, k := range gone {
			s.mu.changes = append(s.mu.changes, change{removeOp, k})
		}
		if write {
			s.mu.changes = append(s.mu.changes, change{addOp, w})
		}
	}
	s.changed(before)
	s.mu.Unlock()
	s.tidy()
}

// Remove removes keys, and with Full all, whatever was added since they were seen: for who
// knows that they were not.
func (s *KeySet) Remove(keys ...Key) {
	s.mu.Lock()
	before := len(s.mu.changes)
	for _, k := range keys {
		for _, k := range s.mu.c.remove(k) {
			s.mu.changes = append(s.mu.changes, change{removeOp, k})
		}
	}
	s.changed(before)
	s.mu.Unlock()
	s.tidy()
}

// Has reports whether k is in the set, or any part of it.
func (s *KeySet) Has(k Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.c.has(k)
}

// Len is the number of keys, pending or out.
func (s *KeySet) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.c.len()
}

// Keys returns all keys, pending or out, in order of kind, object, name, place.
func (s *KeySet) Keys() []Key {
	s.mu.Lock()
	keys := make([]Key, 0, s.mu.c.len())
	s.mu.c.each(func(k Key) { keys = append(keys, k) })
	s.mu.Unlock()
	slices.SortFunc(keys, compareKeys)
	return keys
}

// Damage says why the set was read as Full: its file was damaged. nil: it was not.
func (s *KeySet) Damage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.damage
}

// Sync makes durable what was added until then. Callers at the same time share one
// fdatasync; who needs none returns at once. After an error it is not known to be durable; after
// ENOSPC it may be tried again, after EIO it never will be: the disk must not be trusted.
func (s *KeySet) Sync(ctx context.Context, until Stamp) error {
	const op = "key set sync"
	for until != 0 {
		s.mu.Lock()
		busy, broken, closed, durable := s.mu.busy, s.mu.broken, s.mu.closed, s.mu.durable >= until
		mine := busy == nil && broken == nil && !closed && !durable && ctx.Err() == nil
		if mine {
			s.mu.busy = make(chan struct{})
		}
		s.mu.Unlock()
		switch {
		case durable:
			return nil
		case broken != nil:
			return broken
		case closed:
			return volume.Errorf(op, s.name, unix.EBADF, "the key set is closed")
		case ctx.Err() != nil:
			return fail(op, s.name, ctx.Err())
		case mine:
			err := s.commit(op)
			s.rest()
			if err != nil {
				return err
			}
		default:
			select {
			case <-busy:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// SyncAll is Sync for everything that was changed so far, removals too.
func (s *KeySet) SyncAll(ctx context.Context) error {
	s.mu.Lock()
	until := s.mu.added
	s.mu.Unlock()
	return s.Sync(ctx, until)
}

// begin takes the file, if nobody has it.
func (s *KeySet) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.busy != nil || s.mu.closed {
		return false
	}
	s.mu.busy = make(chan struct{})
	return true
}

// rest gives the file back.
func (s *KeySet) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.mu.busy)
	s.mu.busy = nil
}

// tidy writes if many changes are waiting that nobody waits for.
func (s *KeySet) tidy() {
	s.mu.Lock()
	many := s.mu.broken == nil && (len(s.mu.changes) >= flushAt || s.mu.c.rewrite)
	s.mu.Unlock()
	if many && s.begin() {
		_ = s.commit("key set write") // who needs it durable asks by Sync
		s.rest()
	}
}

// Close writes what is waiting, as far as that is possible, and ends the use of the set.
func (s *KeySet) Close() error {
	return s.end(func() error {
		s.mu.Lock()
		write := s.mu.broken == nil && (len(s.mu.changes) > 0 || s.mu.must)
		s.mu.Unlock()
		if write {
			_ = s.commit("key set close") // what must be durable was synced
		}
		return nil
	})
}

// Delete removes the set's file and closes the set; after an error it is as it was. After a
// loss of power the file may be there again.
func (s *KeySet) Delete() error {
	return s.end(func() error {
		if err := s.sys.Unlink(s.folder.fd, s.name, 0); err != nil && err != unix.ENOENT {
			return fail("key set delete", s.name, err)
		}
		return nil
	})
}

// end closes the set, if it is open and last succeeds.
func (s *KeySet) end(last func() error) error {
	for !s.begin() {
		s.mu.Lock()
		busy, closed := s.mu.busy, s.mu.closed
		s.mu.Unlock()
		if closed {
			return nil
		}
		if busy != nil {
			<-busy
		}
	}
	if err := last(); err != nil {
		s.rest()
		return err
	}
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.rest()
	s.sys.Close(s.file.fd)
	s.close()
	return nil
}

// Sets lists the files of key sets in dir whose names begin with prefix.
func Sets(k sys.Sys, dir, prefix string) ([]string, error) {
	d, err := openFolder(k, dir)
	if err != nil {
		return nil, fail("key sets", dir, err)
	}
	defer d.close()
	names, err := d.names()
	if err != nil {
		return nil, fail("key sets", dir, err)
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, prefix) || strings.HasSuffix(n, tmpSuffix)
	})
	slices.Sort(names)
	return names, nil
}
