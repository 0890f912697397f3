package fuse

import (
	"sync"
	"sync/atomic"
)

// Slots come in chunks, so that growing moves nothing and readers need no lock.
const (
	slotChunk  = 1 << 12 // slots of a chunk
	slotChunks = 1 << 15 // chunks: 134 million open files
)

// slots hands out small numbers for things: handles of open files and directories. Numbers
// are used again after free, so the kernel's word is what keeps get safe: it
// never uses a handle after RELEASE.
type slots[T any] struct {
	chunks [slotChunks]atomic.Pointer[[slotChunk]atomic.Pointer[T]]
	mu     struct {
		sync.Mutex
		free []uint32
		next uint32 // never used so far, and all above
	}
}

// newSlots returns slots that hand out first and above.
func newSlots[T any](first uint32) *slots[T] {
	s := &slots[T]{}
	s.mu.next = first
	return s
}

// put stores v and returns its number, or false if there is no more room.
func (s *slots[T]) put(v *T) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n uint32
	if k := len(s.mu.free); k > 0 {
		n = s.mu.free[k-1]
		s.mu.free = s.mu.free[:k-1]
	} else {
		n = s.mu.next
		if n/slotChunk >= slotChunks {
			return 0, false
		}
		s.mu.next++
	}
	c := &s.chunks[n/slotChunk]
	if c.Load() == nil {
		c.Store(new([slotChunk]atomic.Pointer[T]))
	}
	c.Load()[n%slotChunk].Store(v)
	return uint64(n), true
}

// get returns what has the number n, nil if nothing has.
func (s *slots[T]) get(n uint64) *T {
	if n >= slotChunk*slotChunks {
		return nil
	}
	c := s.chunks[n/slotChunk].Load()
	if c == nil {
		return nil
	}
	return c[n%slotChunk].Load()
}

// free takes n back and returns what it was, nil if it was free already.
func (s *slots[T]) free(n uint64) *T {
	if s.get(n) == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.chunks[n/slotChunk].Load()[n%slotChunk].Swap(nil)
	if v != nil {
		s.mu.free = append(s.mu.free, uint32(n))
	}
	return v
}

// all calls f with everything stored; what comes or goes meanwhile may be missed.
func (s *slots[T]) all(f func(n uint64, v *T)) {
	s.mu.Lock()
	end := uint64(s.mu.next)
	s.mu.Unlock()
	for n := uint64(0); n < end; n++ {
		if v := s.get(n); v != nil {
			f(n, v)
		}
	}
}
