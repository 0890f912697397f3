package wire

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// RemoveArgs is of OpRemove, an Unlink or Rmdir that may be answered before it is made. A client that was answered so by a
// server, and finds another one before it has heard (Await) that it was made, sends it again with what it was answered: then the
// name goes if it leads to that object still, and it is made before it is answered.
type RemoveArgs struct {
	Dir       volume.ID
	Name      string
	Going     Going
	Directory bool // it is a Rmdir
}

// Going is a name's removal that is yet to be made: the object that it led to, and when it went. The zero Going: it is made.
type Going struct {
	Object volume.ID
	At     volume.Time
}

func (g *Going) append(b []byte) []byte { return appendTime(append(b, g.Object[:]...), g.At) }

// Going decodes what AppendGoing has encoded.
func (r *Reader) Going() Going { return Going{r.ID(), r.Time()} }

// Append encodes a.
func (a *RemoveArgs) Append(b []byte) []byte {
	return appendBool(a.Going.append(appendText(append(b, a.Dir[:]...), a.Name)), a.Directory)
}

// Parse decodes into a.
func (a *RemoveArgs) Parse(r *Reader) bool {
	a.Dir, a.Name, a.Going, a.Directory = r.ID(), r.Text(volume.NameMax), r.Going(), r.Bool()
	return r.Done()
}

// AppendGoing encodes the results of OpRemove.
func AppendGoing(b []byte, g Going) []byte { return g.append(b) }

// AwaitArgs is of OpAwait: the server, by its Welcome, is to say when all is made of what it has answered before to this session.
type AwaitArgs struct{ Server uint64 }

// Append encodes a.
func (a *AwaitArgs) Append(b []byte) []byte { return appendU64(b, a.Server) }

// Parse decodes into a.
func (a *AwaitArgs) Parse(r *Reader) bool {
	a.Server = r.U64()
	return r.Done()
}

// Unmade is a directory in which a name could not be removed after all.
type Unmade struct {
	Dir   volume.ID
	Errno syscall.Errno
}

// UnmadeMax bounds those that a reply tells of.
const UnmadeMax = 64

// AppendUnmade encodes the results of OpAwait.
func AppendUnmade(b []byte, all []Unmade) []byte {
	b = append(b, byte(len(all)))
	for _, u := range all {
		b = appendU16(append(b, u.Dir[:]...), uint16(u.Errno))
	}
	return b
}

// Unmade decodes what AppendUnmade has encoded.
func (r *Reader) Unmade() (all []Unmade) {
	n := int(r.U8())
	if n > UnmadeMax {
		r.fail()
		return nil
	}
	for range n {
		all = append(all, Unmade{r.ID(), syscall.Errno(r.U16())})
	}
	return all
}
