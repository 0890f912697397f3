package dht

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// executed notes the request that a change decided.
func (n *node) executed(ctx context.Context, err error) {
	r := volume.RequestOf(ctx)
	if err != nil || r == (volume.Request{}) {
		return
	}
	n.requests.Lock()
	defer n.requests.Unlock()
	if n.requests.count == nil {
		n.requests.count = map[volume.Request]int{}
	}
	n.requests.count[r]++
}

// noted returns how often a request was noted at a node.
func (n *node) noted(r volume.Request) int {
	n.requests.Lock()
	defer n.requests.Unlock()
	return n.requests.count[r]
}

var testRequest = volume.Request{Session: [16]byte{1, 15: 2}, Number: 7}

// request runs the scenario's operation as a client's request.
func (w *world) request(s scenario) error {
	w.req++
	ctx := w.ctx
	defer func() { w.ctx = ctx }()
	w.ctx = volume.WithRequest(ctx, w.lastRequest())
	return s.run(w)
}

func (w *world) lastRequest() volume.Request {
	r := testRequest
	r.Number += uint64(w.req)
	return r
}

// asked is what set 1, the coordinator of all scenarios, says of the last request
// once it is decided.
func (w *world) asked() bool {
	w.t.Helper()
	r, n := w.lastRequest(), w.nodes[1]
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	state, err := n.owner().Outcome(ctx, r)
	if err != nil {
		w.t.Fatalf("nobody says what became of the request: %v", err)
	}
	return state == RequestExecuted || n.noted(r) > 0
}

// outcome compares what is said of the last request with what happened.
func (w *world) outcome(said, changed bool, err error) {
	w.t.Helper()
	if said != changed {
		w.t.Fatalf("the operation gave %v; changed: %v, and the request was executed: %v", err, changed, said)
	}
	r := w.lastRequest()
	for id, n := range w.nodes {
		switch noted := n.noted(r); {
		case id != 1 && noted > 0:
			w.t.Fatalf("set %d, which took part, noted the request", id)
		case id == 1 && changed && noted == 0:
			w.t.Fatal("all is at rest, and the set has not noted the request")
		case id == 1 && !changed && noted > 0:
			w.t.Fatal("the set noted a request that was not executed")
		}
	}
}

// TestRequestNotedOnce: one change of an operation decides its request, and one of
// a failed one never.
func TestRequestNotedOnce(t *testing.T) {
	for _, s := range append(scenarios(), attributeScenarios()...) {
		t.Run(s.name, func(t *testing.T) {
			w, _ := prepare(t, s)
			w.must(w.request(s))
			w.quiet()
			w.outcome(w.asked(), true, nil)
			if n := w.nodes[1].noted(w.lastRequest()); n != 1 {
				t.Fatalf("noted %d times", n)
			}
		})
	}
}

// attributeScenarios change what the snapshot of a tree does not show.
func attributeScenarios() []scenario {
	var id volume.ID
	setup := func(w *world) { w.mkdir(w.dir, 1, "d"); id = w.ids["d"] }
	return []scenario{{"chmod of a directory", setup, func(w *world) error {
		_, err := w.fs.Setattr(w.ctx, id, volume.Change{Mask: volume.SetMode, Mode: 0o700})
		return err
	}}, {"ACL of a directory", setup, func(w *world) error {
		acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff}
		return w.fs.Setxattr(w.ctx, id, "system.posix_acl_default", acl, 0)
	}}}
}

// TestRequestFullDisk: an intent that is given up after its commit was recorded has
// not executed its request.
func TestRequestFullDisk(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w, before := prepare(t, s)
			w.nodes[1].noPut.Store(true)
			err := w.request(s)
			w.nodes[1].noPut.Store(false)
			said := w.asked()
			w.outcome(said, w.settled(before, err), err)
		})
	}
}

// TestDeposed lets a new life of the coordinator begin, as on another member of
// its set, while the old one is at each of its changes. That change is made or not,
// none of the old life's later ones is, and it fails to learn why; but its steps
// still reach the other sets.
func TestDeposed(t *testing.T) {
	for _, s := range scenarios() {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s applied %v", s.name, applied), func(t *testing.T) {
				for at := int64(1); deposeAt(t, s, at, applied); at++ {
				}
			})
		}
	}
}

func deposeAt(t *testing.T, s scenario, at int64, applied bool) (hit bool) {
	t.Run(fmt.Sprint("change ", at), func(t *testing.T) {
		w, before := prepare(t, s)
		n := w.nodes[1]
		old := n.life.Load()
		f := &fault{applied: applied, depose: true}
		f.left.Store(at)
		n.fault.Store(f)
		done := make(chan error, 1)
		go func() { done <- w.request(s) }()
		var err error
		running := true
		for running && !f.hit.Load() {
			select {
			case err = <-done:
				running = false
			case <-time.After(100 * time.Microsecond):
			}
		}
		if !running && err == nil {
			w.rest(f)
		}
		hit = f.hit.Load()
		n.fault.Store(nil)
		if hit {
			n.start()
		}
		if running {
			err = <-done
		}
		said := w.asked()
		changed := w.settled(before, err)
		w.outcome(said, changed, err)
		if hit {
			old.stop()
		}
		w.again(s, before, changed)
	})
	return hit && !t.Failed()
}

// TestOutcomeWaits: what became of a request is told when the names of its intent
// are free, and not before.
func TestOutcomeWaits(t *testing.T) {
	w := newWorld(t)
	from, to := w.file(w.dir, 2, "old"), w.owned(w.sub, 1, "new")
	s := scenario{run: func(w *world) error { return w.fs.Rename(w.ctx, w.dir, from, w.sub, to, 0) }}
	net := network(func(_ *life, _ volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		if st, err := decodeStep(b); err == nil && st.op == opFinish {
			return nil, errDown
		}
		return send()
	})
	w.net.Store(&net)
	w.must(w.request(s))
	w.nodes[1].restart()
	ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	if state, err := w.nodes[1].owner().Outcome(ctx, w.lastRequest()); !isErrno(err, syscall.ETIMEDOUT) {
		t.Fatalf("told too early: %v %v", state, err)
	}
	w.net.Store(nil)
	if state, err := w.nodes[1].owner().Outcome(w.ctx, w.lastRequest()); err != nil || state != RequestExecuted {
		t.Fatalf("a rename that was decided for: %v %v", state, err)
	}
	for _, r := range []volume.Request{{}, {Session: testRequest.Session, Number: 1 << 40}} {
		if state, err := w.nodes[1].owner().Outcome(w.ctx, r); err != nil || state != RequestUnknown {
			t.Fatalf("a request that never was: %v %v", state, err)
		}
	}
}

// TestRecordVersion1: journals of before there were requests are read.
func TestRecordVersion1(t *testing.T) {
	for _, rec := range sampleRecords() {
		if rec.request != (volume.Request{}) || rec.made {
			continue
		}
		b := bytes.Clone(rec.encode())
		b[0] = 1
		if rec.kind == recBegin || rec.kind == recCommit {
			b = b[:len(b)-1] // the flags
		}
		got, err := decodeRecord(b)
		if err != nil || !bytes.Equal(got.encode(), rec.encode()) {
			t.Errorf("%+v becomes %+v: %v", rec, got, err)
		}
	}
}

// stuckJournal takes a record only when it may, or fails when its context ends, as
// that of a set does while it looks for who is its primary.
type stuckJournal struct {
	volume.Journal
	stuck   chan struct{} // gets a word when an Append waits
	release chan struct{}
}

func (j *stuckJournal) Append(ctx context.Context, rec []byte) error {
	select {
	case j.stuck <- struct{}{}:
	default:
	}
	select {
	case <-j.release:
		return j.Journal.Append(ctx, rec)
	case <-ctx.Done():
		return &volume.Error{Op: "append", Errno: syscall.EIO, Reason: volume.Unavailable}
	}
}

type stuckStore struct {
	volume.Store
	j *stuckJournal
}

func (s *stuckStore) Journal() volume.Journal { return s.j }

// TestRunEndsPromptly: with a journal that takes nothing Run ends with its context,
// and what needs no record goes on meanwhile.
func TestRunEndsPromptly(t *testing.T) {
	w := newWorld(t)
	from, to := w.file(w.dir, 2, "old"), w.owned(w.sub, 1, "new")
	other := w.file(w.dir, 1, "other")
	net := network(func(_ *life, _ volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		if st, err := decodeStep(b); err == nil && st.op == opFinish {
			return nil, errDown
		}
		return send()
	})
	w.net.Store(&net)
	w.must(w.fs.Rename(w.ctx, w.dir, from, w.sub, to, 0)) // left to Run
	w.net.Store(nil)
	n := w.nodes[1]
	n.halt()
	j := &stuckJournal{Journal: n.store.Journal(), stuck: make(chan struct{}, 1), release: make(chan struct{}, 1)}
	peers := map[volume.SetID]volume.Set{2: &link{n: w.nodes[2]}, 3: &link{n: w.nodes[3]}}
	j.release <- struct{}{} // the record of the start
	o, err := NewOwner(OwnerConfig{Self: 1, Map: w.m, Store: &stuckStore{n.store, j}, Peers: peers, SettleEvery: 5 * time.Millisecond, Boot: "boot 0"})
	w.must(err)
	<-j.stuck
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() { o.Run(ctx); close(ended) }()
	<-j.stuck // Run has carried the rename out and wants to record so
	if _, err := o.Lookup(w.ctx, w.dir, other); err != nil {
		t.Errorf("a lookup while the journal waits: %v", err)
	}
	if _, err := o.Make(w.ctx, w.dir, w.owned(w.dir, 1, "more"), volume.Node{Mode: syscall.S_IFREG | 0o644}); err != nil {
		t.Errorf("a create while the journal waits: %v", err)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Error("Run does not end")
		j.release <- struct{}{}
		<-ended
	}
	n.start()
	w.quiet()
}
