package posixtest

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kinds makes one object of each type and returns their paths by type.
func (e *env) kinds(prefix string) map[string]string {
	e.Helper()
	k := map[string]string{}
	for _, name := range []string{"file", "dir", "link", "fifo", "chr", "blk", "socket"} {
		k[name] = e.path(prefix + name)
	}
	e.ok(os.WriteFile(k["file"], nil, 0o644))
	e.ok(unix.Mkdir(k["dir"], 0o755))
	e.ok(unix.Symlink("target", k["link"]))
	e.ok(unix.Mkfifo(k["fifo"], 0o644))
	e.ok(unix.Mknod(k["chr"], unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	e.ok(unix.Mknod(k["blk"], unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	e.ok(unix.Mknod(k["socket"], unix.S_IFSOCK|0o600, 0))
	return k
}

// makers makes objects of each type under a path.
func makers(p string) map[string]func() error {
	return map[string]func() error{
		"mkdir":   func() error { return unix.Mkdir(p, 0o755) },
		"mkfifo":  func() error { return unix.Mkfifo(p, 0o644) },
		"mknod":   func() error { return unix.Mknod(p, unix.S_IFREG|0o644, 0) },
		"device":  func() error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"symlink": func() error { return unix.Symlink("x", p) },
		"create":  func() error { return tryOpen(p, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644) },
	}
}

var makeTests = []test{
	{"types and devices", func(e *env) {
		k := e.kinds("")
		for name, want := range map[string]uint32{
			"file": unix.S_IFREG, "dir": unix.S_IFDIR, "link": unix.S_IFLNK, "fifo": unix.S_IFIFO,
			"chr": unix.S_IFCHR, "blk": unix.S_IFBLK, "socket": unix.S_IFSOCK,
		} {
			if st := e.stat(k[name]); st.Mode&unix.S_IFMT != want {
				e.Errorf("%s has type %o, want %o", name, st.Mode&unix.S_IFMT, want)
			}
		}
		if st := e.stat(k["chr"]); st.Rdev != unix.Mkdev(1, 3) {
			e.Errorf("chr is device %x", st.Rdev)
		}
		if st := e.stat(k["blk"]); st.Rdev != unix.Mkdev(259, 70000) {
			e.Errorf("blk is device %x", st.Rdev)
		}
	}},
	{"exists", func(e *env) {
		for kind, p := range e.kinds("") {
			before := e.stat(p)
			for what, do := range makers(p) {
				e.all(call{what + " onto " + kind, do, only(unix.EEXIST)})
			}
			for what, do := range makers(p + "-new") {
				if err := do(); err != nil {
					e.Errorf("%s: %v", what, err)
				}
				e.ok(os.Remove(p + "-new"))
			}
			if after := e.stat(p); after.Ino != before.Ino || after.Ctim != before.Ctim {
				e.Errorf("%s was changed by calls that failed", kind)
			}
		}
	}},
	{"mknod of impossible types", func(e *env) {
		e.fails(unix.Mknod(e.path("x"), unix.S_IFDIR|0o755, 0), unix.EPERM, unix.EINVAL)
		e.fails(unix.Mknod(e.path("x"), unix.S_IFLNK|0o755, 0), unix.EPERM, unix.EINVAL)
		e.ok(unix.Mknod(e.path("zero"), 0o644, 0)) // type 0 is a regular file
		if m := e.stat(e.path("zero")).Mode; m != unix.S_IFREG|0o644 {
			e.Errorf("mode %o", m)
		}
	}},
	{"devices are root's to make", func(e *env) {
		for _, typ := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
			e.fails(e.as(alice, func() error { return unix.Mknod(e.path("x"), typ|0o644, int(unix.Mkdev(1, 3))) }), unix.EPERM)
		}
		e.ok(e.as(alice, func() error { return unix.Mkfifo(e.path("fifo"), 0o644) }))
		e.ok(e.as(alice, func() error { return unix.Mknod(e.path("s"), unix.S_IFSOCK|0o644, 0) }))
	}},
	{"symlinks", func(e *env) {
		for i, target := range []string{"t", "/abs/olute", "..", strings.Repeat("t", 4095), "\xff\n"} {
			p := e.path("l" + itoa(i))
			e.ok(unix.Symlink(target, p))
			got, err := os.Readlink(p)
			e.ok(err)
			if st := e.stat(p); got != target || st.Size != int64(len(target)) || st.Mode != unix.S_IFLNK|0o777 || st.Nlink != 1 {
				e.Errorf("target of %d bytes: got %d, size %d, mode %o", len(target), len(got), st.Size, st.Mode)
			}
		}
		b := make([]byte, 3)
		if n, err := unix.Readlink(e.path("l1"), b); err != nil || string(b[:n]) != "/ab" {
			e.Errorf("a short readlink gives %q, %v", b[:max(0, n)], err)
		}
		e.all(
			call{"empty target", func() error { return unix.Symlink("", e.path("x")) }, only(unix.ENOENT)},
			call{"long target", func() error { return unix.Symlink(strings.Repeat("t", 4096), e.path("x")) }, only(unix.ENAMETOOLONG)},
			call{"readlink of a file", func() error { _, err := unix.Readlink(e.file("f", ""), b); return err }, only(unix.EINVAL)},
			call{"readlink of a directory", func() error { _, err := unix.Readlink(e.mkdir("d"), b); return err }, only(unix.EINVAL)},
		)
	}},
	{"owner", func(e *env) {
		for what, do := range makers(e.path("x")) {
			if what == "device" {
				continue
			}
			e.ok(e.as(who{uid: 7001, gid: 7002, groups: []int{7003}}, do))
			if st := e.stat(e.path("x")); st.Uid != 7001 || st.Gid != 7002 {
				e.Errorf("%s: owner %d:%d", what, st.Uid, st.Gid)
			}
			e.ok(os.Remove(e.path("x")))
		}
	}},
	{"links", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind == "dir" {
				e.fails(unix.Link(p, p+"2"), unix.EPERM)
				continue
			}
			e.ok(unix.Link(p, p+"2"))
			if a, b := e.stat(p), e.stat(p+"2"); a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
				e.Errorf("%s: inodes %d %d, links %d %d", kind, a.Ino, b.Ino, a.Nlink, b.Nlink)
			}
			e.fails(unix.Link(p, p+"2"), unix.EEXIST)
			e.ok(unix.Unlink(p))
			e.nlink(p+"2", 1)
		}
		e.fails(unix.Link(e.path("absent"), e.path("x")), unix.ENOENT)
	}},
	{"link of a symbolic link", func(e *env) {
		e.file("f", "content")
		e.ok(unix.Symlink("f", e.path("l")))
		e.ok(unix.Linkat(unix.AT_FDCWD, e.path("l"), unix.AT_FDCWD, e.path("l2"), 0))
		e.ok(unix.Linkat(unix.AT_FDCWD, e.path("l"), unix.AT_FDCWD, e.path("f2"), unix.AT_SYMLINK_FOLLOW))
		if a, b := e.stat(e.path("l")), e.stat(e.path("l2")); a.Ino != b.Ino {
			e.Error("l2 is not the link")
		}
		e.nlink(e.path("f"), 2)
	}},
	{"inode numbers", func(e *env) {
		seen := map[uint64]string{}
		for i := range 200 {
			p := e.file("f"+itoa(i), "")
			n := e.stat(p).Ino
			if n == 0 || seen[n] != "" {
				e.Fatalf("%s has inode number %d, as has %q", filepath.Base(p), n, seen[n])
			}
			seen[n] = filepath.Base(p)
		}
		e.ok(unix.Rename(e.path("f0"), e.path("g")))
		if seen[e.stat(e.path("g")).Ino] != "f0" {
			e.Error("the inode number changed with the name")
		}
	}},
	{"directory links", func(e *env) {
		d := e.mkdir("d")
		e.nlink(d, 2)
		for i := range 5 {
			e.ok(unix.Mkdir(d+"/"+itoa(i), 0o755))
			e.nlink(d, uint64(i)+3)
		}
		e.ok(os.WriteFile(d+"/file", nil, 0o644))
		e.nlink(d, 7)
		e.ok(unix.Rmdir(d + "/0"))
		e.nlink(d, 6)
		e.ok(unix.Rename(d+"/1", e.path("out")))
		e.nlink(d, 5)
		e.nlink(e.dir, 4)
	}},
}
