package brick

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// Seen is the newest that a brick's process was ever told of its volume. The
// numbers never go back; after a cluster was recovered or restored from an older
// configuration the daemons go on above them. It is kept in BRICK/.mortar/map, a
// text file (version 1):
//
//	mortar-map 1
//	map 57
//	layout 3
//	crc32c 8c1f02ab
//
// The last line is the CRC-32C of all bytes before it.
type Seen struct {
	Map    uint64               // version of the volume's map
	Layout volume.LayoutVersion // of its newest layout
}

const seenFile = volume.Reserved + "/map"

func (s Seen) encode() []byte {
	b := fmt.Appendf(nil, "mortar-map 1\nmap %d\nlayout %d\n", s.Map, s.Layout)
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

// ReadSeen returns what the brick at path has seen; ENOENT: nothing was ever
// noted; EINVAL: the file is not what encode writes.
func ReadSeen(path string) (Seen, error) {
	const op = "read brick's map version"
	b, err := os.ReadFile(filepath.Join(path, seenFile))
	if err != nil {
		return Seen{}, &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	}
	var s Seen
	n, _ := fmt.Sscanf(string(b), "mortar-map 1\nmap %d\nlayout %d\n", &s.Map, &s.Layout)
	if n != 2 || string(s.encode()) != string(b) {
		return Seen{}, volume.Errorf(op, path, unix.EINVAL, "%s is truncated or was changed", filepath.Join(path, seenFile))
	}
	return s, nil
}

// NoteSeen records, durably, what the brick's process was told, if that is newer
// than what is recorded in either number. It is for one goroutine at a time.
func (s *Store) NoteSeen(seen Seen) error {
	old, err := ReadSeen(s.path)
	if err == nil && seen.Map <= old.Map && seen.Layout <= old.Layout {
		return nil
	}
	seen.Map, seen.Layout = max(seen.Map, old.Map), max(seen.Layout, old.Layout)
	if err := replaceFile(s.sys, s.rootFD, seenFile, volume.Reserved+"/"+tmpDir+"/map", seen.encode()); err != nil {
		return &volume.Error{Op: "note map version", Where: s.path, Errno: volume.ErrnoOf(err), Err: err}
	}
	return nil
}
