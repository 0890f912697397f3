package posixtest

import (
	"golang.org/x/sys/unix"
)

var attrTests = []test{
	{"chmod", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind == "link" {
				continue
			}
			for _, mode := range []uint32{0, 0o777, 0o7777, 0o4711, 0o1755, 0o644} {
				e.ok(unix.Chmod(p, mode))
				e.mode(p, mode)
			}
		}
		e.fails(unix.Chmod(e.path("absent"), 0o644), unix.ENOENT)
	}},
	{"chmod follows links", func(e *env) {
		f := e.file("f", "")
		e.ok(unix.Symlink("f", e.path("l")))
		e.ok(unix.Chmod(e.path("l"), 0o600))
		e.mode(f, 0o600)
		e.fails(unix.Fchmodat(unix.AT_FDCWD, e.path("l"), 0o644, unix.AT_SYMLINK_NOFOLLOW), unix.EOPNOTSUPP)
	}},
	{"chown", func(e *env) {
		for kind, p := range e.kinds("") {
			for _, id := range []struct{ uid, gid int }{{1, 2}, {1 << 20, 1<<32 - 2}, {0, 0}} {
				e.ok(unix.Lchown(p, id.uid, id.gid))
				if st := e.stat(p); st.Uid != uint32(id.uid) || st.Gid != uint32(id.gid) {
					e.Errorf("%s: owner %d:%d, want %d:%d", kind, st.Uid, st.Gid, id.uid, id.gid)
				}
			}
			e.ok(unix.Lchown(p, 5, -1))
			e.ok(unix.Lchown(p, -1, 6))
			if st := e.stat(p); st.Uid != 5 || st.Gid != 6 {
				e.Errorf("%s: owner %d:%d, want 5:6", kind, st.Uid, st.Gid)
			}
		}
	}},
	{"truncate", func(e *env) {
		f := e.file("f", "0123456789")
		e.ok(unix.Truncate(f, 4))
		e.holds(f, "0123")
		e.ok(unix.Truncate(f, 8))
		e.holds(f, "0123\x00\x00\x00\x00")
		fd := e.open(f, unix.O_RDWR, 0)
		e.ok(unix.Ftruncate(fd, 2))
		e.holds(f, "01")
		e.all(
			call{"of a directory", func() error { return unix.Truncate(e.dir, 0) }, only(unix.EISDIR)},
			call{"to a negative size", func() error { return unix.Truncate(f, -1) }, only(unix.EINVAL)},
			call{"of an absent file", func() error { return unix.Truncate(e.path("absent"), 0) }, only(unix.ENOENT)},
		)
		p := e.path("fifo")
		e.ok(unix.Mkfifo(p, 0o644))
		e.fails(unix.Truncate(p, 0), unix.EINVAL)
		if err := unix.Truncate(f, 1<<63-1); err != nil {
			e.fails(err, unix.EFBIG, unix.EINVAL)
		}
	}},
	{"statfs", func(e *env) {
		var a, b unix.Statfs_t
		e.ok(unix.Statfs(e.dir, &a))
		fd := e.open(e.file("f", ""), unix.O_RDONLY, 0)
		e.ok(unix.Fstatfs(fd, &b))
		if a.Blocks == 0 || a.Bfree > a.Blocks || a.Bavail > a.Bfree || a.Bsize <= 0 || a.Namelen != 255 || a.Ffree > a.Files {
			e.Errorf("%+v", a)
		}
		if a.Blocks != b.Blocks || a.Type != b.Type {
			e.Errorf("statfs and fstatfs differ: %+v %+v", a, b)
		}
	}},
	{"statx", func(e *env) {
		f := e.file("f", "content")
		var st unix.Statx_t
		e.ok(unix.Statx(unix.AT_FDCWD, f, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st))
		if st.Size != 7 || st.Mode != unix.S_IFREG|0o644 || st.Nlink != 1 || st.Ino != e.stat(f).Ino {
			e.Errorf("%+v", st)
		}
	}},
	{"blocks", func(e *env) {
		f := e.file("f", string(make([]byte, 1<<20)))
		fd := e.open(f, unix.O_RDWR, 0)
		e.ok(unix.Fsync(fd))
		if st := e.stat(f); st.Blocks*512 < 1<<20 || st.Blksize <= 0 {
			e.Errorf("1 MiB takes %d blocks; block size %d", st.Blocks, st.Blksize)
		}
	}},
}
