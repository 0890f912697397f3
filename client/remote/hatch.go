package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/brick/window"
	"github.com/mortarfs/mortar/brick/wire"
)

// Reads without requests. Of a brick on this machine a file that is read a lot is borrowed: the brick hands over a
// descriptor of it (wire.Hatch), from which it is read from then on. Each such read makes sure that the brick would
// have answered the same (package window); whenever it can't, an ordinary request follows.

// Limits of what is borrowed.
const (
	borrowAfter = 4    // reads by request, of one file: most files are read less and closed
	loansMax    = 1024 // of a link at a time
	wantedMax   = 64   // files that wait to be asked for
)

// hatch is a link's way to descriptors of files. Its goroutine connects when the first file is wanted, and then
// asks for one after the other, so no reader waits for that.
type hatch struct {
	l      *link
	wanted chan *file
	over   chan struct{} // closed by end
	view   *window.View  // set before the first loan

	// users counts who may use view and the connection: run, and reads under way. The last one closes them.
	users atomic.Int64

	mu struct { // a leaf
		sync.Mutex
		wire  *wire.Hatch // nil: not connected yet; never changed then
		ended bool
		loans map[*loan]struct{}
	}
}

// loan is a file's descriptor. Its file closes it, or the hatch's end.
type loan struct {
	h    *hatch
	wire *wire.Hatch // h's
	f    *os.File
	slot uint32
}

// newHatch returns a hatch for the link, nil if its brick is not on this machine or does not know of any.
func (l *link) newHatch(w *wire.WelcomeBody) *hatch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, local := l.mu.raw.(*net.UnixConn); !local || w.Version < wire.HatchSince || l.r.conf.Member {
		return nil
	}
	h := &hatch{l: l, wanted: make(chan *file, wantedMax), over: make(chan struct{})}
	h.mu.loans = map[*loan]struct{}{}
	h.users.Store(1) // run
	l.mu.hatch = h
	return h
}

// run asks for files until the link fails, or the brick lends no more.
func (h *hatch) run() {
	defer h.done()
	defer h.end()
	for {
		select {
		case <-h.over:
			return
		case <-h.l.ctx.Done():
			return
		case f := <-h.wanted:
			if err := h.borrow(f); err != nil {
				h.l.r.log.Debug("no descriptors are had from the brick any more", "err", err)
				return
			}
		}
	}
}

// borrow asks for a file. An error means that there is no use in asking for others.
func (h *hatch) borrow(f *file) error {
	w, err := h.connected()
	if err != nil {
		return err
	}
	w.SetDeadline(time.Now().Add(connectTime))
	asked := window.Now()
	lent, err := w.Borrow(f.handle)
	if errors.Is(err, wire.ErrNotLent) {
		h.l.r.log.Debug("a file is not lent", "id", f.id.String(), "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	if lent.Window != nil {
		h.view, err = window.Map(lent.Window)
		_ = lent.Window.Close()
	}
	switch now := window.Now(); {
	case err != nil:
	case lent.Clock < asked || lent.Clock > now:
		err = fmt.Errorf("the brick's clock shows %v when it is between %v and %v here", lent.Clock, asked, now)
	case !h.view.Has(lent.Slot):
		err = fmt.Errorf("%w: a window without word %d", wire.ErrMalformed, lent.Slot)
	}
	if err != nil {
		_ = lent.File.Close()
		return err
	}
	h.give(f, &loan{h: h, wire: w, f: lent.File, slot: lent.Slot})
	return nil
}

// connected returns the connection, which it makes if there is none yet.
func (h *hatch) connected() (*wire.Hatch, error) {
	h.mu.Lock()
	w := h.mu.wire
	h.mu.Unlock()
	if w != nil {
		return w, nil
	}
	ctx, cancel := context.WithTimeout(h.l.ctx, connectTime)
	defer cancel()
	raw, err := h.l.target.dial(ctx)
	if err != nil {
		return nil, err
	}
	if w, err = wire.OpenHatch(raw, wire.LaneHello{Session: h.l.r.session, Attachment: h.l.attachment}); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.wire = w; h.mu.ended {
		return nil, errClosed
	}
	return w, nil
}

// give lets a file have its loan, if it has none, it is still open, and the hatch too.
func (h *hatch) give(f *file, d *loan) {
	r := h.l.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := f.loan.Load(); old != nil && old.h != h { // no read has found yet that its link is over
		f.giveBack(old)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	gone := h.mu.ended || f.closed || r.mu.files[f.handle] != f || !r.localIO.Load()
	if gone || f.loan.Load() != nil || len(h.mu.loans) >= loansMax {
		_ = d.f.Close()
		return
	}
	h.mu.loans[d] = struct{}{}
	f.loan.Store(d)
}

// end closes all that is borrowed: the link has failed, or the brick is gone. It may be called more than once, by anybody.
func (h *hatch) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.wire != nil {
		h.mu.wire.Hang()
	}
	for d := range h.mu.loans {
		_ = d.f.Close() // a read under way keeps it until it is over
	}
	h.mu.loans = nil
	if !h.mu.ended {
		h.mu.ended = true
		close(h.over)
	}
}

// use lets a read use the view and the connection until done; false: they are gone.
func (h *hatch) use() bool {
	for {
		n := h.users.Load()
		if n == 0 {
			return false
		}
		if h.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *hatch) done() {
	if h.users.Add(-1) > 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.wire != nil {
		h.mu.wire.Close()
	}
	if h.view != nil {
		h.view.Close()
	}
}

// readBorrowed reads by the file's own descriptor. Not ok: ask the brick.
func (f *file) readBorrowed(p []byte, off int64) (n int, ok bool) {
	d := f.loan.Load()
	if d == nil || off < 0 {
		return 0, false
	}
	if !d.h.use() {
		f.loan.CompareAndSwap(d, nil)
		return 0, false
	}
	defer d.h.done()
	view := d.h.view
	mark, quiet := view.Look(d.slot)
	if !quiet {
		return 0, false
	}
	n, err := d.f.ReadAt(p, off)
	if err != nil && err != io.EOF { // the brick says what is wrong, or the loan is over
		f.giveBack(d)
		return 0, false
	}
	if !view.Same(d.slot, mark) {
		return 0, false
	}
	if !d.wire.Alive() {
		d.h.end()
		return 0, false
	}
	if !view.Open() {
		return 0, false
	}
	return n, true
}

// giveBack closes a file's loan.
func (f *file) giveBack(d *loan) {
	if d == nil {
		return
	}
	f.loan.CompareAndSwap(d, nil)
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	delete(d.h.mu.loans, d)
	_ = d.f.Close()
}

// readAsked notes a read by request, and has a file borrowed of which there are many: once from each link.
func (f *file) readAsked() {
	if f.reads.Add(1) < borrowAfter || !f.r.localIO.Load() {
		return
	}
	f.r.mu.Lock()
	l := f.r.mu.link
	f.r.mu.Unlock()
	if l == nil || l.hatch == nil || f.wanted.Swap(l.hatch) == l.hatch {
		return
	}
	select {
	case l.hatch.wanted <- f:
	default: // later
		f.wanted.Store(nil)
	}
}

// SetLocalIO says whether files of bricks on this machine may be read without requests (client.local-io).
func (r *Remote) SetLocalIO(on bool) {
	if r.localIO.Swap(on) == on || on {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.mu.files {
		f.giveBack(f.loan.Load())
		f.wanted.Store(nil)
	}
}
