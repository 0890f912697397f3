package remote

import (
	"cmp"
	"context"
	"syscall"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// checkName refuses a name that the protocol can't carry; what else may be wrong
// with it the brick says.
func checkName(op wire.Op, name string) error {
	if len(name) > volume.NameMax {
		return volume.CheckName(op.String(), name)
	}
	return nil
}

// attr finishes a call whose result is an Attr.
func (r *Remote) attr(ctx context.Context, c *call) (a volume.Attr, err error) {
	defer free(c)
	rd, err := r.do(ctx, c)
	if err == nil {
		if a = rd.Attr(); !rd.Done() {
			err = r.malformed(c.op)
		}
	}
	return a, err
}

// nothing finishes a call without a result.
func (r *Remote) nothing(ctx context.Context, c *call) error {
	defer free(c)
	_, err := r.do(ctx, c)
	return err
}

// Lookup is volume.FS's.
func (r *Remote) Lookup(ctx context.Context, dir volume.ID, name string) (volume.Attr, error) {
	if err := checkName(wire.OpLookup, name); err != nil {
		return volume.Attr{}, err
	}
	c := r.newCall(ctx, wire.OpLookup)
	c.frame = (&wire.NameArgs{Dir: dir, Name: name}).Append(c.frame)
	return r.attr(ctx, c)
}

// Getattr is volume.FS's.
func (r *Remote) Getattr(ctx context.Context, id volume.ID) (volume.Attr, error) {
	c := r.newCall(ctx, wire.OpGetattr)
	c.frame = (&wire.IDArgs{ID: id}).Append(c.frame)
	return r.attr(ctx, c)
}

// Setattr is volume.FS's.
func (r *Remote) Setattr(ctx context.Context, id volume.ID, change volume.Change) (volume.Attr, error) {
	change, err := r.understood(ctx, id, change)
	if err != nil {
		return volume.Attr{}, err
	}
	c := r.newCall(ctx, wire.OpSetattr)
	c.changes(id, 0, 0)
	c.frame = (&wire.SetattrArgs{ID: id, Change: change}).Append(c.frame)
	return r.attr(ctx, c)
}

// understood returns what is left of a change when that part of it is made of which a brick of an older version
// does not know.
func (r *Remote) understood(ctx context.Context, id volume.ID, c volume.Change) (volume.Change, error) {
	if c.Mask&volume.SetMinimalACL == 0 || r.speaks(wire.WriteSetSince) {
		return c, nil
	}
	c.Mask &^= volume.SetMinimalACL
	return c, r.Setxattr(ctx, id, volume.ACLAccess, volume.MinimalACL(c.Mode), 0)
}

func checkNode(op wire.Op, name string, n *volume.Node) error {
	if len(n.Target) > volume.TargetMax {
		return &volume.Error{Op: op.String(), Where: name, Errno: syscall.ENAMETOOLONG}
	}
	return checkName(op, name)
}

// Create is volume.FS's.
func (r *Remote) Create(ctx context.Context, dir volume.ID, name string, n volume.Node, f volume.Flags) (volume.File, volume.Attr, error) {
	if err := checkNode(wire.OpCreate, name, &n); err != nil {
		return nil, volume.Attr{}, err
	}
	if err := n.CheckEmpty(wire.OpCreate.String(), name); err != nil {
		return nil, volume.Attr{}, err
	}
	c := r.newCall(ctx, wire.OpCreate)
	defer free(c)
	c.flags = f
	c.frame = (&wire.CreateArgs{Dir: dir, Name: name, Node: n, Flags: f}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return nil, volume.Attr{}, err
	}
	_, a := rd.Created()
	if c.opened == nil { // a pointer
		return nil, a, nil
	}
	return c.opened, a, nil
}

// Open is volume.FS's.
func (r *Remote) Open(ctx context.Context, id volume.ID, f volume.Flags) (volume.File, error) {
	c := r.newCall(ctx, wire.OpOpen)
	defer free(c)
	c.id, c.flags = id, f
	c.frame = (&wire.OpenArgs{ID: id, Flags: f, Handle: c.number, Want: wants(f)}).Append(c.frame)
	if _, err := r.do(ctx, c); err != nil {
		return nil, err
	}
	return c.opened, nil
}

// Readlink is volume.FS's.
func (r *Remote) Readlink(ctx context.Context, id volume.ID) (string, error) {
	c := r.newCall(ctx, wire.OpReadlink)
	defer free(c)
	c.frame = (&wire.IDArgs{ID: id}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return "", err
	}
	target := rd.Text(volume.TargetMax)
	if !rd.Done() {
		return "", r.malformed(c.op)
	}
	return target, nil
}

// Link is volume.FS's.
func (r *Remote) Link(ctx context.Context, id, dir volume.ID, name string) (volume.Attr, error) {
	if err := checkName(wire.OpLink, name); err != nil {
		return volume.Attr{}, err
	}
	c := r.newCall(ctx, wire.OpLink)
	c.frame = (&wire.LinkArgs{ID: id, Dir: dir, Name: name}).Append(c.frame)
	return r.attr(ctx, c)
}

// Unlink is volume.FS's.
func (r *Remote) Unlink(ctx context.Context, dir volume.ID, name string) error {
	return r.remove(ctx, wire.OpUnlink, dir, name)
}

// Rmdir is volume.FS's.
func (r *Remote) Rmdir(ctx context.Context, dir volume.ID, name string) error {
	return r.remove(ctx, wire.OpRmdir, dir, name)
}

func (r *Remote) remove(ctx context.Context, op wire.Op, dir volume.ID, name string) error {
	if r.late.Load() && r.speaks(wire.ReserveSince) {
		return r.removeLater(ctx, dir, name, op == wire.OpRmdir)
	}
	if err := checkName(op, name); err != nil {
		return err
	}
	c := r.newCall(ctx, op)
	c.frame = (&wire.NameArgs{Dir: dir, Name: name}).Append(c.frame)
	return r.nothing(ctx, c)
}

// Rename is volume.FS's.
func (r *Remote) Rename(ctx context.Context, oldDir volume.ID, oldName string, newDir volume.ID, newName string, f volume.RenameFlags) error {
	for _, name := range []string{oldName, newName} {
		if err := checkName(wire.OpRename, name); err != nil {
			return err
		}
	}
	c := r.newCall(ctx, wire.OpRename)
	a := wire.RenameArgs{OldDir: oldDir, OldName: oldName, NewDir: newDir, NewName: newName, Flags: f}
	c.frame = a.Append(c.frame)
	return r.nothing(ctx, c)
}

// ReadDir is volume.FS's.
func (r *Remote) ReadDir(ctx context.Context, dir volume.ID, after volume.Cookie, max int, attrs bool) ([]volume.Entry, bool, error) {
	if max < 1 || max > volume.ReadDirMax {
		return nil, false, volume.Errorf("readdir", "", syscall.EINVAL, "%d entries", max)
	}
	c := r.newCall(ctx, wire.OpReadDir)
	defer free(c)
	c.frame = (&wire.ReadDirArgs{Dir: dir, After: after, Max: uint32(max), Attrs: attrs}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return nil, false, err
	}
	entries, end := rd.Entries()
	if !rd.Done() {
		return nil, false, r.malformed(c.op)
	}
	return entries, end, nil
}

func checkXattr(op wire.Op, name string) error {
	if len(name) > volume.XattrNameMax {
		return &volume.Error{Op: op.String(), Where: name[:32] + "…", Errno: syscall.ERANGE}
	}
	return nil
}

// Getxattr is volume.FS's.
func (r *Remote) Getxattr(ctx context.Context, id volume.ID, name string) ([]byte, error) {
	if err := checkXattr(wire.OpGetxattr, name); err != nil {
		return nil, err
	}
	c := r.newCall(ctx, wire.OpGetxattr)
	defer free(c)
	c.frame = (&wire.XattrArgs{ID: id, Name: name}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return nil, err
	}
	value := append([]byte{}, rd.Value(volume.XattrValueMax)...)
	if !rd.Done() {
		return nil, r.malformed(c.op)
	}
	return value, nil
}

// Setxattr is volume.FS's.
func (r *Remote) Setxattr(ctx context.Context, id volume.ID, name string, value []byte, f volume.XattrFlags) error {
	if err := checkXattr(wire.OpSetxattr, name); err != nil {
		return err
	}
	if len(value) > volume.XattrValueMax {
		return &volume.Error{Op: "setxattr", Where: name, Errno: syscall.E2BIG}
	}
	c := r.newCall(ctx, wire.OpSetxattr)
	c.repeatable = f == 0
	c.changes(id, 0, 0)
	c.frame = (&wire.SetxattrArgs{ID: id, Name: name, Flags: f, Value: value}).Append(c.frame)
	return r.nothing(ctx, c)
}

// Listxattr is volume.FS's.
func (r *Remote) Listxattr(ctx context.Context, id volume.ID) ([]string, error) {
	c := r.newCall(ctx, wire.OpListxattr)
	defer free(c)
	c.frame = (&wire.IDArgs{ID: id}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return nil, err
	}
	names := rd.Names()
	if !rd.Done() {
		return nil, r.malformed(c.op)
	}
	return names, nil
}

// Removexattr is volume.FS's.
func (r *Remote) Removexattr(ctx context.Context, id volume.ID, name string) error {
	if err := checkXattr(wire.OpRemovexattr, name); err != nil {
		return err
	}
	c := r.newCall(ctx, wire.OpRemovexattr)
	c.frame = (&wire.XattrArgs{ID: id, Name: name}).Append(c.frame)
	return r.nothing(ctx, c)
}

// Sync is volume.FS's.
func (r *Remote) Sync(ctx context.Context, id volume.ID) error {
	c := r.newCall(ctx, wire.OpSync)
	c.frame = (&wire.IDArgs{ID: id}).Append(c.frame)
	err := r.nothing(ctx, c)
	return cmp.Or(r.unmadeIn(id), err)
}

// Statfs is volume.FS's.
func (r *Remote) Statfs(ctx context.Context) (volume.Statfs, error) {
	c := r.newCall(ctx, wire.OpStatfs)
	defer free(c)
	rd, err := r.do(ctx, c)
	if err != nil {
		return volume.Statfs{}, err
	}
	s := rd.Statfs()
	if !rd.Done() {
		return volume.Statfs{}, r.malformed(c.op)
	}
	return s, nil
}

// Peer asks another member of the own set: a message of at most
// wire.PeerMessageMax bytes with data of at most volume.IOMax, which are sent from
// where they lie and are the caller's again afterwards. The answer has at most
// wire.PeerAnswerMax bytes. It waits neither for a connection (Reason Unavailable) nor for what else is
// asked. After a failure the brick may have been asked, also twice, or may be yet.
func (r *Remote) Peer(ctx context.Context, msg, data []byte) ([]byte, error) {
	p, err := r.StartPeer(ctx, msg, data)
	if err != nil {
		return nil, err
	}
	return p.Wait()
}

// PeerCall is a Peer under way. Wait must be called, once, by the goroutine that
// has started it: it takes the answer off the connection itself, so that several members can be asked at
// a time without any goroutine for each.
type PeerCall struct {
	r   *Remote
	ctx context.Context
	c   *call
	t   try
}

// StartPeer begins a Peer: it sends the question. msg and data must be left alone until Wait has returned.
func (r *Remote) StartPeer(ctx context.Context, msg, data []byte) (PeerCall, error) {
	if len(msg) > wire.PeerMessageMax || len(data) > volume.IOMax {
		return PeerCall{}, volume.Errorf("peer", r.where, syscall.EINVAL, "a message of %d bytes with %d of data", len(msg), len(data))
	}
	c := r.newCall(ctx, wire.OpPeer)
	c.frame = (&wire.PeerArgs{Message: msg}).Append(c.frame)
	c.out = data
	t, err := r.start(ctx, c)
	if err != nil {
		free(c)
		return PeerCall{}, err
	}
	return PeerCall{r, ctx, c, t}, nil
}

// Wait returns what Peer returns.
func (p PeerCall) Wait() ([]byte, error) {
	defer free(p.c)
	rd, err := p.r.await(p.ctx, p.c, p.t)
	if err != nil {
		return nil, err
	}
	answer := rd.Rest(wire.PeerAnswerMax)
	if rd.Bad() {
		return nil, p.r.malformed(p.c.op)
	}
	return answer, nil
}

// Step is volume.Set's.
func (r *Remote) Step(ctx context.Context, step []byte) ([]byte, error) {
	if len(step) > wire.StepMax {
		return nil, volume.Errorf("step", r.where, syscall.EINVAL, "%d bytes", len(step))
	}
	c := r.newCall(ctx, wire.OpStep)
	defer free(c)
	c.frame = (&wire.StepArgs{Step: step}).Append(c.frame)
	rd, err := r.do(ctx, c)
	if err != nil {
		return nil, err
	}
	answer := append([]byte(nil), rd.Rest(wire.StepMax)...)
	if rd.Bad() {
		return nil, r.malformed(c.op)
	}
	return answer, nil
}
