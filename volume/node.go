package volume

import "syscall"

// Bears reports whether who makes n makes more than something empty: there are contents, or a change of attributes.
func (n *Node) Bears() bool { return len(n.Data) > 0 || n.Then.Mask != 0 }

// CheckBears says what is impossible about Data and Then of a node that is to be called name: EINVAL.
func (n *Node) CheckBears(op, name string) error {
	if !n.Bears() {
		return nil
	}
	bad := func(format string, a ...any) error { return Errorf(op, name, syscall.EINVAL, format, a...) }
	c := &n.Then
	switch {
	case n.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return bad("only a regular file is made with something in it")
	case len(n.Data) > IOMax:
		return bad("%d bytes at once", len(n.Data))
	case c.Mask&SetSize != 0:
		return bad("a file's size is that of its contents")
	case c.Mask&SetMinimalACL != 0 && c.Mask&SetMode != 0:
		return bad("a mode and an ACL at once")
	case c.Mask&SetAtime != 0 && c.Atime.Nsec > 999_999_999, c.Mask&SetMtime != 0 && c.Mtime.Nsec > 999_999_999:
		return bad("a second has 1,000,000,000 nanoseconds")
	}
	return nil
}

// CheckEmpty refuses a node with Data or Then where one is created and opened: EINVAL.
func (n *Node) CheckEmpty(op, name string) error {
	if n.Bears() {
		return Errorf(op, name, syscall.EINVAL, "what is opened is made empty")
	}
	return nil
}

// Plain returns n without Data and Then.
func (n Node) Plain() Node {
	n.Data, n.Then = nil, Change{}
	return n
}
