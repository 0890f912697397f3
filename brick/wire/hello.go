package wire

import (
	"fmt"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// UnansweredMax and HandlesMax are the largest numbers of requests and handles
// that a Hello can list, AskMax of requests whose outcomes it can ask for. A
// session has no more files open than HandlesMax (ENFILE).
const (
	UnansweredMax = 1 << 16
	HandlesMax    = 1 << 18
	AskMax        = 1 << 14 // as many outcomes fit into a Welcome
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

	// Since version 2:

	Member bool   // another member of the brick's own set: it will ask Peers only
	Server uint64 // whose session it was, by the last Welcome that was acted on: with any other it begins anew; 0: nobody's yet
	// Ask are those of Unanswered that may not simply be executed once more. A
	// server to which the session is new, and which can, tells their outcomes.
	Ask []uint64

	// Since version 4:

	// Attempt counts the client's attempts to connect with this session, from 1. What was given
	// up may arrive late: a server refuses a Hello once it had a later one.
	Attempt uint64
}

// Append encodes a whole frame, as VersionMax has it.
func (h *HelloBody) Append(b []byte) []byte {
	start := len(b)
	b = AppendFrameHeader(b, Hello, 0, 0)
	b = appendU16(appendU16(b, h.VersionMin), h.VersionMax)
	b = append(appendText(appendText(b, h.Volume), h.Brick), h.Session[:]...)
	b = appendText(appendText(appendText(b, h.Client), h.ClientVersion), h.Token)
	b = appendNumbers(appendU32(b, uint32(h.Layout)), h.Unanswered)
	b = appendNumbers(b, h.Handles)
	if h.VersionMax >= 2 {
		b = appendNumbers(appendU64(appendBool(b, h.Member), h.Server), h.Ask)
	}
	if h.VersionMax >= 4 {
		b = appendU64(b, h.Attempt)
	}
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

// Parse decodes a frame's body. What a version later than this program's adds at
// its end is passed over. Of one that this program can't speak with, only the
// versions are valid, and that is no error.
func (h *HelloBody) Parse(r *Reader) bool {
	h.VersionMin, h.VersionMax = r.U16(), r.U16()
	if h.VersionMin > h.VersionMax || r.bad {
		return false
	}
	v, err := Negotiate(h)
	if err != nil {
		return true
	}
	h.Volume, h.Brick = r.Text(TextMax), r.Text(TextMax)
	copy(h.Session[:], r.take(len(h.Session)))
	h.Client, h.ClientVersion, h.Token = r.Text(TextMax), r.Text(TextMax), r.Text(TextMax)
	h.Layout = volume.LayoutVersion(r.U32())
	h.Unanswered = r.numbers(UnansweredMax)
	h.Handles = r.numbers(HandlesMax)
	if v >= 2 {
		h.Member, h.Server = r.Bool(), r.U64()
		h.Ask = r.numbers(AskMax)
	}
	if v >= 4 {
		h.Attempt = r.U64()
	}
	return r.Done() || !r.bad && h.VersionMax > Version
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
	Server     uint64    // whose session it is: of a process, or of its time as primary; never 0
	Boot       SessionID // the machine's boot: if it changed, unsynced writes may be gone
	Known      bool      // the session was known: its files are open and its replies remembered
	Attachment uint64    // number of this connection, ≥ 1; no other connection of the session has it
	InFlight   uint32    // requests that the client may have unanswered at a time, ≥ InFlightMin
	WantFlush  bool      // the server delays writes: Flush must be sent
	Layout     volume.LayoutVersion

	// Since version 2:

	Decides  bool // the server knows what earlier servers of its set have executed
	Outcomes []Decided
}

// Decided tells what became of a request that was sent to an earlier server of
// the set. If one that was asked about is not among them, it is not known.
type Decided struct {
	Number   uint64
	Executed bool    // else it was not, and will not be unless it is sent again
	Outcome  Outcome // if Executed
}

// Outcome is what a request came to that was executed.
type Outcome struct {
	Attr   volume.Attr // of the object that it made or changed; zero where it has none
	Offset int64       // where an append began, in bytes
}

// Append encodes a whole frame, as Version has it. A NotPrimary is an
// Unavailable to clients that know no other.
func (w *WelcomeBody) Append(b []byte) []byte {
	start := len(b)
	refusal := w.Err
	if w.Version < 2 && volume.ReasonOf(refusal) == volume.NotPrimary {
		refusal = &volume.Error{Op: "connect", Errno: volume.ErrnoOf(refusal), Reason: volume.Unavailable, Err: refusal}
	}
	b = AppendStatus(AppendFrameHeader(b, Welcome, 0, 0), refusal)
	if w.Err == nil {
		b = append(appendU64(appendU16(b, w.Version), w.Server), w.Boot[:]...)
		b = appendU32(appendU64(appendBool(b, w.Known), w.Attachment), w.InFlight)
		b = appendU32(appendBool(b, w.WantFlush), uint32(w.Layout))
		if w.Version >= 2 {
			b = appendOutcomes(appendBool(b, w.Decides), w.Outcomes)
		}
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
	if w.Version >= 2 {
		w.Decides, w.Outcomes = r.Bool(), r.outcomes()
	}
	if w.InFlight < InFlightMin || w.Attachment == 0 {
		r.fail()
	}
	return r.Done()
}

func appendOutcomes(b []byte, outcomes []Decided) []byte {
	b = appendU32(b, uint32(len(outcomes)))
	for i := range outcomes {
		o := &outcomes[i]
		if b = appendBool(appendU64(b, o.Number), o.Executed); o.Executed {
			b = appendU64(AppendAttr(b, &o.Outcome.Attr), uint64(o.Outcome.Offset))
		}
	}
	return b
}

func (r *Reader) outcomes() []Decided {
	const least = 8 + 1
	n := r.U32()
	if n > AskMax || uint64(n)*least > uint64(r.Len()) {
		r.fail()
		return nil
	}
	outcomes := make([]Decided, n)
	for i := range outcomes {
		o := &outcomes[i]
		if o.Number, o.Executed = r.U64(), r.Bool(); o.Executed {
			o.Outcome = Outcome{r.Attr(), r.I64()}
		}
	}
	return outcomes
}
