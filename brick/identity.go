package brick

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Identity says whose brick a directory is. It is kept in BRICK/.mortar/brick,
// a text file for people and programs (version 1):
//
//	mortar-brick 1
//	volume-id 3f0c8a52-…
//	volume demo
//	set 2
//	brick-id 9b1d40ce-…
//	crc32c 8c1f02ab
//
// The last line is the CRC-32C of all bytes before it. Whatever is not exactly
// this, in this order, is refused.
type Identity struct {
	VolumeID string       // the volume's UUID
	Volume   string       // the volume's name when the brick was made
	Set      volume.SetID // the set in which the brick is a member
	BrickID  string       // the brick's own UUID
}

// The identity file's place in the brick, format and limits.
const (
	identityFile    = volume.Reserved + "/brick"
	identityMagic   = "mortar-brick"
	identityVersion = 1
	identityMax     = 4096 // bytes of the file
	identityWordMax = 255  // bytes of one value
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// validate says what can't be written in an identity file.
func (i Identity) validate() error {
	for _, w := range []struct{ what, v string }{{"volume ID", i.VolumeID}, {"volume name", i.Volume}, {"brick ID", i.BrickID}} {
		if w.v == "" || len(w.v) > identityWordMax || strings.ContainsFunc(w.v, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("a brick's %s can't be %q", w.what, w.v)
		}
	}
	if i.Set == 0 {
		return fmt.Errorf("a brick's set can't be 0")
	}
	return nil
}

// encode returns the identity file's contents.
func (i Identity) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d\nvolume-id %s\nvolume %s\nset %d\nbrick-id %s\n",
		identityMagic, identityVersion, i.VolumeID, i.Volume, i.Set, i.BrickID)
	fmt.Fprintf(&b, "crc32c %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

// decodeIdentity reads what encode wrote, and says in a sentence's end what is wrong with anything else.
func decodeIdentity(b []byte) (Identity, error) {
	var id Identity
	if len(b) > identityMax {
		return id, fmt.Errorf("is longer than %d bytes: it is not a brick's identity", identityMax)
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	word, version, _ := strings.Cut(string(head), " ")
	switch {
	case len(b) == 0:
		return id, fmt.Errorf("is empty: it was truncated")
	case word != identityMagic:
		return id, fmt.Errorf("does not begin with %q: it is not a brick's identity", identityMagic)
	case version != strconv.Itoa(identityVersion):
		return id, fmt.Errorf("has format version %q, and this program knows version %d only", version, identityVersion)
	}
	var set string
	fields := []struct {
		key string
		to  *string
	}{{"volume-id", &id.VolumeID}, {"volume", &id.Volume}, {"set", &set}, {"brick-id", &id.BrickID}}
	for _, f := range fields {
		line, more, ok := bytes.Cut(rest, []byte("\n"))
		key, value, _ := strings.Cut(string(line), " ")
		if !ok || key != f.key {
			return Identity{}, fmt.Errorf("has no line %q where it belongs: it is truncated or was changed", f.key)
		}
		*f.to, rest = value, more
	}
	sum := fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:len(b)-len(rest)], castagnoli))
	if string(rest) != sum {
		return Identity{}, fmt.Errorf("has a wrong checksum: it is truncated or was changed")
	}
	n, err := strconv.ParseUint(set, 10, 16)
	id.Set = volume.SetID(n)
	if err == nil {
		err = id.validate()
	}
	if err != nil {
		return Identity{}, fmt.Errorf("says what can't be: %w", err)
	}
	return id, nil
}

// ReadIdentity returns the identity of the brick at path. ENOENT: there is no
// brick; EINVAL: the file is truncated, foreign or of an unknown version.
func ReadIdentity(path string) (Identity, error) {
	const op = "read brick identity"
	name := filepath.Join(path, identityFile)
	f, err := os.Open(name)
	if err != nil {
		return Identity{}, &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	}
	defer f.Close()
	b := make([]byte, identityMax+1)
	n := 0
	for n < len(b) && err == nil {
		var m int
		m, err = f.Read(b[n:])
		n += m
	}
	if n == 0 && err != nil && volume.ErrnoOf(err) == syscall.EISDIR {
		return Identity{}, volume.Errorf(op, path, syscall.EINVAL, "%s is a directory", name)
	}
	id, err := decodeIdentity(b[:n])
	if err != nil {
		return Identity{}, volume.Errorf(op, path, syscall.EINVAL, "%s %w", name, err)
	}
	return id, nil
}
