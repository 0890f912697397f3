package volume

import "encoding/binary"

// ACLAccess is the extended attribute that an access ACL is (acl(5)).
const ACLAccess = "system.posix_acl_access"

// ACLDefault is the one that a default ACL of a directory is.
const ACLDefault = "system.posix_acl_default"

// A minimal ACL as an extended attribute (linux/posix_acl_xattr.h): a version and three entries of tag, permission
// bits and an ID that means nothing, little-endian.
const (
	aclVersion   = 2
	aclNoID      = 1<<32 - 1
	aclEntrySize = 8
)

// aclTags are the tags of a minimal ACL's entries, in their order: owner, group, others.
var aclTags = [3]uint16{0x01, 0x04, 0x20}

// MinimalACL returns the access ACL that says what the 9 permission bits of a mode say, as an extended attribute.
func MinimalACL(mode uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for i, tag := range aclTags {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(mode>>(6-3*i)&7))
		b = binary.LittleEndian.AppendUint32(b, aclNoID)
	}
	return b
}

// ParseMinimalACL returns the permission bits of an access ACL that says no more than these.
func ParseMinimalACL(value []byte) (mode uint32, ok bool) {
	if len(value) != 4+len(aclTags)*aclEntrySize || binary.LittleEndian.Uint32(value) != aclVersion {
		return 0, false
	}
	for i, tag := range aclTags {
		e := value[4+i*aclEntrySize:]
		perm := binary.LittleEndian.Uint16(e[2:])
		if binary.LittleEndian.Uint16(e) != tag || perm > 7 {
			return 0, false
		}
		mode = mode<<3 | uint32(perm)
	}
	return mode, true
}
