package posixtest

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrs lists an object's attributes, the system's own aside.
func (e *env) xattrs(p string) []string {
	e.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, b)
	e.ok(err)
	all := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00")
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" || strings.HasPrefix(s, "security.") })
	slices.Sort(all)
	return all
}

// get reads an attribute.
func get(p, name string) (string, error) {
	b := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(p, name, b)
	return string(b[:max(0, n)]), err
}

var xattrTests = []test{
	{"set, get, list, remove", func(e *env) {
		for _, p := range []string{e.file("f", ""), e.mkdir("d")} {
			for _, v := range []string{"v", "", "\x00\xff", strings.Repeat("v", 2000)} {
				e.ok(unix.Setxattr(p, "user.a", []byte(v), 0))
				if got, err := get(p, "user.a"); got != v || err != nil {
					e.Errorf("%q, %v", got, err)
				}
			}
			e.ok(unix.Setxattr(p, "user.b", []byte("b"), 0))
			if got := e.xattrs(p); !slices.Equal(got, []string{"user.a", "user.b"}) {
				e.Errorf("listed %q", got)
			}
			e.ok(unix.Removexattr(p, "user.a"))
			_, err := get(p, "user.a")
			e.fails(err, unix.ENODATA)
			e.fails(unix.Removexattr(p, "user.a"), unix.ENODATA)
			e.fails(unix.Setxattr(p, "user.a", nil, unix.XATTR_REPLACE), unix.ENODATA)
			e.fails(unix.Setxattr(p, "user.b", nil, unix.XATTR_CREATE), unix.EEXIST)
		}
	}},
	{"buffers and sizes", func(e *env) {
		p := e.file("f", "")
		e.ok(unix.Setxattr(p, "user.a", []byte("0123456789"), 0))
		if n, err := unix.Getxattr(p, "user.a", nil); n != 10 || err != nil {
			e.Errorf("asked for the size: %d, %v", n, err)
		}
		_, err := unix.Getxattr(p, "user.a", make([]byte, 5))
		e.fails(err, unix.ERANGE)
		n, err := unix.Listxattr(p, nil)
		if e.ok(err); n < len("user.a\x00") {
			e.Errorf("size of the list: %d", n)
		}
		_, err = unix.Listxattr(p, make([]byte, 3))
		e.fails(err, unix.ERANGE)
	}},
	{"names", func(e *env) {
		p := e.file("f", "")
		long := "user." + strings.Repeat("n", 250)
		e.ok(unix.Setxattr(p, long, []byte("v"), 0))
		e.ok(unix.Removexattr(p, long))
		e.all(
			call{"long name", func() error { return unix.Setxattr(p, long+"n", nil, 0) }, only(unix.ERANGE)},
			call{"no name space", func() error { return unix.Setxattr(p, "name", nil, 0) }, only(unix.EOPNOTSUPP)},
			call{"unknown name space", func() error { return unix.Setxattr(p, "foo.bar", nil, 0) }, only(unix.EOPNOTSUPP)},
			call{"long value", func() error { return unix.Setxattr(p, "user.a", make([]byte, 1<<16+1), 0) }, only(unix.E2BIG)},
			call{"absent file", func() error { return unix.Setxattr(e.path("absent"), "user.a", nil, 0) }, only(unix.ENOENT)},
		)
	}},
	{"who may", func(e *env) {
		p := e.owned(e.file("f", ""), alice, 0o644)
		e.ok(e.as(alice, func() error { return unix.Setxattr(p, "user.a", []byte("v"), 0) }))
		e.fails(e.as(bob, func() error { return unix.Setxattr(p, "user.a", []byte("w"), 0) }), unix.EACCES)
		e.ok(e.as(bob, func() error { _, err := get(p, "user.a"); return err }))
		e.ok(unix.Chmod(p, 0o600))
		e.fails(e.as(bob, func() error { _, err := get(p, "user.a"); return err }), unix.EACCES)
		e.fails(e.as(alice, func() error { return unix.Setxattr(p, "trusted.a", []byte("v"), 0) }), unix.EPERM)
	}},
	{"trusted", func(e *env) {
		for kind, p := range e.kinds("") {
			if e.opts.NoTrusted {
				e.fails(unix.Lsetxattr(p, "trusted.a", []byte("v"), 0), unix.EOPNOTSUPP)
				continue
			}
			e.ok(unix.Lsetxattr(p, "trusted.a", []byte("v"), 0))
			if got := e.xattrs(p); !slices.Equal(got, []string{"trusted.a"}) {
				e.Errorf("%s: listed %q", kind, got)
			}
			// xattr(7): visible only to processes that have CAP_SYS_ADMIN.
			e.ok(e.as(alice, func() error {
				if n, err := unix.Llistxattr(p, make([]byte, 100)); n != 0 || err != nil {
					e.Errorf("%s: others are listed %d bytes, %v", kind, n, err)
				}
				return nil
			}))
			e.fails(e.as(alice, func() error { _, err := unix.Lgetxattr(p, "trusted.a", nil); return err }), unix.ENODATA)
		}
	}},
	{"user attributes of other types", func(e *env) {
		for kind, p := range e.kinds("") {
			if kind != "file" && kind != "dir" {
				e.all(call{kind, func() error { return unix.Lsetxattr(p, "user.a", nil, 0) }, only(unix.EPERM, unix.EOPNOTSUPP)})
			}
		}
	}},
	{"through a descriptor, without a name", func(e *env) {
		p := e.file("f", "")
		fd := e.open(p, unix.O_RDWR, 0)
		e.ok(unix.Fsetxattr(fd, "user.a", []byte("v"), 0))
		e.ok(unix.Unlink(p))
		b := make([]byte, 10)
		if n, err := unix.Fgetxattr(fd, "user.a", b); err != nil || string(b[:n]) != "v" {
			e.Errorf("%q, %v", b[:max(0, n)], err)
		}
	}},
}

// The attributes that hold ACLs.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// acl encodes an ACL as linux/posix_acl_xattr.h has it: version 2 and, for
// owner, a named user, the group, the mask and others, entries of tag,
// permissions and ID, little-endian.
func acl(owner uint16, uid int, user, group, mask, other uint16) []byte {
	const noID = 1<<32 - 1
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, x := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, owner, noID}, {2, user, uint32(uid)}, {4, group, noID}, {0x10, mask, noID}, {0x20, other, noID}} {
		b = binary.LittleEndian.AppendUint16(b, x.tag)
		b = binary.LittleEndian.AppendUint16(b, x.perm)
		b = binary.LittleEndian.AppendUint32(b, x.id)
	}
	return b
}

// aclTest is a test that needs ACLs; without them, setting one must say so.
func aclTest(name string, run func(e *env)) test {
	return test{name, func(e *env) {
		if !e.opts.ACL {
			err := unix.Setxattr(e.file("f", ""), aclAccess, acl(6, alice.uid, 6, 4, 6, 4), 0)
			if err != nil {
				e.fails(err, unix.EOPNOTSUPP)
			}
			return
		}
		run(e)
	}}
}

var aclTests = []test{
	aclTest("a named user", func(e *env) {
		p := e.file("f", "content")
		e.ok(unix.Chmod(p, 0o600))
		read := func() error { return tryOpen(p, unix.O_RDONLY, 0) }
		e.fails(e.as(alice, read), unix.EACCES)
		e.ok(unix.Setxattr(p, aclAccess, acl(6, alice.uid, 6, 0, 6, 0), 0))
		e.ok(e.as(alice, read))
		e.ok(e.as(alice, func() error { return tryOpen(p, unix.O_WRONLY, 0) }))
		e.fails(e.as(bob, read), unix.EACCES)
		e.mode(p, 0o660)
		e.ok(unix.Chmod(p, 0o640)) // the mask
		e.ok(e.as(alice, read))
		e.fails(e.as(alice, func() error { return tryOpen(p, unix.O_WRONLY, 0) }), unix.EACCES)
		if v, err := get(p, aclAccess); err != nil || v != string(acl(6, alice.uid, 6, 0, 4, 0)) {
			e.Errorf("the ACL is % x, %v", v, err)
		}
		e.ok(unix.Removexattr(p, aclAccess))
		e.fails(e.as(alice, read), unix.EACCES)
	}),
	aclTest("only the owner sets it", func(e *env) {
		p := e.owned(e.file("f", ""), alice, 0o666)
		a := acl(6, bob.uid, 6, 4, 6, 4)
		e.fails(e.as(bob, func() error { return unix.Setxattr(p, aclAccess, a, 0) }), unix.EPERM)
		e.ok(e.as(alice, func() error { return unix.Setxattr(p, aclAccess, a, 0) }))
	}),
	aclTest("inherited", func(e *env) {
		d := e.mkdir("d")
		def := acl(7, alice.uid, 7, 5, 7, 0)
		e.ok(unix.Setxattr(d, aclDefault, def, 0))
		e.ok(e.masked(0o077, func() error { // has no say here
			return firstError(tryOpen(d+"/f", unix.O_CREAT|unix.O_WRONLY, 0o666), unix.Mkdir(d+"/sub", 0o777))
		}))
		e.mode(d+"/f", 0o660)
		e.mode(d+"/sub", 0o770)
		if v, err := get(d+"/sub", aclDefault); err != nil || v != string(def) {
			e.Errorf("the directory's default is % x, %v", v, err)
		}
		if v, err := get(d+"/f", aclAccess); err != nil || v != string(acl(6, alice.uid, 7, 5, 6, 0)) {
			e.Errorf("the file's ACL is % x, %v", v, err)
		}
		e.ok(e.as(alice, func() error { return tryOpen(d+"/sub/g", unix.O_CREAT|unix.O_WRONLY, 0o644) }))
		e.fails(e.as(bob, func() error { return tryOpen(d+"/sub/h", unix.O_CREAT|unix.O_WRONLY, 0o644) }), unix.EACCES)
	}),
	aclTest("and the setgid bit", func(e *env) {
		d := e.owned(e.mkdir("d"), who{uid: alice.uid, gid: 7600}, 0o2775)
		def := acl(7, bob.uid, 7, 5, 7, 5)
		e.ok(e.as(alice, func() error { return unix.Setxattr(d, aclDefault, def, 0) }))
		e.mode(d, 0o2775) // a default ACL leaves the mode
		member := alice
		member.groups = []int{7600}
		e.ok(e.as(member, func() error { return unix.Setxattr(d, aclAccess, def, 0) }))
		e.mode(d, 0o2775)
		e.ok(e.as(alice, func() error { return unix.Setxattr(d, aclAccess, def, 0) })) // as chmod(2) by one who is in no such group
		e.mode(d, 0o775)
	}),
	aclTest("malformed", func(e *env) {
		e.fails(unix.Setxattr(e.file("f", ""), aclAccess, []byte{2, 0, 0, 0, 1}, 0), unix.EINVAL)
		e.fails(unix.Setxattr(e.path("f"), aclDefault, acl(7, alice.uid, 7, 5, 7, 0), 0), unix.EACCES, unix.EPERM)
	}),
}
