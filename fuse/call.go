package fuse

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// A call is the context of one request. It carries the caller's Cred and is
// cancelled when the caller is about to die or the mount is gone.
//
// The kernel tells of any signal (INTERRUPT, once a request), also of those
// that a program handles and then expects its write to have succeeded. Go's
// runtime alone sends itself some every few milliseconds. What the contract
// calls cancelled ("may still happen, later") would be wrong answers to them.
// Hence an interrupt is only a reason to look from time to time whether the
// caller has a SIGKILL pending, which is what every fatal signal becomes. Once
// is not enough: after the first signal the kernel says nothing of a second.
//
// Until a layer below asks for Done or AfterFunc, that is, wants to wait, all
// this costs nothing. From then on the mount's watcher knows the call: no
// goroutine is started for it.
type call struct {
	front     *front
	interrupt <-chan struct{} // closed by go-fuse on INTERRUPT; used again by it after the request
	cred      volume.Cred
	beside    *volume.Beside // nil: not asked for
	cancelled atomic.Bool
	older     *call
	newer     *call // neighbours in the watcher's list; guarded by watcher.mu
	mu        struct {
		sync.Mutex
		done    chan struct{} // nil until asked for
		after   []*afterFunc
		watched bool // in the watcher's list
		ended   bool // the reply is due: interrupt is no longer this request's
	}
}

type afterFunc struct{ f func() } // f is nil once it was stopped or started; guarded by call.mu

// begin returns the context for a request. end must follow before the reply.
func (f *front) begin(cancel <-chan struct{}, h *gofuse.InHeader) *call {
	f.census.begin()
	return &call{front: f, interrupt: cancel, cred: volume.Cred{UID: h.Uid, GID: h.Gid, PID: h.Pid}}
}

func (c *call) end() {
	c.front.census.end()
	c.mu.Lock()
	c.mu.ended = true
	watched := c.mu.watched
	c.mu.Unlock()
	if watched {
		c.front.watcher.remove(c)
	}
}

// Deadline tells of none: each layer has its own bound.
func (c *call) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel that is closed on cancellation.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.done == nil {
		c.mu.done = make(chan struct{})
		if c.cancelled.Load() {
			close(c.mu.done)
		}
		c.watch()
	}
	return c.mu.done
}

// Err returns context.Canceled after cancellation.
func (c *call) Err() error {
	if c.cancelled.Load() {
		return context.Canceled
	}
	return nil
}

// Value answers for the Cred and the Beside.
func (c *call) Value(key any) any {
	switch {
	case volume.IsCredKey(key):
		return &c.cred
	case c.beside != nil && volume.IsBesideKey(key):
		return c.beside
	}
	return nil
}

// AfterFunc has f called in its own goroutine after cancellation. Package
// context looks for this method and, finding it, starts no goroutine for each
// context derived from this one.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelled.Load() {
		go f()
		return func() bool { return false }
	}
	a := &afterFunc{f}
	c.mu.after = append(c.mu.after, a)
	c.watch()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		pending := a.f != nil
		a.f = nil
		return pending
	}
}

// watch has the watcher look after c; c.mu is held.
func (c *call) watch() {
	if !c.mu.watched && !c.mu.ended {
		c.mu.watched = true
		c.front.watcher.add(c)
	}
}

// interrupted reports whether the kernel has told of a signal.
func (c *call) interrupted() bool {
	select {
	case <-c.interrupt:
		return true
	default:
		return false
	}
}

// cancel ends the call's patience. It may come twice.
func (c *call) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelled.Swap(true) {
		return
	}
	if c.mu.done != nil {
		close(c.mu.done)
	}
	for _, a := range c.mu.after {
		if a.f != nil {
			go a.f() // as context.AfterFunc has it; whoever derived the context waits for it or needs not
			a.f = nil
		}
	}
	c.mu.after = nil
}

// How often the watcher looks, and after how many looks at nothing it rests.
const (
	watchEvery = 20 * time.Millisecond
	watchIdle  = 100
)

// watcher looks at the calls that wait. Its goroutine runs while there are
// any, and 2 s longer; Server.Wait waits for it.
type watcher struct {
	device int // /dev/fuse, to see whether the mount is gone; -1: not known
	wait   sync.WaitGroup
	mu     struct {
		sync.Mutex
		newest  *call
		running bool
		closed  bool
	}
}

func (w *watcher) add(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.older, c.newer = w.mu.newest, nil
	if c.older != nil {
		c.older.newer = c
	}
	w.mu.newest = c
	if !w.mu.running && !w.mu.closed {
		w.mu.running = true
		w.wait.Add(1)
		go w.run()
	}
}

func (w *watcher) remove(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		w.mu.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	}
	c.older, c.newer = nil, nil
}

// close ends the goroutine and waits for it.
func (w *watcher) close() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	w.wait.Wait()
}

func (w *watcher) run() {
	defer w.wait.Done()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var look []*call
	for idle := 0; ; {
		<-tick.C
		look = look[:0]
		w.mu.Lock()
		for c := w.mu.newest; c != nil; c = c.older {
			if !c.cancelled.Load() && c.interrupted() {
				look = append(look, c)
			}
		}
		if w.mu.newest == nil {
			idle++
		} else {
			idle = 0
		}
		if w.mu.closed || idle > watchIdle {
			w.mu.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		if len(look) == 0 {
			continue
		}
		gone := w.mountGone()
		for _, c := range look {
			if gone || dying(c.cred.PID) {
				c.cancel()
			}
		}
		clear(look)
	}
}

// mountGone reports whether the kernel has ended the connection: then go-fuse
// has closed every request's channel, and nobody waits for replies any more.
func (w *watcher) mountGone() bool {
	if w.device < 0 {
		return false
	}
	p := []unix.PollFd{{Fd: int32(w.device)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLERR != 0
}

// dying reports whether a thread is gone or has a SIGKILL pending. The kernel
// turns each signal that ends a process into a SIGKILL for all its threads,
// except those that dump core. A thread that this process can't see (0, another
// PID name space) is not dying.
func dying(tid uint32) bool {
	if tid == 0 {
		return false
	}
	text, err := threadStatus(tid)
	if err != nil {
		return os.IsNotExist(err)
	}
	for line := range bytes.Lines(text) {
		for _, field := range []string{"SigPnd:", "ShdPnd:"} {
			if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
				mask, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 16, 64)
				if err == nil && mask&(1<<(uint(unix.SIGKILL)-1)) != 0 {
					return true
				}
			}
		}
	}
	return false
}

// threadStatus reads what proc(5) tells of a thread.
func threadStatus(tid uint32) ([]byte, error) {
	return os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
}
