package wire

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/mortarfs/mortar/volume"
)

// Codec gives gRPC the messages of this package: it marshals an Out, and
// unmarshals into an In. Both sides force it on
// their calls; nothing is registered.
type Codec struct{}

// Name is the content-subtype on the wire: application/grpc+mortar.
func (Codec) Name() string { return "mortar" }

// Out is a message to send. gRPC frees the buffers when it has written them.
type Out struct{ Buffers mem.BufferSlice }

// In receives a message of a Session: a batch, in memory of its own.
type In struct{ Batch []byte }

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
	if m, ok := v.(*In); ok {
		m.Batch = make([]byte, size)
		data.CopyTo(m.Batch)
		return nil
	}
	return malformed("a %T can't be received", v)
}

// Pool is a mem.BufferPool whose buffers are not cleared: whoever gets one
// writes all of it before he shows it to anyone.
type Pool struct{ tiers [len(tierSizes)]sync.Pool }

// tierSizes are capacities in bytes: of a few replies, of a batch, and of the largest request.
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
