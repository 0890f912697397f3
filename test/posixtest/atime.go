package posixtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// read says whether do moves an atime that lies before the mtime, which is when
// relatime (mount(8)) has it moved too.
func (e *env) read(p string, do func() error) bool {
	e.Helper()
	past := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9 + 1}}
	e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, p, past, unix.AT_SYMLINK_NOFOLLOW))
	e.stat(p)
	e.ok(do())
	return e.stat(p).Atim.Sec != 1e9
}

var atimeTests = []test{
	{"reading", func(e *env) {
		f, d := e.file("f", "content"), e.mkdir("d")
		e.ok(os.WriteFile(d+"/x", nil, 0o644))
		slurp := func(flags int) func() error {
			return func() error {
				fd, err := openRetry(f, unix.O_RDONLY|flags, 0)
				if err != nil {
					return err
				}
				_, err = unix.Pread(fd, make([]byte, 3), 0)
				return firstError(err, unix.Close(fd))
			}
		}
		if e.read(f, slurp(unix.O_NOATIME)) {
			e.Error("a read with O_NOATIME moves the atime")
		}
		if !e.read(f, slurp(0)) {
			e.Log("atimes are not kept here")
			return
		}
		if !e.read(d, func() error { _, err := os.ReadDir(d); return err }) {
			e.Error("listing a directory leaves its atime")
		}
		if e.read(d, func() error { return tryOpen(d, unix.O_RDONLY|unix.O_DIRECTORY, 0) }) {
			e.Error("opening a directory moves its atime")
		}
		fd := e.open(f, unix.O_RDONLY, 0)
		if e.read(f, func() error { _, err := unix.Pread(fd, nil, 0); return err }) {
			e.Error("reading nothing moves the atime")
		}
	}},
	{"O_NOATIME is the owner's", func(e *env) {
		f := e.owned(e.file("f", "content"), alice, 0o644)
		e.ok(e.as(alice, func() error { return tryOpen(f, unix.O_RDONLY|unix.O_NOATIME, 0) }))
		e.fails(e.as(bob, func() error { return tryOpen(f, unix.O_RDONLY|unix.O_NOATIME, 0) }), unix.EPERM)
	}},
	{"a directory's times that were set ahead or back", func(e *env) {
		for i, sec := range []int64{1 << 33, 1, -1e9} {
			d := e.mkdir("d" + itoa(i))
			e.ok(os.WriteFile(d+"/old", nil, 0o644))
			e.ok(unix.Mkdir(d+"/olddir", 0o755))
			for what, do := range map[string]func() error{
				"create":  func() error { return tryOpen(d+"/f", unix.O_CREAT|unix.O_WRONLY, 0o644) },
				"mkdir":   func() error { return unix.Mkdir(d+"/d", 0o755) },
				"symlink": func() error { return unix.Symlink("x", d+"/l") },
				"unlink":  func() error { return unix.Unlink(d + "/old") },
				"rmdir":   func() error { return unix.Rmdir(d + "/olddir") },
			} {
				set := unix.Timespec{Sec: sec, Nsec: 5}
				e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, d, []unix.Timespec{set, set}, 0))
				if got := e.stat(d).Mtim; got != set {
					e.Errorf("set to %v, the mtime is %v", set, got)
				}
				now := unix.Timespec{}
				e.ok(unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now))
				e.ok(do())
				if got := e.stat(d).Mtim; got.Sec < now.Sec-1 || got.Sec > now.Sec+60 {
					e.Errorf("set to %v: after %s at %v the mtime is %v", set, what, now, got)
				}
			}
		}
	}},
}
