package volume

import (
	"context"
	"encoding/binary"
	"math"
	"syscall"
)

// Short returns 64 bits of the ID: what fits where only a number can be kept, as in file handles. Finders find
// the object by it. Two IDs of a volume of 2³⁰ objects have the same with a probability of 2⁻⁵. It is never
// 0, 1 or 2⁶⁴-1, which mean other things to FUSE.
func (id ID) Short() uint64 {
	n := binary.BigEndian.Uint64(id[:8])
	switch n {
	case 0, 1:
		return n + 2
	case math.MaxUint64:
		return n - 1
	}
	return n
}

// ShortFinder is a Store, or more, that can find an object by a part of its ID.
type ShortFinder interface {
	// Find returns the object whose ID has this Short: it exists, or did a moment ago. ESTALE: there is none. It may
	// take long, as it looks through a part of what there is.
	Find(ctx context.Context, short uint64) (ID, error)
}

// Finder is an FS whose objects can be found by who has forgotten all but a number.
type Finder interface {
	ShortFinder

	// Parent returns the directory in which another lies. ESTALE: it does not exist, or is the root.
	Parent(ctx context.Context, dir ID) (ID, error)
}

// Find has fs find an object, if it is a ShortFinder, and fails with EOPNOTSUPP if not.
func Find(ctx context.Context, fs FS, short uint64) (ID, error) {
	if f, ok := fs.(ShortFinder); ok {
		return f.Find(ctx, short)
	}
	return ID{}, &Error{Op: "find", Errno: syscall.EOPNOTSUPP}
}

// ParentOf has fs find a directory's parent, if it is a Finder, and fails with EOPNOTSUPP if not.
func ParentOf(ctx context.Context, fs FS, dir ID) (ID, error) {
	if f, ok := fs.(Finder); ok {
		return f.Parent(ctx, dir)
	}
	return ID{}, &Error{Op: "parent", Where: dir.String(), Errno: syscall.EOPNOTSUPP}
}
