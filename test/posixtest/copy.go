package posixtest

import (
	"golang.org/x/sys/unix"
)

var copyTests = []test{
	{"copy_file_range", func(e *env) {
		want := pattern(300_000, 5)
		in := e.open(e.file("in", string(want)), unix.O_RDONLY, 0)
		out := e.open(e.path("out"), unix.O_CREAT|unix.O_RDWR, 0o644)
		from, to := int64(1000), int64(50)
		for left := 250_000; left > 0; {
			n, err := unix.CopyFileRange(in, &from, out, &to, left, 0)
			e.ok(err)
			if n == 0 {
				e.Fatalf("nothing was copied, %d bytes are left", left)
			}
			left -= n
		}
		e.holds(e.path("out"), string(make([]byte, 50))+string(want[1000:251_000]))
		end := int64(400_000)
		if n, err := unix.CopyFileRange(in, &end, out, nil, 10, 0); n != 0 || err != nil {
			e.Errorf("beyond the end: %d, %v", n, err)
		}
		a, b := int64(0), int64(10)
		_, err := unix.CopyFileRange(out, &a, out, &b, 100, 0)
		e.fails(err, unix.EINVAL)
	}},
	{"sendfile", func(e *env) {
		want := pattern(300_000, 6)
		in := e.open(e.file("in", string(want)), unix.O_RDONLY, 0)
		out := e.open(e.path("out"), unix.O_CREAT|unix.O_RDWR, 0o644)
		for off := int64(0); off < int64(len(want)); {
			n, err := unix.Sendfile(out, in, &off, len(want))
			e.ok(err)
			if n == 0 {
				e.Fatalf("nothing was sent at %d", off)
			}
		}
		e.holds(e.path("out"), string(want))
	}},
	{"splice through a pipe", func(e *env) {
		want := pattern(300_000, 7)
		in := e.open(e.file("in", string(want)), unix.O_RDONLY, 0)
		out := e.open(e.path("out"), unix.O_CREAT|unix.O_RDWR, 0o644)
		var pipe [2]int
		e.ok(unix.Pipe2(pipe[:], unix.O_CLOEXEC))
		defer func() { e.ok(firstError(unix.Close(pipe[0]), unix.Close(pipe[1]))) }()
		for off := int64(0); off < int64(len(want)); {
			n, err := unix.Splice(in, &off, pipe[1], nil, 32<<10, 0)
			e.ok(err)
			for n > 0 {
				m, err := unix.Splice(pipe[0], nil, out, nil, int(n), 0)
				e.ok(err)
				n -= m
			}
		}
		e.holds(e.path("out"), string(want))
	}},
}
