package wire

import (
	"context"
	"testing"
	"time"
)

// TestKeepAwake: it naps while there is traffic, waits without napping when there is none, begins
// again with the next message, and ends with its context.
func TestKeepAwake(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { KeepAwake(ctx); close(ended) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(); <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 10 s: %s", what)
			}
		}
	}
	until("idle without traffic", traffic.idle.Load)
	for range 3 {
		noteTraffic()
		if traffic.idle.Load() {
			t.Fatal("idle right after a message")
		}
		until("the message is noted", func() bool { return !traffic.seen.Load() })
		until("idle again after a pause", traffic.idle.Load)
	}
	noteTraffic()
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on after its context has ended")
	}
}
