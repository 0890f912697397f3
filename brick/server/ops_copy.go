package server

import (
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// copyRange copies from one of the client's files to another.
func copyRange(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.CopyArgs
	if !a.Parse(args) {
		return nil, false
	}
	var n int64
	err := on(r, a.Handle, func(to volume.File) error {
		return on(r, a.Source, func(from volume.File) (err error) {
			n, err = volume.CopyFrom(r, to, from, a.From, a.Off, a.Len, a.Flags)
			return err
		})
	})
	r.sess.written.Add(uint64(n))
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendNumber(b, n)
	}
	return b, true
}
