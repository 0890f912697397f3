package explore

import (
	"fmt"
	"strings"
)

// size is how many members a set has at most.
const size = 3

// names of the members, in the order of their IDs.
var names = [size]string{"A", "B", "C"}

// list is what the object contains: request numbers (1 … 3), two bits each, the first lowest.
type list uint8

func (l list) len() int {
	n := 0
	for ; l != 0; l >>= 2 {
		n++
	}
	return n
}

func (l list) at(i int) int { return int(l>>(2*i)) & 3 }

func (l list) with(r int) list { return l | list(r)<<(2*l.len()) }

// startsWith reports whether p is a beginning of l.
func (l list) startsWith(p list) bool { return l&(1<<(2*p.len())-1) == p }

func (l list) twice() bool {
	var seen [4]bool
	for i := range l.len() {
		if seen[l.at(i)] {
			return true
		}
		seen[l.at(i)] = true
	}
	return false
}

func (l list) String() string {
	var b strings.Builder
	for i := range l.len() {
		fmt.Fprintf(&b, "%d", l.at(i))
	}
	return "[" + b.String() + "]"
}

// replies are what a member remembers of requests: for each the place in the
// list that it was given, from 1; 0: not executed. Two bits each.
type replies uint8

func (r replies) of(req int) int { return int(r>>(2*req)) & 3 }

func (r replies) with(req, place int) replies {
	return r&^(3<<(2*req)) | replies(place)<<(2*req)
}

// seats is a spec.SetState.
type seats struct {
	epoch, power uint8
	primary      int8 // -1: none
	in           mask
	boot         [size]uint8 // 0: ""
}

type mask uint8

func (m mask) has(i int) bool     { return m&(1<<i) != 0 }
func (m mask) with(i int) mask    { return m | 1<<i }
func (m mask) without(i int) mask { return m &^ (1 << i) }

// swap is a Swap that has been sent.
type swap struct {
	stage   stage
	waiting bool // its sender still does
	from    int8
	rev     uint8
	made    uint8 // the revision that it made, when done
	next    seats
}

type stage uint8

const (
	noSwap  stage = iota
	sent          // may take effect yet
	done          // has
	refused       // the revision is another
)

// message is one that is delayed.
type message struct {
	kind     kind // 0: no message
	answer   bool
	from, to int8
	epoch    uint8
	life     uint8 // of the primary
	age      uint8 // in ticks, since the request was sent
	boot     uint8 // of who answers
	request  uint8 // of an appending: its number
	has      uint8 // length that the list has after it, which numbers it; of an answer, that it has; none: nothing is said
	contents list
	replies  replies
}

type kind uint8

const (
	alive kind = iota + 1
	appending
	equalize
)

const none = 0xff // of message.has and member.has: nothing is known

// member is a brick and its process.
type member struct {
	// On the disk.
	known        uint8 // newest epoch
	knownPrimary int8
	reigned      uint8
	contents     list
	replies      replies
	done         uint8 // number of the newest message of the epoch known that has been carried out
	boot         uint8 // of the machine, from 1

	// Of the process.
	life      uint8
	restarted bool
	young     uint8 // ticks until it has run for as long as a promise lasts
	promised  process
	promise   uint8 // ticks it lasts on

	// Of a process that reigns.
	reigns   uint8 // epoch, 0: it does not
	state    seats // that it knows
	rev      uint8
	pending  seats // that a Swap of unknown outcome would make; epoch 0: none
	ready    bool  // it has taken over
	tenure   [size]uint8
	told     [size]uint8 // boots
	has      [size]uint8 // length of the own list that the member has
	open     uint8       // the request that is being executed, the last of contents
	skipping mask        // broken: counts as taken out already
}

// process is a set.Process, epoch 0: none.
type process struct {
	member      int8
	life, epoch uint8
}

// world is a state of everything.
type world struct {
	m        [size]member
	store    seats
	rev      uint8
	swaps    [2]swap
	messages [2]message
	left     budget

	truth list        // what was acknowledged or read
	asked uint8       // requests up to this one have been made
	reign [12]process // by epoch
}

// budget is how much more may go wrong.
type budget struct {
	restarts, reboots, delays, twice, slow, losses uint8
	epochs                                         uint8 // highest that is taken
	requests                                       uint8 // the clients have
}

func (s seats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d", s.epoch)
	if s.primary >= 0 {
		fmt.Fprintf(&b, " primary %s", names[s.primary])
	}
	b.WriteString(" in sync")
	for i := range size {
		if s.in.has(i) {
			fmt.Fprintf(&b, " %s/%d", names[i], s.boot[i])
		}
	}
	return b.String()
}

func (m message) String() string {
	what := [...]string{"", "alive?", "append!", "be equal!"}[m.kind]
	if m.answer {
		what = "answer to " + what
	}
	return fmt.Sprintf("%s→%s epoch %d %s", names[m.from], names[m.to], m.epoch, what)
}

// String shows what matters of a state.
func (w *world) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "store r%d %v; truth %v;", w.rev, w.store, w.truth)
	for i := range size {
		m := &w.m[i]
		if m.boot == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s.%d %v boot %d knows %d", names[i], m.life, m.contents, m.boot, m.known)
		if m.promise > 0 && m.promised.epoch != 0 {
			fmt.Fprintf(&b, " obeys %s.%d", names[m.promised.member], m.promised.life)
		}
		if m.reigns != 0 {
			fmt.Fprintf(&b, " REIGNS %d ready %v tenure %v has %v open %d", m.reigns, m.ready, m.tenure, m.has, m.open)
		}
		b.WriteString(";")
	}
	for _, s := range w.swaps {
		if s.stage != noSwap {
			fmt.Fprintf(&b, " swap of %s from r%d (stage %d, waiting %v);", names[s.from], s.rev, s.stage, s.waiting)
		}
	}
	for _, m := range w.messages {
		if m.kind != 0 {
			fmt.Fprintf(&b, " %v;", m)
		}
	}
	return b.String()
}
