package wire

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Go's runtime has a thread that watches its processors (sysmon in runtime/proc.go). It sleeps while none of
// them has work, is woken by the first system call after that, and then looks every 20 µs until it has found
// nothing to do for a millisecond. A process that serves small requests is idle and
// busy some thousand times a second: the watcher is woken and looks about twenty times for each request, on a
// processor that some other process needed. If it is kept from sleeping it soon looks every 10 ms only.
// KeepAwake does that while there is traffic: a processor that is in a system call has work.
//
// On three copies (two processors, each brick a process of its own) a rename took 18 switches of context in the bricks,
// and 9 with this; all processes together needed 10 to 25 % less processor time for an operation.

// awakeNap is how long the system call of KeepAwake takes: short of the 10 ms after which the watcher takes the
// processor away from it, which would have it look often again. It is also for how long at most its processor may be missed.
const awakeNap = 2 * time.Millisecond

// awakeNaps is how many naps without traffic end it: a pause of a client that works on is shorter.
const awakeNaps = 25

// AwakeProcessors is how many processors (GOMAXPROCS) more than its work needs a process should have that calls KeepAwake: the one that
// naps, and one for a call that blocks on the disk, which the watcher notices later than it would.
const AwakeProcessors = 2

// traffic is what lanes tell KeepAwake.
var traffic struct {
	seen atomic.Bool // since it was looked for last
	idle atomic.Bool // KeepAwake waits on news
	news chan struct{}
}

func init() { traffic.news = make(chan struct{}, 1) }

// noteTraffic says that something was sent.
func noteTraffic() {
	if !traffic.seen.Load() {
		traffic.seen.Store(true)
	}
	if traffic.idle.Load() && traffic.idle.CompareAndSwap(true, false) {
		select {
		case traffic.news <- struct{}{}:
		default: // one that nobody took is as good
		}
	}
}

// KeepAwake keeps the runtime's watcher from sleeping while messages are sent on lanes, until ctx ends. One call serves
// a process.
func KeepAwake(ctx context.Context) {
	for ctx.Err() == nil {
		traffic.idle.Store(true)
		if !traffic.seen.Load() || !traffic.idle.CompareAndSwap(true, false) {
			select {
			case <-traffic.news:
			case <-ctx.Done():
				return
			}
		}
		traffic.idle.Store(false)
		for still := 0; still < awakeNaps && ctx.Err() == nil; still++ {
			if traffic.seen.Swap(false) {
				still = 0
			}
			ts := unix.NsecToTimespec(int64(awakeNap))
			_ = unix.Nanosleep(&ts, nil) // woken early by a signal: so what
			runtime.Gosched()            // or the watcher takes all naps for one
		}
	}
}
