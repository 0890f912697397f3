package brick

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mortarfs/mortar/volume"
)

// The attributes that make a file of the brick's file system an object.
const (
	attrPrefix  = "trusted.mortar."
	attrID      = attrPrefix + "id"
	attrDir     = attrPrefix + "dir"
	attrPointer = attrPrefix + "pointer"
	attrTarget  = attrPrefix + "target"
)

// The attributes that are POSIX ACLs.
const (
	attrACL        = volume.ACLAccess
	attrDefaultACL = volume.ACLDefault
)

// metaVersion begins the values of attrDir and attrPointer.
const metaVersion = 1

// The lengths of the attributes' values, in bytes.
const (
	idLen      = 16
	dirMetaLen = 1 + 8 + 2
	pointerLen = 1 + idLen + 4 + 2
)

// pointerMode is the mode of the empty regular file that stands for a pointer:
// no permission but the sticky bit, so that it looks odd to who lists the brick.
const pointerMode = 0o1000

// dirMeta is what a directory has beyond an ID.
type dirMeta struct {
	Version uint64 // volume.Attr.Version
	Home    volume.SetID
}

func encodeID(id volume.ID) []byte { return id[:] }

func decodeID(b []byte) (volume.ID, error) {
	if len(b) != idLen {
		return volume.ID{}, fmt.Errorf("%s has %d bytes, not %d", attrID, len(b), idLen)
	}
	id := volume.ID(b)
	if id.IsZero() {
		return id, fmt.Errorf("%s is zero", attrID)
	}
	return id, nil
}

func encodeDirMeta(m dirMeta) []byte {
	b := append(make([]byte, 0, dirMetaLen), metaVersion)
	b = binary.BigEndian.AppendUint64(b, m.Version)
	return binary.BigEndian.AppendUint16(b, uint16(m.Home))
}

func decodeDirMeta(b []byte) (dirMeta, error) {
	if len(b) != dirMetaLen || b[0] != metaVersion {
		return dirMeta{}, fmt.Errorf("%s is not of version %d", attrDir, metaVersion)
	}
	return dirMeta{binary.BigEndian.Uint64(b[1:]), volume.SetID(binary.BigEndian.Uint16(b[9:]))}, nil
}

func encodePointer(p volume.Pointer) []byte {
	b := append(make([]byte, 0, pointerLen), metaVersion)
	b = append(b, p.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, p.Mode)
	return binary.BigEndian.AppendUint16(b, uint16(p.Held))
}

func decodePointer(b []byte) (volume.Pointer, error) {
	if len(b) != pointerLen || b[0] != metaVersion {
		return volume.Pointer{}, fmt.Errorf("%s is not of version %d", attrPointer, metaVersion)
	}
	p := volume.Pointer{
		ID:   volume.ID(b[1 : 1+idLen]),
		Mode: binary.BigEndian.Uint32(b[17:]),
		Held: volume.SetID(binary.BigEndian.Uint16(b[21:])),
	}
	if p.ID.IsZero() || p.Held == 0 {
		return volume.Pointer{}, fmt.Errorf("%s leads nowhere", attrPointer)
	}
	return p, nil
}

// longLink is the contents of a symbolic link whose target is too long for the
// file system (XFS takes 1023 bytes); the target is the value of attrTarget. It is
// as long as XFS takes, so that its length tells nearly all other links from it.
var longLink = func() string {
	const text = "/this link is too long for the file system; its target is in the attribute " + attrTarget
	return text + strings.Repeat("/", longLinkLen-len(text))
}()

const longLinkLen = 1023

// node is what the store knows of a file of its file system: which object it
// is, or to which one it points.
type node struct {
	volume.Pointer         // Held 0: the object itself
	dir            dirMeta // of a directory
}

const hexDigits = "0123456789abcdef"

// indexPath is the place of an object below .mortar/id: "aa/aabb…".
func indexPath(id volume.ID) string {
	var b [3 + 2*idLen]byte
	for i, c := range id {
		b[3+2*i], b[4+2*i] = hexDigits[c>>4], hexDigits[c&15]
	}
	b[0], b[1], b[2] = b[3], b[4], '/'
	return string(b[:])
}

// nowhere is the parent of a directory without a name, which lies in
// .mortar/open and is called by its ID there.
var nowhere volume.ID

// namelessPrefix begins the index entry of a directory that lies there.
const namelessPrefix = "../../" + openDir + "/"

// placeTarget is the contents of a directory's index entry: where the
// directory lies, as a symbolic link that also a person can follow.
func placeTarget(parent volume.ID, name string) string {
	switch parent {
	case nowhere:
		return namelessPrefix + name
	case volume.Root:
		return "../../../" + name
	}
	return "../" + indexPath(parent) + "/" + name
}

// parsePlace reads what placeTarget returned; ok is false for anything else.
func parsePlace(target string) (parent volume.ID, name string, ok bool) {
	const idAt, nameAt = 6, 6 + 2*idLen + 1 // ../aa/<id>/<name>
	if text, is := strings.CutPrefix(target, namelessPrefix); is {
		_, err := volume.ParseID(text)
		return nowhere, text, err == nil
	}
	if len(target) > 9 && target[:9] == "../../../" {
		parent, name = volume.Root, target[9:]
	} else {
		if len(target) <= nameAt || target[:3] != "../" || target[5] != '/' || target[nameAt-1] != '/' {
			return parent, "", false
		}
		id, err := volume.ParseID(target[idAt : nameAt-1])
		if err != nil || target[3:5] != target[idAt:idAt+2] {
			return parent, "", false
		}
		parent, name = id, target[nameAt:]
	}
	return parent, name, volume.CheckName("", name) == nil
}
