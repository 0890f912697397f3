package posixtest

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pathCalls returns every call that takes a path, on one path.
func pathCalls(p string) map[string]func() error {
	var st unix.Stat_t
	return map[string]func() error{
		"open":      func() error { return tryOpen(p, unix.O_RDONLY, 0) },
		"create":    func() error { return tryOpen(p, unix.O_CREAT|unix.O_WRONLY, 0o644) },
		"mkdir":     func() error { return unix.Mkdir(p, 0o755) },
		"mkfifo":    func() error { return unix.Mkfifo(p, 0o644) },
		"mknod":     func() error { return unix.Mknod(p, unix.S_IFREG|0o644, 0) },
		"symlink":   func() error { return unix.Symlink("target", p) },
		"unlink":    func() error { return unix.Unlink(p) },
		"rmdir":     func() error { return unix.Rmdir(p) },
		"stat":      func() error { return unix.Stat(p, &st) },
		"lstat":     func() error { return unix.Lstat(p, &st) },
		"chmod":     func() error { return unix.Chmod(p, 0o644) },
		"chown":     func() error { return unix.Chown(p, 0, 0) },
		"truncate":  func() error { return unix.Truncate(p, 0) },
		"utimensat": func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, make([]unix.Timespec, 2), 0) },
		"access":    func() error { return unix.Access(p, unix.F_OK) },
		"readlink":  func() error { _, err := unix.Readlink(p, make([]byte, 10)); return err },
		"statfs":    func() error { var s unix.Statfs_t; return unix.Statfs(p, &s) },
		"getxattr":  func() error { _, err := unix.Getxattr(p, "user.a", make([]byte, 10)); return err },
		"rename to": func() error { return unix.Rename(p+"-absent", p) },
		"rename":    func() error { return unix.Rename(p, p+"-new") },
		"link":      func() error { return unix.Link(p, p+"-new") },
	}
}

var pathTests = []test{
	{"absent directory", func(e *env) {
		for what, do := range pathCalls(e.path("absent", "name")) {
			e.all(call{what, do, only(unix.ENOENT)})
		}
	}},
	{"through a file", func(e *env) {
		f := e.file("f", "")
		for what, do := range pathCalls(f + "/name") {
			e.all(call{what, do, only(unix.ENOTDIR)})
		}
	}},
	{"through a dangling link", func(e *env) {
		e.ok(unix.Symlink("nowhere", e.path("l")))
		for what, do := range pathCalls(e.path("l", "name")) {
			e.all(call{what, do, only(unix.ENOENT)})
		}
	}},
	{"through links that lead in a circle", func(e *env) {
		e.ok(unix.Symlink("b", e.path("a")))
		e.ok(unix.Symlink("a", e.path("b")))
		for what, do := range pathCalls(e.path("a", "name")) {
			e.all(call{what, do, only(unix.ELOOP)})
		}
		e.all(
			call{"open", func() error { return tryOpen(e.path("a"), unix.O_RDONLY, 0) }, only(unix.ELOOP)},
			call{"create", func() error { return tryOpen(e.path("a"), unix.O_CREAT|unix.O_WRONLY, 0o644) }, only(unix.ELOOP)},
			call{"truncate", func() error { return unix.Truncate(e.path("a"), 0) }, only(unix.ELOOP)},
			call{"chmod", func() error { return unix.Chmod(e.path("a"), 0) }, only(unix.ELOOP)},
		)
	}},
	{"name of 256 bytes", func(e *env) {
		p := e.path(strings.Repeat("n", 256))
		for what, do := range pathCalls(p) {
			e.all(call{what, do, only(unix.ENAMETOOLONG)})
		}
	}},
	{"name of 255 bytes", func(e *env) {
		name := strings.Repeat("n", 255)
		p := e.file(name, "content")
		e.holds(p, "content")
		e.lists(e.dir, name)
		other := e.path(strings.Repeat("m", 255))
		e.ok(unix.Rename(p, other))
		e.ok(unix.Link(other, p))
		e.ok(unix.Unlink(p))
		e.ok(unix.Unlink(other))
		e.ok(unix.Mkdir(p, 0o755))
		e.ok(unix.Rmdir(p))
		e.ok(unix.Symlink(name, p))
	}},
	{"path of PATH_MAX", func(e *env) {
		long := e.dir + strings.Repeat("/.", (unix.PathMax-len(e.dir))/2) + "/x"
		for what, do := range pathCalls(long) {
			e.all(call{what, do, only(unix.ENAMETOOLONG)})
		}
		fits := e.dir + strings.Repeat("/", unix.PathMax-1-len(e.dir)-1) + "f"
		e.ok(tryOpen(fits, unix.O_CREAT|unix.O_WRONLY, 0o644))
		e.lists(e.dir, "f")
	}},
	{"40 links are followed, 41 are not", func(e *env) {
		e.file("0", "content")
		for i := range 41 {
			e.ok(unix.Symlink(itoa(i), e.path(itoa(i+1))))
		}
		e.holds(e.path("40"), "content")
		e.fails(tryOpen(e.path("41"), unix.O_RDONLY, 0), unix.ELOOP)
	}},
	{"trailing slashes", func(e *env) {
		f, d := e.file("f", ""), e.mkdir("d")
		e.ok(unix.Symlink("d", e.path("l")))
		e.ok(unix.Mkdir(e.path("new")+"/", 0o755))
		e.all(
			call{"open of a file", func() error { return tryOpen(f+"/", unix.O_RDONLY, 0) }, only(unix.ENOTDIR)},
			call{"create", func() error { return tryOpen(e.path("g")+"/", unix.O_CREAT|unix.O_WRONLY, 0o644) }, only(unix.EISDIR)},
			call{"unlink of a file", func() error { return unix.Unlink(f + "/") }, only(unix.ENOTDIR)},
			call{"symlink", func() error { return unix.Symlink("t", e.path("g")+"/") }, only(unix.ENOENT)},
			call{"rename of a file", func() error { return unix.Rename(f, e.path("g")+"/") }, only(unix.ENOTDIR)},
			call{"rmdir of a link", func() error { return unix.Rmdir(e.path("l") + "/") }, only(unix.ENOTDIR)},
		)
		e.ok(unix.Rename(d+"/", e.path("d2")+"/"))
		e.lists(e.dir, "d2", "f", "l", "new")
	}},
	{"dot and dot-dot", func(e *env) {
		d := e.mkdir("d")
		e.ok(unix.Mkdir(d+"/sub", 0o755))
		if a, b := e.stat(d+"/sub/.."), e.stat(d+"/."); a.Ino != b.Ino {
			e.Errorf("d/sub/.. is inode %d, d/. is %d", a.Ino, b.Ino)
		}
		e.all(
			call{"rmdir .", func() error { return unix.Rmdir(d + "/.") }, only(unix.EINVAL)},
			call{"rmdir ..", func() error { return unix.Rmdir(d + "/sub/..") }, only(unix.ENOTEMPTY)},
			call{"rename .", func() error { return unix.Rename(d+"/.", e.path("x")) }, only(unix.EBUSY, unix.EINVAL)},
			call{"rename ..", func() error { return unix.Rename(d+"/sub/..", e.path("x")) }, only(unix.EBUSY, unix.EINVAL)},
			call{"mkdir .", func() error { return unix.Mkdir(d+"/.", 0o755) }, only(unix.EEXIST)},
			call{"unlink ..", func() error { return unix.Unlink(d + "/sub/..") }, only(unix.EISDIR, unix.EPERM)},
		)
	}},
	{"names are bytes", func(e *env) {
		all := []string{"\x01", " ", "a\n", "\xff", "ä", "a\u0308", "A", "a", "...", "-x", "*"}
		for _, name := range all {
			e.file(name, name)
		}
		for _, name := range all {
			e.holds(e.path(name), name)
		}
		e.lists(e.dir, all...)
	}},
	{"a deep tree", func(e *env) {
		p := e.dir
		for range 50 {
			p += "/deeper"
			e.ok(unix.Mkdir(p, 0o755))
		}
		e.ok(os.WriteFile(p+"/f", []byte("down"), 0o644))
		e.holds(p+"/f", "down")
	}},
	{"working directory", func(e *env) {
		d := e.mkdir("d")
		e.ok(unix.Mkdir(d+"/sub", 0o755))
		fd := e.open(d+"/sub", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		link := func() string {
			p, err := os.Readlink("/proc/self/fd/" + itoa(fd))
			e.ok(err)
			return p
		}
		e.ok(unix.Rename(d, e.path("e")))
		if p := link(); p != e.path("e", "sub") {
			e.Errorf("after a rename above it is at %q", p)
		}
		e.ok(unix.Mknodat(fd, "f", unix.S_IFREG|0o644, 0))
		e.lists(e.path("e", "sub"), "f")
		e.ok(unix.Unlinkat(fd, "f", 0))
		e.ok(unix.Rmdir(e.path("e", "sub")))
		if p := link(); !strings.HasSuffix(p, " (deleted)") {
			e.Errorf("after its removal it is at %q", p)
		}
		e.all(
			call{"create in a removed directory", func() error { return unix.Mknodat(fd, "f", unix.S_IFREG|0o644, 0) }, only(unix.ENOENT)},
			call{"mkdir in a removed directory", func() error { return unix.Mkdirat(fd, "d", 0o755) }, only(unix.ENOENT)},
		)
	}},
}
