package brick

import "sync"

// stream has what is written to a file in one go on its way to the disk early: a file that is written as a
// whole waits at its fsync for the rest only, and the disk is not idle until then. Nothing is waited for, and nothing is durable
// by it: see SYNC_FILE_RANGE_WRITE in sync_file_range(2). Writes all over a file are left to the kernel, for they
// may hit the same block again.
type stream struct {
	mu       sync.Mutex
	from, to int64 // where has been written since the last range that was begun
	bytes    int64 // how much
}

// streamed is how much is begun at a time, bytes: enough for a disk to write in one go.
const streamed = 8 << 20

// wrote notes a write of n bytes at off and returns a range that is to be written out, if there is one: so much
// has been written, and to one place; several writers may be out of order.
func (s *stream) wrote(off, n int64) (from, length int64, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes == 0 {
		s.from, s.to = off, off+n
	}
	s.from, s.to, s.bytes = min(s.from, off), max(s.to, off+n), s.bytes+n
	if s.bytes < streamed {
		return 0, 0, false
	}
	from, length = s.from, s.to-s.from
	now = length >= s.bytes && length <= 2*s.bytes
	s.bytes = 0
	return from, length, now
}
