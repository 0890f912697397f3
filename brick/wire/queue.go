package wire

import (
	"context"
	"sync"

	"google.golang.org/grpc/mem"
)

// batchSize is when a batch is closed, in bytes: when the next frame does not fit.
const batchSize = 32 << 10

// A Queue gathers frames for one stream; Run sends them in batches. So whoever has something
// to say never waits for the stream.
type Queue struct {
	send func(*Out) error
	wake chan struct{} // to Run, capacity 1
	mu   struct {
		sync.Mutex
		batches []*[]byte // in order; frames are added to the last
		err     error     // why nothing is sent any more
	}
}

// NewQueue returns a Queue over send, which is called by one goroutine at a time.
func NewQueue(send func(*Out) error) *Queue {
	return &Queue{send: send, wake: make(chan struct{}, 1)}
}

// Add queues a whole frame, of which it keeps no reference.
func (q *Queue) Add(frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.err != nil {
		return q.mu.err
	}
	var last *[]byte
	if n := len(q.mu.batches); n > 0 {
		last = q.mu.batches[n-1]
	}
	if last == nil || len(*last)+len(frame) > cap(*last) {
		last = Buffers.Get(max(batchSize, BatchHeader+len(frame)))
		*last = AppendBatchHeader((*last)[:0])
		q.mu.batches = append(q.mu.batches, last)
	}
	*last = append(*last, frame...)
	return nil
}

// Kick has Run send what is queued.
func (q *Queue) Kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run sends whenever it is kicked, until ctx ends or sending fails. What is
// queued then is dropped, and Add returns why.
func (q *Queue) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			q.end(ctx.Err())
			return
		case <-q.wake:
		}
		for b := q.next(); b != nil; b = q.next() {
			EndBatch(*b)
			if err := q.send(&Out{Buffers: mem.BufferSlice{mem.NewBuffer(b, Buffers)}}); err != nil {
				q.end(err)
				return
			}
		}
	}
}

func (q *Queue) next() *[]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.batches) == 0 {
		return nil
	}
	b := q.mu.batches[0]
	n := copy(q.mu.batches, q.mu.batches[1:])
	q.mu.batches[n] = nil
	q.mu.batches = q.mu.batches[:n]
	return b
}

func (q *Queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.err = err
	for _, b := range q.mu.batches {
		Buffers.Put(b)
	}
	q.mu.batches = nil
}
