package wire

// Op is what a request asks for: a method of volume.FS, volume.File or volume.Set,
// or what a member asks of another of its own set.
type Op uint8

// The operations; their numbers are part of the protocol.
const (
	_ Op = iota
	OpLookup
	OpGetattr
	OpSetattr
	OpMake
	OpCreate
	OpOpen
	OpReadlink
	OpLink
	OpUnlink
	OpRmdir
	OpRename
	OpReadDir
	OpGetxattr
	OpSetxattr
	OpListxattr
	OpRemovexattr
	OpSync
	OpStatfs
	OpStep
	OpRead
	OpWrite
	OpAppend
	OpFileGetattr
	OpFileSetattr
	OpAllocate
	OpSeek
	OpFileSync
	OpFlush
	OpPeer     // since version 2
	OpWriteSet // and all that follow since version 4
	OpLock
	OpTestLock
	OpReclaim
	OpBear // Make of a file with contents and attributes
	OpReserve
	OpSettle
	OpCopy
	OpRemove // Unlink or Rmdir, which may be answered before it is made
	OpAwait
	opEnd // one above the last
)

// Ops is the number of operations, 0 included, which is none.
const Ops = int(opEnd)

var opNames = [Ops]string{
	"none", "lookup", "getattr", "setattr", "make", "create", "open", "readlink", "link", "unlink", "rmdir", "rename",
	"readdir", "getxattr", "setxattr", "listxattr", "removexattr", "sync", "statfs", "step",
	"read", "write", "append", "fgetattr", "fsetattr", "allocate", "seek", "fsync", "flush", "peer",
	"write and setattr", "lock", "testlock", "reclaim", "bear", "reserve", "settle", "copy", "remove", "await",
}

func (o Op) String() string {
	if int(o) < Ops {
		return opNames[o]
	}
	return "unknown"
}

// Valid reports whether o is an operation of this version.
func (o Op) Valid() bool { return o > 0 && o < opEnd }

// Repeatable reports whether the operation changes nothing, so that a server
// need not remember its reply: it is executed again if asked again. (A Step and a Peer are
// repeatable by their contracts; a Reserve changes only what the server knows, and to whom it is not answered does without.)
func (o Op) Repeatable() bool {
	switch o {
	case OpLookup, OpGetattr, OpReadlink, OpReadDir, OpGetxattr, OpListxattr, OpStatfs, OpStep, OpPeer,
		OpRead, OpFileGetattr, OpSeek, OpTestLock, OpReserve, OpSettle, OpAwait:
		return true
	}
	return false
}

// Between reports whether the operation is one that bricks ask of each other. It
// waits neither for a connection nor for the requests of clients.
func (o Op) Between() bool { return o == OpStep || o == OpPeer }

// Idempotent reports whether a client may send the operation again to a server
// that does not know whether it was executed before. Some arguments make an exception:
// Setxattr with flags, Allocate that inserts or collapses. (A Lock sets what it says,
// whatever was set before.)
func (o Op) Idempotent() bool {
	switch o {
	case OpSetattr, OpOpen, OpSetxattr, OpSync, OpWrite, OpWriteSet, OpFileSetattr, OpAllocate, OpFileSync, OpFlush, OpLock, OpReclaim, OpCopy:
		return true
	}
	return o.Repeatable()
}
