package oplog

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/mortarfs/mortar/volume"
)

// KeyKind is a kind of Key.
type KeyKind uint8

// The kinds. Their numbers are stored.
const (
	EntryKey   KeyKind = iota + 1 // what the directory ID calls Name leads to; with the name "": what is in it, and all that was born below (see Dirty)
	ObjectKey                     // attributes of ID
	ExtentKey                     // contents of ID from Off on, Len bytes; Len 0: to the end
	JournalKey                    // the owner's journal
	FullKey                       // everything there is
)

// Key is something in which two members can differ. Fields that its kind does
// not use are zero, so that keys can be compared.
type Key struct {
	Kind     KeyKind
	ID       volume.ID // of the object, or of the directory of an entry
	Name     string    // of an entry
	Off, Len int64     // of an extent, bytes
}

// Full is the key of everything there is.
var Full = Key{Kind: FullKey}

// KeyMax is the longest encoded key, bytes.
const KeyMax = 1 + 16 + 1 + volume.NameMax

// Valid reports whether k has what its kind needs, and nothing else.
func (k Key) Valid() bool {
	switch k.Kind {
	case EntryKey:
		return !k.ID.IsZero() && len(k.Name) <= volume.NameMax && k.Off == 0 && k.Len == 0
	case ObjectKey:
		return k == Key{Kind: ObjectKey, ID: k.ID} && !k.ID.IsZero()
	case ExtentKey:
		return !k.ID.IsZero() && k.Name == "" && k.Off >= 0 && k.Len >= 0
	case JournalKey, FullKey:
		return k == Key{Kind: k.Kind}
	}
	return false
}

// end is where an extent ends: math.MaxInt64 for the end of the file, wherever that is.
func (k Key) end() int64 {
	if k.Len == 0 || k.Len > math.MaxInt64-k.Off {
		return math.MaxInt64
	}
	return k.Off + k.Len
}

// AppendKey appends the encoding of k, a valid key, to b. See the package comment.
func AppendKey(b []byte, k Key) []byte {
	b = append(b, byte(k.Kind))
	switch k.Kind {
	case EntryKey:
		b = append(b, k.ID[:]...)
		b = append(b, byte(len(k.Name)))
		b = append(b, k.Name...)
	case ObjectKey:
		b = append(b, k.ID[:]...)
	case ExtentKey:
		b = append(b, k.ID[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(k.Off))
		b = binary.LittleEndian.AppendUint64(b, uint64(k.Len))
	}
	return b
}

var errKey = errors.New("no key")

// ParseKey reads the key at the start of b and returns what follows it. The key keeps nothing of b.
func ParseKey(b []byte) (k Key, rest []byte, err error) {
	if len(b) < 1 {
		return Key{}, nil, errKey
	}
	k.Kind, b = KeyKind(b[0]), b[1:]
	switch k.Kind {
	case EntryKey, ObjectKey, ExtentKey:
		if len(b) < len(k.ID) {
			return Key{}, nil, errKey
		}
		b = b[copy(k.ID[:], b):]
	}
	switch k.Kind {
	case EntryKey:
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return Key{}, nil, errKey
		}
		k.Name, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
	case ExtentKey:
		if len(b) < 16 {
			return Key{}, nil, errKey
		}
		k.Off, k.Len = int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
		b = b[16:]
	}
	if !k.Valid() {
		return Key{}, nil, errKey
	}
	return k, b, nil
}

// keySize is the length of k's encoding, bytes.
func keySize(k Key) int64 {
	switch k.Kind {
	case EntryKey:
		return int64(1 + len(k.ID) + 1 + len(k.Name))
	case ObjectKey:
		return int64(1 + len(k.ID))
	case ExtentKey:
		return int64(1 + len(k.ID) + 16)
	}
	return 1
}
