package wire

import (
	"fmt"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// UnansweredMax and HandlesMax are the largest numbers of requests and handles
// that a Hello can list. A session has no more files open (ENFILE).
const (
	UnansweredMax = 1 << 16
	HandlesMax    = 1 << 18
)

// HelloBody is how a client introduces itself on a new connection.
type HelloBody struct {
	VersionMin, VersionMax uint16 // of the protocol
	Volume                 string // UUID of the volume
	Brick                  string // UUID of the brick that the client means; "": whichever it is
	Session                SessionID
	Client                 string // for people: host name, process
	ClientVersion          string
	Token                  string // shared secret, if there is one
	Layout                 volume.LayoutVersion
	// Unanswered are the session's requests that were sent before and whose
	// replies have not come. The server forgets all others.
	Unanswered []uint64
	// Handles are the open files that the client knows; the server closes all
	// others, except what unanswered requests opened.
	Handles []uint64
}

// Append encodes a whole frame.
func (h *HelloBody) Append(b []byte) []byte {
	start := len(b)
	b = AppendFrameHeader(b, Hello, 0, 0)
	b = appendU16(appendU16(b, h.VersionMin), h.VersionMax)
	b = append(appendText(appendText(b, h.Volume), h.Brick), h.Session[:]...)
	b = appendText(appendText(appendText(b, h.Client), h.ClientVersion), h.Token)
	b = appendNumbers(appendU32(b, uint32(h.Layout)), h.Unanswered)
	b = appendNumbers(b, h.Handles)
	return EndFrame(b, start)
}

func appendNumbers(b []byte, numbers []uint64) []byte {
	b = appendU32(b, uint32(len(numbers)))
	for _, n := range numbers {
		b = appendU64(b, n)
	}
	return b
}

func (r *Reader) numbers(max int) []uint64 {
	n := r.U32()
	if uint64(n) > uint64(max) || uint64(n)*8 > uint64(r.Len()) {
		r.fail()
		return nil
	}
	numbers := make([]uint64, n)
	for i := range numbers {
		numbers[i] = r.U64()
	}
	return numbers
}

// Parse decodes a frame's body. Of a version that this program does not
// know, only the versions are valid, and that is no error.
func (h *HelloBody) Parse(r *Reader) bool {
	h.VersionMin, h.VersionMax = r.U16(), r.U16()
	if h.VersionMin > h.VersionMax || r.bad {
		return false
	}
	if _, err := Negotiate(h); err != nil {
		return true
	}
	h.Volume, h.Brick = r.Text(TextMax), r.Text(TextMax)
	copy(h.Session[:], r.take(len(h.Session)))
	h.Client, h.ClientVersion, h.Token = r.Text(TextMax), r.Text(TextMax), r.Text(TextMax)
	h.Layout = volume.LayoutVersion(r.U32())
	h.Unanswered = r.numbers(UnansweredMax)
	h.Handles = r.numbers(HandlesMax)
	return r.Done()
}

// Negotiate returns the newest version that both sides speak, or a
// sentence that names both sides' versions.
func Negotiate(h *HelloBody) (uint16, error) {
	if h.VersionMax < VersionMin || h.VersionMin > Version {
		return 0, &volume.Error{Op: "connect", Errno: syscall.EPROTONOSUPPORT, Err: fmt.Errorf(
			"the client speaks protocol versions %d to %d, the brick %d to %d: upgrade the older one",
			h.VersionMin, h.VersionMax, VersionMin, Version)}
	}
	return min(h.VersionMax, Version), nil
}

// WelcomeBody is the server's answer to a Hello.
type WelcomeBody struct {
	Err        error     // why the client is refused: a *volume.Error; then nothing else counts
	Version    uint16    // of the protocol, spoken from here on
	Server     uint64    // incarnation of the server process, never 0
	Boot       SessionID // the machine's boot: if it changed, unsynced writes may be gone
	Known      bool      // the session was known: its files are open and its replies remembered
	Attachment uint64    // number of this connection in the session, ≥ 1
	InFlight   uint32    // requests that the client may have unanswered at a time, ≥ InFlightMin
	WantFlush  bool      // the server delays writes: Flush must be sent
	Layout     volume.LayoutVersion
}

// Append encodes a whole frame.
func (w *WelcomeBody) Append(b []byte) []byte {
	start := len(b)
	b = AppendStatus(AppendFrameHeader(b, Welcome, 0, 0), w.Err)
	if w.Err == nil {
		b = append(appendU64(appendU16(b, w.Version), w.Server), w.Boot[:]...)
		b = appendU32(appendU64(appendBool(b, w.Known), w.Attachment), w.InFlight)
		b = appendU32(appendBool(b, w.WantFlush), uint32(w.Layout))
	}
	return EndFrame(b, start)
}

// Parse decodes a frame's body.
func (w *WelcomeBody) Parse(r *Reader) bool {
	if w.Err = ParseStatus(r); w.Err != nil {
		return r.Done()
	}
	w.Version, w.Server = r.U16(), r.U64()
	copy(w.Boot[:], r.take(len(w.Boot)))
	w.Known, w.Attachment, w.InFlight = r.Bool(), r.U64(), r.U32()
	w.WantFlush, w.Layout = r.Bool(), volume.LayoutVersion(r.U32())
	if w.InFlight < InFlightMin || w.Attachment == 0 {
		r.fail()
	}
	return r.Done()
}
