package remote

import (
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// What becomes of calls that were sent to a server which is the set's no more. The
// one that is, and does not know the session, may tell what its predecessors executed
// (Welcome.Decides). A call that was executed ends with the reply made of what is told. One that
// was not is sent, under its number, like one that is new. One of which nothing is
// known ends with Reason Unknown, unless it may be repeated blindly.

// asks reports whether the outcome of a call is to be asked for. Those that change
// nothing are sent again, and so are Sync, Flush and Open: if it cuts the file
// it may do that twice, for until it has returned nobody can rely on what is written. Of a Copy
// nobody remembers how much it copied, so that it must be made again to know.
func (c *call) asks() bool {
	switch c.op {
	case wire.OpOpen, wire.OpSync, wire.OpFileSync, wire.OpFlush, wire.OpLock, wire.OpCopy:
		return false
	}
	return c.sent && !c.op.Repeatable()
}

// settled reports whether the outcome d (nil: none was told) is the end of a call. Of
// changes that may be repeated it is not, unless a later one of the same was
// acknowledged, which the repetition would undo.
func (c *call) settled(d *wire.Decided) bool {
	if d == nil || !d.Executed || !c.asks() {
		return false
	}
	return !c.tellsAttr() || !d.Outcome.Attr.ID.IsZero()
}

// tellsAttr reports whether the reply to a call has attributes.
func (c *call) tellsAttr() bool {
	switch c.op {
	case wire.OpCreate, wire.OpMake, wire.OpBear, wire.OpLink, wire.OpSetattr, wire.OpFileSetattr:
		return true
	}
	return false
}

// replyOf returns the body of the reply that a call whose outcome this is would have got.
//
//   - Create: the object has been made, or opened and perhaps cut. What is missing is the
//     handle: the file is opened by its ID, without making or cutting it again, as
//     all open files are in a new session (reopen). A pointer has no file.
//   - Make, Bear, Link: the name is there, and the attributes are the object's at that time or
//     later: as if the reply had been slow.
//   - Setattr: likewise; that it is told at all means that a later change was
//     acknowledged, before which this one counts as done.
//   - Append: the data are at the offset that was settled then, in one piece.
//   - Write, WriteSet: likewise at its own; all of it, since what does not fit fails, and is no execution.
//   - Unlink, Rmdir, Rename, Setxattr, Removexattr, Allocate: success has no result.
//     Whatever has happened to the name since, came after.
func replyOf(c *call, o *wire.Outcome) []byte {
	b := wire.AppendStatus(nil, nil)
	switch c.op {
	case wire.OpCreate:
		return wire.AppendCreated(b, o.Attr.Held == 0, &o.Attr)
	case wire.OpMake, wire.OpBear, wire.OpLink, wire.OpSetattr, wire.OpFileSetattr:
		return wire.AppendAttr(b, &o.Attr)
	case wire.OpRemove:
		return wire.AppendGoing(b, wire.Going{})
	case wire.OpAppend:
		return wire.AppendNumber(b, o.Offset)
	case wire.OpWrite, wire.OpWriteSet:
		return wire.AppendNumber(b, int64(len(c.out)))
	}
	return b
}

// decisions are what a Welcome tells, by the requests' numbers.
type decisions map[uint64]*wire.Decided

func decisionsOf(w *wire.WelcomeBody) decisions {
	if w.Known || !w.Decides {
		return nil
	}
	all := decisions{}
	for i := range w.Outcomes {
		all[w.Outcomes[i].Number] = &w.Outcomes[i]
	}
	return all
}

// made returns the files of Creates that were executed, which have to be opened.
func (r *Remote) made(all decisions) []*file {
	r.mu.Lock()
	defer r.mu.Unlock()
	var files []*file
	for n, d := range all {
		if c := r.mu.pending[n]; c != nil && c.op == wire.OpCreate && c.settled(d) && d.Outcome.Attr.Held == 0 {
			files = append(files, r.newFile(c, d.Outcome.Attr.ID))
		}
	}
	return files
}

// newFile returns the file that a call has opened.
func (r *Remote) newFile(c *call, object volume.ID) *file {
	return &file{r: r, id: object, handle: c.number, flags: c.flags &^ (volume.Truncate | volume.Excl | volume.KillPriv)}
}

// settleLocked ends the calls of which it is told that they were executed; made are
// files of theirs. One that ends may supersede others, which then end, too.
func (r *Remote) settleLocked(all decisions, made []*file) {
	for _, f := range made {
		if c := r.mu.pending[f.handle]; c == nil { // the caller has gone meanwhile
			r.mu.closes = append(r.mu.closes, f.handle)
		} else {
			c.opened, r.mu.files[f.handle] = f, f
		}
	}
	for again := true; again; {
		again = false
		for n, d := range all {
			c := r.mu.pending[n]
			if c == nil || !c.settled(d) {
				continue
			}
			c.outcome = replyOf(c, &d.Outcome)
			r.takeLocked(c, true)
			r.release(c)
			c.done <- struct{}{}
			again = true
		}
	}
}

// barred tells why a pending call must not be sent on a new link.
func (r *Remote) barred(c *call, known, booted bool, all decisions) error {
	op, d := c.op.String(), all[c.number]
	switch {
	case known:
		return nil
	case c.fileFailureLocked() != nil:
		return c.fileFailureLocked()
	case r.lockless(c) != nil:
		return r.lockless(c)
	case !c.sent, d != nil && !d.Executed && c.asks():
		return nil
	case !c.repeatable:
		return r.unknown(op, "the brick was restarted before it answered")
	case c.superseded:
		return r.unknown(op, "the brick was restarted before it answered, and a later change was acknowledged")
	case booted && (c.op == wire.OpSync || c.op == wire.OpFileSync || c.syncs):
		return r.unknown(op, "the brick's machine was rebooted before what was written was synced")
	}
	c.twice = true
	return nil
}
