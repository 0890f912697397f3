package wire

import (
	"context"
	"sync"

	"google.golang.org/grpc/mem"
)

// Sizes of a Queue in bytes.
const (
	batchSize = 32 << 10 // a batch is closed when the next frame does not fit
	queueMax  = 8 << 20  // Push waits when more is queued
)

// directRounds is how many batches a Flush sends before it leaves the rest to Run.
const directRounds = 2

// A Queue gathers frames for one stream and sends them in batches. Sending is
// done by whoever flushes first, while the frames of others gather in the next
// batch: on an idle stream no goroutine is woken, on a busy one many frames share a message.
type Queue struct {
	send func(*Out) error
	wake chan struct{} // to Run, capacity 1
	mu   struct {
		sync.Mutex
		batches []*[]byte // in order; frames are added to the last
		bytes   int       // in batches
		sending bool
		err     error // why nothing is sent any more
		room    sync.Cond
	}
}

// NewQueue returns a Queue over send, which is called by one goroutine at a time.
func NewQueue(send func(*Out) error) *Queue {
	q := &Queue{send: send, wake: make(chan struct{}, 1)}
	q.mu.room.L = &q.mu
	return q
}

// Add queues a whole frame, of which it keeps no reference.
func (q *Queue) Add(frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.addLocked(frame)
}

// Push is Add that waits while very much is queued.
func (q *Queue) Push(frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mu.bytes > queueMax && q.mu.err == nil {
		q.mu.room.Wait()
	}
	return q.addLocked(frame)
}

func (q *Queue) addLocked(frame []byte) error {
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
	q.mu.bytes += len(frame)
	return nil
}

// Flush sends what is queued, unless someone is sending already, who will then
// send it. It may block for as long as the stream is blocked.
func (q *Queue) Flush() {
	if q.flush(directRounds) {
		q.Kick()
	}
}

// Kick has Run send what is queued.
func (q *Queue) Kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run sends whenever it is kicked, until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			q.Fail(ctx.Err())
			return
		case <-q.wake:
			for q.flush(1 << 10) {
			}
		}
	}
}

// Fail ends the queue: what is queued is dropped, and Add and Push return err.
func (q *Queue) Fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.err == nil {
		q.mu.err = err
	}
	q.dropLocked()
}

func (q *Queue) dropLocked() {
	for _, b := range q.mu.batches {
		Buffers.Put(b)
	}
	q.mu.batches, q.mu.bytes = nil, 0
	q.mu.room.Broadcast()
}

// flush sends up to rounds batches and reports whether any are left to be sent by another.
func (q *Queue) flush(rounds int) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.sending {
		return false
	}
	for ; len(q.mu.batches) > 0 && q.mu.err == nil; rounds-- {
		if rounds == 0 {
			return true
		}
		b := q.mu.batches[0]
		n := copy(q.mu.batches, q.mu.batches[1:])
		q.mu.batches[n] = nil
		q.mu.batches = q.mu.batches[:n]
		EndBatch(*b)
		size := len(*b) - BatchHeader
		q.mu.sending = true
		q.mu.Unlock()
		err := q.send(&Out{Buffers: mem.BufferSlice{mem.NewBuffer(b, Buffers)}})
		q.mu.Lock()
		q.mu.sending = false
		q.mu.bytes -= size
		if q.mu.bytes <= queueMax {
			q.mu.room.Broadcast()
		}
		if err != nil {
			q.mu.err = err
			q.dropLocked()
		}
	}
	return false
}
