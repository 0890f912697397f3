package server

import (
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

func attrReply(b []byte, a volume.Attr, err error) ([]byte, bool) {
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendAttr(b, &a)
	}
	return b, true
}

func lookup(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.NameArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Lookup(r, a.Dir, a.Name)
	if err == nil {
		var some bool
		if some, err = r.settled(&attr); some && err == nil {
			attr, err = r.sess.role.set.Lookup(r, a.Dir, a.Name)
		}
	}
	return attrReply(b, attr, err)
}

func getattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.IDArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Getattr(r, a.ID)
	return attrReply(b, attr, err)
}

func setattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.SetattrArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Setattr(r, a.ID, a.Change)
	return attrReply(b, attr, err)
}

func makeNode(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.MakeArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Make(r, a.Dir, a.Name, a.Node)
	return attrReply(b, attr, err)
}

// bear makes a file with what is in it. Under a reserved name it is safe to repeat: who finds that it is there has made it.
func bear(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.BearArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Make(r, a.Dir, a.Name, a.Node)
	if a.Reserved && volume.ErrnoOf(err) == syscall.EEXIST {
		if there, e := r.sess.role.set.Lookup(r, a.Dir, a.Name); e == nil && there.ID == a.Node.ID {
			attr, err = there, nil
		}
	}
	if err == nil {
		r.sess.written.Add(uint64(len(a.Node.Data)))
	}
	if err == nil && a.Reserved {
		if f, err := r.sess.role.set.Open(r, attr.ID, volume.Read); err == nil {
			r.sess.role.names.hold(held{f, wire.DirName{Dir: a.Dir, Name: a.Name}, r.sess.id, r.start.Add(heldFor)})
		}
	}
	return attrReply(b, attr, err)
}

func create(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.CreateArgs
	if !a.Parse(args) {
		return nil, false
	}
	f, attr, err := r.sess.role.set.Create(r, a.Dir, a.Name, a.Node, a.Flags)
	if err == nil && f != nil {
		err = r.sess.open(r, r.number, f)
	}
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendCreated(b, f != nil, &attr)
	}
	return b, true
}

func open(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.OpenArgs
	if !a.Parse(args) || a.Handle == 0 {
		return nil, false
	}
	if a.Handle != r.number && r.sess.isOpen(a.Handle) {
		return wire.AppendStatus(b, nil), true // opened again already
	}
	f, err := r.sess.role.set.Open(r, a.ID, a.Flags)
	if err == nil {
		r.aside = contents(r, f, int(a.Want))
		err = r.sess.open(r, a.Handle, f)
	}
	return wire.AppendStatus(b, err), true
}

// contents returns what a file's reader asks for next: a Told frame of its attributes, and a Data frame of all that is in it if that is something
// and at most want bytes.
func contents(r *request, f volume.File, want int) []byte {
	if want == 0 {
		return nil
	}
	a, err := f.Getattr(r)
	if err != nil {
		return nil
	}
	told := wire.AppendTold(make([]byte, 0, 512), &a)
	if a.Size == 0 || a.Size > int64(want) {
		return told
	}
	// One byte more than there is shows that it is all.
	start := len(told)
	b := append(told, make([]byte, wire.FrameHeader+a.Size+1)...)
	n, err := f.ReadAt(r, b[start+wire.FrameHeader:], 0)
	if err != nil || int64(n) > a.Size {
		return told
	}
	r.sess.read.Add(uint64(n))
	wire.AppendFrameHeader(b[:start], wire.Data, 0, 0)
	return wire.EndFrame(b[:start+wire.FrameHeader+n], start)
}

func readlink(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.IDArgs
	if !a.Parse(args) {
		return nil, false
	}
	target, err := r.sess.role.set.Readlink(r, a.ID)
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendText(b, target)
	}
	return b, true
}

func link(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.LinkArgs
	if !a.Parse(args) {
		return nil, false
	}
	attr, err := r.sess.role.set.Link(r, a.ID, a.Dir, a.Name)
	return attrReply(b, attr, err)
}

func unlink(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.NameArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.role.set.Unlink(r, a.Dir, a.Name)), true
}

func rmdir(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.NameArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.role.set.Rmdir(r, a.Dir, a.Name)), true
}

func rename(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.RenameArgs
	if !a.Parse(args) {
		return nil, false
	}
	err := r.sess.role.set.Rename(r, a.OldDir, a.OldName, a.NewDir, a.NewName, a.Flags)
	return wire.AppendStatus(b, err), true
}

func readDir(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.ReadDirArgs
	if !a.Parse(args) {
		return nil, false
	}
	entries, end, err := r.sess.role.set.ReadDir(r, a.Dir, a.After, int(a.Max), a.Attrs)
	r.sess.role.names.settledOnly(entries)
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendEntries(b, entries, end)
	}
	return b, true
}

func getxattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.XattrArgs
	if !a.Parse(args) {
		return nil, false
	}
	value, err := r.sess.role.set.Getxattr(r, a.ID, a.Name)
	if err == nil && len(value) > volume.XattrValueMax {
		err = &volume.Error{Op: "getxattr", Where: a.Name, Errno: syscall.E2BIG}
	}
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendValue(b, value)
	}
	return b, true
}

func setxattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.SetxattrArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.role.set.Setxattr(r, a.ID, a.Name, a.Value, a.Flags)), true
}

func listxattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.IDArgs
	if !a.Parse(args) {
		return nil, false
	}
	names, err := r.sess.role.set.Listxattr(r, a.ID)
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendNames(b, names)
	}
	return b, true
}

func removexattr(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.XattrArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.role.set.Removexattr(r, a.ID, a.Name)), true
}

func syncObject(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.IDArgs
	if !a.Parse(args) {
		return nil, false
	}
	return wire.AppendStatus(b, r.sess.role.set.Sync(r, a.ID)), true
}

// askPeer answers another member: neither the data nor the answer are copied.
func askPeer(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.PeerArgs
	data, ok := a.Parse(args)
	if !ok {
		return nil, false
	}
	ask := r.sess.srv.conf.Peer
	if ask == nil {
		return wire.AppendStatus(b, &volume.Error{Op: "peer", Errno: syscall.EOPNOTSUPP}), true
	}
	answer, err := ask(r, a.Message, data)
	if err == nil && len(answer) > wire.PeerAnswerMax {
		err = volume.Errorf("peer", "", syscall.EIO, "the answer has %d bytes", len(answer))
	}
	if err == nil {
		r.tail = answer
	}
	return wire.AppendStatus(b, err), true
}

func statfs(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	if !args.Done() {
		return nil, false
	}
	s, err := r.sess.role.set.Statfs(r)
	if b = wire.AppendStatus(b, err); err == nil {
		b = wire.AppendStatfs(b, s)
	}
	return b, true
}

func step(r *request, args *wire.Reader, b []byte) ([]byte, bool) {
	var a wire.StepArgs
	if !a.Parse(args) {
		return nil, false
	}
	answer, err := r.sess.role.set.Step(r, a.Step)
	if err == nil && len(answer) > wire.StepMax {
		err = volume.Errorf("step", "", syscall.EIO, "the answer has %d bytes", len(answer))
	}
	if b = wire.AppendStatus(b, err); err == nil {
		b = append(b, answer...)
	}
	return b, true
}
