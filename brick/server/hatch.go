package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// hatch hands a session's client descriptors of the files that it has open. One goroutine serves it. It is
// hung up before any of these files is closed for another reason than that the client has closed it, so the
// client can tell that what it was lent does not count any more (package brick/window).
type hatch struct {
	*wire.Hatch
	sess *session
	conn *conn // of the session, that the hatch belongs to
}

// Hatch is wire.Greeter's for gRPC.
func (v service) Hatch(raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(wire.HelloTimeout))
	v.s.greeting(raw)
	if !v.s.goes(func() { v.s.serveHatch(raw) }) {
		v.s.greeted(raw)
		_ = raw.Close()
	}
}

// serveHatch serves a connection until it ends.
func (s *Server) serveHatch(raw net.Conn) {
	h, err := s.openHatch(raw)
	if err != nil {
		s.log.Debug("hatch refused", "err", err)
		return
	}
	defer h.Close() // its place stays taken: a client that loses it does without
	for err == nil {
		err = h.next()
	}
	s.log.Debug("hatch closed", "client", h.sess.name, "err", err)
}

// openHatch finds out whose hatch it is.
func (s *Server) openHatch(raw net.Conn) (*hatch, error) {
	wh, hello, err := wire.AcceptHatch(raw)
	s.greeted(raw)
	if err != nil {
		return nil, err
	}
	wh.SetDeadline(time.Time{})
	s.mu.Lock()
	sess := s.mu.sessions[hello.Session]
	s.mu.Unlock()
	err = errEnded
	h := &hatch{Hatch: wh, sess: sess}
	if sess != nil {
		err = sess.takeHatch(h, hello.Attachment)
	}
	if err != nil {
		wh.Close()
		return nil, err
	}
	return h, nil
}

// takeHatch makes a hatch the one of the session's connection.
func (s *session) takeHatch(h *hatch, attachment uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.conn
	switch {
	case s.mu.ended:
		return errEnded
	case c == nil || c.number != attachment:
		return errReplaced
	case c.hatch != nil:
		return errors.New("the client has a hatch already")
	}
	h.conn, c.hatch = c, h
	return nil
}

// next answers one request.
func (h *hatch) next() error {
	number, err := h.Next()
	if err != nil {
		return err
	}
	f, err := h.sess.use(wire.OpRead, number)
	if err != nil {
		return h.Lend(volume.Shared{}, 0, err)
	}
	defer h.sess.done(f)
	shared, err := h.sess.share(f.file)
	if err == nil {
		defer shared.Close()
	}
	return h.Lend(shared, window.Now(), err)
}

// share takes what is to be lent of an open file, with a window.
func (s *session) share(f volume.File) (shared volume.Shared, err error) {
	lender, ok := volume.SharerOf(f)
	if !ok {
		return shared, &volume.Error{Op: "share", Where: f.ID().String(), Errno: syscall.EOPNOTSUPP}
	}
	if shared, err = lender.Share(); err != nil {
		return shared, err
	}
	if shared.Window == nil {
		shared.Slot = 0
		shared.Window, err = s.role.frame.file()
	}
	if err != nil {
		shared.Close()
		return volume.Shared{}, fmt.Errorf("no window: %w", err)
	}
	return shared, nil
}

// frame holds the window of a Backend that has none of its own: what is read of its files counts as long as it is served.
type frame struct {
	mu struct {
		sync.Mutex
		window *window.Window // nil: none yet
		over   bool
	}
}

// file returns a descriptor of the window.
func (f *frame) file() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.over {
		return nil, errEnded
	}
	if f.mu.window == nil {
		w, err := window.New(0)
		if err != nil {
			return nil, err
		}
		w.SetUntil(window.Always)
		f.mu.window = w
	}
	return f.mu.window.File()
}

// close ends it.
func (f *frame) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.over = true
	f.mu.window.Close()
}
