package volume

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
)

// A SetID names one set of a volume: the unit that the hash maps to. Numbers
// are given in order of birth, from 1, and never used again in the volume, so
// that an old note of one can't be taken for another. 0 is no set.
type SetID uint16

// A LayoutVersion numbers the layouts of a volume, from 1. 0 is none, and on a
// request: not stamped, so not checked.
type LayoutVersion uint32

// An ID names an object of a volume, on every set and member alike, from its
// birth until its removal; it is never given again. The zero ID names nothing.
//
//	byte 0 … 13   random
//	byte 14, 15   the set on which the object was born, big-endian: a
//	              directory's home, a file's data. A hint that is nearly always
//	              right; an object that moved is found by asking.
//
// Whoever creates an object chooses its ID.
type ID [16]byte

// Root is the top directory of every volume.
var Root = ID{0: 'r', 1: 'o', 2: 'o', 3: 't', 13: 1}

// NewID returns an ID that has never been used, for an object to be born on
// set. The random bits come from the runtime's ChaCha8 generator, which the
// system seeds; 112 of them make a collision in a volume of 2⁴⁰ objects less
// likely than 2⁻³².
func NewID(set SetID) ID {
	var id ID
	binary.LittleEndian.PutUint64(id[0:], rand.Uint64())
	binary.LittleEndian.PutUint64(id[6:], rand.Uint64())
	binary.BigEndian.PutUint16(id[14:], uint16(set))
	return id
}

// ParseID reads what String printed.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("an ID has 32 hexadecimal digits, not %d characters", len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("an ID has 32 hexadecimal digits: %q", s)
	}
	return id, nil
}

// String returns the ID's 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Born returns the set on which the object was born, 0 for the root and for an
// ID that carries none.
func (id ID) Born() SetID { return SetID(binary.BigEndian.Uint16(id[14:])) }

// Inode returns the object's inode number: the same on every client, never 0
// (no inode) and 1 only for the root, as find and NFS servers expect.
func (id ID) Inode() uint64 {
	if id == Root {
		return 1
	}
	n := binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])*0x9e3779b97f4a7c15
	if n <= 1 {
		n += 2
	}
	return n
}
