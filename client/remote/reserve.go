package remote

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// A name is reserved in the memory of the brick that serves. What callers were told is reserved, and may not have
// been made yet, is noted here (promises): a brick that is new to the session holds back everybody's requests about
// names until this client says that nothing of that is to come any more (settle). So a promise is
// noted before the request is sent, and goes when the file was made, or can't be made in time any more.

// promise is a name that is reserved, or about to be.
type promise struct {
	until time.Time     // from then on the brick holds nothing back
	over  chan struct{} // closed when it goes
}

// Reserve is volume.Reserver's.
func (r *Remote) Reserve(ctx context.Context, dir volume.ID, name string, n volume.Node) (a volume.Attr, err error) {
	if err := checkNode(wire.OpReserve, name, &n); err != nil {
		return a, err
	}
	if !r.speaks(wire.ReserveSince) {
		return a, &volume.Error{Op: wire.OpReserve.String(), Where: r.where, Errno: syscall.EOPNOTSUPP}
	}
	began := time.Now()
	if !r.promise(n.ID, began.Add(volume.ReserveTime)) {
		return a, &volume.Error{Op: wire.OpReserve.String(), Where: r.where, Errno: syscall.EINVAL, Err: errors.New("the file has a reserved name already")}
	}
	defer func() {
		if err != nil {
			r.kept(n.ID)
		}
	}()
	c := r.newCall(ctx, wire.OpReserve)
	c.frame = (&wire.MakeArgs{Dir: dir, Name: name, Node: n}).Append(c.frame)
	a, err = r.attr(ctx, c)
	if err == nil && time.Since(began) > volume.ReserveTime/2 { // too little is left of it
		err = &volume.Error{Op: wire.OpReserve.String(), Where: r.where, Errno: syscall.EAGAIN, Err: errors.New("the answer came late")}
	}
	return a, err
}

// promise notes that a file may come to have a name reserved.
func (r *Remote) promise(id volume.ID, until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id.IsZero() || r.mu.promises[id] != nil {
		return false
	}
	if r.mu.promises == nil {
		r.mu.promises = map[volume.ID]*promise{}
	}
	r.mu.promises[id] = &promise{until: until, over: make(chan struct{})}
	r.mu.reserves = true
	return true
}

// promised reports whether a file has its name reserved.
func (r *Remote) promised(id volume.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.promises[id] != nil
}

// kept notes that a file was made, or won't be.
func (r *Remote) kept(id volume.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.mu.promises[id]; p != nil {
		delete(r.mu.promises, id)
		close(p.over)
	}
}

// lapse forgets promises of which nothing was heard any more.
func (r *Remote) lapse(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, p := range r.mu.promises {
		if now.After(p.until.Add(r.timeout())) { // longer than making it can take
			delete(r.mu.promises, id)
			close(p.over)
		}
	}
}

// settleNamesLocked tells a brick that is new to the session, as soon as it is so, that nothing is to come of
// what was reserved elsewhere.
func (r *Remote) settleNamesLocked(l *link) {
	if !r.mu.reserves || r.mu.settled == r.mu.server || r.mu.version < wire.ReserveSince {
		return
	}
	var open []*promise
	for _, p := range r.mu.promises {
		open = append(open, p)
	}
	var gone []*parting
	for _, p := range r.mu.partings {
		if p.server != r.mu.server {
			gone = append(gone, p)
		}
	}
	server := r.mu.server
	l.wg.Go(func() { r.settleNames(l, open, gone, server) })
}

// settleNames waits for the promises that there were, each for as long as it may matter, and tells the brick.
func (r *Remote) settleNames(l *link, open []*promise, gone []*parting, server uint64) {
	for _, p := range gone {
		if !r.settleParting(l, p) {
			return
		}
	}
	for _, p := range open {
		t := time.NewTimer(time.Until(p.until))
		select {
		case <-p.over:
		case <-t.C:
		case <-l.ctx.Done():
		}
		t.Stop()
	}
	if l.ctx.Err() != nil {
		return
	}
	c := r.newCall(l.ctx, wire.OpSettle)
	if err := r.nothing(l.ctx, c); err != nil {
		r.log.Debug("the brick could not be told that no names are reserved any more", "err", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.link == l {
		r.mu.settled = server
	}
}

// settleParting makes sure that the brick has removed a name that another one had answered for. False: the link has failed.
func (r *Remote) settleParting(l *link, p *parting) bool {
	err := r.partAgain(l.ctx, p)
	if l.ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && p.over == nil {
		r.unmadeLocked(p.dir, volume.ErrnoOf(err))
	}
	r.partedLocked(p, err)
	return true
}
