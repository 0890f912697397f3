package dht

import (
	"context"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var _ volume.Reserver = (*Distribute)(nil)

// Reserve implements volume.Reserver, where the volume has one set. Of several, a name's owner is not all that
// counts: the data may come to another set, and a directory's other copies tell what is in it, too.
func (d *Distribute) Reserve(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	var a volume.Attr
	err := d.withVersion(ctx, "reserve", dir, name, &n, func(ctx context.Context, v *view, s volume.Set) (err error) {
		r, ok := s.(volume.Reserver)
		if !ok || !v.single {
			return fail("reserve", name, syscall.EOPNOTSUPP)
		}
		a, err = r.Reserve(ctx, dir, name, n)
		return err
	})
	return a, err
}
