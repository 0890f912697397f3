package set

import (
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// replies remembers which requests took effect, at every member: a client that
// lost its answer with a primary learns from the next one what became of its request.
// Their number is bounded, and so is the time that they are remembered; a request
// that may be older than what was forgotten last can't be told of.
type replies struct {
	mu struct {
		sync.Mutex
		known map[volume.Request]reply
		queue []dated   // in order of time
		since time.Time // what was executed before is not known here, or not all of it
	}
}

// reply is what is remembered of a request.
type reply struct {
	effect
	sure bool // that it took effect; else it was begun, and the process died
}

// effect is what a change that took effect did, beside that.
type effect struct {
	id  volume.ID // the object of whose attributes the answer tells; zero: of none
	off int64     // where an append began
}

// effect is known before the change is applied.
func (c *change) effect() (e effect) {
	switch {
	case c.kind == doMake:
		e.id = c.node.ID
	case c.kind == doLink || c.kind == doSetattr:
		e.id = c.id
	case c.appends:
		e.off = c.off
	}
	return e
}

type dated struct {
	request volume.Request
	at      time.Time
}

const (
	// repliesKept is how long a reply is remembered; most requests end within
	// network.timeout, all within a minute.
	repliesKept = 75 * time.Second
	// repliesMax bounds their number.
	repliesMax = 1 << 18
	// requestAge is how old a request is at most that is asked about: network.timeout
	// is seldom more.
	requestAge = 12 * time.Second
)

// note remembers that a request took effect.
func (t *replies) note(q volume.Request, e effect, sure bool) {
	if q == (volume.Request{}) {
		return
	}
	at := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.mu.known[q]; !there {
		t.mu.queue = append(t.mu.queue, dated{q, at})
	}
	t.mu.known[q] = reply{e, sure}
	for len(t.mu.queue) > 0 && (at.Sub(t.mu.queue[0].at) > repliesKept || len(t.mu.queue) > repliesMax) {
		delete(t.mu.known, t.mu.queue[0].request)
		t.mu.since = t.mu.queue[0].at
		t.mu.queue = t.mu.queue[1:]
	}
}

// forget takes back that a request took effect.
func (t *replies) forget(q volume.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.known, q)
}

// find tells what is remembered of a request; covered: had it taken effect, it would be.
func (t *replies) find(q volume.Request) (r reply, known, covered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, known = t.mu.known[q]
	return r, known, time.Since(t.mu.since) > requestAge
}

// told is a request and what is remembered of it.
type told struct {
	request volume.Request
	reply
}

// recent lists what somebody may still ask about, for a member that has not seen it.
func (t *replies) recent() []told {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []told
	since := time.Now().Add(-2 * requestAge)
	for i := len(t.mu.queue) - 1; i >= 0 && t.mu.queue[i].at.After(since); i-- {
		q := t.mu.queue[i].request
		if r, there := t.mu.known[q]; there {
			out = append(out, told{q, r})
		}
	}
	return out
}

// complete notes that this member knows as much as any.
func (t *replies) complete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.since = time.Time{}
}

// begin forgets everything; what was executed before now is not known.
func (t *replies) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.known, t.mu.queue, t.mu.since = map[volume.Request]reply{}, nil, time.Now()
}
