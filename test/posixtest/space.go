package posixtest

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// chunk is a multiple of every common block size, in bytes.
const chunk = 64 << 10

var spaceTests = []test{
	{"a sparse file of 1 TiB", func(e *env) {
		p := e.path("f")
		fd := e.open(p, unix.O_CREAT|unix.O_RDWR, 0o644)
		e.ok(unix.Ftruncate(fd, 1<<40))
		_, err := unix.Pwrite(fd, []byte("middle"), 1<<39)
		e.ok(err)
		_, err = unix.Pwrite(fd, []byte("end"), 1<<40-1)
		e.ok(err)
		if st := e.stat(p); st.Size != 1<<40+2 || st.Blocks*512 > 4<<20 {
			e.Errorf("size %d, blocks %d", st.Size, st.Blocks)
		}
		b := make([]byte, 10)
		n, err := unix.Pread(fd, b, 1<<39-2)
		if e.ok(err); string(b[:n]) != "\x00\x00middle\x00\x00" {
			e.Errorf("read %q", b[:n])
		}
		n, err = unix.Pread(fd, b, 1<<40-1)
		if e.ok(err); string(b[:n]) != "end" {
			e.Errorf("read %q", b[:n])
		}
	}},
	{"data and holes", func(e *env) {
		fd := e.open(e.path("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, pattern(chunk, 1), 2*chunk)
		e.ok(err)
		e.ok(unix.Ftruncate(fd, 5*chunk))
		e.ok(unix.Fsync(fd))
		for _, c := range []struct {
			whence          int
			off, want, none int64 // none: where there are no holes
		}{
			{unix.SEEK_DATA, 0, 2 * chunk, 0}, {unix.SEEK_HOLE, 0, 0, 5 * chunk},
			{unix.SEEK_DATA, 2*chunk + 7, 2*chunk + 7, 2*chunk + 7}, {unix.SEEK_HOLE, 2*chunk + 7, 3 * chunk, 5 * chunk},
			{unix.SEEK_HOLE, 4 * chunk, 4 * chunk, 5 * chunk},
		} {
			if e.opts.NoHoles {
				c.want = c.none
			}
			got, err := unix.Seek(fd, c.off, c.whence)
			if e.ok(err); got != c.want {
				e.Errorf("seek %d from %d: %d, want %d", c.whence, c.off, got, c.want)
			}
		}
		_, err = unix.Seek(fd, 5*chunk, unix.SEEK_DATA)
		e.fails(err, unix.ENXIO)
		if !e.opts.NoHoles {
			_, err = unix.Seek(fd, 3*chunk, unix.SEEK_DATA)
			e.fails(err, unix.ENXIO)
		}
	}},
	allocTest("allocate", func(e *env, p string, fd int) {
		e.ok(unix.Fallocate(fd, 0, 10, 3*chunk))
		if st := e.stat(p); st.Size != 10+3*chunk || st.Blocks*512 < 3*chunk {
			e.Errorf("size %d, blocks %d", st.Size, st.Blocks)
		}
		e.holds(p, string(append(pattern(chunk, 1), make([]byte, 10+2*chunk)...)))
	}),
	allocTest("allocate, size kept", func(e *env, p string, fd int) {
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 3*chunk))
		e.holds(p, string(pattern(chunk, 1)))
	}),
	allocTest("punch a hole", func(e *env, p string, fd int) {
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100, 20000))
		want := pattern(chunk, 1)
		clear(want[100:20100])
		e.holds(p, string(want))
		if e.opts.NoMmap {
			return
		}
		m, err := unix.Mmap(fd, 0, chunk, unix.PROT_READ, unix.MAP_SHARED)
		e.ok(err)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 30000, 10000))
		clear(want[30000:40000])
		if !bytes.Equal(m, want) {
			e.Error("the mapping still shows what was punched out")
		}
		e.ok(unix.Munmap(m))
	}),
	allocTest("zero a range", func(e *env, p string, fd int) {
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 100, 20000))
		want := pattern(chunk, 1)
		clear(want[100:20100])
		e.holds(p, string(want))
	}),
	allocTest("collapse and insert", func(e *env, p string, fd int) {
		if e.opts.NoShift {
			e.fails(unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), unix.EOPNOTSUPP)
			e.fails(unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 0, 4096), unix.EOPNOTSUPP)
			return
		}
		want := pattern(chunk, 1)
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 4096, 8192))
		e.holds(p, string(want[:4096])+string(want[12288:]))
		e.ok(unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 4096, 4096))
		e.holds(p, string(want[:4096])+string(make([]byte, 4096))+string(want[12288:]))
	}),
	allocTest("impossible", func(e *env, p string, fd int) {
		e.fails(unix.Fallocate(fd, 0, -1, 10), unix.EINVAL)
		e.fails(unix.Fallocate(fd, 0, 0, 0), unix.EINVAL)
		e.fails(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, 0, 10), unix.EOPNOTSUPP, unix.EINVAL)
		e.fails(unix.Fallocate(e.open(p, unix.O_RDONLY, 0), 0, 0, 10), unix.EBADF)
		e.fails(unix.Fallocate(fd, 0, 1<<62, 1<<62), unix.EFBIG)
	}),
}

// allocTest is a test with a file of one chunk.
func allocTest(name string, run func(e *env, p string, fd int)) test {
	return test{name, func(e *env) {
		p := e.file("f", string(pattern(chunk, 1)))
		fd := e.open(p, unix.O_RDWR, 0)
		if e.opts.NoAllocate {
			e.fails(unix.Fallocate(fd, 0, 0, 10), unix.EOPNOTSUPP)
			return
		}
		run(e, p, fd)
	}}
}
