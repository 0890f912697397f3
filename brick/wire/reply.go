package wire

import (
	"errors"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// attrSize and entryMin are the bytes of an encoded Attr, and of an Entry with an empty name and no Attr.
const (
	attrSize = 16 + 4*4 + 3*8 + 4*12 + 8 + 2
	entryMin = 2 + 8 + 16 + 4 + 2 + 1
)

// entriesMax is the largest number of entries in one reply: what was asked for
// and names that share a cookie with the last.
const entriesMax = 2 * volume.ReadDirMax

// AppendStatus writes how a request ended, nil for success.
func AppendStatus(b []byte, err error) []byte {
	errno := volume.ErrnoOf(err)
	b = appendU16(b, uint16(errno))
	if errno == 0 {
		return b
	}
	b = append(b, byte(volume.ReasonOf(err)))
	var op, where, cause string
	var e *volume.Error
	if errors.As(err, &e) {
		op, where = e.Op, e.Where
		if e.Err != nil {
			cause = e.Err.Error()
		}
	} else {
		cause = err.Error()
	}
	b = appendText(b, op[:min(len(op), TextMax)])
	b = appendText(b, where[:min(len(where), TextMax)])
	return appendText(b, cause[:min(len(cause), TextMax)])
}

// ParseStatus takes what AppendStatus wrote: nil or a *volume.Error.
func ParseStatus(r *Reader) error {
	errno := r.U16()
	if errno == 0 {
		return nil
	}
	e := &volume.Error{Errno: syscall.Errno(errno), Reason: volume.Reason(r.U8())}
	e.Op, e.Where = r.Text(TextMax), r.Text(TextMax)
	if cause := r.Text(TextMax); cause != "" {
		e.Err = errors.New(cause)
	}
	if e.Reason > volume.NotPrimary {
		r.fail()
	}
	return e
}

// PeekErrno returns the errno of a reply's body without decoding it, EIO for a malformed one.
func PeekErrno(body []byte) syscall.Errno {
	if len(body) < 2 {
		return syscall.EIO
	}
	return syscall.Errno(body[0]) | syscall.Errno(body[1])<<8
}

// PeekReason returns the reason of a reply's body without decoding it, Plain for
// one that succeeded or is malformed.
func PeekReason(body []byte) volume.Reason {
	if len(body) < 3 || PeekErrno(body) == 0 {
		return volume.Plain
	}
	return volume.Reason(body[2])
}

// AppendAttr writes the result of Lookup, Getattr, Setattr, Make and Link.
func AppendAttr(b []byte, a *volume.Attr) []byte {
	b = append(b, a.ID[:]...)
	b = appendU32(appendU32(appendU32(appendU32(b, a.Mode), a.Nlink), a.UID), a.GID)
	b = appendU64(appendU64(appendU64(b, a.Rdev), uint64(a.Size)), uint64(a.Blocks))
	b = appendTime(appendTime(appendTime(appendTime(b, a.Atime), a.Mtime), a.Ctime), a.Btime)
	return appendU16(appendU64(b, a.Version), uint16(a.Held))
}

// Attr takes what AppendAttr wrote.
func (r *Reader) Attr() (a volume.Attr) {
	if len(r.b) < attrSize {
		r.fail()
		return a
	}
	a.ID = r.ID()
	a.Mode, a.Nlink, a.UID, a.GID = r.U32(), r.U32(), r.U32(), r.U32()
	a.Rdev, a.Size, a.Blocks = r.U64(), r.I64(), r.I64()
	a.Atime, a.Mtime, a.Ctime, a.Btime = r.Time(), r.Time(), r.Time(), r.Time()
	a.Version, a.Held = r.U64(), volume.SetID(r.U16())
	return a
}

// AppendCreated writes the result of Create: whether a file was opened (else
// the name is a pointer), and the attributes.
func AppendCreated(b []byte, opened bool, a *volume.Attr) []byte {
	return AppendAttr(appendBool(b, opened), a)
}

// Created takes what AppendCreated wrote.
func (r *Reader) Created() (opened bool, a volume.Attr) { return r.Bool(), r.Attr() }

// AppendEntries writes the result of ReadDir.
func AppendEntries(b []byte, entries []volume.Entry, end bool) []byte {
	b = appendU32(appendBool(b, end), uint32(len(entries)))
	for i := range entries {
		e := &entries[i]
		b = appendU64(appendText(b, e.Name), uint64(e.Cookie))
		b = appendU16(appendU32(append(b, e.ID[:]...), e.Mode), uint16(e.Held))
		if b = appendBool(b, e.HasAttr); e.HasAttr {
			b = AppendAttr(b, &e.Attr)
		}
	}
	return b
}

// Entries takes what AppendEntries wrote.
func (r *Reader) Entries() (entries []volume.Entry, end bool) {
	end = r.Bool()
	n := r.U32()
	if n > entriesMax || uint64(n)*entryMin > uint64(len(r.b)) {
		r.fail()
		return nil, false
	}
	entries = make([]volume.Entry, n)
	for i := range entries {
		e := &entries[i]
		e.Name, e.Cookie = r.Text(volume.NameMax), volume.Cookie(r.U64())
		e.ID, e.Mode, e.Held = r.ID(), r.U32(), volume.SetID(r.U16())
		if e.HasAttr = r.Bool(); e.HasAttr {
			e.Attr = r.Attr()
		}
		if r.bad {
			return nil, false
		}
	}
	return entries, end
}

// AppendNames writes the result of Listxattr.
func AppendNames(b []byte, names []string) []byte {
	b = appendU32(b, uint32(len(names)))
	for _, n := range names {
		b = appendText(b, n)
	}
	return b
}

// Names takes what AppendNames wrote.
func (r *Reader) Names() []string {
	n := r.U32()
	if n > volume.XattrListMax/2 || uint64(n)*2 > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	names := make([]string, 0, n)
	for range n {
		names = append(names, r.Text(volume.XattrNameMax))
	}
	if r.bad {
		return nil
	}
	return names
}

// AppendText writes the result of Readlink.
func AppendText(b []byte, s string) []byte { return appendText(b, s) }

// AppendValue writes the result of Getxattr.
func AppendValue(b []byte, p []byte) []byte { return appendValue(b, p) }

// AppendNumber writes the result of Append and Seek (an offset) and Write (a count, there after an error, too).
func AppendNumber(b []byte, n int64) []byte { return appendU64(b, uint64(n)) }

// AppendStatfs writes the result of Statfs.
func AppendStatfs(b []byte, s volume.Statfs) []byte {
	b = appendU64(appendU64(appendU64(b, s.Total), s.Free), s.Available)
	b = appendU64(appendU64(b, s.Files), s.FilesFree)
	return appendU32(appendU32(b, s.BlockSize), s.NameMax)
}

// Statfs takes what AppendStatfs wrote.
func (r *Reader) Statfs() volume.Statfs {
	return volume.Statfs{
		Total: r.U64(), Free: r.U64(), Available: r.U64(),
		Files: r.U64(), FilesFree: r.U64(),
		BlockSize: r.U32(), NameMax: r.U32(),
	}
}

// ReplySize returns about how many bytes the reply to a request with these
// arguments takes if it succeeds, 0 if that is few or not known.
func ReplySize(op Op, args []byte) int {
	if op != OpRead {
		return 0
	}
	var a ReadArgs
	r := NewReader(args)
	if !a.Parse(&r) {
		return 0
	}
	return FrameHeader + 2 + int(a.Len)
}
