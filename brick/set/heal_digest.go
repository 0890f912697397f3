package set

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/mortarfs/mortar/volume"
)

// digest is an object in numbers: equal ones are of equal objects.
type digest struct {
	known bool
	meta  uint64 // of what Describe tells, atime excepted
	data  uint64 // of the contents of a file of up to digestBytes
	large bool   // the file is larger; not told over the wire
}

func (s near) digests(ctx context.Context, ids []volume.ID) ([]digest, error) {
	var all []digest
	left := int64(4 * digestBytes)
	for _, id := range ids[:min(len(ids), digestsMax)] {
		if len(all) > 0 && left <= 0 {
			break
		}
		o, err := s.describe(ctx, id)
		if isStale(err) {
			all = append(all, digest{})
			continue
		}
		d := digest{known: true, meta: metaSum(o)}
		d.large = o.Attr.IsRegular() && o.Attr.Size > digestBytes
		if err == nil && o.Attr.IsRegular() && !d.large {
			left -= o.Attr.Size
			d.data, err = s.contentSum(ctx, o)
		}
		if damagedRead(err) {
			d, err = digest{known: true, large: true}, nil // equal to none
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// contentSum is a hash of the contents of a file of up to digestBytes.
func (s near) contentSum(ctx context.Context, o volume.Object) (uint64, error) {
	sums, err := s.m.Sums(ctx, o.Attr.ID, 0, digestBytes/blockSize, blockSize)
	if isStale(err) {
		return 0, nil // gone since
	}
	if err != nil {
		return 0, err
	}
	h := sha256.New()
	for _, v := range sums {
		h.Write(binary.LittleEndian.AppendUint64(nil, v))
	}
	return binary.LittleEndian.Uint64(h.Sum(nil)), nil
}

// metaSum is a hash of what an object is, names, contents and atime excepted.
func metaSum(o volume.Object) uint64 {
	var w writer
	w.object(settled(o))
	h := sha256.Sum256(w.b)
	return binary.LittleEndian.Uint64(h[:])
}

// settled returns what of an object has to be equal on all members: what
// Install makes, without the atime, which reads change at the primary only.
func settled(o volume.Object) volume.Object {
	a := &o.Attr
	a.Nlink, a.Blocks, a.Atime, a.Ctime, a.Btime = 0, 0, volume.Time{}, volume.Time{}, volume.Time{}
	if !a.IsRegular() {
		a.Size = 0
	}
	return o
}

// sameObject reports whether Install would have nothing to do but for the atime.
func sameObject(a, b volume.Object) bool {
	a, b = settled(a), settled(b)
	return a.Attr == b.Attr && a.Target == b.Target && slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y volume.Xattr) bool {
		return x.Name == y.Name && bytes.Equal(x.Value, y.Value)
	})
}
