package volume

import "math"

// Locks are advisory, as Linux has them, and hold between all who use the volume.
// There are two kinds, which know nothing of each other: those of fcntl(2) on
// ranges of bytes, which processes own, or open file descriptions (OFD), and those of
// flock(2) on a whole file, which open file descriptions own.

// LockType is what a lock keeps others from.
type LockType uint8

// The types.
const (
	Unlocked      LockType = iota // nothing; to set it is to unlock
	SharedLock                    // exclusive locks
	ExclusiveLock                 // all others
)

// LockOwner is whose a lock is: two locks of one owner never conflict. Session is
// the client's; who is below a session's server sees it, above it is zero. Number
// is chosen by the client: the kernel's word for a process or an open file description.
type LockOwner struct {
	Session [16]byte
	Number  uint64
}

// LockEnd is the End of a lock that reaches to the end of the file, wherever that comes to be.
const LockEnd = math.MaxInt64

// Lock is a lock, or what is asked about one.
type Lock struct {
	Owner      LockOwner
	Flock      bool // flock(2)'s; its range is always all
	Type       LockType
	Start, End int64  // the first and the last byte, 0 ≤ Start ≤ End
	PID        uint32 // of the process that set it, for F_GETLK; 0: not known
}

// Valid reports whether a lock can be set, or asked about.
func (l *Lock) Valid() bool {
	return l.Type <= ExclusiveLock && 0 <= l.Start && l.Start <= l.End && (!l.Flock || l.Start == 0 && l.End == LockEnd)
}
