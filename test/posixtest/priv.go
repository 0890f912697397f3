package posixtest

import (
	"golang.org/x/sys/unix"
)

// changes are calls that change a file's content, or may, on a descriptor.
func changes(e *env, p string) map[string]func(fd int) error {
	source := e.open(e.file("source", "source"), unix.O_RDONLY, 0)
	all := map[string]func(fd int) error{
		"write":             func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 0); return err },
		"ftruncate":         func(fd int) error { return unix.Ftruncate(fd, 3) },
		"truncate":          func(int) error { return unix.Truncate(p, 2) },
		"open with O_TRUNC": func(int) error { return tryOpen(p, unix.O_WRONLY|unix.O_TRUNC, 0) },
		"copy_file_range": func(fd int) error {
			from := int64(0)
			_, err := unix.CopyFileRange(source, &from, fd, nil, 3, 0)
			return err
		},
		"sendfile": func(fd int) error { from := int64(0); _, err := unix.Sendfile(fd, source, &from, 3); return err },
	}
	if !e.opts.NoAllocate {
		for name, mode := range map[string]uint32{
			"allocate": 0, "allocate beyond": unix.FALLOC_FL_KEEP_SIZE, "zero": unix.FALLOC_FL_ZERO_RANGE,
			"punch": unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		} {
			all[name] = func(fd int) error { return unix.Fallocate(fd, mode, 0, 8192) }
		}
	}
	return all
}

// privTests: whoever lacks CAP_FSETID takes S_ISUID from a file by changing it,
// and S_ISGID too if the group may execute it or is not the caller's: inode(7),
// and what Linux does since 6.2 to files without execution.
var privTests = []test{
	{"each call that changes a file", func(e *env) {
		p := e.path("f")
		do := changes(e, p)
		member := who{uid: bob.uid, gid: bob.gid, groups: []int{alice.gid}}
		for name, change := range do {
			for _, c := range []struct {
				what       string
				w          who
				mode, want uint32
			}{
				{"the owner", alice, 0o6777, 0o777},
				{"the owner, without execution", alice, 0o6666, 0o2666},
				{"a member of the group", member, 0o6777, 0o777},
				{"a member of the group, without execution", member, 0o6666, 0o2666},
				{"another", bob, 0o6777, 0o777},
				{"another, without execution", bob, 0o6666, 0o666},
				{"another, S_ISGID alone", bob, 0o2666, 0o666},
				{"root", who{}, 0o6777, 0o6777},
			} {
				e.owned(e.file("f", "content"), alice, c.mode)
				err := e.as(c.w, func() error {
					fd, err := openRetry(p, unix.O_RDWR, 0)
					if err != nil {
						return err
					}
					return firstError(change(fd), unix.Close(fd))
				})
				if is(err, unix.EOPNOTSUPP) {
					continue
				}
				e.ok(err)
				if m := e.stat(p).Mode & 0o7777; m != c.want {
					e.Errorf("%s by %s: %o became %o, want %o", name, c.what, c.mode, m, c.want)
				}
				e.ok(unix.Unlink(p))
			}
		}
	}},
	{"chgrp by an owner who is in the group or not", func(e *env) {
		p := e.file("f", "")
		for _, c := range []struct {
			w          who
			mode, want uint32
		}{
			{who{uid: alice.uid, gid: alice.gid, groups: []int{7300}}, 0o6666, 0o2666},
			{who{uid: alice.uid, gid: 7300}, 0o6666, 0o666},
			{who{uid: alice.uid, gid: 7300}, 0o6777, 0o777},
		} {
			e.owned(p, alice, c.mode)
			e.ok(e.as(c.w, func() error { return unix.Chown(p, -1, 7300) }))
			if st := e.stat(p); st.Mode&0o7777 != c.want || st.Gid != 7300 {
				e.Errorf("of mode %o by group %d: mode %o group %d, want %o", c.mode, c.w.gid, st.Mode&0o7777, st.Gid, c.want)
			}
		}
	}},
	{"what changes no content clears nothing", func(e *env) {
		p := e.owned(e.file("f", "content"), alice, 0o6777)
		for name, do := range map[string]func(fd int) error{
			"empty write": func(fd int) error { _, err := unix.Write(fd, nil); return err },
			"read":        func(fd int) error { _, err := unix.Pread(fd, make([]byte, 3), 0); return err },
			"fsync":       unix.Fsync,
			"setxattr":    func(fd int) error { return unix.Fsetxattr(fd, "user.a", []byte("v"), 0) },
			"utimensat":   func(int) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, nil, 0) },
		} {
			e.ok(e.as(bob, func() error {
				fd, err := openRetry(p, unix.O_RDWR, 0)
				if err != nil {
					return err
				}
				return firstError(do(fd), unix.Close(fd))
			}))
			if m := e.stat(p).Mode & 0o7777; m != 0o6777 {
				e.Errorf("after %s the mode is %o", name, m)
			}
		}
	}},
}
