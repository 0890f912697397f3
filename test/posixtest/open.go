package posixtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

var openTests = []test{
	{"exclusive", func(e *env) {
		f, d := e.file("f", "content"), e.mkdir("d")
		e.ok(unix.Symlink("f", e.path("l")))
		e.ok(unix.Symlink("nowhere", e.path("dangling")))
		for _, p := range []string{f, d, e.path("l"), e.path("dangling")} {
			e.all(call{filepath.Base(p), func() error {
				return tryOpen(p, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_TRUNC, 0o644)
			}, only(unix.EEXIST)})
		}
		e.holds(f, "content")
		e.fails(tryOpen(e.path("nowhere"), unix.O_RDONLY, 0), unix.ENOENT)
	}},
	{"create through a dangling link", func(e *env) {
		e.ok(unix.Symlink("made", e.path("l")))
		e.ok(tryOpen(e.path("l"), unix.O_CREAT|unix.O_WRONLY, 0o644))
		e.lists(e.dir, "l", "made")
	}},
	{"directories", func(e *env) {
		d := e.mkdir("d")
		for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_CREAT | unix.O_RDONLY, unix.O_RDONLY | unix.O_TRUNC} {
			e.all(call{"open " + itoa(flags), func() error { return tryOpen(d, flags, 0o644) }, only(unix.EISDIR)})
		}
		e.fails(tryOpen(e.file("f", ""), unix.O_RDONLY|unix.O_DIRECTORY, 0), unix.ENOTDIR)
		fd := e.open(d, unix.O_RDONLY, 0)
		_, err := unix.Read(fd, make([]byte, 10))
		e.fails(err, unix.EISDIR)
	}},
	{"links", func(e *env) {
		e.file("f", "content")
		e.ok(unix.Symlink("f", e.path("l")))
		e.fails(tryOpen(e.path("l"), unix.O_RDONLY|unix.O_NOFOLLOW, 0), unix.ELOOP)
		e.holds(e.path("l"), "content")
	}},
	{"fifos and sockets", func(e *env) {
		p := e.path("fifo")
		e.ok(unix.Mkfifo(p, 0o644))
		e.fails(tryOpen(p, unix.O_WRONLY|unix.O_NONBLOCK, 0), unix.ENXIO)
		r := e.open(p, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		w := e.open(p, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		_, err := unix.Write(w, []byte("hello"))
		e.ok(err)
		b := make([]byte, 10)
		if n, err := unix.Read(r, b); err != nil || string(b[:n]) != "hello" {
			e.Errorf("read %q, %v", b[:max(n, 0)], err)
		}
		fd := e.open(e.dir, unix.O_DIRECTORY|unix.O_RDONLY, 0) // socket paths are short
		s := "/proc/self/fd/" + itoa(fd) + "/s"
		l, err := net.Listen("unix", s)
		e.ok(err)
		if m := e.stat(e.path("s")).Mode & unix.S_IFMT; m != unix.S_IFSOCK {
			e.Errorf("the socket's type is %o", m)
		}
		c, err := net.Dial("unix", s)
		e.ok(err)
		e.ok(c.Close())
		e.fails(tryOpen(e.path("s"), unix.O_RDONLY, 0), unix.ENXIO)
		e.ok(l.Close())
	}},
	{"truncate", func(e *env) {
		f := e.file("f", "content")
		e.ok(tryOpen(f, unix.O_WRONLY|unix.O_TRUNC, 0))
		e.holds(f, "")
		e.file("f", "content")
		e.ok(tryOpen(f, unix.O_WRONLY|unix.O_CREAT, 0o600))
		e.holds(f, "content")
		e.mode(f, 0o644)
		e.ok(tryOpen(f, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600))
		e.holds(f, "")
	}},
	{"access modes", func(e *env) {
		f := e.file("f", "content")
		r, w := e.open(f, unix.O_RDONLY, 0), e.open(f, unix.O_WRONLY, 0)
		_, err := unix.Write(r, []byte("x"))
		e.fails(err, unix.EBADF)
		_, err = unix.Read(w, make([]byte, 1))
		e.fails(err, unix.EBADF)
		e.fails(unix.Ftruncate(r, 0), unix.EINVAL, unix.EBADF)
		p := e.open(f, unix.O_PATH, 0)
		_, err = unix.Read(p, make([]byte, 1))
		e.fails(err, unix.EBADF)
		var st unix.Stat_t
		e.ok(unix.Fstat(p, &st))
	}},
	{"a file of mode 0 can be written by its maker", func(e *env) {
		e.ok(e.as(alice, func() error {
			fd, err := openRetry(e.path("f"), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = unix.Pwrite(fd, []byte("content"), 0)
			return firstError(err, unix.Close(fd))
		}))
		e.mode(e.path("f"), 0)
		e.holds(e.path("f"), "content")
	}},
	{"umask", func(e *env) {
		e.ok(e.masked(0o027, func() error {
			return firstError(tryOpen(e.path("f"), unix.O_CREAT|unix.O_WRONLY, 0o666), unix.Mkdir(e.path("d"), 0o777),
				unix.Mkfifo(e.path("p"), 0o777), unix.Mknod(e.path("n"), unix.S_IFREG|0o777, 0))
		}))
		e.mode(e.path("f"), 0o640)
		e.mode(e.path("d"), 0o750)
		e.mode(e.path("p"), 0o750)
		e.mode(e.path("n"), 0o750)
	}},
	{"without a name", func(e *env) {
		fd, err := openRetry(e.dir, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if is(err, unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL) {
			e.Logf("O_TMPFILE: %v, which open(2) allows", err)
			return
		}
		e.ok(err)
		defer func() { e.ok(unix.Close(fd)) }()
		_, err = unix.Pwrite(fd, []byte("content"), 0)
		e.ok(err)
		e.lists(e.dir)
		e.ok(unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), unix.AT_FDCWD, e.path("f"), unix.AT_SYMLINK_FOLLOW))
		e.holds(e.path("f"), "content")
	}},
	{"a running program", runningProgram},
	{"unlinked but open", func(e *env) {
		f := e.file("f", "content")
		fd := e.open(f, unix.O_RDWR, 0)
		e.ok(unix.Unlink(f))
		var st unix.Stat_t
		e.ok(unix.Fstat(fd, &st))
		if st.Nlink != 0 || st.Size != 7 {
			e.Errorf("nlink %d size %d", st.Nlink, st.Size)
		}
		_, err := unix.Pwrite(fd, []byte("CON"), 0)
		e.ok(err)
		e.ok(unix.Ftruncate(fd, 5))
		e.ok(unix.Fchmod(fd, 0o600))
		e.ok(unix.Fchown(fd, 5, 6))
		e.ok(unix.Fsync(fd))
		b := make([]byte, 10)
		n, err := unix.Pread(fd, b, 0)
		e.ok(err)
		e.ok(unix.Fstat(fd, &st))
		if string(b[:n]) != "CONte" || st.Mode&0o777 != 0o600 || st.Uid != 5 || st.Gid != 6 {
			e.Errorf("content %q mode %o owner %d:%d", b[:n], st.Mode, st.Uid, st.Gid)
		}
		e.lists(e.dir)
		e.file("f", "another")
		if n, err = unix.Pread(fd, b, 0); string(b[:n]) != "CONte" {
			e.Errorf("the old file now reads %q, %v", b[:n], err)
		}
	}},
	{"opened again through /proc", func(e *env) {
		f := e.file("f", "content")
		fd := e.open(f, unix.O_RDONLY, 0)
		e.ok(unix.Unlink(f))
		e.holds("/proc/self/fd/"+itoa(fd), "content")
	}},
	{"replaced but open", func(e *env) {
		f := e.file("f", "old")
		fd := e.open(f, unix.O_RDONLY, 0)
		e.ok(unix.Rename(e.file("g", "new"), f))
		b := make([]byte, 10)
		if n, err := unix.Pread(fd, b, 0); err != nil || string(b[:n]) != "old" {
			e.Errorf("read %q, %v", b[:max(0, n)], err)
		}
		e.holds(f, "new")
	}},
}

// firstError returns the first that is no nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// runningProgram checks that programs run, and ETXTBSY both ways.
func runningProgram(e *env) {
	if e.opts.NoExec {
		return
	}
	source, err := exec.LookPath("sleep")
	e.ok(err)
	b, err := os.ReadFile(source)
	e.ok(err)
	p := e.path("program")
	e.ok(os.WriteFile(p, b, 0o755))
	cmd := exec.Command(p, "1000")
	e.ok(cmd.Start())
	e.all(
		call{"writing to a running program", func() error { return tryOpen(p, unix.O_WRONLY, 0) }, only(unix.ETXTBSY)},
		call{"cutting a running program", func() error { return unix.Truncate(p, 0) }, only(unix.ETXTBSY)},
	)
	e.ok(unix.Rename(p, e.path("renamed")))
	e.ok(unix.Unlink(e.path("renamed")))
	e.ok(cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		e.Error("the killed program ended well")
	}
	e.ok(os.WriteFile(p, b, 0o755))
	e.open(p, unix.O_WRONLY, 0)
	e.fails(exec.Command(p, "0").Run(), unix.ETXTBSY)
}
