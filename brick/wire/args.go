package wire

import "github.com/mortarfs/mortar/volume"

// Each type in this file and args_file.go is the list of arguments of one or
// several operations: Append writes it, Parse reads it back and uses the
// whole of r. Texts are copied; values and payload alias the frame.

// NameArgs is of OpLookup, OpUnlink, OpRmdir.
type NameArgs struct {
	Dir  volume.ID
	Name string
}

// Append encodes a.
func (a *NameArgs) Append(b []byte) []byte { return appendText(append(b, a.Dir[:]...), a.Name) }

// Parse decodes into a.
func (a *NameArgs) Parse(r *Reader) bool {
	a.Dir, a.Name = r.ID(), r.Text(volume.NameMax)
	return r.Done()
}

// IDArgs is of OpGetattr, OpReadlink, OpListxattr, OpSync.
type IDArgs struct{ ID volume.ID }

// Append encodes a.
func (a *IDArgs) Append(b []byte) []byte { return append(b, a.ID[:]...) }

// Parse decodes into a.
func (a *IDArgs) Parse(r *Reader) bool {
	a.ID = r.ID()
	return r.Done()
}

// SetattrArgs is of OpSetattr.
type SetattrArgs struct {
	ID     volume.ID
	Change volume.Change
}

// Append encodes a.
func (a *SetattrArgs) Append(b []byte) []byte { return appendChange(append(b, a.ID[:]...), a.Change) }

// Parse decodes into a.
func (a *SetattrArgs) Parse(r *Reader) bool {
	a.ID, a.Change = r.ID(), r.change()
	return r.Done()
}

// MakeArgs is of OpMake and OpReserve.
type MakeArgs struct {
	Dir  volume.ID
	Name string
	Node volume.Node
}

// Append encodes a.
func (a *MakeArgs) Append(b []byte) []byte {
	return appendNode(appendText(append(b, a.Dir[:]...), a.Name), a.Node)
}

// Parse decodes into a.
func (a *MakeArgs) Parse(r *Reader) bool {
	a.Dir, a.Name, a.Node = r.ID(), r.Text(volume.NameMax), r.node()
	return r.Done()
}

// BearArgs is of OpBear: what OpMake takes, then the Node's change of attributes. Its data follow: the rest of the frame.
type BearArgs struct {
	MakeArgs
	Reserved bool // the name was reserved for it, here or by who served before
}

// Append encodes a, Node.Data apart.
func (a *BearArgs) Append(b []byte) []byte {
	return appendBool(appendChange(a.MakeArgs.Append(b), a.Node.Then), a.Reserved)
}

// Parse decodes into a. Node.Data alias the frame.
func (a *BearArgs) Parse(r *Reader) bool {
	a.Dir, a.Name, a.Node = r.ID(), r.Text(volume.NameMax), r.node()
	a.Node.Then, a.Reserved = r.change(), r.Bool()
	a.Node.Data = r.Rest(volume.IOMax)
	return r.Done()
}

// CreateArgs is of OpCreate; the request's number becomes the handle.
type CreateArgs struct {
	Dir   volume.ID
	Name  string
	Node  volume.Node
	Flags volume.Flags
}

// Append encodes a.
func (a *CreateArgs) Append(b []byte) []byte {
	b = appendNode(appendText(append(b, a.Dir[:]...), a.Name), a.Node)
	return appendU32(b, uint32(a.Flags))
}

// Parse decodes into a.
func (a *CreateArgs) Parse(r *Reader) bool {
	a.Dir, a.Name, a.Node = r.ID(), r.Text(volume.NameMax), r.node()
	a.Flags = volume.Flags(r.U32())
	return r.Done()
}

// OpenArgs is of OpOpen. Handle is the request's number, or, where a client opens its
// files again in a new session, the number of the request that first opened the file.
type OpenArgs struct {
	ID     volume.ID
	Flags  volume.Flags
	Handle uint64
	Want   uint32 // Data are wanted if they are at most so many bytes; 0 … volume.IOMax
}

// Append encodes a.
func (a *OpenArgs) Append(b []byte) []byte {
	return appendU32(appendU64(appendU32(append(b, a.ID[:]...), uint32(a.Flags)), a.Handle), a.Want)
}

// Parse decodes into a.
func (a *OpenArgs) Parse(r *Reader) bool {
	a.ID, a.Flags, a.Handle, a.Want = r.ID(), volume.Flags(r.U32()), r.U64(), r.U32()
	if a.Want > volume.IOMax {
		r.fail()
	}
	return r.Done()
}

// LinkArgs is of OpLink.
type LinkArgs struct {
	ID   volume.ID
	Dir  volume.ID
	Name string
}

// Append encodes a.
func (a *LinkArgs) Append(b []byte) []byte {
	return appendText(append(append(b, a.ID[:]...), a.Dir[:]...), a.Name)
}

// Parse decodes into a.
func (a *LinkArgs) Parse(r *Reader) bool {
	a.ID, a.Dir, a.Name = r.ID(), r.ID(), r.Text(volume.NameMax)
	return r.Done()
}

// RenameArgs is of OpRename.
type RenameArgs struct {
	OldDir  volume.ID
	OldName string
	NewDir  volume.ID
	NewName string
	Flags   volume.RenameFlags
}

// Append encodes a.
func (a *RenameArgs) Append(b []byte) []byte {
	b = appendText(append(b, a.OldDir[:]...), a.OldName)
	b = appendText(append(b, a.NewDir[:]...), a.NewName)
	return appendU32(b, uint32(a.Flags))
}

// Parse decodes into a.
func (a *RenameArgs) Parse(r *Reader) bool {
	a.OldDir, a.OldName = r.ID(), r.Text(volume.NameMax)
	a.NewDir, a.NewName = r.ID(), r.Text(volume.NameMax)
	a.Flags = volume.RenameFlags(r.U32())
	return r.Done()
}

// ReadDirArgs is of OpReadDir.
type ReadDirArgs struct {
	Dir   volume.ID
	After volume.Cookie
	Max   uint32 // 1 … volume.ReadDirMax
	Attrs bool
}

// Append encodes a.
func (a *ReadDirArgs) Append(b []byte) []byte {
	b = appendU64(append(b, a.Dir[:]...), uint64(a.After))
	return appendBool(appendU32(b, a.Max), a.Attrs)
}

// Parse decodes into a.
func (a *ReadDirArgs) Parse(r *Reader) bool {
	a.Dir, a.After, a.Max, a.Attrs = r.ID(), volume.Cookie(r.U64()), r.U32(), r.Bool()
	if a.Max == 0 || a.Max > volume.ReadDirMax {
		r.fail()
	}
	return r.Done()
}

// XattrArgs is of OpGetxattr and OpRemovexattr.
type XattrArgs struct {
	ID   volume.ID
	Name string
}

// Append encodes a.
func (a *XattrArgs) Append(b []byte) []byte { return appendText(append(b, a.ID[:]...), a.Name) }

// Parse decodes into a.
func (a *XattrArgs) Parse(r *Reader) bool {
	a.ID, a.Name = r.ID(), r.Text(volume.XattrNameMax)
	return r.Done()
}

// SetxattrArgs is of OpSetxattr.
type SetxattrArgs struct {
	ID    volume.ID
	Name  string
	Flags volume.XattrFlags
	Value []byte
}

// Append encodes a.
func (a *SetxattrArgs) Append(b []byte) []byte {
	b = appendU32(appendText(append(b, a.ID[:]...), a.Name), uint32(a.Flags))
	return appendValue(b, a.Value)
}

// Parse decodes into a.
func (a *SetxattrArgs) Parse(r *Reader) bool {
	a.ID, a.Name, a.Flags = r.ID(), r.Text(volume.XattrNameMax), volume.XattrFlags(r.U32())
	a.Value = r.Value(volume.XattrValueMax)
	return r.Done()
}

// StepArgs is of OpStep, and its result.
type StepArgs struct{ Step []byte }

// Append encodes a.
func (a *StepArgs) Append(b []byte) []byte { return append(b, a.Step...) }

// Parse decodes into a.
func (a *StepArgs) Parse(r *Reader) bool {
	a.Step = r.Rest(StepMax)
	return r.Done()
}

func appendChange(b []byte, c volume.Change) []byte {
	b = appendU32(appendU32(b, uint32(c.Mask)), c.Mode)
	b = appendU64(appendU32(appendU32(b, c.UID), c.GID), uint64(c.Size))
	return appendTime(appendTime(appendTime(b, c.Atime), c.Mtime), c.Ctime)
}

func (r *Reader) change() volume.Change {
	return volume.Change{
		Mask: volume.Mask(r.U32()), Mode: r.U32(),
		UID: r.U32(), GID: r.U32(), Size: r.I64(),
		Atime: r.Time(), Mtime: r.Time(), Ctime: r.Time(),
	}
}

func appendNode(b []byte, n volume.Node) []byte {
	b = appendU64(appendU32(append(b, n.ID[:]...), n.Mode), n.Rdev)
	return appendU64(appendText(b, n.Target), n.Parent)
}

func (r *Reader) node() volume.Node {
	return volume.Node{
		ID: r.ID(), Mode: r.U32(), Rdev: r.U64(),
		Target: r.Text(volume.TargetMax), Parent: r.U64(),
	}
}

// ChangedDir returns the directory in which a request with these arguments
// changes one name and nothing else is changed. False: the operation is none such.
func ChangedDir(op Op, args []byte) (dir volume.ID, ok bool) {
	r := NewReader(args)
	switch op {
	case OpLink: // after what is linked
		r.ID()
	case OpRename: // the one that it is in now
		r.ID()
		r.Text(volume.NameMax)
	case OpCreate, OpMake, OpBear, OpUnlink, OpRemove, OpRmdir:
	default:
		return dir, false
	}
	dir = r.ID()
	return dir, !r.Bad()
}

// Changes reports whether a client's request with these arguments would change
// anything that people see, times of access apart, or prepares for that (Reserve).
func Changes(op Op, args []byte) bool {
	switch op {
	case OpSetattr, OpMake, OpBear, OpReserve, OpCreate, OpLink, OpUnlink, OpRemove, OpRmdir, OpRename, OpSetxattr, OpRemovexattr,
		OpWrite, OpWriteSet, OpAppend, OpFileSetattr, OpAllocate, OpCopy:
		return true
	case OpOpen:
		var a OpenArgs
		r := NewReader(args)
		return a.Parse(&r) && a.Flags&(volume.Write|volume.Truncate) != 0
	}
	return false
}
