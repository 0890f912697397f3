package wire

import (
	"bytes"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// FuzzBatch feeds what a server does with a message of a Session: no bytes may
// make it panic, or allocate more than a few times what came.
func FuzzBatch(f *testing.F) {
	for op, a := range arguments {
		b := AppendRequest(AppendBatchHeader(nil), op, 1, Header{})
		b = EndFrame(a.Append(b), BatchHeader)
		b = AppendAck(AppendEmpty(b, Ping, 0), []uint64{1, 2})
		EndBatch(b)
		f.Add(b)
	}
	hello := (&HelloBody{VersionMin: 1, VersionMax: 1, Unanswered: []uint64{1}, Handles: []uint64{2}}).Append(AppendBatchHeader(nil))
	EndBatch(hello)
	f.Add(hello)
	for _, line := range strings.Fields(string(golden2(nil))) {
		if frame, err := hex.DecodeString(line); err == nil {
			b := append(AppendBatchHeader(nil), frame...)
			EndBatch(b)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := ParseBatch(b)
		for err == nil && len(frames) > 0 {
			var fr Frame
			if fr, frames, err = NextFrame(frames); err != nil {
				return
			}
			r := NewReader(fr.Body)
			switch fr.Kind {
			case Hello:
				var h HelloBody
				h.Parse(&r)
			case Welcome:
				var w WelcomeBody
				w.Parse(&r)
			case Request:
				ParseHeader(&r)
				if a := arguments[fr.Op]; a != nil {
					parse(a, r.b)
				}
				again, peer := r, PeerArgs{}
				var w WriteArgs
				w.Parse(&r)
				peer.Parse(&again)
			case Reply:
				parseReply(fr.Op, &r)
			}
		}
	})
}

// parseReply decodes what a client would of a reply to op.
func parseReply(op Op, r *Reader) {
	if ParseStatus(r) != nil {
		return
	}
	switch op {
	case OpCreate:
		r.Created()
	case OpReadDir:
		r.Entries()
	case OpListxattr:
		r.Names()
	case OpGetxattr:
		r.Value(volume.XattrValueMax)
	case OpReadlink:
		r.Text(volume.TargetMax)
	case OpStatfs:
		r.Statfs()
	case OpStep:
		r.Rest(StepMax)
	case OpPeer:
		r.Rest(PeerAnswerMax)
	case OpLock:
		r.LockState()
	case OpTestLock:
		r.Lock()
	default:
		r.Attr()
	}
}

// FuzzReply feeds what a client does with the body of a reply.
func FuzzReply(f *testing.F) {
	f.Add(uint8(OpLookup), AppendAttr(AppendStatus(nil, nil), &attr))
	f.Add(uint8(OpCreate), AppendCreated(AppendStatus(nil, nil), true, &attr))
	f.Add(uint8(OpReadDir), AppendEntries(AppendStatus(nil, nil), []volume.Entry{{Name: "n", HasAttr: true, Attr: attr}}, true))
	f.Add(uint8(OpListxattr), AppendNames(AppendStatus(nil, nil), []string{"user.a"}))
	f.Add(uint8(OpGetxattr), AppendValue(AppendStatus(nil, nil), []byte("v")))
	f.Add(uint8(OpUnlink), AppendStatus(nil, &volume.Error{Op: "o", Errno: 2}))
	f.Fuzz(func(t *testing.T, op uint8, b []byte) {
		r := NewReader(b)
		PeekErrno(b)
		PeekReason(b)
		parseReply(Op(op), &r)
	})
}

// FuzzLane feeds what comes on a lane to either side.
func FuzzLane(f *testing.F) {
	f.Add(append(AppendClose(nil, []uint64{1}), AppendEmpty(nil, Pong, 0)...))
	f.Add(EndFrame((&IDArgs{}).Append(AppendRequest(nil, OpGetattr, 1, Header{})), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, _ := newLane(script{Reader: bytes.NewReader(b)})
		for {
			_, size, err := l.Next()
			if err != nil {
				return
			}
			if size > FrameMax {
				t.Fatalf("a body of %d bytes", size)
			}
			if l.Body(make([]byte, size)) != nil {
				return
			}
		}
	})
}

// script is a connection on which bytes come.
type script struct {
	net.Conn
	*bytes.Reader
}

func (s script) Read(p []byte) (int, error) { return s.Reader.Read(p) }
