package set

import (
	"context"
	"sync"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// space knows how full the members in sync are, so that a change for which the fullest
// has no room is refused before anyone has begun it.
type space struct {
	mu struct {
		sync.Mutex
		members map[string]room // of backups, as they told last
		written int64           // bytes, since the least room was computed
		left    room            // the least
	}
}

// room is what is free on a member.
type room struct {
	total, free      uint64 // bytes
	files, filesFree uint64 // objects; 0, 0: no fixed number
	known            bool
}

func (m room) reserve() uint64 { return min(max(m.total/256, 1<<20), 64<<20) }

// filesReserve is how many objects must be free.
const filesReserve = 16

// hear takes a backup's answer to a beat.
func (s *space) hear(id string, answer []byte) {
	r := &reader{b: answer}
	m := room{total: r.u64(), free: r.u64(), files: r.u64(), filesFree: r.u64(), known: true}
	if !r.done() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.members == nil {
		s.mu.members = map[string]room{}
	}
	s.mu.members[id] = m
	s.mu.left.known = false
}

// grows reports how many bytes a change may need, and whether it needs an object.
func (c *change) grows() (bytes int64, object bool) {
	switch c.kind {
	case doMake:
		return 4096 + int64(len(c.data)), true
	case doMakeCopy, doLink, doPut:
		return 4096, true
	case doWrite:
		return int64(len(c.data)), false
	case doAllocate:
		if c.flags&(volume.AllocPunchHole|volume.AllocCollapseRange) == 0 {
			return c.len, false
		}
	case doSetxattr:
		return int64(len(c.value)), false
	}
	return 0, false
}

// admit refuses a change for which there is no room: ENOSPC.
func (s *space) admit(ctx context.Context, r *reign, c *change) error {
	bytes, object := c.grows()
	if bytes == 0 && !object {
		return nil
	}
	fits := func(m room) bool {
		return m.free >= m.reserve()+uint64(bytes) && (!object || m.files == 0 || m.filesFree >= filesReserve)
	}
	if fits(s.least(ctx, r, bytes)) {
		return nil
	}
	// What was written since may have been written over something.
	s.mu.Lock()
	s.mu.left.known = false
	s.mu.Unlock()
	if fits(s.least(ctx, r, bytes)) {
		return nil
	}
	return volume.Errorf(c.kind.String(), c.name, syscall.ENOSPC, "a member of the set is full")
}

// least returns the room on the fullest member in sync, bytes written since counted.
func (s *space) least(ctx context.Context, r *reign, bytes int64) room {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.left.known {
		s.mu.left, s.mu.written = room{free: 1 << 62, known: true}, 0
		if st, err := r.s.member.Statfs(ctx); err == nil {
			s.mu.left = room{total: st.Total, free: st.Available, files: st.Files, filesFree: st.FilesFree, known: true}
		}
		r.mu.Lock()
		for _, b := range r.mu.backups {
			m := s.mu.members[b.id]
			if m.known && m.free < s.mu.left.free {
				s.mu.left.total, s.mu.left.free = m.total, m.free
			}
			if m.known && m.files != 0 && (s.mu.left.files == 0 || m.filesFree < s.mu.left.filesFree) {
				s.mu.left.files, s.mu.left.filesFree = m.files, m.filesFree
			}
		}
		r.mu.Unlock()
	}
	s.mu.written += bytes
	left := s.mu.left
	left.free -= min(left.free, uint64(s.mu.written-bytes))
	return left
}

// limit takes down in st what is free to what is on the fullest member.
func (s *space) limit(st *volume.Statfs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mu.members {
		if m.known && m.free < st.Available {
			st.Free, st.Available = min(st.Free, m.free), m.free
		}
		if m.known && m.files != 0 && m.filesFree < st.FilesFree {
			st.FilesFree = m.filesFree
		}
	}
}

// fill tells the primary how full this member is.
func (f *follower) fill(ctx context.Context) []byte {
	st, err := f.s.member.Statfs(ctx)
	if err != nil {
		return nil
	}
	w := &writer{}
	w.u64(st.Total)
	w.u64(st.Available)
	w.u64(st.Files)
	w.u64(st.FilesFree)
	return w.b
}
