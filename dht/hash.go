package dht

import (
	"encoding/binary"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/mortarfs/mortar/volume"
)

// Hash returns the place in the hash space of what dir calls name: xxHash64
// (seed 0) of the directory's 16 ID bytes and the name, folded to 32 bits by
// exclusive or of its halves. It allocates nothing.
//
//	0               16                 16+n
//	┌───────────────┬──────────────────┐
//	│ directory ID  │ name (n ≤ 255)   │
//	└───────────────┴──────────────────┘
//
// The name is hashed as HashName gives it. Both are part of what a layout
// version means: a change needs a new kind of layout, and a rebalance. The
// values are kept by testdata/hash.golden.
func Hash(dir volume.ID, name string) uint32 {
	var buf [len(dir) + volume.NameMax]byte
	copy(buf[:], dir[:])
	n := len(dir) + copy(buf[len(dir):], HashName(name))
	h := xxhash.Sum64(buf[:n])
	return uint32(h>>32) ^ uint32(h)
}

// HashName returns the part of a name that is hashed. The temporary names of
// rsync, ".name.XXXXXX", count as "name", so that the rename that ends each
// transfer stays on one set. It is GlusterFS's default for
// cluster.rsync-hash-regex: a dot, at least one character, a dot, and a suffix
// of one or more characters without a dot.
func HashName(name string) string {
	if len(name) < 4 || name[0] != '.' {
		return name
	}
	i := strings.LastIndexByte(name, '.')
	if i < 2 || i == len(name)-1 {
		return name
	}
	return name[1:i]
}

// cacheHash spreads IDs over shards; the random bytes are random enough.
func cacheHash(id volume.ID) uint32 { return binary.LittleEndian.Uint32(id[2:]) }
