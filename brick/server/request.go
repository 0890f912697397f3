package server

import (
	"context"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A request is one operation of a session, from its arrival until its reply
// need not be remembered. It is the context of its own operation: the
// Cred and layout of its header, its number (volume.Request), its deadline, and done when the client
// cancelled it, the deadline passed, the session ended, or it was answered.
type request struct {
	context.Context // the values, see values; never done
	sess            *session
	number          uint64
	op              wire.Op
	body            []byte // arguments, and the data of a write that came in a frame
	deadline        time.Time
	start           time.Time
	aside           []byte         // whole frames to send before the reply
	tail            []byte         // what ends the reply
	ident           volume.Request // zero for what changes nothing
	going           wire.Going     // of a Remove that was answered before it is made

	// Guarded by session.mu.
	reply     []byte        // whole frame, once answered, if it must be remembered
	finished  chan struct{} // made by who waits for reply; closed when it is there
	forgotten bool          // nobody wants the reply
	opened    uint64        // handle that the operation opened, 0: none

	mu struct {
		sync.Mutex
		done  chan struct{} // made by the first Done
		err   error         // why done
		after map[*func()]struct{}
	}
}

// values are the context values of requests with the same Cred and layout.
type values struct {
	cred   volume.Cred
	layout volume.LayoutVersion
	ctx    context.Context
}

// Value is context.Context's.
func (r *request) Value(key any) any {
	if volume.IsRequestKey(key) {
		return &r.ident
	}
	return r.Context.Value(key)
}

// Deadline is context.Context's.
func (r *request) Deadline() (time.Time, bool) { return r.deadline, true }

// Done is context.Context's.
func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.done == nil {
		r.mu.done = make(chan struct{})
		if r.mu.err != nil {
			close(r.mu.done)
		}
	}
	return r.mu.done
}

// Err is context.Context's.
func (r *request) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.err
}

// AfterFunc runs f on a goroutine of its own when the request is done. Package
// context uses it for contexts made of this one, instead of a goroutine that waits.
func (r *request) AfterFunc(f func()) (stop func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err != nil {
		go f()
		return func() bool { return false }
	}
	if r.mu.after == nil {
		r.mu.after = map[*func()]struct{}{}
	}
	key := &f
	r.mu.after[key] = struct{}{}
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, waiting := r.mu.after[key]
		delete(r.mu.after, key)
		return waiting
	}
}

// cancel makes the request done.
func (r *request) cancel(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err != nil {
		return
	}
	r.mu.err = err
	if r.mu.done != nil {
		close(r.mu.done)
	}
	for f := range r.mu.after {
		go (*f)()
	}
	r.mu.after = nil
}

// newRequest decodes a request frame's header.
func (s *session) newRequest(f wire.Frame) (*request, error) {
	r := wire.NewReader(f.Body)
	h := wire.ParseHeader(&r)
	if r.Bad() {
		return nil, wire.ErrMalformed
	}
	limit := s.srv.conf.MaxTimeout
	if h.Timeout > 0 {
		limit = min(limit, h.Timeout)
	}
	now := time.Now()
	req := &request{
		Context: s.valuesOf(h.Cred, h.Layout),
		sess:    s, number: f.Number, op: f.Op,
		body:     f.Body[wire.RequestHeader:],
		deadline: now.Add(limit),
		start:    now,
	}
	if !f.Op.Repeatable() {
		req.ident = volume.Request{Session: s.id, Number: f.Number}
	}
	return req, nil
}

// valuesOf returns a context that carries c and v. The last one is kept, for
// a client's requests are mostly one process's.
func (s *session) valuesOf(c volume.Cred, v volume.LayoutVersion) context.Context {
	if last := s.values.Load(); last != nil && last.cred == c && last.layout == v {
		return last.ctx
	}
	ctx := volume.WithCred(context.Background(), c)
	if v != 0 {
		ctx = volume.WithLayout(ctx, v)
	}
	s.values.Store(&values{c, v, ctx})
	return ctx
}
