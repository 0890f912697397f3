package manage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// absence is whether the store was found not to answer. Then questions are
// answered from what is known and changes are refused, at once, until it is
// found to answer again.
type absence struct {
	mu struct {
		sync.Mutex
		silent bool
		noted  chan struct{} // closed when silent becomes true
		look   *look         // the last; nil: none
	}
}

// look is who was there at a look at the pool.
type look struct {
	at        time.Time
	health    quorum.Health   // of the voters
	connected map[string]bool // daemons, by UUID
}

func (a *absence) begin() chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.noted == nil {
		a.mu.noted = make(chan struct{})
	}
	return a.mu.noted
}

func (a *absence) set(silent bool) (changed bool) {
	noted := a.begin()
	a.mu.Lock()
	defer a.mu.Unlock()
	changed = a.mu.silent != silent
	a.mu.silent = silent
	if changed && silent {
		close(noted)
		a.mu.noted = nil
	}
	return changed
}

// silent reports whether the store was found not to answer.
func (d *daemon) silent() bool {
	d.away.mu.Lock()
	defer d.away.mu.Unlock()
	return d.away.mu.silent
}

func (d *daemon) setSilent() {
	if d.away.set(true) {
		d.log.Warn("the configuration store does not answer")
	}
}

// hearkenPause is how often a store that does not answer is asked.
const hearkenPause = 300 * time.Millisecond

// hearken asks a store that was found silent until it answers, until ctx ends.
func (d *daemon) hearken(ctx context.Context) {
	for ctx.Err() == nil {
		noted := d.away.begin()
		if !d.silent() {
			select {
			case <-ctx.Done():
			case <-noted:
			}
			continue
		}
		looked := make(chan struct{})
		go func() { defer close(looked); d.lookAround(ctx) }() // so that questions need not
		_, err := d.view.fresh(ctx)
		<-looked
		if err == nil {
			if d.away.set(false) {
				d.log.Info("the configuration store answers again")
			}
			continue
		}
		pause := time.NewTimer(hearkenPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// errSilent is a store that was found not to answer before.
var errSilent = errors.New("it did not before")

// storeTrouble is the sentence about a store that did not do as it was asked.
func (d *daemon) storeTrouble(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, quorum.ErrClosed) {
		return errEnding
	}
	d.setSilent()
	return d.lost(err)
}

// lost is the sentence about a store without a majority. why is its last word.
func (d *daemon) lost(why error) error {
	switch st := d.store.Status(); {
	case st.Err != nil:
		return refuse("%v", st.Err)
	case st.Role == quorum.Alone:
		return refuse("The configuration store does not answer: %v.", why)
	}
	h := d.health(context.Background())
	if h.Answer >= h.Majority {
		return refuse("The configuration store does not answer, although %d of its %d voters are there; try again in a moment.", h.Answer, len(h.Voters))
	}
	return refuse("%s, and nothing can be changed without a majority of them; volumes go on as they are. Bring the others back; if they are lost for good, run `mortar cluster recover` on the server that shall go on.", answering(h))
}

func answering(h quorum.Health) string {
	if len(h.Voters) == 1 {
		return "The one voter of the configuration store does not answer"
	}
	verb := "answer"
	if h.Answer == 1 {
		verb = "answers"
	}
	return fmt.Sprintf("%d of the %d voters of the configuration store %s", h.Answer, len(h.Voters), verb)
}

// healthTimeout bounds the asking of the voters whether they are there; lookAge
// is how long the answers hold while the store does not answer.
const (
	healthTimeout = time.Second
	lookAge       = 4 * time.Second
)

// health asks the voters whether they are there; of a store that was found
// silent it may be the answers of a moment ago.
func (d *daemon) health(ctx context.Context) quorum.Health {
	return d.looked(ctx).health
}

// looked is the last look around while the store is silent, or a new one.
func (d *daemon) looked(ctx context.Context) *look {
	d.away.mu.Lock()
	last, silent := d.away.mu.look, d.away.mu.silent
	d.away.mu.Unlock()
	if silent && last != nil && time.Since(last.at) < lookAge {
		return last
	}
	return d.lookAround(ctx)
}

// lookAround asks who is there, voters and daemons side by side.
func (d *daemon) lookAround(ctx context.Context) *look {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	there := make(chan map[string]bool, 1)
	go func() { there <- d.reachable(ctx, d.view.now()) }()
	l := &look{health: d.store.Health(ctx)}
	l.connected, l.at = <-there, time.Now()
	d.away.mu.Lock()
	defer d.away.mu.Unlock()
	d.away.mu.look = l
	return l
}

// voterTimeout bounds the look at whether a daemon is there.
const voterTimeout = 500 * time.Millisecond

// reachable tells which servers' daemons take a connection.
func (d *daemon) reachable(ctx context.Context, s *snapshot) map[string]bool {
	type answer struct {
		id    string
		there bool
	}
	ctx, cancel := context.WithTimeout(ctx, voterTimeout)
	defer cancel()
	answers := make(chan answer, len(s.servers))
	for id, r := range s.servers {
		go func() { // ends with ctx; the channel has room
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "tcp", r.api())
			if err == nil {
				c.Close()
			}
			answers <- answer{id, err == nil}
		}()
	}
	out := map[string]bool{d.id(): true}
	for range s.servers {
		if a := <-answers; a.there {
			out[a.id] = true
		}
	}
	return out
}

// Bounds of finding out that the store does not answer.
const (
	freshDoubt      = 300 * time.Millisecond // then the voters are asked whether they are there
	electionTimeout = 8 * time.Second        // for voters that are there to elect a leader
	askPause        = 30 * time.Millisecond  // before a question is asked again
)

// errLost is a store without a majority.
var errLost = errors.New("no majority of the voters is there")

// askStore is view.fresh with whileMajority.
func (d *daemon) askStore(ctx context.Context) (*snapshot, error) {
	return whileMajority(ctx, d, d.view.fresh)
}

// whileMajority calls f until it succeeds. While a majority of the voters is
// there it goes on until ctx or electionTimeout ends; without one it fails as
// soon as that is known.
func whileMajority[T any](ctx context.Context, d *daemon, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, electionTimeout)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() { // ends with ctx; the channel has room
		for {
			v, err := f(ctx)
			if err == nil || ctx.Err() != nil {
				answers <- answer{v, err}
				return
			}
			pause := time.NewTimer(askPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}()
	doubt := time.NewTimer(freshDoubt)
	defer doubt.Stop()
	for {
		select {
		case a := <-answers:
			return a.value, a.err
		case <-doubt.C:
		}
		if h := d.health(ctx); h.Answer < h.Majority {
			select {
			case a := <-answers:
				return a.value, a.err
			default:
				var zero T
				return zero, errLost
			}
		}
		doubt.Reset(freshDoubt)
	}
}

// fresh is askStore with a sentence for an error.
func (d *daemon) fresh(ctx context.Context) (*snapshot, error) {
	if d.silent() {
		return nil, d.lost(errSilent)
	}
	s, err := d.askStore(ctx)
	if err != nil {
		return nil, d.storeTrouble(ctx, err)
	}
	return s, nil
}

// look returns a snapshot for a question: a fresh one, or without the store the
// last known.
func (d *daemon) look(ctx context.Context) (*snapshot, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	if !d.silent() {
		s, err := d.askStore(ctx)
		switch {
		case err == nil:
			return s, nil
		case ctx.Err() != nil || d.store.Status().Role == quorum.Alone:
			return nil, d.storeTrouble(ctx, err)
		}
		d.setSilent()
	}
	s := d.view.now()
	if s.revision == 0 {
		return nil, d.lost(errors.New("nothing is known of the configuration"))
	}
	return s, nil
}
