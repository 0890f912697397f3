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
	{"a copy as cp -a makes it", copies},
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

// copies makes files as cp -a and tar do, and looks at them at each step of that in a file of its own.
func copies(e *env) {
	times := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 1}, {Sec: 1_100_000_000, Nsec: 2}}
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	steps := []struct {
		name string
		do   func(fd int) error
	}{
		{"write", func(fd int) error { _, err := unix.Write(fd, []byte("content")); return err }},
		{"futimens", func(fd int) error { return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), times, 0) }},
		{"fchown", func(fd int) error { return unix.Fchown(fd, 5, 6) }},
		{"access ACL", func(fd int) error {
			err := unix.Fsetxattr(fd, "system.posix_acl_access", []byte(acl), 0)
			if err == unix.EOPNOTSUPP {
				err = unix.Fchmod(fd, 0o640)
			}
			return err
		}},
	}
	for look := range len(steps) + 1 {
		p := e.path("f" + string(rune('0'+look)))
		fd, err := openRetry(p, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		e.ok(err)
		check := func(done int) {
			st := e.stat(p)
			var want unix.Stat_t
			want.Mode = unix.S_IFREG | 0o600
			if done > 0 {
				want.Size = 7
			}
			if done > 2 {
				want.Uid, want.Gid = 5, 6
			}
			if done > 3 {
				want.Mode = unix.S_IFREG | 0o640
			}
			if st.Size != want.Size || st.Uid != want.Uid || st.Gid != want.Gid || st.Mode != want.Mode || done > 1 && st.Mtim != times[1] {
				e.Errorf("after %d steps, looked at after %d: size %d, owner %d:%d, mode %o, mtime %v", done, look, st.Size, st.Uid, st.Gid, st.Mode, st.Mtim)
			}
		}
		for i, s := range steps {
			if err := s.do(fd); err != nil {
				e.Fatalf("%s: %v", s.name, err)
			}
			if i+1 == look {
				check(look)
			}
		}
		e.ok(unix.Close(fd))
		check(len(steps))
		e.holds(p, "content")
	}
}
