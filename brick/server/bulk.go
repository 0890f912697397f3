package server

import (
	"errors"
	"io"
	"runtime/debug"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Bulk serves one bulk stream: requests one after the other, on this goroutine.
func (v service) Bulk(st grpc.ServerStream) error {
	done := make(chan error, 1)
	if !v.s.goes(func() { done <- v.s.bulk(st) }) {
		return status.Error(codes.Unavailable, "the brick stops")
	}
	select {
	case err := <-done:
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		return status.Error(codes.Aborted, err.Error())
	case <-v.s.quit:
		return status.Error(codes.Unavailable, "the brick stops")
	}
}

func (s *Server) bulk(st grpc.ServerStream) error {
	for {
		var in wire.BulkIn
		if err := st.RecvMsg(&in); err != nil {
			return err
		}
		out, err := s.bulkRequest(st, &in)
		in.Free()
		if err != nil {
			return err
		}
		if err := st.SendMsg(out); err != nil {
			return err
		}
	}
}

// bulkRequest executes one bulk request, or finds the reply of one that has come before.
func (s *Server) bulkRequest(st grpc.ServerStream, in *wire.BulkIn) (*wire.Out, error) {
	s.mu.Lock()
	sess := s.mu.sessions[in.Prefix.Session]
	s.mu.Unlock()
	if sess == nil {
		return nil, errEnded
	}
	r, err := sess.newRequest(in.Frame)
	if err != nil {
		s.end(sess, err.Error())
		return nil, err
	}
	select {
	case sess.slots <- struct{}{}:
	case <-st.Context().Done():
		return nil, st.Context().Err()
	}
	defer func() { <-sess.slots }()
	old, err := sess.admit(in.Prefix.Attachment, r)
	if err != nil {
		return nil, err
	}
	sess.requests.Add(1)
	switch {
	case r.op == wire.OpRead:
		return s.bulkRead(r) // again, if it runs already: it changes nothing
	case old != nil:
		return s.bulkJoin(st, old)
	}
	b := s.bulkWrite(r, in.Payload, bulkHead(r))
	sess.complete(r, b[wire.BulkHeader:])
	wire.EndBulk(b, 0)
	return &wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, nil
}

func bulkHead(r *request) []byte {
	b := make([]byte, 0, 256)
	return wire.AppendBulkHeader(b, wire.BulkPrefix{Session: r.sess.id})
}

// bulkWrite executes a write or an append and appends its reply to b.
func (s *Server) bulkWrite(r *request, payload, b []byte) (out []byte) {
	start := len(b)
	head := wire.AppendFrameHeader(b, wire.Reply, r.op, r.number)
	defer s.recovered(r, func(err error) {
		out = wire.EndFrame(wire.AppendNumber(wire.AppendStatus(head, err), 0), start)
	})
	var a wire.WriteArgs
	args := wire.NewReader(r.body)
	data, ok := a.Parse(&args)
	if !ok || len(data) != 0 {
		s.end(r.sess, "malformed arguments of a bulk "+r.op.String())
		err := volume.Errorf(r.op.String(), "", syscall.EPROTO, "malformed arguments")
		return wire.EndFrame(wire.AppendNumber(wire.AppendStatus(head, err), 0), start)
	}
	return wire.EndFrame(writeData(r, &a, payload, head), start)
}

// bulkRead executes a read into a buffer of its own, which gRPC sends and frees.
func (s *Server) bulkRead(r *request) (*wire.Out, error) {
	b := bulkHead(r)
	start := len(b)
	head := wire.AppendFrameHeader(b, wire.Reply, wire.OpRead, r.number)
	payload, err := s.bulkReadData(r)
	b = wire.EndFrame(wire.AppendStatus(head, err), start)
	r.sess.complete(r, nil)
	if err != nil || len(*payload) == 0 {
		wire.EndBulk(b, 0)
		return &wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, nil
	}
	wire.EndBulk(b, len(*payload))
	return &wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b), mem.NewBuffer(payload, wire.Buffers)}}, nil
}

func (s *Server) bulkReadData(r *request) (p *[]byte, err error) {
	defer s.recovered(r, func(e error) { err = e })
	var a wire.ReadArgs
	args := wire.NewReader(r.body)
	if !a.Parse(&args) {
		s.end(r.sess, "malformed arguments of a bulk read")
		return nil, volume.Errorf("read", "", syscall.EPROTO, "malformed arguments")
	}
	h, err := r.sess.use(r.op, a.Handle)
	if err != nil {
		return nil, err
	}
	defer r.sess.done(h)
	p = wire.Buffers.Get(int(a.Len))
	n, err := h.file.ReadAt(r, *p, a.Off)
	if err != nil {
		wire.Buffers.Put(p)
		return nil, err
	}
	r.sess.read.Add(uint64(n))
	*p = (*p)[:n]
	return p, nil
}

// recovered, deferred, turns a panic into an error for set and a line in the log.
func (s *Server) recovered(r *request, set func(error)) {
	if p := recover(); p != nil {
		s.log.Error("panic in a request", "op", r.op.String(), "panic", p, "stack", string(debug.Stack()))
		set(volume.Errorf(r.op.String(), "", syscall.EIO, "the brick failed: %v", p))
	}
}

// bulkJoin waits for the first execution of a write that came again, and answers as it did.
func (s *Server) bulkJoin(st grpc.ServerStream, old *request) (*wire.Out, error) {
	old.sess.mu.Lock()
	reply := old.reply
	if reply == nil && old.finished == nil {
		old.finished = make(chan struct{})
	}
	finished := old.finished
	old.sess.mu.Unlock()
	if reply == nil {
		select {
		case <-finished:
		case <-st.Context().Done():
			return nil, st.Context().Err()
		}
		old.sess.mu.Lock()
		reply = old.reply
		old.sess.mu.Unlock()
		if reply == nil {
			return nil, errEnded
		}
	}
	b := append(bulkHead(old), reply...)
	wire.EndBulk(b, 0)
	return &wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}}, nil
}
