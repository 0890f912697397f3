package dht

import (
	"errors"

	"github.com/mortarfs/mortar/volume"
)

// op says what a step asks for.
type op uint8

const (
	// Steps of an intent (step.intent ≠ 0), from its coordinator.
	opReserve op = iota + 1 // lock and hide dir/name, tell what it leads to; with wantLink also link the object at dir2/name2
	opApply                 // carry out actions that can be undone until the decision
	opBirth                 // make the regular file node as dir/name: the data of a pointer
	opFinish                // decided for: carry out actions, release all that the intent has here
	opAbort                 // decided against: undo, release
	opDying                 // at home: bar copies of dir, which must be empty
	opGone                  // remove the copy of dir, which must be empty
	opPurge                 // drop the discards of the intents in numbers for good

	// Questions and messages.
	opOutcome // what became of your intent number? 0 … see outcome
	opSettle  // make all durable
	opStarted // the sender has started anew
	opEmpty   // is dir empty?
	opFetch   // at home: the copy of dir, and where it lies
	opCopy    // make this copy as dir/name: mkdir
	opRefresh // refresh this copy and set these times
	opWhere   // is id held here?
	opLoop    // does id lie above dir, or is it dir?
	opSync    // make dirs durable, and the way to them
	opCalm    // is all that is recorded at rest? numbers: sets that lost power and their epochs
	opVerify  // the sender lost power: are your entries verified? With redo: verify them once more
	opHeld    // is dir/name here, and leads to id?
	opClaim   // the sender holds dir/name = id for you: does it lead there?
	opDrop    // dir/name = id is held for nobody: remove it, unless it is the last
	opPlace   // you own the name of id, a directory: have its copy
	opAdopt   // you are the home of copy and have lost it: it was dir/name
	opFind    // which object here has the number numbers[0] (volume.ID.Short)?
	opLast    = opFind
)

// Flags of a step.
const (
	noWait   = 1 << iota // opReserve: EBUSY rather than wait
	wantLink             // opReserve: link in the same step where that is possible
	last                 // opGone: the intent wants nothing more here
	keep                 // opFinish, opAbort: the part does not end yet
	redo                 // opFinish: even if the intent has ended here, which its names allow; opAbort: whatever it discarded comes back
	flagsMax = 1<<iota - 1
)

// step is what one set asks another. As bytes:
//
//	version 1 │ op │ from │ epoch │ intent │ below │ flags │ dir │ name │ id │ dir2 │ name2 │ set
//	│ actions: count, each │ parts: bit 0 copy, 1 change, 2 node, 3 numbers, 4 dirs │ those parts
//
// epoch is the sender's, by which steps of its earlier lives are refused. All
// intents of this life numbered under below are finished and their later steps
// refused too.
type step struct {
	op     op
	from   volume.SetID
	epoch  uint32
	intent uint64
	below  uint64
	flags  uint8

	dir   volume.ID
	name  string
	id    volume.ID
	dir2  volume.ID
	name2 string
	set   volume.SetID

	actions []action
	copy    *volume.Copy
	change  *volume.Change
	node    *volume.Node
	cred    volume.Cred // goes with node
	numbers []uint64
	dirs    []volume.ID // opSync: at most needsMax
}

func (s *step) encode() []byte {
	w := writer{make([]byte, 0, 128+len(s.name)+len(s.name2)+128*len(s.actions))}
	w.b = append(w.b, formatVersion, byte(s.op))
	w.u(uint64(s.from))
	w.u(uint64(s.epoch))
	w.u(s.intent)
	w.u(s.below)
	w.u(uint64(s.flags))
	w.id(s.dir)
	w.text(s.name)
	w.id(s.id)
	w.id(s.dir2)
	w.text(s.name2)
	w.u(uint64(s.set))
	w.actions(s.actions)
	var parts uint64
	for i, there := range []bool{s.copy != nil, s.change != nil, s.node != nil, s.numbers != nil, s.dirs != nil} {
		if there {
			parts |= 1 << i
		}
	}
	w.u(parts)
	if s.copy != nil {
		w.copyOf(s.copy)
	}
	if c := s.change; c != nil {
		w.u(uint64(c.Mask))
		w.time(c.Atime)
		w.time(c.Mtime)
	}
	if n := s.node; n != nil {
		w.id(n.ID)
		w.u(uint64(n.Mode))
		w.u(n.Parent)
		w.u(uint64(s.cred.UID))
		w.u(uint64(s.cred.GID))
		w.u(uint64(s.cred.Umask))
	}
	if s.numbers != nil {
		w.u(uint64(len(s.numbers)))
		for _, n := range s.numbers {
			w.u(n)
		}
	}
	if s.dirs != nil {
		w.u(uint64(len(s.dirs)))
		for _, id := range s.dirs {
			w.id(id)
		}
	}
	return w.b
}

func decodeStep(b []byte) (*step, error) {
	if len(b) > stepMax {
		return nil, errors.New("a step is too long")
	}
	if len(b) < 2 || b[0] != formatVersion || b[1] == 0 || op(b[1]) > opLast {
		return nil, errors.New("not a step that this version knows")
	}
	r := reader{b: b[2:]}
	s := &step{
		op: op(b[1]), from: r.set(), epoch: r.u32(), intent: r.u64(), below: r.u64(), flags: uint8(r.u(flagsMax)),
		dir: r.id(), name: r.text(volume.NameMax), id: r.id(), dir2: r.id(), name2: r.text(volume.NameMax), set: r.set(),
		actions: r.actions(),
	}
	parts := r.u(1<<5 - 1)
	if parts&1 != 0 {
		s.copy = r.copyOf()
	}
	if parts&2 != 0 {
		s.change = &volume.Change{Mask: volume.Mask(r.u32()), Atime: r.time(), Mtime: r.time()}
	}
	if parts&4 != 0 {
		s.node = &volume.Node{ID: r.id(), Mode: r.u32(), Parent: r.u64()}
		s.cred = volume.Cred{UID: r.u32(), GID: r.u32(), Umask: r.u32()}
	}
	if parts&8 != 0 {
		n := r.u(numbersMax)
		s.numbers = make([]uint64, 0, n)
		for range n {
			s.numbers = append(s.numbers, r.u64())
		}
	}
	if parts&16 != 0 {
		n := r.u(needsMax)
		s.dirs = make([]volume.ID, 0, n)
		for range n {
			s.dirs = append(s.dirs, r.id())
		}
	}
	return s, r.end()
}

// outcome is the answer to opOutcome.
type outcome uint8

const (
	outcomeUnknown outcome = iota // finished and forgotten, or given up: undo what is left
	outcomeOpen                   // wait, the coordinator will say
	outcomeLost                   // never recorded, as far as is known now: its discards must come back
	outcomeLast    = outcomeLost
)

// answer is what a step brings back. As bytes:
//
//	version 1 │ epoch │ outcome │ flags: bit 0 linked, 1 copy follows │ id │ mode │ held │ dir │ name │ [copy]
//
// epoch is the answering set's.
type answer struct {
	epoch   uint32
	outcome outcome
	linked  bool // opReserve: the link was made too

	id   volume.ID // what the name leads to; zero: nothing
	mode uint32
	held volume.SetID

	dir  volume.ID // opFetch: where the directory lies
	name string
	copy *volume.Copy
}

func (a *answer) encode() []byte {
	w := writer{make([]byte, 0, 64+len(a.name))}
	w.b = append(w.b, formatVersion)
	w.u(uint64(a.epoch))
	w.u(uint64(a.outcome))
	var flags uint64
	if a.linked {
		flags |= 1
	}
	if a.copy != nil {
		flags |= 2
	}
	w.u(flags)
	w.id(a.id)
	w.u(uint64(a.mode))
	w.u(uint64(a.held))
	w.id(a.dir)
	w.text(a.name)
	if a.copy != nil {
		w.copyOf(a.copy)
	}
	return w.b
}

func decodeAnswer(b []byte) (*answer, error) {
	if len(b) > stepMax {
		return nil, errors.New("an answer is too long")
	}
	if len(b) < 1 || b[0] != formatVersion {
		return nil, errors.New("not an answer that this version knows")
	}
	r := reader{b: b[1:]}
	a := &answer{epoch: r.u32(), outcome: outcome(r.u(uint64(outcomeLast)))}
	flags := r.u(3)
	a.linked = flags&1 != 0
	a.id, a.mode, a.held, a.dir, a.name = r.id(), r.u32(), r.set(), r.id(), r.text(volume.NameMax)
	if flags&2 != 0 {
		a.copy = r.copyOf()
	}
	return a, r.end()
}
