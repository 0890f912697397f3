package remote

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A brick may answer for a name's removal before that is made (brick/server, remove.go). Until it has said (Await) that
// it is, the removal is noted here, and is said once more to another brick that serves in its place, which holds
// everybody's requests about names back until then (settleNames). It is noted in the step in which the answer is taken, and no
// answer is taken but from the brick that serves; so there is none that the next one is not told of. It is told of them in the order in
// which they were answered, so of a directory after all that was in it.

// parting is a name that a brick has answered for, and not removed yet as far as is known.
type parting struct {
	dir       volume.ID
	name      string
	directory bool
	going     wire.Going
	server    uint64 // that has answered

	// Of a directory whose answer came before that of a name in it (hastyLocked): closed when it is gone, or err says why not.
	over chan struct{}
	err  error
}

// SetLate says whether names may be removed later than it is answered. Only who uses the set's names alone through this
// Remote may allow that: of several sets of a volume each knows of its own names only.
func (r *Remote) SetLate(on bool) { r.late.Store(on) }

// removeLater is Unlink, or Rmdir.
func (r *Remote) removeLater(ctx context.Context, dir volume.ID, name string, directory bool) error {
	if err := checkName(wire.OpRemove, name); err != nil {
		return err
	}
	c := r.newCall(ctx, wire.OpRemove)
	p := &parting{dir: dir, name: name, directory: directory}
	c.parting = p
	c.frame = (&wire.RemoveArgs{Dir: dir, Name: name, Directory: directory}).Append(c.frame)
	err := r.nothing(ctx, c)
	if err != nil || p.over == nil {
		return err
	}
	select {
	case <-p.over:
		return p.err
	case <-ctx.Done():
		return r.ctxError(ctx, wire.OpRemove)
	case <-r.closing.Done():
		return r.unavailable(wire.OpRemove.String(), errClosed)
	}
}

// hastyLocked reports whether a directory's removal was answered to c, and that of a name in it not yet, which the brick may have counted as
// removed all the same. If the brick fails now nobody tells the next one to remove that name before the directory, so this may fail there, and is
// no answer yet; likewise if the removal of a directory in it is none. (A kernel asks for one after the other.)
func (r *Remote) hastyLocked(c *call) bool {
	dir := c.parting.going.Object
	for _, other := range r.mu.pending {
		if other != c && other.parting != nil && other.parting.dir == dir {
			return true
		}
	}
	return slices.ContainsFunc(r.mu.partings, func(p *parting) bool { return p.over != nil && p.dir == dir })
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
	if p.directory && r.hastyLocked(c) {
		p.over = make(chan struct{})
	}
	r.mu.partings = append(r.mu.partings, p)
	r.mu.reserves = true
	if !r.mu.awaiting && !r.mu.closed {
		r.mu.awaiting = true
		r.wg.Go(r.awaitPartings)
	}
	return nil
}

// partedLocked forgets a name that is gone, or could not be removed.
func (r *Remote) partedLocked(p *parting, err error) {
	i := slices.Index(r.mu.partings, p)
	if i < 0 {
		return
	}
	r.mu.partings = slices.Delete(r.mu.partings, i, i+1)
	if p.over != nil {
		p.err = err
		close(p.over)
	}
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
		for _, p := range r.mu.partings {
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
	failed := map[volume.ID]error{}
	for _, u := range unmade {
		r.unmadeLocked(u.Dir, u.Errno)
		failed[u.Dir] = &volume.Error{Op: wire.OpRemove.String(), Where: u.Dir.String(), Errno: u.Errno}
	}
	for _, p := range all {
		r.partedLocked(p, failed[p.dir])
	}
}

// unmadeLocked notes that a name in a directory could not be removed.
func (r *Remote) unmadeLocked(dir volume.ID, errno syscall.Errno) {
	if r.mu.unmade == nil {
		r.mu.unmade = map[volume.ID]syscall.Errno{}
	}
	r.mu.unmade[dir] = errno
	r.log.Error("a name could not be removed that was said to be", "dir", dir.String(), "err", errno)
}

// partAgain tells a brick that serves in the place of another that a name is to go, if it still leads to the same object.
func (r *Remote) partAgain(ctx context.Context, p *parting) error {
	c := r.newCall(ctx, wire.OpRemove)
	defer free(c)
	c.repeatable = true
	c.frame = (&wire.RemoveArgs{Dir: p.dir, Name: p.name, Going: p.going, Directory: p.directory}).Append(c.frame)
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
