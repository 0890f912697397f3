package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// service is what gRPC calls.
type service struct{ s *Server }

// Clients is wire.Service's.
func (v service) Clients() []wire.Client { return v.s.Clients() }

// Heal is wire.Service's.
func (v service) Heal(ctx context.Context) (info wire.HealInfo) {
	if h := v.s.conf.Heal; h != nil {
		info = h.HealInfo(ctx)
	}
	return info
}

// StartHeal is wire.Service's.
func (v service) StartHeal(ctx context.Context, full bool) error {
	if h := v.s.conf.Heal; h != nil {
		return h.StartHeal(ctx, full)
	}
	return volume.Errorf("heal", "", syscall.EOPNOTSUPP, "the brick is the only one of its set")
}

// Session serves one connection of a client until it ends. The receiving
// goroutine is another one, for only by returning from here a stream is ended.
func (v service) Session(st grpc.ServerStream) error {
	s := v.s
	ctx, cancel := context.WithCancelCause(st.Context())
	defer cancel(nil)
	c := &conn{ctx: ctx, cancel: cancel, lanes: map[*lane]struct{}{}}
	c.queue = wire.NewQueue(func(m *wire.Out) error { return st.SendMsg(m) })
	hello := time.AfterFunc(wire.HelloTimeout, func() { cancel(errors.New("no hello came")) })
	defer hello.Stop()
	ok := s.goes(func() { c.queue.Run(ctx) }) && s.goes(func() {
		sess, err := s.welcome(st, c)
		if err == nil {
			hello.Stop()
			err = sess.receive(st, c)
			sess.detach(c)
		}
		if errors.Is(err, io.EOF) {
			err = errGone
		}
		cancel(err)
	})
	if !ok {
		return status.Error(codes.Unavailable, "the brick stops")
	}
	select {
	case <-ctx.Done():
	case <-s.quit:
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errGone) {
		return status.Error(codes.Aborted, err.Error())
	}
	return nil
}

// welcome takes the client's hello and answers it.
func (s *Server) welcome(st grpc.ServerStream, c *conn) (*session, error) {
	var in wire.In
	if err := st.RecvMsg(&in); err != nil {
		return nil, err
	}
	frames, err := wire.ParseBatch(in.Batch)
	if err != nil {
		return nil, err
	}
	f, rest, err := wire.NextFrame(frames)
	if err != nil {
		return nil, err
	}
	var h wire.HelloBody
	r := wire.NewReader(f.Body)
	if f.Kind != wire.Hello || !h.Parse(&r) || len(rest) != 0 {
		return nil, fmt.Errorf("%w: a connection begins with a hello", wire.ErrMalformed)
	}
	addr := ""
	if p, ok := peer.FromContext(st.Context()); ok {
		addr = p.Addr.String()
	}
	w := wire.WelcomeBody{InFlight: uint32(s.conf.InFlight), WantFlush: s.conf.WantFlush}
	if s.conf.Layout != nil {
		w.Layout = s.conf.Layout()
	}
	var sess *session
	if w.Version, w.Err = wire.Negotiate(&h); w.Err == nil {
		w.Err = s.check(&h, addr)
	}
	if w.Err == nil {
		sess, w.Known, w.Err = s.enter(&h, w.Version, c, addr)
	}
	if w.Err == nil {
		w.Server, w.Boot = sess.role.incarnation, sess.role.boot
		w.Err = sess.decide(c.ctx, &h, &w)
	}
	w.Attachment = max(c.number, 1)
	b := wire.AppendBatchHeader(nil)
	b = w.Append(b)
	wire.EndBatch(b)
	err = st.SendMsg(&wire.Out{Buffers: mem.BufferSlice{mem.SliceBuffer(b)}})
	if w.Err != nil {
		if sess != nil {
			sess.detach(c)
		}
		if volume.ReasonOf(w.Err) == volume.NotPrimary { // nothing is wrong
			s.log.Debug("client sent elsewhere", "client", h.Client, "addr", addr)
			return nil, errGone
		}
		s.log.Warn("client refused", "client", h.Client, "addr", addr, "err", w.Err)
		return nil, errGone
	}
	if err != nil {
		sess.detach(c)
		return nil, err
	}
	s.log.Info("client connected", "client", h.Client, "addr", addr, "version", h.ClientVersion, "known", w.Known)
	if w.Version < wire.LocksSince && !h.Member && !w.Known {
		s.log.Warn("the client's program is older than locks between mounts: its locks hold on its own mount only; update it",
			"client", h.Client, "addr", addr, "version", h.ClientVersion)
	}
	return sess, nil
}

// check refuses clients that are wrong here.
func (s *Server) check(h *wire.HelloBody, addr string) error {
	refuse := func(errno syscall.Errno, format string, a ...any) error {
		return volume.Errorf("connect", "", errno, format, a...)
	}
	switch {
	case h.Volume != s.conf.VolumeID:
		return refuse(syscall.ESTALE, "the client wants volume %s, this brick belongs to volume %s", h.Volume, s.conf.VolumeID)
	case h.Brick != "" && h.Brick != s.conf.BrickID:
		return refuse(syscall.ESTALE, "the client wants brick %s, this is brick %s", h.Brick, s.conf.BrickID)
	case h.Session == wire.SessionID{}:
		return refuse(syscall.EINVAL, "the client's session has no ID")
	case s.conf.Token != "" && subtle.ConstantTimeCompare([]byte(h.Token), []byte(s.conf.Token)) != 1:
		return refuse(syscall.EACCES, "the client's token is not the volume's")
	}
	if err := s.access.Load().Check(wire.Client{Name: h.Client, Version: h.ClientVersion, Addr: addr}); err != nil {
		return refuse(syscall.EACCES, "%w", err)
	}
	return nil
}

// receive takes what the client sends until the connection ends.
func (s *session) receive(st grpc.ServerStream, c *conn) error {
	for {
		var in wire.In
		if err := st.RecvMsg(&in); err != nil {
			return err
		}
		frames, err := wire.ParseBatch(in.Batch)
		for err == nil && len(frames) > 0 {
			var f wire.Frame
			if f, frames, err = wire.NextFrame(frames); err == nil {
				err = s.hear(c, f)
			}
		}
		if errors.Is(err, wire.ErrMalformed) {
			c.cancel(err)
			s.srv.end(s, err.Error(), lost)
		}
		if err != nil {
			return err
		}
	}
}

// hear handles one frame.
func (s *session) hear(c *conn, f wire.Frame) error {
	switch f.Kind {
	case wire.Cancel:
		s.forget(f.Number)
	case wire.Ack, wire.Close:
		return s.note(f)
	case wire.Ping:
		if err := c.queue.Add(wire.AppendEmpty(nil, wire.Pong, 0)); err != nil {
			return err
		}
		c.queue.Kick()
	case wire.Bye:
		s.srv.end(s, "the client said bye", lost)
		return errGone
	default:
		return fmt.Errorf("%w: a %s on a Session", wire.ErrMalformed, f.Kind)
	}
	return nil
}
