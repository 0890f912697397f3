package fstest

import (
	"encoding/binary"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// The two attributes.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// ace is an entry of an ACL: tag, rwx, uid or gid.
type ace struct {
	tag, perm uint16
	id        uint32
}

// Tags, as linux/posix_acl.h numbers them, and the ID of entries without one.
const (
	owner, user, group, groups, mask, other = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
	noID                                    = 1<<32 - 1
)

// acl encodes an ACL: version 2, entries of 8 bytes, little-endian.
func acl(entries ...ace) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, x := range entries {
		b = binary.LittleEndian.AppendUint16(b, x.tag)
		b = binary.LittleEndian.AppendUint16(b, x.perm)
		b = binary.LittleEndian.AppendUint32(b, x.id)
	}
	return b
}

// named returns an ACL with a named user.
func named(o, u, g, m, rest uint16) []byte {
	return acl(ace{owner, o, noID}, ace{user, u, 1000}, ace{group, g, noID}, ace{mask, m, noID}, ace{other, rest, noID})
}

// aclTest wraps a test that needs ACLs.
func aclTest(name string, run func(e *env)) test {
	return test{name, func(e *env) {
		if e.feat.NoACL {
			id := e.file(e.dir, "f", "")
			e.fails(e.fs.Setxattr(e.ctx, id, aclAccess, named(6, 6, 4, 6, 4), 0), syscall.EOPNOTSUPP)
			return
		}
		run(e)
	}}
}

var aclTests = []test{
	aclTest("the minimal ACL", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, aclAccess, named(6, 7, 4, 5, 1), 0))
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o4751})
		for range 2 { // with an ACL, and without
			if a := e.change(id, volume.Change{Mask: volume.SetMinimalACL, Mode: 0o1640}); a.Mode&0o7777 != 0o4640 {
				e.Errorf("mode %o, want 4640", a.Mode&0o7777)
			}
			e.hasNo(id, aclAccess)
		}
		d := e.mkdir(e.dir, "d")
		_, err := e.fs.Setattr(e.ctx, d, volume.Change{Mask: volume.SetMinimalACL, Mode: 0o640})
		e.fails(err, syscall.EINVAL)
		_, err = e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetMinimalACL | volume.SetMode, Mode: 0o640})
		e.fails(err, syscall.EINVAL)
	}),
	aclTest("access ACL sets the mode", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.hasNo(id, aclAccess)
		e.ok(e.fs.Setxattr(e.ctx, id, aclAccess, named(6, 7, 4, 5, 1), 0))
		e.has(id, aclAccess, string(named(6, 7, 4, 5, 1)))
		if m := e.attr(id).Mode; m != syscall.S_IFREG|0o651 {
			e.Errorf("mode %o, want 651: the group shows the mask", m)
		}
		e.attrs(id, aclAccess)
	}),
	aclTest("chmod changes the ACL's mask", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, aclAccess, named(6, 7, 4, 5, 1), 0))
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o720})
		e.has(id, aclAccess, string(named(7, 7, 4, 2, 0)))
	}),
	aclTest("an ACL that the mode can express is none", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, aclAccess, acl(ace{owner, 7, noID}, ace{group, 5, noID}, ace{other, 1, noID}), 0))
		e.hasNo(id, aclAccess)
		if m := e.attr(id).Mode; m != syscall.S_IFREG|0o751 {
			e.Errorf("mode %o", m)
		}
	}),
	aclTest("removed", func(e *env) {
		id := e.file(e.dir, "f", "")
		e.ok(e.fs.Setxattr(e.ctx, id, aclAccess, named(6, 7, 4, 5, 1), 0))
		e.ok(e.fs.Removexattr(e.ctx, id, aclAccess))
		e.hasNo(id, aclAccess)
		e.attrs(id)
	}),
	aclTest("malformed", func(e *env) {
		id := e.file(e.dir, "f", "")
		for _, bad := range [][]byte{
			{2, 0, 0}, {2, 0, 0, 0, 1}, acl(ace{owner, 7, noID}),
			acl(ace{owner, 7, noID}, ace{user, 7, 1000}, ace{group, 5, noID}, ace{other, 1, noID}),
			acl(ace{other, 7, noID}, ace{group, 5, noID}, ace{owner, 1, noID}),
			acl(ace{owner, 8, noID}, ace{group, 5, noID}, ace{other, 1, noID}),
		} {
			e.fails(e.fs.Setxattr(e.ctx, id, aclAccess, bad, 0), syscall.EINVAL)
		}
		e.attrs(id)
		if m := e.attr(id).Mode; m != syscall.S_IFREG|0o644 {
			e.Errorf("mode %o", m)
		}
	}),
	aclTest("default ACL is for directories", func(e *env) {
		e.fails(e.fs.Setxattr(e.ctx, e.file(e.dir, "f", ""), aclDefault, named(7, 7, 5, 7, 0), 0), syscall.EACCES, syscall.EPERM)
		d := e.mkdir(e.dir, "d")
		e.ok(e.fs.Setxattr(e.ctx, d, aclDefault, named(7, 7, 5, 7, 0), 0))
		e.has(d, aclDefault, string(named(7, 7, 5, 7, 0)))
		if m := e.attr(d).Mode; m != syscall.S_IFDIR|0o755 {
			e.Errorf("the default ACL changed the mode to %o", m)
		}
	}),
	aclTest("inherited", inheritedACL),
	aclTest("inherited, minimal", func(e *env) {
		d := e.mkdir(e.dir, "d")
		e.ok(e.fs.Setxattr(e.ctx, d, aclDefault, acl(ace{owner, 7, noID}, ace{group, 4, noID}, ace{other, 0, noID}), 0))
		u := e.as(volume.Cred{Umask: 0o077})
		a := u.make(d, "f", volume.Node{Mode: syscall.S_IFREG | 0o666})
		if a.Mode != syscall.S_IFREG|0o640 {
			e.Errorf("mode %o, want 640", a.Mode)
		}
		e.hasNo(a.ID, aclAccess)
	}),
	aclTest("version of a directory", func(e *env) {
		d := e.mkdir(e.dir, "d")
		for i, f := range []func(){
			func() { e.ok(e.fs.Setxattr(e.ctx, d, aclAccess, named(7, 7, 5, 7, 0), 0)) },
			func() { e.ok(e.fs.Setxattr(e.ctx, d, aclDefault, named(7, 7, 5, 7, 0), 0)) },
			func() { e.ok(e.fs.Removexattr(e.ctx, d, aclDefault)) },
			func() { e.ok(e.fs.Removexattr(e.ctx, d, aclAccess)) },
		} {
			before := e.attr(d).Version
			if f(); e.attr(d).Version <= before {
				e.Errorf("step %d: version stays %d", i, before)
			}
		}
	}),
}

// inheritedACL makes every type in a directory with a default ACL.
func inheritedACL(e *env) {
	d := e.mkdir(e.dir, "d")
	def := named(7, 7, 5, 7, 1)
	e.ok(e.fs.Setxattr(e.ctx, d, aclDefault, def, 0))
	u := e.as(volume.Cred{UID: 5, GID: 5, Umask: 0o077}) // not used
	for i, n := range nodes()[:6] {
		name := "n" + string(rune('a'+i))
		n.Mode = n.Mode&syscall.S_IFMT | 0o640
		a := u.make(d, name, n)
		if a.Mode != n.Mode {
			e.Errorf("%s: mode %o, want 640", typeName(n.Mode), a.Mode)
		}
		e.has(a.ID, aclAccess, string(named(6, 7, 5, 4, 0)))
		if a.IsDir() {
			e.has(a.ID, aclDefault, string(def))
		} else {
			e.hasNo(a.ID, aclDefault)
		}
	}
	f, a, err := u.fs.Create(u.ctx, d, "created", volume.Node{Mode: syscall.S_IFREG | 0o666}, volume.Write)
	e.ok(err)
	e.ok(f.Close())
	if a.Mode != syscall.S_IFREG|0o660 {
		e.Errorf("created: mode %o, want 660", a.Mode)
	}
	e.has(a.ID, aclAccess, string(named(6, 7, 5, 6, 0)))
	l, err := u.fs.Make(u.ctx, d, "link", volume.Node{Mode: syscall.S_IFLNK | 0o777, Target: "t"})
	e.ok(err)
	if l.Mode != syscall.S_IFLNK|0o777 {
		e.Errorf("symbolic link: mode %o", l.Mode)
	}
}
