package wire

import "github.com/mortarfs/mortar/volume"

// DirName is a name in a directory.
type DirName struct {
	Dir  volume.ID
	Name string
}

// Concern is on which names the answer to a request depends, or which it changes.
type Concern struct {
	Name DirName   // one; zero: none
	Dir  volume.ID // all in a directory, whose attributes count as well; zero: none
	Of   volume.ID // those of an object; zero: none
	All  bool      // any, for all that can be told from the arguments

	// Within: also what is in the directory that Name leads to, whichever that is. It matters to who asks what may be in his way, but
	// waits for nothing of that by itself.
	Within bool
}

// None reports whether there are none.
func (c *Concern) None() bool {
	return c.Name.Dir.IsZero() && c.Dir.IsZero() && c.Of.IsZero() && !c.All
}

// Touches reports whether a name is among them.
func (c *Concern) Touches(n DirName) bool { return c.All || c.Within || c.Dir == n.Dir || c.Name == n }

// ConcernOf returns the names that a request with these arguments is about. What is malformed is about none.
func ConcernOf(op Op, args []byte) (c Concern) {
	r := NewReader(args)
	switch op {
	case OpRmdir, OpRename, OpStep: // also about what is in the directory that goes
		c.All = true
	case OpLink:
		c.Of = r.ID()
		fallthrough
	case OpLookup, OpMake, OpBear, OpCreate, OpUnlink, OpReserve, OpRemove:
		c.Name.Dir, c.Name.Name = r.ID(), r.Text(volume.NameMax)
		if op == OpRemove {
			c.Of, _, c.Within = r.ID(), r.Time(), r.Bool()
		}
	case OpOpen, OpReadlink:
		c.Of = r.ID()
	case OpGetattr, OpSetattr, OpReadDir, OpGetxattr, OpSetxattr, OpListxattr, OpRemovexattr, OpSync:
		c.Dir = r.ID()
		c.Of = c.Dir
	}
	if r.Bad() {
		return Concern{}
	}
	return c
}
