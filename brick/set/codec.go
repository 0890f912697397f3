package set

import (
	"encoding/binary"
	"strings"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// writer appends fields to a message, integers little-endian, texts and byte
// strings with their length in 32 bits before them.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}
func (w *writer) id(v volume.ID) { w.b = append(w.b, v[:]...) }
func (w *writer) text(s string)  { w.u32(uint32(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(s []byte) { w.u32(uint32(len(s))); w.b = append(w.b, s...) }
func (w *writer) time(t volume.Time) {
	w.u64(uint64(t.Sec))
	w.u32(t.Nsec)
}
func (w *writer) request(r volume.Request) {
	w.b = append(w.b, r.Session[:]...)
	w.u64(r.Number)
}
func (w *writer) node(n *volume.Node) {
	w.id(n.ID)
	w.u32(n.Mode)
	w.u64(n.Rdev)
	w.text(n.Target)
	w.u64(n.Parent)
}
func (w *writer) attrChange(c *volume.Change) {
	w.u32(uint32(c.Mask))
	w.u32(c.Mode)
	w.u32(c.UID)
	w.u32(c.GID)
	w.u64(uint64(c.Size))
	w.time(c.Atime)
	w.time(c.Mtime)
	w.time(c.Ctime)
}
func (w *writer) pointer(p volume.Pointer) {
	w.id(p.ID)
	w.u32(p.Mode)
	w.u16(uint16(p.Held))
}
func (w *writer) key(k volume.Key) {
	w.u16(uint16(k.Set))
	w.u64(k.Intent)
	w.u8(k.Part)
}
func (w *writer) copy(c *volume.Copy) {
	w.id(c.ID)
	w.u32(c.Mode)
	w.u32(c.UID)
	w.u32(c.GID)
	w.u64(c.Version)
	w.bool(c.ACL != nil)
	w.bytes(c.ACL)
	w.bool(c.Default != nil)
	w.bytes(c.Default)
	w.u16(uint16(c.Home))
	w.time(c.BirthTime)
}
func (w *writer) attr(a *volume.Attr) {
	w.id(a.ID)
	w.u32(a.Mode)
	w.u32(a.Nlink)
	w.u32(a.UID)
	w.u32(a.GID)
	w.u64(a.Rdev)
	w.u64(uint64(a.Size))
	w.u64(uint64(a.Blocks))
	w.time(a.Atime)
	w.time(a.Mtime)
	w.time(a.Ctime)
	w.time(a.Btime)
	w.u64(a.Version)
	w.u16(uint16(a.Held))
}
func (w *writer) keys(ks []Key) {
	w.u32(uint32(len(ks)))
	for _, k := range ks {
		w.u8(uint8(k.Kind))
		w.id(k.ID)
		w.text(k.Name)
		w.u64(uint64(k.Off))
		w.u64(uint64(k.Len))
	}
}
func (w *writer) state(s spec.SetState) {
	w.u64(s.Epoch)
	w.text(s.Primary)
	w.u64(s.Power)
	w.u32(uint32(len(s.InSync)))
	for _, seat := range s.InSync {
		w.text(seat.Member)
		w.text(seat.Boot)
	}
}
func (w *writer) texts(ss []string) {
	w.u32(uint32(len(ss)))
	for _, s := range ss {
		w.text(s)
	}
}

// Limits of what is decoded.
const (
	memberMax  = 64      // bytes of a member's ID, a boot's name, a life
	membersMax = 64      // of a set
	keysMax    = 1 << 16 // of a message
	keySize    = 1 + 16 + 4 + 8 + 8
)

// reader takes fields off a message. After the first that is not there or breaks
// its limit it is bad, and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}
func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}
func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}
func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.bad = true
	}
	return v == 1
}
func (r *reader) id() (id volume.ID) { copy(id[:], r.take(len(id))); return id }
func (r *reader) bytes(max int) []byte {
	n := r.u32()
	if uint64(n) > uint64(max) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}
func (r *reader) text(max int) string { return strings.Clone(string(r.bytes(max))) }
func (r *reader) time() volume.Time {
	t := volume.Time{Sec: int64(r.u64()), Nsec: r.u32()}
	if t.Nsec >= 1e9 {
		r.bad = true
	}
	return t
}
func (r *reader) request() (q volume.Request) {
	copy(q.Session[:], r.take(len(q.Session)))
	q.Number = r.u64()
	return q
}
func (r *reader) node() volume.Node {
	return volume.Node{ID: r.id(), Mode: r.u32(), Rdev: r.u64(), Target: r.text(volume.TargetMax), Parent: r.u64()}
}
func (r *reader) attrChange() volume.Change {
	return volume.Change{Mask: volume.Mask(r.u32()), Mode: r.u32(), UID: r.u32(), GID: r.u32(), Size: int64(r.u64()),
		Atime: r.time(), Mtime: r.time(), Ctime: r.time()}
}
func (r *reader) pointer() volume.Pointer {
	return volume.Pointer{ID: r.id(), Mode: r.u32(), Held: volume.SetID(r.u16())}
}
func (r *reader) key() volume.Key {
	return volume.Key{Set: volume.SetID(r.u16()), Intent: r.u64(), Part: r.u8()}
}
func (r *reader) copy() (c volume.Copy) {
	c.ID, c.Mode, c.UID, c.GID, c.Version = r.id(), r.u32(), r.u32(), r.u32(), r.u64()
	acl := func() []byte {
		there, v := r.bool(), r.bytes(volume.XattrValueMax)
		if !there {
			return nil
		}
		return append([]byte{}, v...)
	}
	c.ACL, c.Default = acl(), acl()
	c.Home, c.BirthTime = volume.SetID(r.u16()), r.time()
	return c
}
func (r *reader) attr() volume.Attr {
	return volume.Attr{ID: r.id(), Mode: r.u32(), Nlink: r.u32(), UID: r.u32(), GID: r.u32(), Rdev: r.u64(),
		Size: int64(r.u64()), Blocks: int64(r.u64()), Atime: r.time(), Mtime: r.time(), Ctime: r.time(), Btime: r.time(),
		Version: r.u64(), Held: volume.SetID(r.u16())}
}
func (r *reader) keys() []Key {
	n := r.u32()
	if n > keysMax || int(n)*keySize > len(r.b) {
		r.bad = true
		return nil
	}
	ks := make([]Key, 0, n)
	for range n {
		k := Key{Kind: KeyKind(r.u8()), ID: r.id(), Name: r.text(volume.NameMax), Off: int64(r.u64()), Len: int64(r.u64())}
		if k.Kind == 0 || k.Kind > FullKey || k.Off < 0 || k.Len < 0 {
			r.bad = true
		}
		ks = append(ks, k)
	}
	return ks
}
func (r *reader) state() (s spec.SetState) {
	s.Epoch, s.Primary, s.Power = r.u64(), r.text(memberMax), r.u64()
	n := r.u32()
	if n > membersMax {
		r.bad = true
		return s
	}
	for range n {
		s.InSync = append(s.InSync, spec.Seat{Member: r.text(memberMax), Boot: r.text(memberMax)})
	}
	return s
}
func (r *reader) texts(most, size int) []string {
	n := r.u32()
	if int(n) > most {
		r.bad = true
		return nil
	}
	var ss []string
	for range n {
		ss = append(ss, r.text(size))
	}
	return ss
}

// done reports whether all was there and nothing is left.
func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }
