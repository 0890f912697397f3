package set

import (
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// replies remembers which requests took effect, at every member: a client that
// lost its answer with a primary learns from the next one what became of it.
// It is bounded in time: no request lives longer than repliesKept.
type replies struct {
	mu struct {
		sync.Mutex
		known map[volume.Request]reply
		queue []dated   // in order of time
		since time.Time // what came before is not known here
	}
}

type reply struct {
	outcome Outcome
	sure    bool // that it took effect; else it was begun, and what lies in the store tells
	at      time.Time
}

type dated struct {
	request volume.Request
	at      time.Time
}

// repliesKept is how long a reply is remembered. Requests end sooner: the server
// bounds them by a minute.
const repliesKept = 90 * time.Second

// repliesMax bounds their number: a minute of more changes than one set can do.
const repliesMax = 1 << 21

// note remembers that a request took effect.
func (t *replies) note(q volume.Request, o Outcome, sure bool) {
	if q == (volume.Request{}) {
		return
	}
	at := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.mu.known[q]; !there {
		t.mu.queue = append(t.mu.queue, dated{q, at})
	}
	t.mu.known[q] = reply{o, sure, at}
	for len(t.mu.queue) > 0 && (at.Sub(t.mu.queue[0].at) > repliesKept || len(t.mu.queue) > repliesMax) {
		delete(t.mu.known, t.mu.queue[0].request)
		t.mu.queue = t.mu.queue[1:]
	}
}

// forget takes back that a request took effect.
func (t *replies) forget(q volume.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.known, q)
}

// find tells what is remembered of a request; covered: had it taken effect within
// the last minute, it would be.
func (t *replies) find(q volume.Request) (r reply, known, covered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, known = t.mu.known[q]
	return r, known, time.Since(t.mu.since) > repliesKept || t.mu.since.IsZero()
}

// recent lists all that is remembered, for a member that has not seen it.
func (t *replies) recent() map[volume.Request]reply {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[volume.Request]reply, len(t.mu.known))
	for q, r := range t.mu.known {
		out[q] = r
	}
	return out
}

// complete notes that this member knows as much as any.
func (t *replies) complete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.since = time.Time{}
}

// lapse forgets everything: what this member has done is void.
func (t *replies) lapse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.known, t.mu.queue, t.mu.since = map[volume.Request]reply{}, nil, time.Now()
}
