package dht

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

// A client's request is decided by one change of the store, or one record of the
// journal: the set below notes with that change, on all its members, that the
// request was executed. So exactly one change of an operation has the request in
// its context (by name of decides), and only if nothing can undo it afterwards:
//
//	one change of the store does it all      that change
//	mkdir                                    the making here; the copies on other sets
//	                                         come by themselves
//	mkdir with its home elsewhere            the last record of its intent, see spreadHome
//	any other intent                         its record "finished", before which its
//	                                         names are not free
//
// Steps to other sets, what makes or moves copies of directories, and the questions
// on the way have none (quiet). While an intent is in the journal it tells itself
// what became of its request: Outcome.

// RequestState is what an Owner knows of a request.
type RequestState uint8

const (
	RequestUnknown  RequestState = iota // no intent of it is in the journal
	RequestExecuted                     // it happened, and everybody sees it
	RequestUndone                       // its intent was given up: as if it had never been
)

// Outcome tells what became of a request that an intent in the journal was
// about, in this life or in an earlier one. It waits until that is decided, and the
// intent's names are free, and fails if ctx ends before. Run must be running.
//
// It knows nothing of what was decided by a change of the store, nor of intents that
// have been settled. For those the set is to be asked, after Outcome: the set has
// noted a request before the intent can have left the journal. What the set has noted
// was executed, whatever Outcome says: an intent may have been given up for another
// way to do the same.
func (o *Owner) Outcome(ctx context.Context, r volume.Request) (RequestState, error) {
	state := RequestUnknown
	for _, it := range o.about(r) {
		o.wake()
		select {
		case <-it.over:
		case <-ctx.Done():
			return RequestUnknown, &volume.Error{Op: "outcome", Errno: volume.ErrnoOf(ctx.Err()), Err: ctx.Err()}
		}
		if (it.state == finished) != it.made {
			return RequestExecuted, nil
		}
		state = RequestUndone
	}
	return state, nil
}

// about returns the intents of a request: several if a try was given up for another.
func (o *Owner) about(r volume.Request) (list []*intent) {
	if r == (volume.Request{}) {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, all := range []map[uint64]*intent{o.mu.active, o.mu.finished} {
		for _, it := range all {
			if it.request == r {
				list = append(list, it)
			}
		}
	}
	return list
}

// quiet returns ctx without its request.
func quiet(ctx context.Context) context.Context {
	if volume.RequestOf(ctx) == (volume.Request{}) {
		return ctx
	}
	return volume.WithRequest(ctx, volume.Request{})
}

// last returns the context for an intent's last record, with its request if that
// was executed.
func (it *intent) last(ctx context.Context, executed bool) context.Context {
	if !executed || it.request == (volume.Request{}) {
		return ctx
	}
	return volume.WithRequest(ctx, it.request)
}
