package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Sets is what a daemon answers to brick processes about who serves a set of
// several members. Any server's daemon answers for all sets. Both fail at once
// while the configuration store has no majority.
type Sets interface {
	// SetState returns a set's state, linearizably: no change that any daemon
	// has answered before the call is missing. Errors: ErrNoVolume.
	SetState(ctx context.Context, r SetRef) (SetStateReply, error)
	// SwapSetState makes r.Next the set's state if its revision is r.Revision still.
	// Doing it again with the same r.ID does no harm and has the first outcome.
	// Errors: ErrConflict: the revision is another; ErrUnknown: it may have happened;
	// after any other it has not, not by this request.
	SwapSetState(ctx context.Context, r SwapRequest) (SetStateReply, error)
}

// SetRef names a set.
type SetRef struct {
	Volume string // UUID
	Set    volume.SetID
}

// SetStateReply is a set's state and the revision of its last change, for a
// swap. Revisions are opaque, greater than 0, and never used again.
type SetStateReply struct {
	State    spec.SetState
	Revision int64
}

// SwapRequest asks for another state of a set.
type SwapRequest struct {
	SetRef
	Revision int64
	Next     spec.SetState
	ID       string // random, of this request
}

// SetState implements Sets.
func (c *Conn) SetState(ctx context.Context, r SetRef) (SetStateReply, error) {
	return call[SetStateReply](ctx, c, "SetState", r)
}

// SwapSetState implements Sets.
func (c *Conn) SwapSetState(ctx context.Context, r SwapRequest) (SetStateReply, error) {
	rep, err := call[SetStateReply](ctx, c, "SwapSetState", r)
	var e *Error
	if errors.As(err, &e) && (e.Errno == ErrUnreachable || ctx.Err() != nil) {
		err = Errorf(ErrUnknown, "%s", e.Message)
	}
	return rep, err
}

// Bounds of asking several daemons in turn.
const (
	setsAttempt = 2500 * time.Millisecond // one daemon, which may have to see first that no majority is there
	setsPause   = 100 * time.Millisecond  // after all of them
)

// ReadSetState returns a set's state and revision from the first of the targets'
// daemons that can tell it, and asks them in turn until ctx ends, or until one says that
// there is no such volume (ErrNoVolume). id is the volume's UUID. A
// context without a deadline is given 20 s.
func ReadSetState(ctx context.Context, targets []string, id string, set volume.SetID) (spec.SetState, int64, error) {
	var rep SetStateReply
	err := inTurn(ctx, targets, func(ctx context.Context, c *Conn) (err error) {
		rep, err = c.SetState(ctx, SetRef{id, set})
		return err
	})
	return rep.State, rep.Revision, err
}

// SwapSetState makes next a set's state if its revision is still the given one,
// and returns the new revision. It asks the targets' daemons in turn, until ctx
// ends; asked twice, they do it once. IsConflict tells of the error that the revision is another:
// then next is not the state, and has not been, or is not any more. IsUnknown tells
// of the error that it may have happened or happen yet. After any other
// it has not happened and will not. A context without a deadline is given 20 s.
func SwapSetState(ctx context.Context, targets []string, id string, set volume.SetID, revision int64, next spec.SetState) (int64, error) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	r := SwapRequest{SetRef: SetRef{id, set}, Revision: revision, Next: next, ID: hex.EncodeToString(nonce[:])}
	var rep SetStateReply
	unknown := false
	err := inTurn(ctx, targets, func(ctx context.Context, c *Conn) (err error) {
		rep, err = c.SwapSetState(ctx, r)
		unknown = unknown || IsUnknown(err)
		return err
	})
	if unknown && err != nil && !IsConflict(err) {
		err = Errorf(ErrUnknown, "%s", err.Error())
	}
	return rep.Revision, err
}

// IsConflict reports whether a swap was refused because the revision is another.
func IsConflict(err error) bool { return hasErrno(err, ErrConflict) }

// IsUnknown reports whether a swap may have happened or happen yet.
func IsUnknown(err error) bool { return hasErrno(err, ErrUnknown) }

func hasErrno(err error, errno int) bool {
	var e *Error
	return errors.As(err, &e) && e.Errno == errno
}

// inTurn asks the targets one after the other, over and over, until one answers with
// success or with an error that another's answer would not change.
func inTurn(ctx context.Context, targets []string, ask func(context.Context, *Conn) error) error {
	ctx, cancel := deadline(ctx, "")
	defer cancel()
	last := error(Errorf(ErrGeneric, "No daemon is named to ask."))
	pause := time.NewTimer(0)
	defer pause.Stop()
	for len(targets) > 0 {
		for _, t := range targets {
			if ctx.Err() != nil {
				return last
			}
			err := askOne(ctx, t, ask)
			if err == nil || hasErrno(err, ErrConflict) || hasErrno(err, ErrNoVolume) || hasErrno(err, ErrInvalid) {
				return err
			}
			last = err
		}
		pause.Reset(setsPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
	return last
}

func askOne(ctx context.Context, target string, ask func(context.Context, *Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, setsAttempt)
	defer cancel()
	dialing, cancel := context.WithTimeout(ctx, setsAttempt/5)
	defer cancel()
	c, err := Dial(dialing, target)
	if err != nil {
		return err
	}
	defer c.Close()
	return ask(ctx, c)
}
