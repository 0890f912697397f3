package posixtest

import (
	"golang.org/x/sys/unix"
)

var stickyTests = []test{
	{"others' files stay", func(e *env) {
		d := e.owned(e.mkdir("d"), who{uid: 7300, gid: 7300}, 0o1777)
		e.ok(e.as(alice, func() error {
			return firstError(tryOpen(d+"/f", unix.O_CREAT|unix.O_WRONLY, 0o666), unix.Mkdir(d+"/sub", 0o777),
				tryOpen(d+"/g", unix.O_CREAT|unix.O_WRONLY, 0o666))
		}))
		e.ok(e.as(bob, func() error { return tryOpen(d+"/bobs", unix.O_CREAT|unix.O_WRONLY, 0o666) }))
		for _, c := range []call{
			{"unlink", func() error { return unix.Unlink(d + "/f") }, only(unix.EPERM, unix.EACCES)},
			{"rmdir", func() error { return unix.Rmdir(d + "/sub") }, only(unix.EPERM, unix.EACCES)},
			{"rename", func() error { return unix.Rename(d+"/f", d+"/x") }, only(unix.EPERM, unix.EACCES)},
			{"rename out", func() error { return unix.Rename(d+"/f", e.path("x")) }, only(unix.EPERM, unix.EACCES)},
			{"replace", func() error { return unix.Rename(d+"/bobs", d+"/f") }, only(unix.EPERM, unix.EACCES)},
		} {
			e.all(call{c.what, func() error { return e.as(bob, c.do) }, c.errnos})
		}
		// The file's owner may, and the directory's.
		e.ok(e.as(alice, func() error { return unix.Unlink(d + "/f") }))
		e.ok(e.as(alice, func() error { return unix.Rmdir(d + "/sub") }))
		e.ok(e.as(who{uid: 7300, gid: 7300}, func() error { return unix.Rename(d+"/g", d+"/h") }))
		e.ok(e.as(who{uid: 7300, gid: 7300}, func() error { return unix.Unlink(d + "/h") }))
		e.ok(e.as(bob, func() error { return unix.Rename(d+"/bobs", d+"/x") }))
	}},
	{"without it they do not", func(e *env) {
		d := e.owned(e.mkdir("d"), alice, 0o777)
		e.ok(e.as(alice, func() error { return tryOpen(d+"/f", unix.O_CREAT|unix.O_WRONLY, 0o600) }))
		e.ok(e.as(bob, func() error { return unix.Unlink(d + "/f") }))
	}},
}

var setidTests = []test{
	{"a write by an ordinary user clears them", func(e *env) {
		for name, do := range map[string]func(p string) error{
			"write": func(p string) error {
				fd, err := openRetry(p, unix.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = unix.Write(fd, []byte("x"))
				return firstError(err, unix.Close(fd))
			},
			"truncate": func(p string) error { return unix.Truncate(p, 1) },
			"append": func(p string) error {
				fd, err := openRetry(p, unix.O_WRONLY|unix.O_APPEND, 0)
				if err != nil {
					return err
				}
				_, err = unix.Write(fd, []byte("x"))
				return firstError(err, unix.Close(fd))
			},
			"open with O_TRUNC": func(p string) error { return tryOpen(p, unix.O_WRONLY|unix.O_TRUNC, 0) },
		} {
			p := e.owned(e.file("f-"+name, "content"), alice, 0o6777)
			e.ok(e.as(bob, func() error { return do(p) }))
			if m := e.stat(p).Mode & 0o7777; m != 0o777 {
				e.Errorf("after %s the mode is %o, want 777", name, m)
			}
		}
	}},
	{"a write by root does not", func(e *env) {
		p := e.owned(e.file("f", "content"), alice, 0o6755)
		fd := e.open(p, unix.O_WRONLY, 0)
		_, err := unix.Write(fd, []byte("x"))
		e.ok(err)
		e.mode(p, 0o6755)
	}},
	{"chown clears them", func(e *env) {
		p := e.owned(e.file("f", ""), alice, 0o6755)
		e.ok(unix.Chown(p, 5, 5))
		e.mode(p, 0o755)
		e.owned(p, alice, 0o2745) // no group execution: mandatory locking, kept for root
		e.ok(unix.Chown(p, 5, -1))
		e.mode(p, 0o2745)
		d := e.owned(e.mkdir("d"), alice, 0o6755)
		e.ok(unix.Chown(d, 5, 5))
		e.mode(d, 0o6755)
	}},
	{"chmod of a file with a foreign group", func(e *env) {
		p := e.owned(e.file("f", ""), who{uid: alice.uid, gid: 7400}, 0o755)
		e.ok(e.as(alice, func() error { return unix.Chmod(p, 0o2755) }))
		e.mode(p, 0o755)
		member := alice
		member.groups = []int{7400}
		e.ok(e.as(member, func() error { return unix.Chmod(p, 0o2755) }))
		e.mode(p, 0o2755)
	}},
	{"directories with S_ISGID give their group", func(e *env) {
		d := e.owned(e.mkdir("d"), who{uid: 7500, gid: 7501}, 0o2777)
		for what, do := range makers(d + "/" + "x") {
			if what == "device" {
				continue
			}
			e.ok(e.as(alice, do))
			st := e.stat(d + "/x")
			if st.Gid != 7501 || int(st.Uid) != alice.uid {
				e.Errorf("%s: owner %d:%d", what, st.Uid, st.Gid)
			}
			if dir := st.Mode&unix.S_IFMT == unix.S_IFDIR; dir != (st.Mode&unix.S_ISGID != 0) {
				e.Errorf("%s: mode %o", what, st.Mode)
			}
			if what == "mkdir" {
				e.ok(unix.Rmdir(d + "/x"))
			} else {
				e.ok(unix.Unlink(d + "/x"))
			}
		}
	}},
}
