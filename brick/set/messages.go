package set

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// message is a kind of message between members. Every message begins
//
//	uint64 fence │ uint8 kind │ uint64 epoch of the sender
//
// fence is the number of the fence after which it was sent: a member carries out
// nothing that was sent before its last one, however late it comes. It
// is put before each message as it leaves (backup.call). Of join and who it is 0.
// Kinds from 64 on are heal's (distant.go).
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
	msgHealFrom = distantFirst
)

func begin(m message, epoch Epoch) *writer {
	w := &writer{make([]byte, fenceSize, 256)}
	w.u8(uint8(m))
	w.u64(epoch)
	return w
}

// fenceSize is the length of the number before each message, bytes.
const fenceSize = 8

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

// outdated refuses a message of an epoch that has passed.
func outdated(epoch, newest Epoch) error {
	return &volume.Error{Op: "member", Errno: syscall.ESTALE, Reason: volume.Outdated, Err: volume.Errorf("epoch", "", syscall.ESTALE, "%d has been followed by %d", epoch, newest)}
}
