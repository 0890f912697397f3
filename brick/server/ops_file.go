package server

import (
	"slices"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// read answers a read: the data are read right into the reply.
func read(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.ReadArgs
	if !a.Parse(args) {
		return nil, false
	}
	h, err := r.sess.use(r.op, a.Handle)
	if err != nil {
		return wire.AppendStatus(b, err), true
	}
	defer r.sess.done(h)
	status := len(b)
	b = wire.AppendStatus(b, nil)
	data := len(b)
	b = slices.Grow(b, int(a.Len))
	n, err := h.file.ReadAt(r, b[data:data+int(a.Len)], a.Off)
	if err != nil {
		return wire.AppendStatus(b[:status], err), true
	}
	r.sess.read.Add(uint64(n))
	return b[:data+n], true
}

func write(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.WriteArgs
	data, ok := a.Parse(args)
	if !ok {
		return nil, false
	}
	return writeData(r, &a, data, b), true
}

// writeData writes data that came in the frame.
func writeData(r *request, a *wire.WriteArgs, data, b []byte) []byte {
	h, err := r.sess.use(r.op, a.Handle)
	if err != nil {
		return wire.AppendNumber(wire.AppendStatus(b, err), 0)
	}
	defer r.sess.done(h)
	if r.op == wire.OpAppend {
		off, err := h.file.Append(r, data, a.Flags)
		if err == nil {
			r.sess.written.Add(uint64(len(data)))
		}
		return wire.AppendNumber(wire.AppendStatus(b, err), off)
	}
	n, err := h.file.WriteAt(r, data, a.Off, a.Flags)
	r.sess.written.Add(uint64(n))
	return wire.AppendNumber(wire.AppendStatus(b, err), int64(n))
}

func writeSet(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.WriteSetArgs
	data, ok := a.Parse(args)
	if !ok {
		return nil, false
	}
	n := 0
	err := on(r, a.Handle, func(f volume.File) (err error) {
		n, err = f.WriteSet(r, data, a.Off, a.Flags, a.Change)
		return err
	})
	r.sess.written.Add(uint64(n))
	return wire.AppendNumber(wire.AppendStatus(b, err), int64(n)), true
}

func appendData(r *request, args *wire.Reader, b []byte) ([]byte, bool) { return write(r, args, b) }

// on calls f with an open file.
func on(r *request, number uint64, f func(volume.File) error) error {
	h, err := r.sess.use(r.op, number)
	if err != nil {
		return err
	}
	defer r.sess.done(h)
	return f(h.file)
}

func fileGetattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.HandleArgs
	if !a.Parse(args) {
		return nil, false
	}
	var attr volume.Attr
	err := on(r, a.Handle, func(f volume.File) (err error) {
		attr, err = f.Getattr(r)
		return err
	})
	return attrReply(b, attr, err)
}

func fileSetattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.FileSetattrArgs
	if !a.Parse(args) {
		return nil, false
	}
	var attr volume.Attr
	err := on(r, a.Handle, func(f volume.File) (err error) {
		attr, err = f.Setattr(r, a.Change)
		return err
	})
	return attrReply(b, attr, err)
}

func allocate(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.AllocateArgs
	if !a.Parse(args) {
		return nil, false
	}
	err := on(r, a.Handle, func(f volume.File) error { return f.Allocate(r, a.Mode, a.Off, a.Len) })
	return wire.AppendStatus(b, err), true
}

func seek(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.SeekArgs
	if !a.Parse(args) {
		return nil, false
	}
	var off int64
	err := on(r, a.Handle, func(f volume.File) (err error) {
		off, err = f.Seek(r, a.Off, int(a.Whence))
		return err
	})
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendNumber(b, off)
	}
	return b, true
}

func fileSync(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.FileSyncArgs
	if !a.Parse(args) {
		return nil, false
	}
	err := on(r, a.Handle, func(f volume.File) error { return f.Sync(r, a.DataOnly) })
	return wire.AppendStatus(b, err), true
}

func flush(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.HandleArgs
	if !a.Parse(args) {
		return nil, false
	}
	err := on(r, a.Handle, func(f volume.File) error { return f.Flush(r) })
	return wire.AppendStatus(b, err), true
}
