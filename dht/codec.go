package dht

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Numbers are unsigned varints (signed values zigzag), IDs 16 bytes, texts and
// values a length and their bytes. Everything is checked against its limit
// before it is allocated.

const (
	formatVersion = 1
	stepMax       = 1 << 18 // bytes of a step or its answer
	actionsMax    = 32      // of one intent; EXCHANGE of two pointed files needs 8
	numbersMax    = 4096    // intents of one purge
)

// writer appends the parts of a message.
type writer struct{ b []byte }

func (w *writer) u(v uint64)         { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) i(v int64)          { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) id(v volume.ID)     { w.b = append(w.b, v[:]...) }
func (w *writer) text(s string)      { w.u(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) time(t volume.Time) { w.i(t.Sec); w.u(uint64(t.Nsec)) }

// value keeps nil apart from empty: the length is written plus one.
func (w *writer) value(v []byte) {
	if v == nil {
		w.u(0)
		return
	}
	w.u(uint64(len(v)) + 1)
	w.b = append(w.b, v...)
}

// reader takes a message apart; after the first mistake all it gives is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, a...)
	}
	r.b = nil
}

func (r *reader) u(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number is cut short")
		return 0
	}
	if v > limit {
		r.fail("%d is above the limit of %d", v, limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) i() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a number is cut short")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) id() (id volume.ID) {
	if len(r.b) < len(id) {
		r.fail("an ID is cut short")
		return id
	}
	r.b = r.b[copy(id[:], r.b):]
	return id
}

func (r *reader) bytes(n uint64) []byte {
	if uint64(len(r.b)) < n {
		r.fail("%d bytes announced, %d there", n, len(r.b))
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text(limit uint64) string { return string(r.bytes(r.u(limit))) }

func (r *reader) value(limit uint64) []byte {
	n := r.u(limit + 1)
	if n == 0 {
		return nil
	}
	return append([]byte{}, r.bytes(n-1)...)
}

func (r *reader) time() volume.Time {
	return volume.Time{Sec: r.i(), Nsec: uint32(r.u(999_999_999))}
}

func (r *reader) set() volume.SetID { return volume.SetID(r.u(1<<16 - 1)) }
func (r *reader) u32() uint32       { return uint32(r.u(1<<32 - 1)) }
func (r *reader) u64() uint64       { return r.u(1<<64 - 1) }

// end checks that nothing is left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

func (w *writer) action(a action) {
	w.u(uint64(a.kind))
	w.u(uint64(a.set))
	w.u(uint64(a.part))
	w.id(a.dir)
	w.text(a.name)
	w.id(a.id)
	w.u(uint64(a.mode))
	w.u(uint64(a.held))
	w.id(a.old)
	w.u(uint64(a.oldMode))
	if a.kind == actSwap {
		w.id(a.dir2)
		w.text(a.name2)
	}
}

func (r *reader) action() (a action) {
	a.kind = actKind(r.u(uint64(actLast)))
	a.set = r.set()
	a.part = uint8(r.u(partMax))
	a.dir = r.id()
	a.name = r.text(volume.NameMax)
	a.id = r.id()
	a.mode = r.u32()
	a.held = r.set()
	a.old = r.id()
	a.oldMode = r.u32()
	if a.kind == actSwap {
		a.dir2 = r.id()
		a.name2 = r.text(volume.NameMax)
	}
	return a
}

func (w *writer) keys(list []nameKey) {
	w.u(uint64(len(list)))
	for _, k := range list {
		w.id(k.dir)
		w.text(k.name)
	}
}

func (r *reader) keys() (list []nameKey) {
	for range r.u(namesMax) {
		list = append(list, nameKey{r.id(), r.text(volume.NameMax)})
	}
	return list
}

func (w *writer) actions(list []action) {
	w.u(uint64(len(list)))
	for _, a := range list {
		w.action(a)
	}
}

func (r *reader) actions() []action {
	n := r.u(actionsMax)
	if n == 0 {
		return nil
	}
	list := make([]action, 0, n)
	for range n {
		list = append(list, r.action())
	}
	return list
}

func (w *writer) copyOf(c *volume.Copy) {
	w.id(c.ID)
	w.u(uint64(c.Mode))
	w.u(uint64(c.UID))
	w.u(uint64(c.GID))
	w.u(c.Version)
	w.value(c.ACL)
	w.value(c.Default)
	w.u(uint64(c.Home))
	w.time(c.BirthTime)
}

func (r *reader) copyOf() *volume.Copy {
	return &volume.Copy{
		ID: r.id(), Mode: r.u32(), UID: r.u32(), GID: r.u32(), Version: r.u64(),
		ACL: r.value(volume.XattrValueMax), Default: r.value(volume.XattrValueMax),
		Home: r.set(), BirthTime: r.time(),
	}
}

// malformed is the error for a step or answer that can't be read.
func malformed(op string, err error) error {
	return &volume.Error{Op: op, Errno: syscall.EINVAL, Err: err}
}
