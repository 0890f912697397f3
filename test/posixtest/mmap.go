package posixtest

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// mapTest is a test with a mapping of a file of 64 KiB.
func mapTest(name string, prot, flags int, run func(e *env, p string, fd int, m []byte)) test {
	return test{name, func(e *env) {
		if e.opts.NoMmap {
			return
		}
		p := e.file("f", string(pattern(65536, 1)))
		fd := e.open(p, unix.O_RDWR, 0)
		m, err := unix.Mmap(fd, 0, 65536, prot, flags)
		e.ok(err)
		defer func() { e.ok(unix.Munmap(m)) }()
		run(e, p, fd, m)
	}}
}

const readWrite = unix.PROT_READ | unix.PROT_WRITE

var mmapTests = []test{
	mapTest("read", unix.PROT_READ, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		if !bytes.Equal(m, pattern(65536, 1)) {
			e.Error("the mapping differs from the file")
		}
	}),
	mapTest("write is read by read", readWrite, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		copy(m[5000:], "through the mapping")
		b := make([]byte, 19)
		_, err := unix.Pread(fd, b, 5000)
		e.ok(err)
		if string(b) != "through the mapping" {
			e.Errorf("before msync: %q", b)
		}
		e.ok(unix.Msync(m, unix.MS_SYNC))
		want := pattern(65536, 1)
		copy(want[5000:], "through the mapping")
		e.holds(p, string(want))
	}),
	mapTest("write by write is in the mapping", readWrite, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		_ = m[9000]
		other := e.open(p, unix.O_WRONLY, 0)
		_, err := unix.Pwrite(other, []byte("by write"), 8190)
		e.ok(err)
		if got := string(m[8190:8198]); got != "by write" {
			e.Errorf("the mapping shows %q", got)
		}
	}),
	mapTest("two mappings share", readWrite, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		n, err := unix.Mmap(e.open(p, unix.O_RDWR, 0), 4096, 8192, readWrite, unix.MAP_SHARED)
		e.ok(err)
		defer func() { e.ok(unix.Munmap(n)) }()
		copy(m[4096:], "one")
		copy(n[4000:], "two")
		if string(n[:3]) != "one" || string(m[8096:8099]) != "two" {
			e.Errorf("%q %q", n[:3], m[8096:8099])
		}
	}),
	mapTest("private writes stay private", readWrite, unix.MAP_PRIVATE, func(e *env, p string, fd int, m []byte) {
		copy(m, "private")
		e.holds(p, string(pattern(65536, 1)))
	}),
	mapTest("cut and grown under the mapping", readWrite, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		m[50000] = 'x'
		e.ok(unix.Ftruncate(fd, 10))
		e.ok(unix.Ftruncate(fd, 65536))
		if m[50000] != 0 || m[9] != pattern(10, 1)[9] {
			e.Errorf("bytes %d %d", m[50000], m[9])
		}
		m[60000] = 'y'
		e.ok(unix.Msync(m, unix.MS_SYNC))
		want := append(pattern(65536, 1)[:10], make([]byte, 65526)...)
		want[60000] = 'y'
		e.holds(p, string(want))
	}),
	mapTest("survives close, unlink and rename", readWrite, unix.MAP_SHARED, func(e *env, p string, fd int, m []byte) {
		q := e.path("g")
		e.ok(unix.Rename(p, q))
		e.ok(os.WriteFile(p, []byte("another"), 0o644))
		copy(m, "mapped")
		e.ok(unix.Msync(m, unix.MS_SYNC))
		b := make([]byte, 6)
		f, err := os.Open(q)
		e.ok(err)
		_, err = f.ReadAt(b, 0)
		e.ok(firstError(err, f.Close()))
		if string(b) != "mapped" {
			e.Errorf("read %q", b)
		}
		e.ok(unix.Unlink(q))
		copy(m, "still here")
		e.ok(unix.Msync(m, unix.MS_SYNC))
		b = make([]byte, 10)
		_, err = unix.Pread(fd, b, 0)
		if e.ok(err); string(b) != "still here" {
			e.Errorf("read %q", b)
		}
		e.holds(p, "another")
	}),
	{"the last page beyond the end is zeros", func(e *env) {
		if e.opts.NoMmap {
			return
		}
		fd := e.open(e.file("f", "short"), unix.O_RDWR, 0)
		m, err := unix.Mmap(fd, 0, 4096, readWrite, unix.MAP_SHARED)
		e.ok(err)
		defer func() { e.ok(unix.Munmap(m)) }()
		if !bytes.Equal(m[5:], make([]byte, 4091)) {
			e.Error("there is something beyond the end")
		}
		m[100] = 'x' // beyond the end: never in the file
		e.ok(unix.Msync(m, unix.MS_SYNC))
		e.holds(e.path("f"), "short")
	}},
	{"permissions", func(e *env) {
		r := e.open(e.file("f", "content"), unix.O_RDONLY, 0)
		_, err := unix.Mmap(r, 0, 7, readWrite, unix.MAP_SHARED)
		e.fails(err, unix.EACCES)
	}},
}
