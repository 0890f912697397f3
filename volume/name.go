package volume

import (
	"strings"
	"syscall"
)

// Reserved is the directory in a brick's root that is Mortar's own. No client
// sees or makes an entry of that name in the root of a volume.
const Reserved = ".mortar"

// CheckName says what is wrong with name as one component of a path: nil, or
// EINVAL (empty, ".", "..", a slash or a zero byte in it) or ENAMETOOLONG.
func CheckName(op, name string) error {
	switch {
	case len(name) > NameMax:
		return &Error{Op: op, Where: name[:32] + "…", Errno: syscall.ENAMETOOLONG}
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"):
		return &Error{Op: op, Where: name, Errno: syscall.EINVAL}
	}
	return nil
}

// CookieOf returns the cookie of a name: 63 bits of its 64-bit FNV-1a hash
// after a finishing mix (splitmix64's), kept off the reserved values. It is
// part of the wire and of what NFS clients hold on to: it never changes.
func CookieOf(name string) Cookie {
	h := uint64(14695981039346656037)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	c := Cookie((h ^ h>>31) >> 1)
	switch {
	case c < CookieFirst:
		c += CookieFirst
	case c > CookieLast:
		c -= 1<<63 - 1 - CookieLast
	}
	return c
}
