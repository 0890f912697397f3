package volume

import "context"

// Member is a Store that is one of several of its set, which hold the same. The methods
// beside Store's serve to make what lies here equal to what another member has: they
// take what is told for the truth, ask no questions about owners or permissions, and
// each leaves something whole if the process dies in it. All may be repeated. They are
// used on a member that serves no one, but may run side by side.
type Member interface {
	Store

	// Describe tells all that there is of an object but its contents and its
	// names. It finds what has no name too. Errors: ESTALE.
	Describe(ctx context.Context, id ID) (Object, error)

	// Install makes the object o.Attr.ID what o says, contents excepted: owner, mode,
	// extended attributes (those that o has not are removed), target, device
	// number, atime and mtime; of a regular file also the size, by cutting or by a hole
	// at its end. An object that is not here is made, without a name (see
	// Nameless); one of another type under the ID is replaced, its names with it.
	Install(ctx context.Context, o Object) error

	// Place makes name in dir lead to p: an object that is here, or a pointer
	// (p.Held not 0). With the zero Pointer the name is cleared. What the name led to before
	// loses it and is never destroyed: without any other name it becomes
	// nameless, a directory with all that is in it. A directory has one place:
	// Place moves it from where it was. Errors: ESTALE (dir or
	// p.ID is not here), ENOTDIR, ELOOP (a directory would come to lie in itself: first
	// Place what is in the way elsewhere, or clear it).
	Place(ctx context.Context, dir ID, name string, p Pointer) error

	// Nameless lists the objects that are here without a name, discards
	// excepted: placed nowhere yet, cleared away, or unlinked while open.
	Nameless(ctx context.Context) ([]ID, error)

	// Release removes a nameless object, a directory with all below it that is
	// reachable by no other name; what is open here goes with the last Close. An
	// object with a name, or none, is no error and nothing happens.
	Release(ctx context.Context, id ID) error

	// Sums returns checksums of up to n blocks of size bytes each, from block
	// first on, fewer at the end of the file: 0 for a block that is all zero,
	// written or hole, otherwise 64 bits of a hash that is the same
	// on all members. The last block is what there is of it. Errors: ESTALE, EISDIR.
	Sums(ctx context.Context, id ID, first int64, n, size int) ([]uint64, error)

	// NewReign tells that another primary decides from now on, and that all that was decided before
	// is applied or never will be. What it decides is later, whatever its clock says (Fixed.Now).
	NewReign()
}

// Object is an object as Describe tells and Install makes it.
type Object struct {
	Attr   Attr    // Nlink, Blocks, Ctime, Btime are told, not made
	Target string  // of a symbolic link
	Xattrs []Xattr // all, of all name spaces, as they are stored, in order of name; but not the ID, and not what depends on the member
}

// Xattr is an extended attribute as it is stored.
type Xattr struct {
	Name  string
	Value []byte
}
