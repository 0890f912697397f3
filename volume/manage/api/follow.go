package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/mortarfs/mortar/volume/spec"
)

// Pauses between attempts to reach a daemon. A daemon that restarts is back
// within two seconds; the pause never gets so long that a mount would notice a
// change late.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// errGot ends a stream that has given what was wanted of it.
var errGot = errors.New("enough")

// FetchMap returns the volume's map from the first of the targets that knows
// it: a mount's first contact. It fails at once if a daemon says that there is
// no such volume, and after one round over the targets if none answers.
func FetchMap(ctx context.Context, targets []string, volume string) (*spec.Map, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var m *spec.Map
	var first error
	for _, t := range targets {
		err := watchOnce(ctx, t, volume, func(got *spec.Map) error { m = got; return errGot })
		switch {
		case m != nil:
			return m, nil
		case isFinal(err):
			return nil, err
		case err == nil: // ctx ended
			err = Errorf(ErrUnreachable, "The daemon at %s did not answer in time.", t)
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = Errorf(ErrGeneric, "No daemon is named to ask for volume %s.", volume)
	}
	return nil, first
}

// FollowMap calls f with the volume's map as it is now and with each newer one,
// one call at a time, until ctx ends (nil) or the volume is gone (an Error with
// ErrNoVolume; only a daemon of the volume's own cluster can say so). When the connection to a daemon is lost it goes on with another,
// in random order of the targets and of all that the maps named, for ever, with
// pauses of at most a second: who follows keeps the last map meanwhile. Maps
// older than one already seen are dropped.
func FollowMap(ctx context.Context, targets []string, volume string, f func(*spec.Map)) error {
	if len(targets) == 0 {
		return Errorf(ErrGeneric, "No daemon is named to ask for volume %s.", volume)
	}
	var last *spec.Map
	var learned []string
	next := targets[0]
	ours := false // since the last map a daemon that said that the volume is gone was of its cluster afterwards
	return persist(ctx, func(fresh func()) error {
		target, answered := next, false
		err := watchOnce(ctx, target, volume, func(m *spec.Map) error {
			if last != nil && last.Cluster != "" && m.Cluster != "" && last.Cluster != m.Cluster {
				return foreign(target)
			}
			fresh()
			answered = true
			if last != nil && last.ID != m.ID {
				return Errorf(ErrNoVolume, "Volume %s was deleted, and another volume has its name now.", volume)
			}
			ours, learned = false, m.Daemons
			if last == nil || m.Version > last.Version {
				last = m
				f(m)
			}
			return nil
		})
		if last != nil && isFinal(err) && last.Cluster != "" {
			// One that has lost its configuration may be given it back just then: who was not known to be of
			// the cluster before is asked once more.
			before := ours
			switch ours = clusterOf(ctx, target) == last.Cluster; {
			case !ours:
				err, answered = foreign(target), false
			case !before:
				err, answered = Errorf(ErrUnreachable, "The daemon at %s is asked once more.", target), true
			}
		}
		if !answered { // one that did is asked again first: it may only have been restarted
			next = another(targets, learned, target)
		}
		return err
	})
}

// foreign is a daemon that is not, or not any more, of the volume's cluster: a
// server that was detached, or that has lost its configuration.
func foreign(target string) *Error {
	return Errorf(ErrUnreachable, "The daemon at %s is of another cluster.", target)
}

// clusterOf asks a daemon which cluster it is of; "" if it does not say.
func clusterOf(ctx context.Context, target string) string {
	ctx, cancel := context.WithTimeout(ctx, followDial)
	defer cancel()
	c, err := Dial(ctx, target)
	if err != nil {
		return ""
	}
	defer c.Close()
	st, err := c.Status(ctx)
	if err != nil {
		return ""
	}
	return st.Cluster
}

// another picks one of the daemons at random, not the one that did not answer
// unless there is no other. Those that the maps named count twice, for they are
// the newest word.
func another(targets, learned []string, not string) string {
	var choice []string
	for _, list := range [][]string{targets, learned, learned} {
		for _, t := range list {
			if t != not {
				choice = append(choice, t)
			}
		}
	}
	if len(choice) == 0 {
		return not
	}
	return choice[rand.N(len(choice))]
}

// KeepAttached registers a brick process with its daemon and keeps it
// registered, through restarts of the daemon, until ctx ends (nil) or the daemon
// says that the brick is not wanted (an Error): the process should end then. f
// gets the volume's maps as from FollowMap.
func KeepAttached(ctx context.Context, target string, hello BrickHello, f func(*spec.Map)) error {
	var last uint64
	return persist(ctx, func(fresh func()) error {
		c, err := Dial(ctx, target)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.AttachBrick(ctx, hello, func(m *spec.Map) error {
			fresh()
			if m.Version > last {
				last = m.Version
				f(m)
			}
			return nil
		})
	})
}

// followDial bounds the attempt to reach one daemon where there may be others.
const followDial = 2 * time.Second

// watchOnce dials a target and watches the volume until that ends.
func watchOnce(ctx context.Context, target, volume string, send func(*spec.Map) error) error {
	dialing, cancel := context.WithTimeout(ctx, followDial)
	defer cancel()
	c, err := Dial(dialing, target)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.WatchMap(ctx, volume, send)
}

// persist calls try until ctx ends (nil) or try's error is final, with pauses
// that double up to pauseMax. try calls fresh when it got somewhere, and the
// pauses begin anew.
func persist(ctx context.Context, try func(fresh func()) error) error {
	pause := pauseMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		err := try(func() { pause = pauseMin })
		if ctx.Err() != nil {
			return nil
		}
		if isFinal(err) {
			return err
		}
		timer.Reset(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, pauseMax)
	}
}

// isFinal reports whether asking again is of no use.
func isFinal(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Errno == ErrNoVolume || e.Errno == ErrNotWanted)
}
