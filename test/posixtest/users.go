package posixtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// owned makes a file or directory with an owner and mode.
func (e *env) owned(path string, w who, mode uint32) string {
	e.Helper()
	e.ok(unix.Lchown(path, w.uid, w.gid))
	e.ok(unix.Chmod(path, mode))
	return path
}

var userTests = []test{
	{"read, write and search by class", func(e *env) {
		member := who{uid: 7100, gid: 7100, groups: []int{alice.gid}}
		for _, c := range []struct {
			what string
			w    who
			bit  uint // how far the class's bits are shifted
		}{{"owner", alice, 6}, {"group", member, 3}, {"main group", who{uid: 7101, gid: alice.gid}, 3}, {"others", bob, 0}} {
			for bits := range uint32(8) {
				// The other classes have the opposite bits, which must not count.
				f := e.owned(e.file("f", "content"), alice, 0o777&^(7<<c.bit)&^(bits*0o111)|bits<<c.bit)
				for want, flags := range map[uint32]int{4: unix.O_RDONLY, 2: unix.O_WRONLY, 6: unix.O_RDWR} {
					err := e.as(c.w, func() error { return tryOpen(f, flags, 0) })
					if may := bits&want == want; may != (err == nil) || !may && !is(err, unix.EACCES) {
						e.Errorf("%s of a file with bits %o: open for %o: %v", c.what, bits, want, err)
					}
				}
				e.ok(unix.Unlink(f))
			}
		}
	}},
	{"directories", directoryBits},
	{"access", func(e *env) {
		f := e.owned(e.file("f", ""), alice, 0o640)
		e.all(
			call{"others, read", func() error { return e.as(bob, func() error { return unix.Access(f, unix.R_OK) }) }, only(unix.EACCES)},
			call{"owner, execute", func() error { return e.as(alice, func() error { return unix.Access(f, unix.X_OK) }) }, only(unix.EACCES)},
			call{"root, execute", func() error { return unix.Access(f, unix.X_OK) }, only(unix.EACCES)},
		)
		e.ok(e.as(alice, func() error { return unix.Access(f, unix.R_OK|unix.W_OK) }))
		e.ok(e.as(bob, func() error { return unix.Access(f, unix.F_OK) }))
	}},
	{"attributes are the owner's", func(e *env) {
		f := e.owned(e.file("f", "content"), alice, 0o666)
		explicit := []unix.Timespec{{Sec: 1}, {Sec: 2}}
		for _, c := range []call{
			{"chmod", func() error { return unix.Chmod(f, 0o600) }, only(unix.EPERM)},
			{"chown to oneself", func() error { return unix.Chown(f, bob.uid, -1) }, only(unix.EPERM)},
			{"chgrp", func() error { return unix.Chown(f, -1, bob.gid) }, only(unix.EPERM)},
			{"utimensat", func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, f, explicit, 0) }, only(unix.EPERM)},
		} {
			e.all(call{c.what, func() error { return e.as(bob, c.do) }, c.errnos})
		}
		// Who may write may set the times to now.
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		e.ok(e.as(bob, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, f, now, 0) }))
		e.ok(unix.Chmod(f, 0o644))
		e.fails(e.as(bob, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, f, now, 0) }), unix.EACCES)
		e.fails(e.as(bob, func() error { return unix.Truncate(f, 0) }), unix.EACCES)
		e.ok(e.as(alice, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, f, explicit, 0) }))
		e.ok(e.as(alice, func() error { return unix.Truncate(f, 3) }))
		e.ok(e.as(alice, func() error { return unix.Chmod(f, 0o600) }))
		e.holds(f, "con")
	}},
	{"chown by the owner", func(e *env) {
		f := e.owned(e.file("f", ""), alice, 0o644)
		w := alice
		w.groups = []int{7200}
		e.ok(e.as(w, func() error { return unix.Chown(f, -1, 7200) }))
		if st := e.stat(f); st.Gid != 7200 || int(st.Uid) != alice.uid {
			e.Errorf("owner %d:%d", st.Uid, st.Gid)
		}
		e.all(
			call{"giving it away", func() error { return e.as(w, func() error { return unix.Chown(f, bob.uid, -1) }) }, only(unix.EPERM)},
			call{"to a foreign group", func() error { return e.as(w, func() error { return unix.Chown(f, -1, 7201) }) }, only(unix.EPERM)},
		)
		e.ok(unix.Symlink("f", e.path("l")))
		e.ok(unix.Lchown(e.path("l"), 11, 12))
		if st := e.stat(e.path("l")); st.Uid != 11 || st.Gid != 12 {
			e.Errorf("the link belongs to %d:%d", st.Uid, st.Gid)
		}
		if st := e.stat(f); int(st.Uid) != alice.uid {
			e.Errorf("lchown followed the link: %d:%d", st.Uid, st.Gid)
		}
	}},
	{"names in others' directories", func(e *env) {
		d := e.owned(e.mkdir("d"), alice, 0o755)
		e.ok(os.WriteFile(d+"/f", nil, 0o666))
		f := e.owned(e.file("mine", ""), bob, 0o644)
		denied := map[string]func() error{
			"rename in":  func() error { return unix.Rename(f, d+"/x") },
			"rename out": func() error { return unix.Rename(d+"/f", e.path("x")) },
			"unlink":     func() error { return unix.Unlink(d + "/f") },
			"link":       func() error { return unix.Link(f, d+"/x") },
		}
		for what, do := range makers(d + "/x") {
			if what != "device" { // EPERM comes first, or EACCES
				denied[what] = do
			}
		}
		for what, do := range denied {
			e.all(call{what, func() error { return e.as(bob, do) }, only(unix.EACCES)})
		}
		e.ok(unix.Mkdir(d+"/empty", 0o777))
		e.fails(e.as(bob, func() error { return unix.Rmdir(d + "/empty") }), unix.EACCES)
		e.ok(e.as(alice, func() error { return unix.Unlink(d + "/f") }))
	}},
	{"root may do everything", func(e *env) {
		d := e.owned(e.mkdir("d"), alice, 0)
		e.ok(os.WriteFile(d+"/f", []byte("content"), 0))
		e.holds(d+"/f", "content")
		e.ok(unix.Chmod(d+"/f", 0o600))
		e.ok(unix.Chown(d+"/f", bob.uid, bob.gid))
		e.ok(unix.Unlink(d + "/f"))
	}},
	{"a new mode counts at once", func(e *env) {
		f := e.owned(e.file("f", "content"), alice, 0o644)
		for range 20 {
			e.ok(e.as(bob, func() error { return tryOpen(f, unix.O_RDONLY, 0) }))
			e.ok(unix.Chmod(f, 0o600))
			e.fails(e.as(bob, func() error { return tryOpen(f, unix.O_RDONLY, 0) }), unix.EACCES)
			e.ok(unix.Chmod(f, 0o644))
		}
	}},
}

// directoryBits checks what each bit of a directory lets do.
func directoryBits(e *env) {
	d := e.mkdir("d")
	e.ok(os.WriteFile(d+"/f", []byte("content"), 0o666))
	for bits := range uint32(8) {
		e.owned(d, alice, bits<<6|0o077&^(bits*0o11))
		e.ok(os.WriteFile(d+"/old", nil, 0o644))
		e.ok(os.WriteFile(d+"/victim", nil, 0o644))
		r, w, x := bits&4 != 0, bits&2 != 0, bits&1 != 0
		for _, c := range []struct {
			what string
			may  bool
			do   func() error
		}{
			{"list", r, func() error {
				f, err := os.Open(d)
				if err != nil {
					return err
				}
				_, err = f.Readdirnames(-1)
				return firstError(err, f.Close())
			}},
			{"search", x, func() error { return tryOpen(d+"/f", unix.O_RDONLY, 0) }},
			{"stat", x, func() error { var st unix.Stat_t; return unix.Stat(d+"/f", &st) }},
			{"create", w && x, func() error { return tryOpen(d+"/g", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644) }},
			{"rename", w && x, func() error { return unix.Rename(d+"/old", d+"/older") }},
			{"unlink", w && x, func() error { return unix.Unlink(d + "/victim") }},
		} {
			err := e.as(alice, c.do)
			if c.may != (err == nil) || !c.may && !is(err, unix.EACCES) {
				e.Errorf("bits %o: %s: %v", bits, c.what, err)
			}
		}
		e.ok(os.RemoveAll(d + "/g"))
	}
	e.ok(unix.Chmod(d, 0o755))
}
