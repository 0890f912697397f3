package posixtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// before compares two times.
func before(a, b unix.Timespec) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// tick returns when the file system's clock has gone on.
func (e *env) tick() {
	e.Helper()
	p := e.dir + ".tick"
	e.ok(os.WriteFile(p, nil, 0o644))
	first := e.stat(p).Ctim
	e.eventually("the clock goes on", func() bool {
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0))
		return before(first, e.stat(p).Ctim)
	})
	e.ok(unix.Unlink(p))
}

// Which times of an object a call changes.
const (
	mtime = 1 << iota
	ctime
	none = 0
)

// touches checks which times of some objects a call changes.
func (e *env) touches(what string, do func() error, want map[string]int) {
	e.Helper()
	was := map[string]unix.Stat_t{}
	for p := range want {
		was[p] = e.stat(p)
	}
	e.tick()
	e.ok(do())
	for p, times := range want {
		a, b := was[p], e.stat(p)
		if got := before(a.Mtim, b.Mtim); got != (times&mtime != 0) {
			e.Errorf("%s: mtime of %q changed: %v", what, p[len(e.dir):], got)
		}
		if got := before(a.Ctim, b.Ctim); got != (times&ctime != 0) {
			e.Errorf("%s: ctime of %q changed: %v", what, p[len(e.dir):], got)
		}
	}
}

var timeTests = []test{
	{"to the nanosecond, long ago and far ahead", func(e *env) {
		for kind, p := range e.kinds("") {
			for _, t := range []unix.Timespec{
				{Sec: 0, Nsec: 0}, {Sec: 1, Nsec: 999_999_999}, {Sec: -1, Nsec: 1}, {Sec: -1<<31 + 9, Nsec: 2},
				{Sec: 1<<31 - 1, Nsec: 3}, {Sec: 1 << 31, Nsec: 4}, {Sec: 1 << 32, Nsec: 5}, {Sec: 1 << 33, Nsec: 123_456_789},
			} {
				other := unix.Timespec{Sec: t.Sec + 1, Nsec: 7}
				e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{other, t}, unix.AT_SYMLINK_NOFOLLOW))
				if st := e.stat(p); st.Mtim != t || st.Atim != other {
					e.Errorf("%s: set %v %v, got %v %v", kind, other, t, st.Atim, st.Mtim)
				}
			}
		}
	}},
	{"omit and now", func(e *env) {
		p := e.file("f", "")
		one := unix.Timespec{Sec: 1, Nsec: 1}
		omit, now := unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Nsec: unix.UTIME_NOW}
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{one, one}, 0))
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{omit, now}, 0))
		if st := e.stat(p); st.Atim != one || st.Mtim.Sec < 1e9 {
			e.Errorf("times %v %v", st.Atim, st.Mtim)
		}
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{now, one}, 0))
		if st := e.stat(p); st.Mtim != one || st.Atim.Sec < 1e9 {
			e.Errorf("times %v %v", st.Atim, st.Mtim)
		}
		e.fails(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Nsec: 1e9}, one}, 0), unix.EINVAL)
	}},
	{"of links", func(e *env) {
		f, l := e.file("f", ""), e.path("l")
		e.ok(unix.Symlink("f", l))
		one := unix.Timespec{Sec: 1, Nsec: 1}
		was := e.stat(f).Mtim
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, l, []unix.Timespec{one, one}, unix.AT_SYMLINK_NOFOLLOW))
		if e.stat(f).Mtim != was || e.stat(l).Mtim != one {
			e.Error("the times of the link's target changed")
		}
		e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, l, []unix.Timespec{one, one}, 0))
		if e.stat(f).Mtim != one {
			e.Error("the times of the link's target did not change")
		}
	}},
	{"what a call changes: names", func(e *env) {
		for what, do := range makers(e.path("x")) {
			e.touches(what, do, map[string]int{e.dir: mtime | ctime})
			e.ok(os.Remove(e.path("x")))
		}
		f, d := e.file("f", ""), e.mkdir("d")
		both := mtime | ctime
		e.touches("link", func() error { return unix.Link(f, d+"/g") }, map[string]int{f: ctime, d: both, e.dir: none})
		e.touches("unlink", func() error { return unix.Unlink(d + "/g") }, map[string]int{f: ctime, d: both, e.dir: none})
		e.ok(unix.Mkdir(d+"/sub", 0o755))
		e.touches("rmdir", func() error { return unix.Rmdir(d + "/sub") }, map[string]int{d: both, e.dir: none})
		e.touches("rename", func() error { return unix.Rename(f, d+"/f") }, map[string]int{e.dir: both, d: both})
		e.ok(os.WriteFile(e.path("g"), nil, 0o644))
		e.ok(unix.Link(d+"/f", d+"/f2"))
		e.touches("replace", func() error { return unix.Rename(e.path("g"), d+"/f") }, map[string]int{e.dir: both, d: both, d + "/f2": ctime})
	}},
	{"what a call changes: files", func(e *env) {
		f := e.file("f", "content")
		fd := e.open(f, unix.O_RDWR, 0)
		both := mtime | ctime
		for _, c := range []struct {
			what string
			do   func() error
			want int
		}{
			{"write", func() error { _, err := unix.Pwrite(fd, []byte("x"), 0); return err }, both},
			{"empty write", func() error { _, err := unix.Pwrite(fd, nil, 100); return err }, none},
			{"truncate", func() error { return unix.Truncate(f, 3) }, both},
			{"ftruncate", func() error { return unix.Ftruncate(fd, 5) }, both},
			{"open with O_TRUNC", func() error { return tryOpen(f, unix.O_WRONLY|unix.O_TRUNC, 0) }, both},
			{"chmod", func() error { return unix.Chmod(f, 0o600) }, ctime},
			{"chown", func() error { return unix.Chown(f, 1, 1) }, ctime},
			{"setxattr", func() error { return unix.Setxattr(f, "user.a", []byte("v"), 0) }, ctime},
			{"removexattr", func() error { return unix.Removexattr(f, "user.a") }, ctime},
			{"open", func() error { return tryOpen(f, unix.O_RDONLY, 0) }, none},
			{"stat", func() error { var st unix.Stat_t; return unix.Stat(f, &st) }, none},
			{"fsync", func() error { return unix.Fsync(fd) }, none},
			{"read", func() error { _, err := unix.Pread(fd, make([]byte, 5), 0); return err }, none},
		} {
			e.touches(c.what, c.do, map[string]int{f: c.want, e.dir: none})
		}
	}},
	{"what failing calls change", func(e *env) {
		f, d := e.file("f", "content"), e.mkdir("d")
		e.ok(os.WriteFile(d+"/in", nil, 0o644))
		for what, do := range map[string]func() error{
			"exclusive create": func() error { return tryOpen(f, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644) },
			"mkdir":            func() error { return unix.Mkdir(f, 0o755) },
			"link":             func() error { return unix.Link(f, d) },
			"rmdir":            func() error { return unix.Rmdir(d) },
			"rename":           func() error { return unix.Rename(f, d) },
			"chown by others":  func() error { return e.as(alice, func() error { return unix.Chown(f, 1, 1) }) },
			"write by others":  func() error { return e.as(alice, func() error { return unix.Truncate(f, 0) }) },
		} {
			e.touches(what, func() error {
				if do() == nil {
					e.Errorf("%s: no error", what)
				}
				return nil
			}, map[string]int{f: none, d: none, e.dir: none})
		}
	}},
	{"a mapping's write", func(e *env) {
		if e.opts.NoMmap {
			return
		}
		f := e.file("f", string(make([]byte, 4096)))
		fd := e.open(f, unix.O_RDWR, 0)
		m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		e.ok(err)
		defer func() { e.ok(unix.Munmap(m)) }()
		was := e.stat(f).Mtim
		e.tick()
		m[0] = 'x'
		e.ok(unix.Msync(m, unix.MS_SYNC))
		if !before(was, e.stat(f).Mtim) {
			e.Error("the mtime stays after write and msync")
		}
	}},
}
