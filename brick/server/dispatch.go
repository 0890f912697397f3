package server

import (
	"fmt"
	"runtime/debug"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// answer executes a request and returns the reply, a whole frame appended to b.
func (s *Server) answer(r *request, b []byte) []byte {
	start := len(b)
	b = wire.AppendFrameHeader(b, wire.Reply, r.op, r.number)
	out, err := s.call(r, b)
	if err == nil && len(out)+len(r.tail)-start > wire.FrameMax {
		err = volume.Errorf(r.op.String(), "", syscall.EIO, "the reply has %d bytes", len(out)+len(r.tail)-start)
	}
	if err != nil {
		out, r.tail = wire.AppendStatus(b, err), nil
	}
	return wire.EndFrameWith(out, start, len(r.tail))
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
	if r.sess.member != (r.op == wire.OpPeer) {
		return nil, volume.Errorf(r.op.String(), "", syscall.EOPNOTSUPP, "members of a set ask each other Peers, and nobody else does")
	}
	args := wire.NewReader(r.body)
	if s.readOnly.Load() && wire.Changes(r.op, r.body) {
		return nil, volume.Errorf(r.op.String(), "", syscall.EROFS, "the volume is read-only (features.read-only)")
	}
	done, err := r.takeNames()
	if err != nil {
		return nil, err
	}
	defer done()
	out, ok := handlers[r.op](r, &args, b)
	if !ok {
		s.end(r.sess, fmt.Sprintf("malformed arguments of %s", r.op), lost)
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
	wire.OpPeer:        askPeer,
	wire.OpWriteSet:    writeSet,
	wire.OpLock:        lockOp,
	wire.OpTestLock:    testLock,
	wire.OpReclaim:     reclaim,
	wire.OpBear:        bear,
	wire.OpReserve:     reserve,
	wire.OpSettle:      settle,
	wire.OpRemove:      remove,
	wire.OpAwait:       await,
	wire.OpCopy:        copyRange,
}
