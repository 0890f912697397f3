package remote

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A brick may answer for a name's removal before that is made (brick/server, remove.go). Until it has said (Await) that
// it is, the removal is noted here, and is said once more to another brick that serves in its place, which holds
// everybody's requests about names back until then (settleNames). It is noted in the step in which the answer is taken, and no
// answer is taken but from the brick that serves; so there is none that the next one is not told of.

// parting is a name that a brick has answered for, and not removed yet as far as is known.
type parting struct {
	dir    volume.ID
	name   string
	going  wire.Going
	server uint64 // that has answered
}

// SetLate says whether names may be removed later than it is answered. Only who uses the set's names alone through this
// Remote may allow that: of several sets of a volume each knows of its own names only.
func (r *Remote) SetLate(on bool) { r.late.Store(on) }

// removeLater is Unlink.
func (r *Remote) removeLater(ctx context.Context, dir volume.ID, name string) error {
	c := r.newCall(ctx, wire.OpRemove)
	c.parting = &parting{dir: dir, name: name}
	c.frame = (&wire.RemoveArgs{Dir: dir, Name: name}).Append(c.frame)
	return r.nothing(ctx, c)
}

// removedLocked notes, by the reply to a call, that a name will be removed later.
func (r *Remote) removedLocked(c *call) error {
	rd := wire.NewReader(c.reply)
	_ = wire.ParseStatus(&rd)
	p := c.parting
	if p.going = rd.Going(); !rd.Done() {
		return wire.ErrMalformed
	}
	if p.going.Object.IsZero() {
		return nil
	}
	p.server = r.mu.server
	if r.mu.partings == nil {
		r.mu.partings = map[*parting]bool{}
	}
	r.mu.partings[p] = true
	r.mu.reserves = true
	if !r.mu.awaiting && !r.mu.closed {
		r.mu.awaiting = true
		r.wg.Go(r.awaitPartings)
	}
	return nil
}

// awaitPartings asks the brick when names that it has answered for are removed, those of the last awaitEvery at a time, until there
// are none. A brick that is new to the session is told of them by settleNames.
func (r *Remote) awaitPartings() {
	t := time.NewTicker(awaitEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-r.closing.Done():
		}
		r.mu.Lock()
		var all []*parting
		for p := range r.mu.partings {
			if p.server == r.mu.server {
				all = append(all, p)
			}
		}
		if len(r.mu.partings) == 0 || r.mu.closed {
			r.mu.awaiting = false
			r.mu.Unlock()
			return
		}
		link, server := r.mu.link, r.mu.server
		r.mu.Unlock()
		if link != nil && len(all) > 0 {
			r.awaitThese(all, server)
		}
	}
}

const awaitEvery = 20 * time.Millisecond

// awaitThese forgets names when the brick, which is to be this server, says that they are removed.
func (r *Remote) awaitThese(all []*parting, server uint64) {
	c := r.newCall(r.closing, wire.OpAwait)
	defer free(c)
	c.frame = (&wire.AwaitArgs{Server: server}).Append(c.frame)
	rd, err := r.do(r.closing, c)
	if err != nil {
		return
	}
	unmade := rd.Unmade()
	if !rd.Done() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range unmade {
		if r.mu.unmade == nil {
			r.mu.unmade = map[volume.ID]syscall.Errno{}
		}
		r.mu.unmade[u.Dir] = u.Errno
		r.log.Error("a name could not be removed that was said to be", "dir", u.Dir.String(), "err", u.Errno)
	}
	for _, p := range all {
		delete(r.mu.partings, p)
	}
}

// partAgain tells a brick that serves in the place of another that a name is to go, if it still leads to the same object.
func (r *Remote) partAgain(ctx context.Context, p *parting) error {
	c := r.newCall(ctx, wire.OpRemove)
	defer free(c)
	c.repeatable = true
	c.frame = (&wire.RemoveArgs{Dir: p.dir, Name: p.name, Going: p.going}).Append(c.frame)
	_, err := r.do(ctx, c)
	return err
}

// unmadeIn returns, once, why a name in a directory could not be removed though it was said to be.
func (r *Remote) unmadeIn(dir volume.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errno, bad := r.mu.unmade[dir]
	if !bad {
		return nil
	}
	delete(r.mu.unmade, dir)
	return &volume.Error{Op: wire.OpSync.String(), Where: dir.String(), Errno: errno, Err: errors.New("a name could not be removed")}
}
