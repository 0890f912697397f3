package set

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// finishMax bounds a change that has begun, its client gone or not; within it
// a backup that fails is taken out, or comes back.
const finishMax = time.Minute

// change makes a change on all members in sync. The caller holds the locks. do
// applies it here: as apply would, but it may do more on the way.
func (r *reign) change(ctx context.Context, c *change, do func(ctx context.Context) (Outcome, error)) error {
	op := c.kind.String()
	if err := ctx.Err(); err != nil {
		return &volume.Error{Op: op, Errno: volume.ErrnoOf(err), Err: err}
	}
	if err := r.space.admit(ctx, r, c); err != nil {
		return err
	}
	r.prepare(ctx, c)
	flights := r.takeOff(c)
	if flights == nil {
		return r.refuse(op)
	}
	fl := flights[0]
	ctx = context.WithoutCancel(ctx)
	msg := r.message(fl, c)
	var sending delivery
	if c.kind == doWrite {
		// There is nothing to learn from its application that the others must know. Creates, renames and removals could go
		// early too, but must not reach the others when they fail as they often do; and with three bricks on two
		// processors it saved neither time nor processor time.
		r.send(&sending, fl, msg, c.data)
	}
	err := r.s.keep(ctx, r.epoch, fl.seq, fl.mark, c, do)
	r.appliedHere(fl)
	if lame := (queueError{}); errors.As(err, &lame) {
		r.depose("the queue of an absent member can't be kept: " + err.Error())
		_ = sending.wait()
		r.land(fl)
		return r.refuse(op)
	}
	if c.kind != doWrite && err == nil {
		r.send(&sending, fl, msg, c.data)
	}
	return r.conclude(ctx, fl, c, err, sending.wait())
}

// prepare fills in what a change has of the request that it is made for.
func (r *reign) prepare(ctx context.Context, c *change) {
	c.request = volume.RequestOf(ctx)
	c.cred = volume.CredOf(ctx)
	c.cred.PID = 0 // of no use on another machine
	if at, dated := volume.DateOf(ctx); dated {
		c.now = at
	} else {
		c.now = r.present()
	}
}

// conclude ends a change that was applied here with err, and brought to the others with sent.
func (r *reign) conclude(ctx context.Context, fl *flight, c *change, err, sent error) error {
	op := c.kind.String()
	if sent != nil { // not all have it, and it stays in flight until they are made equal
		if r.deposed() {
			r.land(fl)
			return r.refuse(op)
		}
		r.abandon(fl)
		return unavailable(op, "%w", sent)
	}
	if err != nil && (c.kind == doWrite || mayHaveHappened(err)) { // the others have what this member has not, or perhaps not what it has
		if e := r.levelAll(ctx, fl, c.request); e != nil {
			if r.deposed() {
				r.land(fl)
			} else {
				r.abandon(fl)
			}
			return e
		}
	}
	r.land(fl)
	return err
}

// mayHaveHappened reports whether a change that has failed may have taken effect, or in part.
func mayHaveHappened(err error) bool {
	switch volume.ErrnoOf(err) {
	case syscall.EIO, syscall.EINTR, syscall.ETIMEDOUT, syscall.ENOSPC, syscall.EDQUOT:
		return true
	}
	return false
}

// present is the time that a change is made at: later than that of any other of this reign.
func (r *reign) present() volume.Time {
	for {
		last, now := r.clock.Load(), time.Now().UnixNano()
		if next := max(now, last+1); r.clock.CompareAndSwap(last, next) {
			return volume.TimeOf(time.Unix(0, next))
		}
	}
}

// takeOff enters changes among those under way, at once, for a pause begins when all that took off are applied; nil: the reign is over.
func (r *reign) takeOff(cs ...*change) []*flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.mu.paused > 0 && r.mu.why == "" {
		r.mu.local.Wait()
	}
	if r.mu.why != "" {
		return nil
	}
	flights := make([]*flight, len(cs))
	for i, c := range cs {
		fl := &flight{seq: r.seq.Add(1), config: r.mu.config, keys: c.touches(), backups: r.mu.backups}
		r.launchLocked(fl)
		fl.mark = r.finishedLocked()
		flights[i] = fl
	}
	return flights
}

// appliedHere notes that a change is applied at the primary, or has failed there.
func (r *reign) appliedHere(fl *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fl.applied = true
	r.mu.local.Broadcast()
}

// land takes a change out that all members in sync have, or none.
func (r *reign) land(fl *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.landLocked(fl)
	if len(r.mu.flying) == 0 {
		r.mu.local.Broadcast()
	}
}

// abandon leaves a change in flight that its caller can't wait for any longer,
// until the members that lack it are made equal, or are out.
func (r *reign) abandon(fl *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fl.orphan = true
	for _, b := range fl.backups {
		b.mu.Lock()
		has := b.mu.out || fl.seq <= b.mu.covered
		b.mu.Unlock()
		if !has && r.mu.why == "" {
			return
		}
	}
	r.landLocked(fl) // that was so meanwhile, or nobody waits for it any more
	r.mu.local.Broadcast()
}

// message encodes a change for the backups.
func (r *reign) message(fl *flight, c *change) []byte {
	if len(fl.backups) == 0 {
		return nil
	}
	return fl.encode(begin(msgApply, r.epoch).b, c)
}

// encode appends a flight's change as backups get it.
func (fl *flight) encode(b []byte, c *change) []byte {
	w := writer{b}
	w.u64(fl.config)
	w.u64(fl.seq)
	w.u64(fl.mark)
	parent := c.node.Parent
	c.node.Parent = 0 // the primary has checked it
	w.b = c.append(w.b)
	c.node.Parent = parent
	return w.b
}

// delivery is a message on its way to several backups.
type delivery struct {
	r         *reign
	seq       Seq
	msg, data []byte
	sent      []sending
	wg        sync.WaitGroup // of those that have a goroutine
	errs      [membersMax]error
}

// sending is a message on its way to one backup.
type sending struct {
	b    *backup
	wait func() error // nil: it has a goroutine
}

// startMax is how many bytes of data are sent to one backup after the other. Larger ones, for which
// that would take time, are sent to all at once.
const startMax = 64 << 10

// send begins to bring a change to the backups.
func (r *reign) send(d *delivery, fl *flight, msg, data []byte) {
	d.r, d.seq, d.msg, d.data = r, fl.seq, msg, data
	for i, b := range fl.backups {
		s := sending{b: b}
		if len(data) <= startMax && !b.down() {
			var err error
			if s.wait, err = b.start(b.alive(r), msg, b.share(data)); err != nil {
				s.wait = func() error { return err }
			}
		}
		if s.wait == nil {
			d.wg.Go(func() { d.errs[i] = r.deliver(b, fl.seq, msg, b.share(data)) })
		}
		d.sent = append(d.sent, s)
	}
}

// share is what the backup is sent of data.
func (b *backup) share(data []byte) []byte {
	if b.arbiter {
		return nil
	}
	return data
}

// wait waits until all backups have what was sent, see deliver.
func (d *delivery) wait() error {
	for i, s := range d.sent {
		if s.wait == nil {
			continue
		}
		err := s.wait()
		if err == nil {
			continue
		}
		if d.errs[i] = err; d.r.judge(err) {
			continue
		}
		d.r.fail(s.b, err.Error())
		d.errs[i] = d.r.deliver(s.b, d.seq, d.msg, s.b.share(d.data))
	}
	d.wg.Wait()
	return errors.Join(d.errs[:]...)
}

// deliver brings a message to a backup. It returns when the backup has carried
// it out, or has the change (n, if not 0) otherwise, or is not in sync any
// more; with an error when the reign has ended, or finishMax has passed, before.
func (r *reign) deliver(b *backup, n Seq, msg, data []byte) error {
	for {
		done, err := b.ready(r.ctx, r, n)
		if done || err != nil {
			return err
		}
		_, err = b.call(b.alive(r), msg, data)
		switch {
		case err == nil:
			return nil
		case r.judge(err):
			return err
		}
		r.fail(b, err.Error())
	}
}

// durable carries out at all members in sync what makes things durable.
func (r *reign) durable(ctx context.Context, c *change, do func(ctx context.Context) error) error {
	op := c.kind.String()
	r.mu.Lock()
	fl := &flight{config: r.mu.config, backups: r.mu.backups}
	over := r.mu.why != ""
	r.mu.Unlock()
	if over {
		return r.refuse(op)
	}
	msg := r.message(fl, c)
	var sending delivery
	r.send(&sending, fl, msg, nil)
	err := do(ctx)
	if e := sending.wait(); e != nil && err == nil {
		err = unavailable(op, "%w", e)
	}
	if r.deposed() {
		return r.refuse(op)
	}
	return err
}

// levelAll makes the backups equal to this member in what a change touches that failed here, and has them forget
// that its request took effect.
func (r *reign) levelAll(ctx context.Context, fl *flight, q volume.Request) error {
	r.mu.Lock()
	backups := r.mu.backups
	r.mu.Unlock()
	for _, b := range backups {
		if done, err := b.ready(ctx, r, 0); done || err != nil {
			continue
		}
		err := r.undo(ctx, b, fl.keys, q)
		switch {
		case err == nil || r.judge(err):
		case volume.ReasonOf(err) != volume.Unavailable: // it may be this member that can't be read
			r.depose("what failed here can't be undone at the others: " + err.Error())
		default:
			r.fail(b, "what failed at the primary can't be undone there: "+err.Error())
			if _, err := b.ready(ctx, r, fl.seq); err != nil {
				return unavailable("member", "%w", err)
			}
		}
	}
	if r.deposed() {
		return r.refuse("member")
	}
	return nil
}
