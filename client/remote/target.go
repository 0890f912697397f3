package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume"
)

// Target is a member of the set: where it is and how it is reached.
type Target struct {
	Addr    string // HOST:PORT of the brick's process; "": not known, or it does not run
	BrickID string // UUID of the brick; "": whichever answers
	// Dial connects; nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (t *Target) dial(ctx context.Context) (net.Conn, error) {
	if t.Dial != nil {
		return t.Dial(ctx, t.Addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", t.Addr)
}

// id tells a target from the others.
func (t *Target) id() string {
	if t.BrickID != "" {
		return t.BrickID
	}
	return t.Addr
}

func (t *Target) same(o *Target) bool { return t.Addr == o.Addr && t.BrickID == o.BrickID }

// Times of reconnecting.
const (
	backoffMin   = 25 * time.Millisecond
	backoffAsked = 250 * time.Millisecond // at most, while a member answers that another serves: soon one will
	backoffMax   = time.Second
	patience     = 250 * time.Millisecond // with a target that is silent, until the next one is asked beside it
	connectTime  = 3 * time.Second        // for one attempt, hello included
	tick         = 100 * time.Millisecond
)

var errMoved = errors.New("another brick serves the set now, or it has moved")

// SetTargets tells who the set's members are now, and which of them serves it, as far
// as is known (−1: nothing is). A link to a member that is no more,
// that is elsewhere, or instead of which another one has become primary, is given up at once. An
// old map does no harm: who is told of is tried first, and then the others.
func (r *Remote) SetTargets(targets []Target, primary int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := slices.EqualFunc(r.mu.targets, targets, func(a, b Target) bool { return a.same(&b) })
	if same && r.mu.primary == primary {
		return
	}
	r.mu.targets, r.mu.primary = slices.Clone(targets), primary
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

// order returns the targets that can be tried, in the order in which to do that, the
// futile one at the end, and who is said to be the primary, "" for nobody.
func (r *Remote) order(futile string) (order []Target, told string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, first := len(r.mu.targets), max(r.mu.primary, 0)
	for i := range n {
		if t := r.mu.targets[(first+i)%n]; t.Addr != "" {
			order = append(order, t)
		}
	}
	if n := len(order); n > 0 && order[0].id() == futile {
		order = append(order[1:], order[0])
	}
	return order, r.toldLocked()
}

func (r *Remote) toldLocked() string {
	if p := r.mu.primary; p >= 0 && p < len(r.mu.targets) {
		return r.mu.targets[p].id()
	}
	return ""
}

// astray reports whether a link leads to the wrong place as the targets are now; told
// was the primary before, now is the present one.
func (r *Remote) astray(l *link, told string) (now string, astray bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = r.toldLocked()
	id := l.target.id()
	if l.target.BrickID == "" && len(r.mu.targets) == 1 {
		id = r.mu.targets[0].id() // whichever brick answers
	}
	i := slices.IndexFunc(r.mu.targets, func(t Target) bool { return t.id() == id })
	switch {
	case i < 0:
		return now, true
	case r.mu.targets[i].Addr != "" && r.mu.targets[i].Addr != l.target.Addr:
		return now, true
	}
	return now, now != "" && now != told && now != id
}

// attempt is how a try to connect has ended.
type attempt struct {
	place int // in the order
	l     *link
	w     *wire.WelcomeBody
	err   error
}

// seek connects to whichever target serves the set. They are tried in rounds,
// in order: the next as soon as one has refused, or has been silent for a while, so that one
// that is cut off holds up nothing. It returns none when the targets have changed
// or the Remote is closed. Told is who was said to be the primary. The link to
// the futile one has led to nothing just now.
func (r *Remote) seek(futile string) (l *link, w *wire.WelcomeBody, told string) {
	order, told := r.order(futile)
	if len(order) == 0 {
		r.pause(r.timeout())
		return nil, nil, told
	}
	ctx, cancel := context.WithCancel(r.closing)
	ended := make(chan attempt, len(order)) // each has one attempt at a time
	busy := make([]bool, len(order))
	running := 0
	defer func() {
		for cancel(); running > 0; running-- {
			if a := <-ended; a.l != nil {
				a.l.close()
			}
		}
	}()
	errs := make([]error, len(order))
	timer := time.NewTimer(0)
	defer timer.Stop()
	next, backoff := 0, time.Duration(0)
	for {
		select {
		case <-r.closing.Done():
			return nil, nil, told
		case <-r.moved:
			return nil, nil, told
		case a := <-ended:
			running--
			busy[a.place] = false
			if a.err == nil {
				return a.l, a.w, told
			}
			a.l.close()
			errs[a.place] = a.err
			r.failed(verdict(errs))
			if next > len(order) {
				continue // the round is over
			}
		case <-timer.C:
			if next > len(order) {
				next = 0
			}
		}
		for next < len(order) && busy[next] {
			next++
		}
		if next < len(order) {
			i := next
			busy[i] = true
			running++
			r.wg.Go(func() {
				l, w, err := r.connect(ctx, order[i])
				ended <- attempt{i, l, w, err}
			})
			timer.Reset(patience)
		} else {
			timer.Reset(backoff/2 + rand.N(backoff/2+backoffMin/2))
			backoff = min(2*backoff+backoffMin, r.backoffMax(errs))
		}
		next++
	}
}

// backoffMax bounds the pause between two rounds that ended with these errors.
func (r *Remote) backoffMax(errs []error) time.Duration {
	if r.conf.Member || slices.ContainsFunc(errs, func(err error) bool { return volume.ReasonOf(err) == volume.NotPrimary }) {
		return backoffAsked
	}
	return backoffMax
}

// firm reports whether it was refused for a reason that time does not mend: another volume, another protocol.
func firm(err error) bool {
	var refused *volume.Error
	return errors.As(err, &refused) && refused.Errno != syscall.EIO
}

// verdict tells what is in the way, of what became of the tries so far (nil: nothing yet): that
// all refuse firmly, or the first one that may still come to serve. nil: that is not known yet.
func verdict(errs []error) error {
	open := slices.IndexFunc(errs, func(err error) bool { return err != nil && !firm(err) })
	switch {
	case open >= 0:
		return errs[open]
	case slices.Contains(errs, nil):
		return nil
	}
	return errs[0]
}

// failed notes why there is no link; nil: for nothing new.
func (r *Remote) failed(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.lastErr == nil || r.mu.lastErr.Error() != err.Error() {
		r.log.Warn("can't connect", "err", err)
	}
	r.mu.lastErr = err
	r.broadcastLocked()
}
