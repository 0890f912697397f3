package set

import (
	"context"
	"slices"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
)

// A member that is made equal to its primary key by key is torn meanwhile: it has a part of what a change
// does, and not the rest, nor the reply to it. If the primary is lost just then the member must not take
// over, though it is in sync, and whoever does has to know in what it may differ. So
// before anything is made equal the primary tells the keys, and the member writes them
// down: it does not promote itself until an alignment has come to its end, and adds them to its log's end.

// tear tells a member that it is about to be made equal in some keys.
func (r *reign) tear(ctx context.Context, b *backup, keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	return r.sendTorn(ctx, b, keys)
}

// undo makes a member in sync equal in the keys of a change that has failed here, and has it forget the
// request: who asks it later what became of that must not be told that it took effect.
func (r *reign) undo(ctx context.Context, b *backup, keys []Key, q volume.Request) error {
	r.makeup.Lock() // nobody else makes it equal meanwhile
	defer r.makeup.Unlock()
	if err := r.tear(ctx, b, keys); err != nil {
		return err
	}
	if err := r.level(ctx, b, keys, volume.Time{}, true); err != nil {
		return err
	}
	if q != (volume.Request{}) {
		r.mu.Lock()
		o := r.ordersLocked()
		r.mu.Unlock()
		if err := r.sendSettle(ctx, b, o, 0, false, []volume.Request{q}, nil); err != nil {
			return err
		}
	}
	return r.sendTorn(ctx, b, nil)
}

func (r *reign) sendTorn(ctx context.Context, b *backup, keys []Key) error {
	w := begin(msgTorn, r.epoch)
	w.keys(tornKeys(keys))
	if len(w.b) > tornMax {
		w = begin(msgTorn, r.epoch)
		w.keys([]Key{oplog.Full})
	}
	_, err := b.call(ctx, w.b, nil)
	return err
}

// What keys may take in a message, and in the file of the state, bytes; beyond it everything may differ.
const (
	tornMax  = MessageMax - 64
	tornKept = 32 << 10
)

// tornKeys are the keys without repetitions, as far as they can be sent.
func tornKeys(keys []Key) []Key {
	seen := map[Key]bool{}
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool {
		was := seen[k]
		seen[k] = true
		return was
	})
}

// tear takes note of keys in which this member is about to be made equal; none: it is.
func (f *follower) tear(r *reader) error {
	keys := r.keys()
	if !r.done() {
		return malformed("torn")
	}
	return f.s.ledger.tear(keys)
}

// tear writes keys down in which the member is being made equal; none: it is.
func (l *ledger) tear(keys []Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.mu.kept
	next.Torn = nil
	if len(keys) > 0 {
		w := &writer{}
		w.keys(tornKeys(append(l.tornLocked(), keys...)))
		if len(w.b) > tornKept {
			w = &writer{}
			w.keys([]Key{oplog.Full})
		}
		next.Torn = w.b
	}
	return l.keepLocked(next)
}

// torn returns the keys in which the member was being made equal when it heard last of that.
func (l *ledger) torn() []Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tornLocked()
}

// isTorn reports whether there are such keys.
func (l *ledger) isTorn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.kept.Torn != nil
}

func (l *ledger) tornLocked() []Key { return keptKeys(l.mu.kept.Torn) }

// looseKeys returns the keys in which this member was made equal to its primary, while others may not have been.
// When a change has been finished that came after what was in flight then, all have had that.
func (l *ledger) looseKeys() []Key {
	mark := l.log.Mark()
	l.mu.Lock()
	defer l.mu.Unlock()
	if to := l.mu.kept.LooseTo; mark.Epoch == to.Epoch && mark.Seq > to.Seq {
		return nil
	}
	return keptKeys(l.mu.kept.Loose)
}

// keptKeys are keys as they stand in the file of the state.
func keptKeys(b []byte) []Key {
	if b == nil {
		return nil
	}
	r := &reader{b: b}
	keys := r.keys()
	if !r.done() { // nobody knows
		return []Key{oplog.Full}
	}
	return keys
}

// side is this member as a primary heals it. One that is not in sync has all made durable before it is
// (healer.batch); what is made equal at one that is, is noted as its own changes are: it may be lost with the power.
func (f *follower) side() near {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := near{m: f.s.member, files: f.files}
	if f.mu.admitted || f.s.ledger.isTorn() {
		n.noting = f.s.ledger.dirtied
	}
	return n
}
