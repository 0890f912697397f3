package server

import (
	"fmt"
	"runtime/debug"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// job is a request on its way to a worker.
type job struct {
	r     *request
	slots chan struct{} // of the session's; it holds one
}

// idleMax is how many idle workers are kept, scratchMax the bytes of reply buffer that an idle one keeps.
const (
	idleMax    = 32
	scratchMax = 64 << 10
)

// dispatch gives a job to an idle worker, or to a new one. False: the server stops.
func (s *Server) dispatch(j job) bool {
	select {
	case s.work <- j:
		return true
	default:
		return s.goes(func() { s.worker(j) })
	}
}

// worker runs a job, then others as long as not too many workers are idle.
func (s *Server) worker(j job) {
	scratch := make([]byte, 0, 1<<10)
	for {
		scratch = s.run(j, scratch[:0])
		if cap(scratch) > scratchMax {
			scratch = make([]byte, 0, 1<<10)
		}
		s.mu.Lock()
		if s.mu.idle >= idleMax {
			s.mu.Unlock()
			return
		}
		s.mu.idle++
		s.mu.Unlock()
		var ok bool
		select {
		case j = <-s.work:
			ok = true
		case <-s.quit:
		}
		s.mu.Lock()
		s.mu.idle--
		s.mu.Unlock()
		if !ok {
			return
		}
	}
}

// run executes a request of a session's stream and sends its reply, which is
// built in b; it returns b, perhaps grown.
func (s *Server) run(j job, b []byte) []byte {
	r := j.r
	b = s.answer(r, b)
	if c := r.sess.complete(r, b); c != nil {
		if c.queue.Push(b) == nil {
			c.queue.Flush()
		}
	}
	<-j.slots
	return b
}

// answer executes a request and returns the reply, a whole frame appended to b.
func (s *Server) answer(r *request, b []byte) []byte {
	start := len(b)
	b = wire.AppendFrameHeader(b, wire.Reply, r.op, r.number)
	out, err := s.call(r, b)
	if err == nil && len(out)-start > wire.FrameMax {
		err = volume.Errorf(r.op.String(), "", syscall.EIO, "the reply has %d bytes", len(out)-start)
	}
	if err != nil {
		out = wire.AppendStatus(b, err)
	}
	return wire.EndFrame(out, start)
}

// call runs the operation's handler. Its error is for what the handler could not
// answer: malformed arguments, which end the session too, and a panic.
func (s *Server) call(r *request, b []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a request", "op", r.op.String(), "panic", p, "stack", string(debug.Stack()))
			err = volume.Errorf(r.op.String(), "", syscall.EIO, "the brick failed: %v", p)
		}
	}()
	args := wire.NewReader(r.body)
	out, ok := handlers[r.op](r, &args, b)
	if !ok {
		s.end(r.sess, fmt.Sprintf("malformed arguments of %s", r.op))
		return nil, volume.Errorf(r.op.String(), "", syscall.EPROTO, "malformed arguments")
	}
	return out, nil
}

// handler executes one kind of request: it decodes args, calls the Backend
// and appends status and results to b. False: args are malformed, and nothing was done.
type handler func(r *request, args *wire.Reader, b []byte) (out []byte, ok bool)

// handlers by operation; every valid one has its own.
var handlers = [wire.Ops]handler{
	wire.OpLookup:      lookup,
	wire.OpGetattr:     getattr,
	wire.OpSetattr:     setattr,
	wire.OpMake:        makeNode,
	wire.OpCreate:      create,
	wire.OpOpen:        open,
	wire.OpReadlink:    readlink,
	wire.OpLink:        link,
	wire.OpUnlink:      unlink,
	wire.OpRmdir:       rmdir,
	wire.OpRename:      rename,
	wire.OpReadDir:     readDir,
	wire.OpGetxattr:    getxattr,
	wire.OpSetxattr:    setxattr,
	wire.OpListxattr:   listxattr,
	wire.OpRemovexattr: removexattr,
	wire.OpSync:        syncObject,
	wire.OpStatfs:      statfs,
	wire.OpStep:        step,
	wire.OpRead:        read,
	wire.OpWrite:       write,
	wire.OpAppend:      appendData,
	wire.OpFileGetattr: fileGetattr,
	wire.OpFileSetattr: fileSetattr,
	wire.OpAllocate:    allocate,
	wire.OpSeek:        seek,
	wire.OpFileSync:    fileSync,
	wire.OpFlush:       flush,
	wire.OpClose:       closeFile,
}
