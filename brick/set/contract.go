package set

import (
	"context"
	"time"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Lease is how long a backup obeys a primary that it hears nothing of, and
// how long a primary serves that hears nothing of a backup.
const Lease = 3 * time.Second

// Epoch numbers the primaries of a set. 0: none.
type Epoch = uint64

// Seq numbers the changes of an epoch, from 1.
type Seq = uint64

// Peer is another member, reached over the wire.
type Peer interface {
	// Call carries a message to the member, with data (0 … volume.IOMax bytes, not kept
	// after the return), and brings its answer. It does not wait for a connection:
	// without one it fails at once with Reason Unavailable. After a failure
	// the message may have been handled, or may be yet; it may be handled twice.
	Call(ctx context.Context, msg, data []byte) (answer []byte, err error)

	// Up reports whether the member can be asked right now, as far as is known.
	Up() bool
}

// Starter is a Peer of which several can be asked at a time without a goroutine for each.
type Starter interface {
	Peer
	// Start begins a Call: the message is sent. wait takes the answer, and is called
	// once, by the same goroutine; msg and data are left alone until it has returned.
	Start(ctx context.Context, msg, data []byte) (wait func() ([]byte, error), err error)
}

// Limits of a Call.
const (
	MessageMax = 1 << 17             // bytes of a message
	AnswerMax  = volume.IOMax + 4096 // bytes of an answer
)

// Revision is the configuration store's of a SetState, for compare-and-swap.
type Revision int64

// Authority is the configuration store, for one set.
type Authority interface {
	// Read returns the set's state, linearizably.
	Read(ctx context.Context) (spec.SetState, Revision, error)
	// Swap makes next the set's state if its revision is still r. ErrConflict:
	// it is not. After any other error it may have happened: Read again.
	Swap(ctx context.Context, r Revision, next spec.SetState) (Revision, error)
}

// Key is something in which two members can differ; package oplog, which
// keeps them on the disk, has the kinds.
type (
	KeyKind = oplog.KeyKind
	Key     = oplog.Key
)

// The kinds of keys.
const (
	EntryKey   = oplog.EntryKey
	ObjectKey  = oplog.ObjectKey
	ExtentKey  = oplog.ExtentKey
	JournalKey = oplog.JournalKey
	FullKey    = oplog.FullKey
)

// Outcome is what a request came to that has been executed.
type Outcome struct {
	Attr   volume.Attr // of the object that it made or changed; zero where the request has none
	Offset int64       // where an append began
}
