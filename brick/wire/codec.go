package wire

import (
	"encoding/binary"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/mortarfs/mortar/volume"
)

// Codec gives gRPC the messages of this package: it marshals an Out, and
// unmarshals into an In, a BulkIn or a BulkReply. Both sides force it on
// their calls; nothing is registered.
type Codec struct{}

// Name is the content-subtype on the wire: application/grpc+mortar.
func (Codec) Name() string { return "mortar" }

// Out is a message to send. gRPC frees the buffers when it has written them.
type Out struct{ Buffers mem.BufferSlice }

// In receives a message of a Session: a batch, in memory of its own.
type In struct{ Batch []byte }

// BulkIn receives a bulk request at the server, in one buffer from the pool.
type BulkIn struct {
	Prefix  BulkPrefix
	Frame   Frame
	Payload []byte
	buf     *[]byte
}

// Free gives the buffer back; Frame and Payload are then invalid.
func (m *BulkIn) Free() {
	if m.buf != nil {
		Buffers.Put(m.buf)
	}
	*m = BulkIn{}
}

// BulkReply receives a bulk reply at the client: the payload goes right where
// the caller wants it.
type BulkReply struct {
	Payload []byte // set before: where the payload goes, which must not be longer
	N       int    // bytes of payload received
	Frame   Frame
}

// Marshal is encoding.CodecV2's.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*Out); ok {
		return m.Buffers, nil
	}
	return nil, malformed("a %T can't be sent", v)
}

// Unmarshal is encoding.CodecV2's.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	size := data.Len()
	if size > MessageMax {
		return malformed("message of %d bytes, at most %d", size, MessageMax)
	}
	switch m := v.(type) {
	case *In:
		m.Batch = make([]byte, size)
		data.CopyTo(m.Batch)
		return nil
	case *BulkIn:
		return m.unmarshal(data, size)
	case *BulkReply:
		return m.unmarshal(data, size)
	}
	return malformed("a %T can't be received", v)
}

func (m *BulkIn) unmarshal(data mem.BufferSlice, size int) error {
	m.buf = Buffers.Get(size)
	data.CopyTo(*m.buf)
	var offset int
	var err error
	m.Prefix, m.Frame, offset, err = ParseBulk(*m.buf, size)
	if err == nil && m.Frame.Kind != Request {
		err = malformed("a %s from a client", m.Frame.Kind)
	}
	if err != nil {
		m.Free()
		return err
	}
	m.Payload = (*m.buf)[offset:]
	return nil
}

func (m *BulkReply) unmarshal(data mem.BufferSlice, size int) error {
	var fixed [BulkHeader + FrameHeader]byte
	if size < len(fixed) {
		return malformed("message of %d bytes", size)
	}
	copyAt(fixed[:], data, 0)
	n := uint64(BulkHeader) + uint64(binary.LittleEndian.Uint32(fixed[BulkHeader:]))
	if n > uint64(min(size, BulkHeader+FrameHeader+4*TextMax)) {
		return malformed("reply of %d bytes in a message of %d", n, size)
	}
	head := make([]byte, n)
	copyAt(head, data, 0)
	_, f, offset, err := ParseBulk(head, size)
	switch {
	case err != nil:
		return err
	case f.Kind != Reply:
		return malformed("a %s from a server", f.Kind)
	case size-offset > len(m.Payload):
		return malformed("payload of %d bytes where %d were asked for", size-offset, len(m.Payload))
	}
	m.Frame = f
	m.N = size - offset
	copyAt(m.Payload[:m.N], data, offset)
	return nil
}

// copyAt fills dst from data's bytes at off, which are there.
func copyAt(dst []byte, data mem.BufferSlice, off int) {
	for _, b := range data {
		p := b.ReadOnlyData()
		if off >= len(p) {
			off -= len(p)
			continue
		}
		n := copy(dst, p[off:])
		dst, off = dst[n:], 0
		if len(dst) == 0 {
			return
		}
	}
}

// Pool is a mem.BufferPool whose buffers are not cleared: whoever gets one
// writes all of it before he shows it to anyone.
type Pool struct{ tiers [len(tierSizes)]sync.Pool }

// tierSizes are capacities in bytes: of a few replies, of a batch, and of the largest bulk message.
var tierSizes = [...]int{4 << 10, 32 << 10, 128 << 10, volume.IOMax + 4<<10}

// Buffers is what messages are made of. (Memory that is shared, no state.)
var Buffers = new(Pool)

// Get returns a buffer of length n, with whatever was in it before.
func (p *Pool) Get(n int) *[]byte {
	for i, size := range tierSizes {
		if n <= size {
			b, ok := p.tiers[i].Get().(*[]byte)
			if !ok {
				s := make([]byte, size)
				b = &s
			}
			*b = (*b)[:n]
			return b
		}
	}
	s := make([]byte, n)
	return &s
}

// Put takes a buffer back that came from Get.
func (p *Pool) Put(b *[]byte) {
	for i, size := range tierSizes {
		if cap(*b) == size {
			p.tiers[i].Put(b)
			return
		}
	}
}
