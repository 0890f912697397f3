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
	All  bool      // any, for all that can be told from the arguments
}

// None reports whether there are none.
func (c *Concern) None() bool { return c.Name.Dir.IsZero() && c.Dir.IsZero() && !c.All }

// Touches reports whether a name is among them.
func (c *Concern) Touches(n DirName) bool { return c.All || c.Dir == n.Dir || c.Name == n }

// ConcernOf returns the names that a request with these arguments is about. What is malformed is about none.
func ConcernOf(op Op, args []byte) (c Concern) {
	r := NewReader(args)
	switch op {
	case OpRmdir, OpRename, OpStep: // also about what is in the directory that goes
		c.All = true
	case OpLink: // after what is linked
		r.ID()
		fallthrough
	case OpLookup, OpMake, OpBear, OpCreate, OpUnlink, OpReserve:
		c.Name.Dir, c.Name.Name = r.ID(), r.Text(volume.NameMax)
	case OpGetattr, OpSetattr, OpReadDir, OpGetxattr, OpSetxattr, OpListxattr, OpRemovexattr, OpSync:
		c.Dir = r.ID()
	}
	if r.Bad() {
		return Concern{}
	}
	return c
}
