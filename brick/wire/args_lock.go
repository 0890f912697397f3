package wire

import "github.com/mortarfs/mortar/volume"

// LockStep is what a Lock request is about. A lock that has to be waited for is
// asked for under a ticket, a number that the client chooses and gives no other lock; it
// is in the server's queue then, and the client polls until it has it. So no request is long
// under way, and the place in the queue outlives connections.
type LockStep uint8

// The steps.
const (
	LockAsk    LockStep = iota // set it, or with a ticket queue for it
	LockPoll                   // wait for the ticket's lock, for a second at most; one that is not known is queued
	LockCancel                 // give the ticket up: EINTR, or LockDone if it has the lock
	lockSteps
)

// LockState is the result of a Lock.
type LockState uint8

// The states.
const (
	LockDone   LockState = iota // it is set
	LockQueued                  // it is in the queue
	LockLater                   // ask again: the server, new in its office, has not heard yet who has which locks
	lockStates
)

// LockArgs is of OpLock; the result is a LockState. Of the owner only the number is sent.
type LockArgs struct {
	Handle uint64
	Step   LockStep
	Ticket uint64 // 0: it does not wait
	Lock   volume.Lock
}

// Append encodes a.
func (a *LockArgs) Append(b []byte) []byte {
	return AppendLock(appendU64(append(appendU64(b, a.Handle), byte(a.Step)), a.Ticket), &a.Lock)
}

// Parse decodes into a.
func (a *LockArgs) Parse(r *Reader) bool {
	a.Handle, a.Step, a.Ticket, a.Lock = r.U64(), LockStep(r.U8()), r.U64(), r.Lock()
	if a.Step >= lockSteps || a.Step != LockAsk && a.Ticket == 0 {
		r.fail()
	}
	return r.Done()
}

// TestLockArgs is of OpTestLock; the result is a Lock.
type TestLockArgs struct {
	Handle uint64
	Lock   volume.Lock
}

// Append encodes a.
func (a *TestLockArgs) Append(b []byte) []byte { return AppendLock(appendU64(b, a.Handle), &a.Lock) }

// Parse decodes into a.
func (a *TestLockArgs) Parse(r *Reader) bool {
	a.Handle, a.Lock = r.U64(), r.Lock()
	return r.Done()
}

// ReclaimMax is how many locks a Reclaim tells of at most.
const ReclaimMax = 4096

// ReclaimArgs is of OpReclaim: a client whose session is new to the server tells of locks
// that it got from an earlier one. It fails with ESTALE, and all locks are lost, if they may
// have been given to others meanwhile.
type ReclaimArgs struct {
	Last  bool // there are no more
	Locks []HeldLock
}

// HeldLock is a lock on a file.
type HeldLock struct {
	ID   volume.ID
	Lock volume.Lock
}

const (
	lockSize = 8 + 1 + 1 + 8 + 8 + 4
	heldSize = 16 + lockSize
)

// Append encodes a.
func (a *ReclaimArgs) Append(b []byte) []byte {
	b = appendU32(appendBool(b, a.Last), uint32(len(a.Locks)))
	for i := range a.Locks {
		b = AppendLock(append(b, a.Locks[i].ID[:]...), &a.Locks[i].Lock)
	}
	return b
}

// Parse decodes into a.
func (a *ReclaimArgs) Parse(r *Reader) bool {
	a.Last = r.Bool()
	n := r.U32()
	if n > ReclaimMax || int(n)*heldSize > r.Len() {
		r.fail()
		return false
	}
	a.Locks = make([]HeldLock, n)
	for i := range a.Locks {
		a.Locks[i] = HeldLock{r.ID(), r.Lock()}
	}
	return r.Done()
}

// AppendLock writes a lock, without its owner's session.
func AppendLock(b []byte, l *volume.Lock) []byte {
	b = append(appendBool(appendU64(b, l.Owner.Number), l.Flock), byte(l.Type))
	return appendU32(appendU64(appendU64(b, uint64(l.Start)), uint64(l.End)), l.PID)
}

// Lock takes what AppendLock wrote.
func (r *Reader) Lock() (l volume.Lock) {
	l.Owner.Number, l.Flock, l.Type = r.U64(), r.Bool(), volume.LockType(r.U8())
	l.Start, l.End, l.PID = r.I64(), r.I64(), r.U32()
	if !l.Valid() {
		r.fail()
	}
	return l
}

// AppendLockState writes the result of Lock.
func AppendLockState(b []byte, s LockState) []byte { return append(b, byte(s)) }

// LockState takes what AppendLockState wrote.
func (r *Reader) LockState() LockState {
	s := LockState(r.U8())
	if s >= lockStates {
		r.fail()
	}
	return s
}
