package model

import (
	"encoding/binary"
	"syscall"
)

// A POSIX ACL as Linux keeps it in an extended attribute (acl(5), and
// linux/posix_acl_xattr.h), little-endian:
//
//	0  u32  version, 2
//	4  entries of 8 bytes: u16 tag, u16 permissions (rwx), u32 uid or gid
//
// The entries come in the order of their tags; named users and groups need a
// mask. An ACL that says no more than the mode bits is not stored.

// Tags of entries, in their order.
const (
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

const (
	aclVersion = 2
	noID       = ^uint32(0) // of an entry that names no one
)

// ace is an entry of an ACL.
type ace struct {
	tag, perm uint16
	id        uint32
}

// parseACL decodes and checks an ACL; a value without entries is no ACL (nil).
func parseACL(value []byte) ([]ace, syscall.Errno) {
	switch {
	case len(value) == 0:
		return nil, 0
	case len(value) < 4 || (len(value)-4)%8 != 0:
		return nil, syscall.EINVAL
	case binary.LittleEndian.Uint32(value) != aclVersion:
		return nil, syscall.EOPNOTSUPP
	}
	var acl []ace
	for b := value[4:]; len(b) > 0; b = b[8:] {
		e := ace{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.tag != tagUser && e.tag != tagGroup {
			e.id = noID
		}
		acl = append(acl, e)
	}
	if len(acl) > 0 && !validACL(acl) {
		return nil, syscall.EINVAL
	}
	return acl, 0
}

// validACL checks order and completeness.
func validACL(acl []ace) bool {
	count := map[uint16]int{}
	last := uint16(0)
	for _, e := range acl {
		if e.perm > 7 || e.tag < last {
			return false
		}
		switch e.tag {
		case tagUser, tagGroup:
			if e.id == noID {
				return false
			}
		case tagUserObj, tagGroupObj, tagMask, tagOther:
			if count[e.tag] > 0 {
				return false
			}
		default:
			return false
		}
		count[e.tag]++
		last = e.tag
	}
	named := count[tagUser]+count[tagGroup] > 0
	return count[tagUserObj] == 1 && count[tagGroupObj] == 1 && count[tagOther] == 1 && (!named || count[tagMask] == 1)
}

// encodeACL is parseACL's reverse.
func encodeACL(acl []ace) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range acl {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// classes returns the entries that the mode's three groups of bits stand for:
// owner, group (the mask where there is one) and others; and whether the ACL
// says more than those.
func classes(acl []ace) (c [3]*ace, more bool) {
	for i := range acl {
		switch e := &acl[i]; e.tag {
		case tagUserObj:
			c[0] = e
		case tagGroupObj:
			if c[1] == nil {
				c[1] = e
			}
		case tagMask:
			c[1], more = e, true
		case tagOther:
			c[2] = e
		default:
			more = true
		}
	}
	return c, more
}

// storeACL keeps an ACL, or no ACL.
func storeACL(o *object, name string, acl []ace) {
	if len(acl) == 0 {
		delete(o.xattrs, name)
		return
	}
	o.xattrs[name] = encodeACL(acl)
}

// setACL is setxattr of an ACL: the access ACL sets the mode too.
func setACL(o *object, name string, value []byte) syscall.Errno {
	acl, errno := parseACL(value)
	if errno != 0 {
		return errno
	}
	if name == aclDefault && !o.isDir() {
		if len(acl) > 0 {
			return syscall.EACCES
		}
		return 0
	}
	if name == aclAccess && len(acl) > 0 {
		c, more := classes(acl)
		o.mode = o.mode&^0o777 | uint32(c[0].perm)<<6 | uint32(c[1].perm)<<3 | uint32(c[2].perm)
		if !more {
			acl = nil
		}
	}
	storeACL(o, name, acl)
	if o.isDir() {
		o.version++
	}
	return 0
}

// aclChmod brings the access ACL in line with a mode that has been set.
func aclChmod(o *object) {
	acl, _ := parseACL(o.xattrs[aclAccess])
	if len(acl) == 0 {
		return
	}
	c, _ := classes(acl)
	for i, e := range c {
		e.perm = uint16(o.mode >> (6 - 3*i) & 7)
	}
	storeACL(o, aclAccess, acl)
}

// inherit gives a new object its mode: by the umask, or by the directory's
// default ACL, from which it takes its ACLs too.
func inherit(o, dir *object, umask uint32) {
	acl, _ := parseACL(dir.xattrs[aclDefault])
	if o.mode&syscall.S_IFMT == syscall.S_IFLNK {
		return
	}
	if len(acl) == 0 {
		o.mode &^= umask & 0o777
		return
	}
	if o.isDir() {
		storeACL(o, aclDefault, acl)
	}
	c, more := classes(acl)
	for i, e := range c {
		shift := 6 - 3*i
		e.perm &= uint16(o.mode >> shift & 7)
		o.mode = o.mode&^(7<<shift) | uint32(e.perm)<<shift
	}
	if more {
		storeACL(o, aclAccess, acl)
	}
}
