package posixtest

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pattern returns n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*11+i>>8*7+i>>16) ^ seed
	}
	return p
}

var dataTests = []test{
	{"sizes and offsets", func(e *env) {
		fd := e.open(e.path("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		for _, off := range []int64{0, 1, 4095, 4096, 131071, 131072, 1<<20 - 1, 3 << 20} {
			for _, n := range []int{1, 4095, 4096, 4097, 131072, 1<<20 + 1} {
				p := pattern(n, byte(off+int64(n)))
				w, err := unix.Pwrite(fd, p, off)
				e.ok(err)
				q := make([]byte, n)
				r, err := unix.Pread(fd, q, off)
				e.ok(err)
				if w != n || r != n || !bytes.Equal(p, q) {
					e.Fatalf("%d bytes at %d: wrote %d, read %d", n, off, w, r)
				}
			}
		}
	}},
	{"at the end", func(e *env) {
		fd := e.open(e.file("f", "0123456789"), unix.O_RDONLY, 0)
		b := make([]byte, 20)
		for _, c := range []struct {
			off  int64
			want string
		}{{0, "0123456789"}, {8, "89"}, {10, ""}, {100, ""}} {
			n, err := unix.Pread(fd, b, c.off)
			e.ok(err)
			if string(b[:n]) != c.want {
				e.Errorf("at %d: %q, want %q", c.off, b[:n], c.want)
			}
		}
	}},
	{"two descriptors append", func(e *env) {
		p := e.file("f", "")
		a, b := e.open(p, unix.O_WRONLY|unix.O_APPEND, 0), e.open(p, unix.O_WRONLY|unix.O_APPEND, 0)
		var want string
		for i := range 100 {
			fd, s := a, fmt.Sprintf("<%d>", i)
			if i%2 == 1 {
				fd = b
			}
			_, err := unix.Write(fd, []byte(s))
			e.ok(err)
			want += s
		}
		e.holds(p, want)
		_, err := unix.Pwrite(a, []byte("!"), 0) // Linux appends all the same: pwrite(2), BUGS
		e.ok(err)
		e.holds(p, want+"!")
	}},
	{"many append at once", func(e *env) {
		p := e.file("f", "")
		const writers, records = 4, 200
		var wg sync.WaitGroup
		for w := range writers {
			fd := e.open(p, unix.O_WRONLY|unix.O_APPEND, 0)
			wg.Go(func() {
				for i := range records {
					rec := fmt.Appendf(nil, "%d %d %s\n", w, i, bytes.Repeat([]byte("x"), i%300))
					if n, err := unix.Write(fd, rec); err != nil || n != len(rec) {
						e.Errorf("append: %d, %v", n, err)
					}
				}
			})
		}
		wg.Wait()
		b, err := os.ReadFile(p)
		e.ok(err)
		next := [writers]int{}
		for line := range bytes.Lines(b) {
			var w, i int
			var x string
			if _, err := fmt.Sscanf(string(line), "%d %d %s", &w, &i, &x); err != nil && i%300 != 0 || next[w] != i || len(x) != i%300 {
				e.Fatalf("line %.40q: %v", line, err)
			}
			next[w]++
		}
		if next != [writers]int{records, records, records, records} {
			e.Errorf("records %v", next)
		}
	}},
	{"O_DIRECT", func(e *env) {
		p := e.path("f")
		fd, err := openRetry(p, unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o644)
		if is(err, unix.EINVAL) {
			e.Log("O_DIRECT: EINVAL, which open(2) allows")
			return
		}
		e.ok(err)
		defer func() { e.ok(unix.Close(fd)) }()
		m, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned memory
		e.ok(err)
		defer func() { e.ok(unix.Munmap(m)) }()
		want := pattern(1<<20, 1)
		copy(m, want)
		_, err = unix.Pwrite(fd, m, 0)
		e.ok(err)
		e.holds(p, string(want))
		clear(m)
		_, err = unix.Pread(fd, m[:65536], 8192)
		e.ok(err)
		if !bytes.Equal(m[:65536], want[8192:8192+65536]) {
			e.Error("read something else")
		}
		// What is written past the cache is seen through it, and the other way.
		other := e.open(p, unix.O_RDWR, 0)
		b := make([]byte, 4096)
		_, err = unix.Pread(other, b, 0)
		e.ok(err)
		copy(m, bytes.Repeat([]byte("d"), 4096))
		_, err = unix.Pwrite(fd, m[:4096], 0)
		e.ok(err)
		_, err = unix.Pread(other, b, 0)
		e.ok(err)
		if b[0] != 'd' || b[4095] != 'd' {
			e.Error("a direct write is not seen by a cached read")
		}
		_, err = unix.Pwrite(other, bytes.Repeat([]byte("c"), 4096), 0)
		e.ok(err)
		_, err = unix.Pread(fd, m[:4096], 0)
		e.ok(err)
		if m[0] != 'c' || m[4095] != 'c' {
			e.Error("a cached write is not seen by a direct read")
		}
	}},
	{"O_SYNC and fsync", func(e *env) {
		for _, flags := range []int{unix.O_SYNC, unix.O_DSYNC, 0} {
			p := e.path("f" + itoa(flags))
			fd := e.open(p, unix.O_CREAT|unix.O_RDWR|flags, 0o644)
			_, err := unix.Write(fd, []byte("content"))
			e.ok(err)
			e.ok(unix.Fdatasync(fd))
			e.ok(unix.Fsync(fd))
			e.holds(p, "content")
		}
		e.ok(unix.Fsync(e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)))
		e.ok(unix.Syncfs(e.open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)))
	}},
	{"holes and old data", func(e *env) {
		p := e.file("f", string(pattern(10000, 3)))
		e.ok(unix.Truncate(p, 100))
		e.ok(unix.Truncate(p, 9000))
		e.holds(p, string(append(pattern(10000, 3)[:100], make([]byte, 8900)...)))
		fd := e.open(p, unix.O_WRONLY, 0)
		_, err := unix.Pwrite(fd, []byte("end"), 20000)
		e.ok(err)
		e.holds(p, string(append(append(pattern(10000, 3)[:100], make([]byte, 19900)...), "end"...)))
	}},
	{"vectors", func(e *env) {
		fd := e.open(e.path("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		n, err := unix.Pwritev(fd, [][]byte{[]byte("one"), []byte("two"), []byte("three")}, 5)
		e.ok(err)
		a, b := make([]byte, 4), make([]byte, 20)
		m, err := unix.Preadv(fd, [][]byte{a, b}, 5)
		e.ok(err)
		if n != 11 || m != 11 || string(a)+string(b[:7]) != "onetwothree" {
			e.Errorf("wrote %d, read %d: %q %q", n, m, a, b)
		}
	}},
	{"offsets shared and own", func(e *env) {
		p := e.file("f", "0123456789")
		a := e.open(p, unix.O_RDONLY, 0)
		dup, err := unix.Dup(a)
		e.ok(err)
		defer func() { e.ok(unix.Close(dup)) }()
		b := make([]byte, 4)
		_, err = unix.Read(a, b)
		e.ok(err)
		_, err = unix.Read(dup, b)
		e.ok(err)
		if string(b) != "4567" {
			e.Errorf("the duplicate reads %q", b)
		}
		off, err := unix.Seek(a, -2, unix.SEEK_END)
		e.ok(err)
		n, err := unix.Read(dup, b)
		if e.ok(err); off != 8 || string(b[:n]) != "89" {
			e.Errorf("at %d: %q", off, b[:n])
		}
		_, err = unix.Seek(a, -1, unix.SEEK_SET)
		e.fails(err, unix.EINVAL)
	}},
	{"a write's limits", func(e *env) {
		fd := e.open(e.path("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, []byte("x"), -1)
		e.fails(err, unix.EINVAL)
		_, err = unix.Pwrite(fd, []byte("xy"), 1<<63-2)
		e.fails(err, unix.EFBIG, unix.EINVAL, unix.EOVERFLOW)
	}},
	{"what close left is there for the next", func(e *env) {
		p := e.path("f")
		for i := range 100 {
			want := string(pattern(i*97, byte(i)))
			e.ok(os.WriteFile(p, []byte(want), 0o644))
			e.holds(p, want)
			if st := e.stat(p); st.Size != int64(len(want)) {
				e.Fatalf("size %d, want %d", st.Size, len(want))
			}
		}
	}},
}
