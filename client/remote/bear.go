package remote

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Make is volume.FS's.
func (r *Remote) Make(ctx context.Context, dir volume.ID, name string, n volume.Node) (volume.Attr, error) {
	if err := checkNode(wire.OpMake, name, &n); err != nil {
		return volume.Attr{}, err
	}
	if reserved := r.promised(n.ID); reserved || n.Bears() {
		return r.bear(ctx, dir, name, n, reserved)
	}
	c := r.newCall(ctx, wire.OpMake)
	c.frame = (&wire.MakeArgs{Dir: dir, Name: name, Node: n}).Append(c.frame)
	return r.attr(ctx, c)
}

// bear is Make of a file with what is in it.
func (r *Remote) bear(ctx context.Context, dir volume.ID, name string, n volume.Node, reserved bool) (volume.Attr, error) {
	if err := n.CheckBears(wire.OpMake.String(), name); err != nil {
		return volume.Attr{}, err
	}
	known, err := r.speaksKnown(ctx, wire.BearSince, dir)
	if err != nil {
		return volume.Attr{}, err
	}
	if !known {
		return r.bearInSteps(ctx, dir, name, n)
	}
	if reserved {
		defer r.kept(n.ID)
		if a, twice, err := r.bearWhole(ctx, dir, name, n, true); volume.ErrnoOf(err) != syscall.EOPNOTSUPP || twice {
			return a, err
		}
	}
	a, _, err := r.bearWhole(ctx, dir, name, n, false)
	return a, err
}

// bearWhole asks for a file to be made with what is in it. If its name is reserved, other servers hold that back for it
// until it is over, so it may be sent to one again that does not know whether it was executed. The answer EOPNOTSUPP is then that it
// was not, and the name is not reserved any more; but if it was sent twice it may have been, at the first.
func (r *Remote) bearWhole(ctx context.Context, dir volume.ID, name string, n volume.Node, reserved bool) (a volume.Attr, twice bool, err error) {
	c := r.newCall(ctx, wire.OpBear)
	defer free(c)
	c.repeatable = reserved
	c.frame = (&wire.BearArgs{MakeArgs: wire.MakeArgs{Dir: dir, Name: name, Node: n}, Reserved: reserved}).Append(c.frame)
	c.out = n.Data
	rd, err := r.do(ctx, c)
	if err == nil {
		if a = rd.Attr(); !rd.Done() {
			err = r.malformed(c.op)
		}
	}
	if c.twice && volume.ErrnoOf(err) == syscall.EOPNOTSUPP {
		return a, true, r.unknown(c.op.String(), "the brick was restarted before it answered")
	}
	return a, c.twice, err
}

// speaksKnown is speaks for who must not guess. If no brick has been heard yet it asks for what is needed anyway, the directory.
func (r *Remote) speaksKnown(ctx context.Context, version uint16, dir volume.ID) (bool, error) {
	r.mu.Lock()
	known := r.mu.version != 0
	r.mu.Unlock()
	if !known {
		if _, err := r.Getattr(ctx, dir); err != nil {
			return false, err
		}
	}
	return r.speaks(version), nil
}

// bearInSteps is bear at a brick of an older version. It is not atomic there: whoever looks meanwhile sees the file
// empty, and if this process dies, it stays so.
func (r *Remote) bearInSteps(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	opened, a, err := r.Create(ctx, dir, name, n.Plain(), volume.Write|volume.Excl)
	if err != nil {
		return volume.Attr{}, err
	}
	if opened == nil { // its place is another set, of which the brick tells but this
		err = volume.Errorf(wire.OpBear.String(), r.where, syscall.EOPNOTSUPP,
			"the brick's program is too old to make a file with contents where there is more space; update it")
	} else {
		defer opened.Close()
		var flags volume.WriteFlags
		if volume.CredOf(ctx).UID != 0 {
			flags = volume.WriteKillPriv
		}
		if _, err = opened.WriteSet(ctx, n.Data, 0, flags, n.Then); err == nil {
			return opened.Getattr(ctx)
		}
	}
	r.unmake(ctx, dir, name, a.ID)
	return volume.Attr{}, err
}

// unmake removes what could not be made whole, if it has its name still.
func (r *Remote) unmake(ctx context.Context, dir volume.ID, name string, id volume.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmakeTime)
	defer cancel()
	if a, err := r.Lookup(ctx, dir, name); err == nil && a.ID == id {
		_ = r.Unlink(ctx, dir, name) // what it failed with is told anyway
	}
}

// unmakeTime bounds unmake, whoever has gone.
const unmakeTime = 10 * time.Second
