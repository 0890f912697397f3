package wire

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
)

// All frames are sent once, those of one goroutine in its order.
func TestQueue(t *testing.T) {
	const senders, each = 8, 2000
	last := map[uint64]uint64{}
	batches, frames := 0, 0
	q := NewQueue(func(m *Out) error {
		batches++
		rest, err := ParseBatch(m.Buffers.Materialize())
		for err == nil && len(rest) > 0 {
			var f Frame
			if f, rest, err = NextFrame(rest); err == nil {
				frames++
				sender, n := f.Number>>32, f.Number&(1<<32-1)
				if n != last[sender]+1 {
					t.Errorf("sender %d: %d after %d", sender, n, last[sender])
				}
				last[sender] = n
			}
		}
		m.Buffers.Free()
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { q.Run(ctx) })
	for s := range uint64(senders) {
		wg.Go(func() {
			for n := range uint64(each) {
				if err := q.Add(AppendEmpty(nil, Cancel, s<<32|(n+1))); err != nil {
					t.Error(err)
				}
				q.Kick()
			}
		})
	}
	wg.Wait()
	for idle := false; !idle; runtime.Gosched() {
		q.Kick()
		q.mu.Lock()
		idle = len(q.mu.batches) == 0
		q.mu.Unlock()
	}
	cancel()
	run.Wait()
	if frames != senders*each {
		t.Errorf("%d frames in %d batches", frames, batches)
	}
	if err := q.Add(AppendEmpty(nil, Ping, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}
