package set

import (
	"maps"
	"syscall"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// message is a kind of message between members. Every message begins
//
//	uint64 fence │ uint64 number │ uint8 kind │ uint64 epoch of the sender
//
// fence is the number of the fence after which it was sent: a member carries out
// nothing that was sent before its last one, however late it comes. number counts those, behind one fence,
// that must not be carried out twice (once): the connection sends again what was not answered when it broke,
// and the first may come later than the answer to the second. Of others it is 0. Both are put before each message
// as it leaves (backup.call). Of join and who they are 0. Kinds from 64 on are heal's (distant.go).
//
//	apply    primary → backup    config, seq, finished │ change │ data beside
//	beat     primary → backup    finished
//	fence    new primary → others in sync, and primary → who is aligned again
//	                             life, state, config, absent → life, boot, keys and requests of the log's end, sure or not
//	settle   primary → backup    state, config, absent, changes up to which all is there, whether it is the last of
//	                             several │ requests to forget │ replies to remember beside
//	config   primary → backup    state, config, absent, keys that a member which has just left may lack
//	queue    primary → backup    member, keys of its queue: added to what is there, of a queue made anew with the first
//	join     member → primary    member: asks to be taken back
//	torn     primary → member    keys in which it is about to be made equal; none: it is
//	lockers  primary → backup    version, sessions that may hold locks
//	applyall primary → backup    several times: uint32 length │ what apply has; without data
//	who      to anyone           nothing → boot, whether what was not synced is lost, the newest epoch seen
type message uint8

const (
	msgApply message = iota + 1
	msgBeat
	msgFence
	msgSettle
	msgConfig
	msgQueue
	msgJoin
	msgWho
	msgTorn
	msgLockers
	msgApplyAll
	msgHealFrom = distantFirst
)

func begin(m message, epoch Epoch) *writer {
	w := &writer{make([]byte, frontSize, 256)}
	w.u8(uint8(m))
	w.u64(epoch)
	return w
}

// frontSize is the length of the two numbers before each message, bytes.
const frontSize = 16

// once reports whether a message has an effect that a later copy of it might bring back, when others have followed:
// of a change copies are told by its number, beat and config say what is so from then on.
func (m message) once() bool {
	switch m {
	case msgSettle, msgQueue, msgTorn,
		askInstall, askBear, askPlace, askRelease, askWrite, askZero, askDiscard, askPurge, askSetJournal, askSettle:
		return true
	}
	return false
}

// heardMax is how many of the last numbers a member remembers: more than can be under way.
const heardMax = 1 << 12

// heard are the numbers that have come since the last fence.
type heard struct {
	last uint64
	seen map[uint64]struct{} // none older than last-heardMax
}

// first reports whether a number comes for the first time.
func (h *heard) first(n uint64) bool {
	if _, twice := h.seen[n]; twice || n+heardMax <= h.last {
		return false
	}
	if h.seen == nil {
		h.seen = map[uint64]struct{}{}
	}
	h.seen[n], h.last = struct{}{}, max(h.last, n)
	if len(h.seen) > 2*heardMax {
		maps.DeleteFunc(h.seen, func(n uint64, _ struct{}) bool { return n+heardMax <= h.last })
	}
	return true
}

// orders are what a primary tells a backup of the set's make-up.
type orders struct {
	state  spec.SetState
	config uint64   // numbers the make-ups of a reign
	absent []string // members for which queues are kept
}

func (w *writer) orders(o orders) {
	w.state(o.state)
	w.u64(o.config)
	w.texts(o.absent)
}

func (r *reader) orders() orders {
	return orders{r.state(), r.u64(), r.texts(membersMax, memberMax)}
}

// part is a change as a primary sends it.
type part struct {
	config   uint64
	n        Seq
	finished Seq
	change   change
}

func parsePart(r *reader) (*part, error) {
	p := &part{config: r.u64(), n: r.u64(), finished: r.u64()}
	if err := p.change.parse(r); err != nil {
		return nil, err
	}
	if len(r.b) > 0 {
		return nil, malformed("apply")
	}
	return p, nil
}

// tail is what a member tells when it is fenced: what of its own may differ
// from the others', and the requests of these changes.
type tail struct {
	life, boot string
	since      volume.Time // what was born from then on may not be among keys by itself; zero: it is
	lost       bool        // what it lacks can't be told: everything must be compared
	keys       []Key
	requests   []volume.Request
}

func (w *writer) tail(t tail) {
	w.text(t.life)
	w.text(t.boot)
	w.time(t.since)
	w.bool(t.lost)
	w.keys(t.keys)
	w.requests(t.requests)
}

func (r *reader) tail() tail {
	return tail{r.text(memberMax), r.text(memberMax), r.time(), r.bool(), r.keys(), r.requests()}
}

func (w *writer) requests(qs []volume.Request) {
	w.u32(uint32(len(qs)))
	for _, q := range qs {
		w.request(q)
	}
}

func (r *reader) requests() []volume.Request {
	n := r.u32()
	if int64(n)*24 > int64(len(r.b)) {
		r.bad = true
		return nil
	}
	qs := make([]volume.Request, n)
	for i := range qs {
		qs[i] = r.request()
	}
	return qs
}

func (w *writer) reply(q volume.Request, r reply) {
	w.request(q)
	w.bool(r.sure)
	w.effect(r.effect)
}

func (r *reader) reply() (volume.Request, reply) {
	q, sure := r.request(), r.bool()
	return q, reply{r.effect(), sure}
}

func (w *writer) effect(e effect) {
	w.id(e.id)
	w.u64(uint64(e.off))
}

func (r *reader) effect() effect { return effect{r.id(), int64(r.u64())} }

// outdated refuses a message of an epoch that has passed, or is about to. The errno is none that tells of an object.
func outdated(epoch, newest Epoch) error {
	return &volume.Error{Op: "member", Errno: syscall.EIO, Reason: volume.Outdated, Err: volume.Errorf("epoch", "", syscall.EIO, "%d has been followed by %d", epoch, newest)}
}
