package set

import (
	"context"
	"encoding/binary"
	"errors"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// The messages by which one member heals another (version 1). Each is a question
// of its own that changes nothing at the other side but what it says; all may be
// repeated, but none that changes something is carried out when it comes late after others (message.once).
// Integers are little-endian, texts and byte strings have their length in 32 bits before them.
//
//	message   byte kind (64 … 127) │ uint64 epoch of who asks │ arguments
//	data      beside it (Peer.Call): see the kind
//	answer    uint16 errno │ result                                  errno 0
//	          uint16 errno │ byte reason │ text op, where, cause     otherwise
//
//	kind           arguments                          data             result
//	look           dir, name, id                                       byte flags, pointer
//	describe       id                                                  object
//	install                                           object
//	bear           dir, name                          object, contents
//	place          dir, name, pointer
//	path           dir                                                 dir, name
//	list           dir, uint64 after, uint32 max                       bool end, uint32 n, n × (name, pointer)
//	nameless       id after                                            uint32 n, n × id
//	release        id
//	sums           id, uint64 first, uint32 n, size                    uint32 n, n × uint64
//	digests        uint32 n, n × id                                    uint32 n, n × (bool, uint64 meta, data)
//	data           id, uint64 off                                      uint64
//	read           id, uint64 off, uint32 n                            bytes
//	write          id, uint64 off                     bytes
//	zero           id, uint64 off, n
//	discards       key after                                           uint32 n, n × (key, dir, name, pointer)
//	discard        dir, name, id, key, bool keep
//	purge          key, id
//	journal        uint64 n                                            uint64 records, sum
//	setjournal     bool anew                          n × (uint32 length, record)
//	settle
//
//	object    attr │ text target │ uint32 n │ n × (text name, bytes value)
//
// A change of a layout takes a kind of another number.
const (
	askLook = iota + distantFirst
	askDescribe
	askInstall
	askBear
	askPlace
	askPath
	askList
	askNameless
	askRelease
	askSums
	askDigests
	askData
	askRead
	askWrite
	askZero
	askDiscards
	askDiscard
	askPurge
	askJournal
	askSetJournal
	askSettle
	askEnd
)

// distantFirst and distantLast bound the kinds of messages that are heal's.
const (
	distantFirst = 64
	distantLast  = 127
)

// isDistant reports whether a message is one for serveDistant.
func isDistant(msg []byte) bool {
	return len(msg) > 0 && msg[0] >= distantFirst && msg[0] <= distantLast
}

// distantEpoch returns the epoch of who sent a message for serveDistant; whether
// it may still ask is the caller's to decide, before it has the message served.
func distantEpoch(msg []byte) (Epoch, error) {
	if !isDistant(msg) || len(msg) < 9 {
		return 0, malformedDistant()
	}
	return binary.LittleEndian.Uint64(msg[1:]), nil
}

func malformedDistant() error {
	return volume.Errorf("heal", "", syscall.EBADMSG, "a message or answer is malformed")
}

// xattrsMax bounds the extended attributes of an object.
const xattrsMax = volume.XattrListMax / 2

// object appends an object, as Describe tells it.
func (w *writer) object(o volume.Object) {
	w.attr(&o.Attr)
	w.text(o.Target)
	w.u32(uint32(len(o.Xattrs)))
	for _, x := range o.Xattrs {
		w.text(x.Name)
		w.bytes(x.Value)
	}
}

func (r *reader) object() (o volume.Object) {
	o.Attr, o.Target = r.attr(), r.text(volume.TargetMax)
	n := r.u32()
	if n > xattrsMax || int(n)*8 > len(r.b) {
		r.bad = true
		return o
	}
	for range n {
		name := r.text(volume.XattrNameMax)
		o.Xattrs = append(o.Xattrs, volume.Xattr{Name: name, Value: append([]byte{}, r.bytes(volume.XattrValueMax)...)})
	}
	return o
}

// textMax bounds the texts of an error, in bytes.
const textMax = 1024

// status appends how a question ended.
func (w *writer) status(err error) {
	errno := volume.ErrnoOf(err)
	w.u16(uint16(errno))
	if errno == 0 {
		return
	}
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
	w.u8(uint8(volume.ReasonOf(err)))
	for _, s := range []string{op, where, cause} {
		w.text(s[:min(len(s), textMax)])
	}
}

// status takes what status appended: nil, or a *volume.Error.
func (r *reader) status() error {
	errno := r.u16()
	if errno == 0 {
		return nil
	}
	e := &volume.Error{Errno: syscall.Errno(errno), Reason: volume.Reason(r.u8()), Op: r.text(textMax), Where: r.text(textMax)}
	if cause := r.text(textMax); cause != "" {
		e.Err = errors.New(cause)
	}
	if e.Reason > volume.NotPrimary {
		r.bad = true
	}
	return e
}

// distant is a member over the wire, for heal. Its errors are those of the
// member, and the Peer's (Reason Unavailable), after which what was asked for may have happened.
type distant struct {
	peer   Peer
	epoch  func() Epoch // of this primary
	unsure func()       // called before a change that was not answered is given up; nil: who heals fences the member anyway
}

var _ side = distant{}

// ask begins a message.
func (s distant) ask(kind uint8) *writer {
	w := &writer{b: make([]byte, 0, 64)}
	w.u8(kind)
	w.u64(s.epoch())
	return w
}

// call sends a message and returns what follows the answer's status.
func (s distant) call(ctx context.Context, w *writer, data []byte) (*reader, error) {
	answer, err := s.peer.Call(ctx, w.b, data)
	if err != nil {
		return nil, err
	}
	r := &reader{b: answer}
	err = r.status()
	if r.bad {
		return nil, malformedDistant()
	}
	return r, err
}

// do is call of what has no result.
func (s distant) do(ctx context.Context, w *writer, data []byte) error {
	r, err := s.call(ctx, w, data)
	if err != nil {
		if s.unsure != nil && volume.ReasonOf(err) == volume.Unavailable {
			s.unsure()
		}
		return err
	}
	return r.end()
}

// end says whether an answer or message was well formed and is at its end.
func (r *reader) end() error {
	if !r.done() {
		return malformedDistant()
	}
	return nil
}

// name takes a name, which may be empty; CheckName is the member's to ask.
func (r *reader) name() string { return r.text(volume.NameMax) }
