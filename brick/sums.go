package brick

import (
	"context"

	"github.com/cespare/xxhash/v2"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// sumsMax is the largest number of blocks of one Sums.
const sumsMax = 1 << 16

// Sums returns checksums of blocks: XXH64 of what they hold, 1 where that is 0.
func (s *Store) Sums(ctx context.Context, id volume.ID, first int64, n, size int) ([]uint64, error) {
	const op = "sums"
	if err := start(ctx, op); err != nil {
		return nil, err
	}
	if first < 0 || n < 1 || n > sumsMax || size < 1 || size > volume.IOMax || first > (1<<63-1)/int64(size)-int64(n) {
		return nil, volume.Errorf(op, id.String(), unix.EINVAL, "%d blocks of %d bytes from number %d on", n, size, first)
	}
	fd, err := s.openToSum(op, id)
	if err != nil {
		return nil, err
	}
	defer s.sys.Close(fd)
	info, err := s.sys.Stat(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fail(op, id.String(), err)
	}
	from := first * int64(size)
	blocks := min(int64(n), max(0, info.Size-from+int64(size)-1)/int64(size))
	sums := make([]uint64, blocks)
	buf := make([]byte, size)
	data := from // nothing but holes lies between what was looked at and data
	for i := range sums {
		if err := start(ctx, op); err != nil {
			return nil, err
		}
		off := from + int64(i)*int64(size)
		if data < off+int64(size) {
			data, err = s.sys.Seek(fd, max(off, data), unix.SEEK_DATA)
			if err == unix.ENXIO {
				break // only a hole is left
			}
			if err != nil {
				return nil, fail(op, id.String(), err)
			}
		}
		if data >= off+int64(size) {
			continue
		}
		if sums[i], err = s.sum(fd, buf[:min(int64(size), info.Size-off)], off); err != nil {
			return nil, fail(op, id.String(), err)
		}
	}
	return sums, nil
}

// openToSum opens a regular file without leaving a trace.
func (s *Store) openToSum(op string, id volume.ID) (int, error) {
	t, err := s.target(op, id)
	if err != nil {
		return -1, err
	}
	defer s.release(&t)
	if t.isDir() {
		return -1, &volume.Error{Op: op, Where: id.String(), Errno: unix.EISDIR}
	}
	if !t.isRegular() {
		return -1, &volume.Error{Op: op, Where: id.String(), Errno: unix.EINVAL}
	}
	fd, err := s.sys.Open(t.fd, t.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	if err != nil {
		return -1, s.failAttr(op, &t, id.String(), err)
	}
	return fd, nil
}

// sum reads a block into buf and returns its checksum. What is beyond the end by now counts as zero.
func (s *Store) sum(fd int, buf []byte, off int64) (uint64, error) {
	for n := 0; n < len(buf); {
		m, err := s.sys.Pread(fd, buf[n:], off+int64(n))
		if err != nil {
			return 0, err
		}
		if m == 0 {
			clear(buf[n:])
			break
		}
		n += m
	}
	if allZero(buf) {
		return 0, nil
	}
	return max(xxhash.Sum64(buf), 1), nil
}

// allZero reports whether b holds zeros only: it begins with one, and each byte is the one before.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && string(b[1:]) == string(b[:len(b)-1])
}
