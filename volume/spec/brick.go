package spec

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// VolumeNameMax is the length of the longest volume name, in bytes.
const VolumeNameMax = 256

// BrickPathMax is the length of the longest path of a brick, in bytes: what
// Linux allows, less what the store appends to it.
const BrickPathMax = 4096 - 256

// Invalid is a definition or a value that is refused: one sentence in
// GlusterFS's words where it has any, complete as it is printed after
// "failed: ". errors.Is finds EINVAL in it.
type Invalid string

func (e Invalid) Error() string { return string(e) }

// Is reports whether target is EINVAL.
func (e Invalid) Is(target error) bool { return target == syscall.EINVAL }

func invalidf(format string, a ...any) error { return Invalid(fmt.Sprintf(format, a...)) }

// reservedNames have a meaning on the command line or in GlusterFS's volume files.
const reservedNames = " volume type subvolumes option end-volume all volume_not_in_ring description" +
	" force snap-max-hard-limit snap-max-soft-limit auto-delete activate-on-create "

// CheckVolumeName says what is wrong with the name of a volume to be made:
// letters, digits, "-" and "_" are allowed, no "-" at the beginning.
func CheckVolumeName(name string) error {
	switch {
	case name == "":
		return Invalid("Volume name must not be empty.")
	case strings.Contains(reservedNames, " "+name+" "):
		return invalidf("%q cannot be the name of a volume.", name)
	case strings.Contains(name, "/"):
		return invalidf(`Volume name "%s" should not contain "/" character.`, printable(name))
	case len(name) > VolumeNameMax:
		return invalidf("Volume name exceeds %d characters.", VolumeNameMax)
	case name[0] == '-':
		return Invalid(`Volume name must not begin with "-".`)
	}
	for _, r := range name {
		if !alphanumeric(r) && r != '-' && r != '_' {
			return invalidf("Volume name should not contain \"%c\" character.\n"+
				"Volume names can only contain alphanumeric, '-' and '_' characters.", r)
		}
	}
	return nil
}

func alphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// ParseBrick splits "HOST:/PATH". An IPv6 address may stand in brackets, which
// host has not; path is absolute and without doubled or trailing slashes.
// Unlike GlusterFS it allows loopback addresses: several daemons can live on
// one machine, each on its own.
func ParseBrick(brick string) (host, path string, err error) {
	i := strings.Index(brick, ":/")
	if i <= 0 || strings.ContainsFunc(brick, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", "", invalidf("Wrong brick type: %s, use <HOSTNAME>:<export-dir-abs-path>", printable(brick))
	}
	host, path = brick[:i], brick[i+1:]
	if host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
		if !isIPv6(host) {
			return "", "", invalidf("internet address '%s' does not conform to standards", host)
		}
	} else if !validHost(host) {
		return "", "", invalidf("internet address '%s' does not conform to standards", host)
	}
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	for _, p := range parts {
		if p == "." || p == ".." {
			return "", "", invalidf("Brick path %s must not contain %q", path, p)
		}
	}
	path = "/" + strings.Join(parts, "/")
	switch {
	case path == "/":
		return "", "", invalidf("Brick path / of %s is the root of the file system, use a directory of its own", brick)
	case len(path) > BrickPathMax:
		return "", "", invalidf("Brick path is too long: %d bytes, at most %d are allowed", len(path), BrickPathMax)
	}
	return host, path, nil
}

// CheckPeer says what is wrong with the name of a server as peer commands take
// it: HOST or HOST:PORT, a name or an address. An IPv6 address before a port
// stands in brackets.
func CheckPeer(s string) error {
	host, bracketed := strings.CutPrefix(s, "[")
	port, given := "", false
	if bracketed {
		var rest string
		if host, rest, bracketed = strings.Cut(host, "]"); bracketed && rest != "" {
			port, given = strings.CutPrefix(rest, ":")
			bracketed = given
		}
		if !bracketed || !isIPv6(host) {
			return invalidf("%s is an invalid address", printable(s))
		}
	} else if strings.Count(s, ":") == 1 { // more of them: an IPv6 address
		host, port, given = strings.Cut(s, ":")
	}
	if !bracketed && !validHost(host) {
		return invalidf("%s is an invalid address", printable(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); given && (err != nil || n == 0) {
		return invalidf("%s is an invalid address: %q is not a port", printable(s), printable(port))
	}
	return nil
}

// JoinBrick is the name of a brick as GlusterFS writes it, the opposite of ParseBrick.
func JoinBrick(host, path string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + path
}

// printable is s without control characters, and not longer than a line can bear.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > 256 {
		s = s[:256] + "…"
	}
	return s
}

// validHost reports whether h can be a host name or an address (RFC 1123; "_" is found in the wild).
func validHost(h string) bool {
	if strings.Contains(h, ":") {
		return isIPv6(h)
	}
	if len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(h, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !alphanumeric(r) && r != '-' && r != '_' }) {
			return false
		}
	}
	return true
}
