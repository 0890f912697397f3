package posixtest

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// goneTests: an object stays until its last name and its last descriptor are
// gone (unlink(2), rmdir(2)), and so do the calls on descriptors.
var goneTests = []test{
	{"fifos and devices that are open", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind != "fifo" && kind != "chr" {
				continue
			}
			fd := e.open(p, unix.O_RDWR, 0)
			was := e.stat(p)
			e.ok(unix.Unlink(p))
			var st unix.Stat_t
			e.ok(unix.Fstat(fd, &st))
			if st.Nlink != 0 || st.Mode&0o7777 != was.Mode&0o7777 || st.Rdev != was.Rdev || st.Ino != was.Ino {
				e.Errorf("%s: %+v, was %+v", kind, st, was)
			}
			if _, err := unix.Write(fd, []byte("hello")); err != nil {
				e.Errorf("write to the %s: %v", kind, err)
			}
		}
	}},
	{"directories that are open", func(e *env) {
		d := e.mkdir("d")
		fd := e.open(d, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		e.ok(unix.Rmdir(d))
		e.ok(unix.Fsync(fd))
		var st unix.Stat_t
		e.ok(unix.Fstat(fd, &st))
		if st.Nlink != 0 || st.Mode != unix.S_IFDIR|0o755 {
			e.Errorf("%+v", st)
		}
		for what, do := range map[string]func() error{
			"create":  func() error { return tryOpen("/proc/self/fd/"+itoa(fd)+"/f", unix.O_CREAT|unix.O_WRONLY, 0o644) },
			"mkdir":   func() error { return unix.Mkdirat(fd, "x", 0o755) },
			"symlink": func() error { return unix.Symlinkat("x", fd, "x") },
			"mkfifo":  func() error { return unix.Mkfifoat(fd, "x", 0o644) },
			"link":    func() error { return unix.Linkat(unix.AT_FDCWD, e.file("f", ""), fd, "x", 0) },
			"rename":  func() error { return unix.Renameat(unix.AT_FDCWD, e.file("f", ""), fd, "x") },
			"stat":    func() error { return unix.Fstatat(fd, "x", &st, 0) },
		} {
			e.all(call{what, do, only(unix.ENOENT)})
		}
	}},
	{"a regular file of which all is asked", func(e *env) {
		p := e.file("f", "content")
		fd := e.open(p, unix.O_RDWR, 0)
		e.ok(unix.Unlink(p))
		again := "/proc/self/fd/" + itoa(fd)
		one := unix.Timespec{Sec: 1, Nsec: 1}
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, again, []unix.Timespec{one, one}, 0))
		e.ok(unix.Chmod(again, 0o611))
		e.ok(unix.Truncate(again, 20))
		var st unix.Stat_t
		e.ok(unix.Fstat(fd, &st))
		if st.Size != 20 || st.Mode&0o7777 != 0o611 || st.Nlink != 0 {
			e.Errorf("%+v", st)
		}
		e.ok(tryOpen(again, unix.O_WRONLY|unix.O_TRUNC, 0))
		e.ok(unix.Fstat(fd, &st))
		if st.Size != 0 {
			e.Errorf("after O_TRUNC it has %d bytes", st.Size)
		}
		e.fails(unix.Linkat(unix.AT_FDCWD, again, unix.AT_FDCWD, e.path("g"), unix.AT_SYMLINK_FOLLOW), unix.ENOENT)
		e.lists(e.dir)
	}},
	{"the working directory", func(e *env) {
		d := e.mkdir("d")
		e.ok(unix.Mkdir(d+"/sub", 0o755))
		fd := e.open(d+"/sub", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		where := func(want string) {
			e.Helper()
			if got, err := os.Readlink("/proc/self/fd/" + itoa(fd)); err != nil || got != want {
				e.Errorf("it is at %q, %v; want %q", got, err, want)
			}
		}
		where(d + "/sub")
		e.ok(unix.Rename(d, e.path("e")))
		where(e.path("e/sub"))
		e.ok(unix.Mkdir(e.path("other"), 0o755))
		e.ok(unix.Rename(e.path("e/sub"), e.path("other/moved")))
		where(e.path("other/moved"))
		got, err := os.ReadDir("/proc/self/fd/" + itoa(fd) + "/..")
		e.ok(err)
		if !slices.ContainsFunc(got, func(x os.DirEntry) bool { return x.Name() == "moved" }) {
			e.Errorf(".. holds %v", got)
		}
	}},
}
