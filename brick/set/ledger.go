package set

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// ledger is what a member writes down beside the data, in BRICK/.mortar/log:
//
//	set           the newest state that it saw, and the newest epoch in which it reigned
//	ops.N         the operation log
//	queue.MEMBER  keys in which an absent member may differ
//	dirty.N       keys of what was changed since the last checkpoints
type ledger struct {
	dir, self string
	slog      *slog.Logger
	log       *oplog.Log
	dirty     *oplog.Dirty

	mu struct {
		sync.Mutex
		kept   stateFile
		queues map[string]*oplog.KeySet // all that are open
	}
	handed atomic.Uint64 // numbers the replies that were handed over
	// absent are the queues that changes go into.
	absent atomic.Pointer[[]*oplog.KeySet]
}

// stateFile is the content of the file "set", as JSON.
type stateFile struct {
	State   spec.SetState
	Reigned Epoch
	Boot    string // of the machine, when the member was last equal to the others; "": never
	Torn    []byte `json:",omitempty"` // keys in which the member was being made equal, see torn.go; nil: in none

	// Keys in which it was made equal to the primary, and others may not be yet: until a change after this one is finished.
	Loose   []byte      `json:",omitempty"`
	LooseTo oplog.Point `json:",omitzero"`
}

const (
	stateName   = "set"
	queuePrefix = "queue."
)

func openLedger(dir, self string, log *slog.Logger) (*ledger, error) {
	l := &ledger{dir: dir, self: self, slog: log}
	l.mu.queues = map[string]*oplog.KeySet{}
	l.absent.Store(&[]*oplog.KeySet{})
	b, err := oplog.LoadState(nil, dir, stateName)
	switch {
	case volume.ErrnoOf(err) == enoent:
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, &l.mu.kept); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateName), err)
		}
	}
	if l.log, err = oplog.Open(dir, oplog.Options{}); err != nil {
		return nil, err
	}
	if l.dirty, err = oplog.OpenDirty(dir, oplog.DirtyOptions{}); err != nil {
		_ = l.log.Close()
		return nil, err
	}
	return l, nil
}

// checkpoint makes durable what was changed so far, and forgets that it may be lost.
func (l *ledger) checkpoint(ctx context.Context, m volume.Member) error {
	return l.dirty.Checkpoint(ctx, m.Settle)
}

func (l *ledger) state() (spec.SetState, Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.kept.State, l.mu.kept.Reigned
}

// keepState writes the newest state down, durably.
func (l *ledger) keepState(st spec.SetState, reigned Epoch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.mu.kept
	next.State, next.Reigned = st, reigned
	return l.keepLocked(next)
}

func (l *ledger) keepLocked(next stateFile) error {
	if now := l.mu.kept; next.Boot == now.Boot && next.Reigned == now.Reigned && bytes.Equal(next.Torn, now.Torn) &&
		bytes.Equal(next.Loose, now.Loose) && next.LooseTo == now.LooseTo && next.State.Equal(now.State) {
		return nil
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := oplog.SaveState(nil, l.dir, stateName, b); err != nil {
		return err
	}
	l.mu.kept = next
	return nil
}

// lost reports whether what this member may lack can't be told from its notes. With
// the machine booted anew what matters is the dirty list, not the log.
func (l *ledger) lost(boot string) bool {
	if l.rebooted(boot) {
		return l.dirty.Damage() != nil
	}
	return l.log.Damage() != nil
}

// rebooted reports whether the machine was booted since the member was equal to
// the others: what was not synced may be gone.
func (l *ledger) rebooted(boot string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.kept.Boot != "" && l.mu.kept.Boot != boot
}

// aligned notes that this member is equal to the primary, and has everything up to n. A primary (all) is equal to
// all others then. Another member has what was in flight, which a third may not have: if the primary is lost, the third
// is made equal in that, too (looseKeys).
func (l *ledger) aligned(epoch Epoch, n Seq, boot string, all bool) error {
	if err := l.settled(epoch, n); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.mu.kept
	next.Boot, next.Torn, next.Loose, next.LooseTo = boot, nil, nil, oplog.Point{}
	if torn := l.mu.kept.Torn; torn != nil && !all {
		next.Loose, next.LooseTo = torn, oplog.Point{Epoch: epoch, Seq: n}
	}
	return l.keepLocked(next)
}

// noted is what was written down for a change, and until when it must be durable.
type noted struct {
	queues []*oplog.KeySet
	until  [membersMax]oplog.Stamp
	hold   oplog.Hold
}

// record writes a change down before it is applied: into the dirty list, durably, into the log, and into the
// queues of those who are absent, which sync makes durable. release must follow, when it was applied.
func (l *ledger) record(ctx context.Context, epoch Epoch, n, finished Seq, keys []Key, c *change) (d noted, err error) {
	if c.kind == doMake {
		d.hold = l.dirty.Born(c.node.ID, c.dir)
	} else {
		d.hold = l.dirty.Add(c.dirties()...)
	}
	if err = l.dirty.Sync(ctx, d.hold); err != nil {
		l.dirty.Release(d.hold)
		return d, err
	}
	l.log.Finished(oplog.Point{Epoch: epoch, Seq: finished})
	rec := oplog.Record{Point: oplog.Point{Epoch: epoch, Seq: n}, Keys: keys, Request: c.request}
	if c.request != (volume.Request{}) {
		w := &writer{make([]byte, 0, 32)}
		w.bool(true)
		w.effect(c.effect())
		rec.Outcome = w.b // true once the change is applied: below the mark, or if tookEffect says so
		if c.decidable() {
			noted := *c
			if c.kind == doWrite && !c.appends {
				noted.sum = xxhash.Sum64(c.data)
			}
			rec.Body = noted.append(make([]byte, 0, 256))
		}
	}
	if err := l.log.Append(rec); err != nil {
		l.dirty.Release(d.hold)
		return d, err
	}
	d.queues = *l.absent.Load()
	for i, q := range d.queues {
		d.until[i] = q.Add(keys...)
	}
	return d, nil
}

// dirtied notes, durably, what is about to be changed otherwise than by a change that is recorded: a noting.
func (l *ledger) dirtied(ctx context.Context, keys ...Key) (end func(), err error) {
	h := l.dirty.Add(keys...)
	if err := l.dirty.Sync(ctx, h); err != nil {
		l.dirty.Release(h)
		return nil, err
	}
	return func() { l.dirty.Release(h) }, nil
}

// release notes that a change that was recorded has been applied, or won't be.
func (l *ledger) release(d *noted) { l.dirty.Release(d.hold) }

// decidable reports whether tookEffect can tell whether the change was applied. With a write that sets attributes, and most
// changes of attributes, it can't: their former values are not known. What is made has its name last, and with it all that it was made with.
func (c *change) decidable() bool {
	if c.kind == doSetattr {
		return c.cuts()
	}
	return decidable[c.kind] && (c.set.Mask == 0 || c.kind == doMake)
}

// cuts reports whether a change of attributes is what a Create makes that finds a file and cuts it.
func (c *change) cuts() bool {
	const cut = volume.SetSize | volume.SetMtimeNow
	return c.set.Size == 0 && c.set.Mask&^volume.ClearPriv == cut
}

var decidable = [kinds]bool{doMake: true, doLink: true, doUnlink: true, doRmdir: true, doRename: true, doSetxattr: true, doRemovexattr: true, doWrite: true}

// sync makes durable in the queues what record has put there. A queue that is kept no
// more is of a member that has come back meanwhile: it has the change as the others have it.
func (l *ledger) sync(ctx context.Context, d *noted) error {
	for i, q := range d.queues {
		if err := q.Sync(ctx, d.until[i]); err != nil && slices.Contains(*l.absent.Load(), q) {
			return err
		}
	}
	return nil
}

// void notes that a change that was recorded failed.
func (l *ledger) void(epoch Epoch, n Seq) {
	w := &writer{}
	w.bool(false)
	if err := l.log.Amend(oplog.Point{Epoch: epoch, Seq: n}, w.b); err != nil {
		l.slog.Warn("that a change failed can't be noted", "error", err)
	}
}

// forget notes that requests which the log tells of have not taken effect, for a start of this process: they
// were undone. It would be taken for what its record says as soon as the mark is above that.
func (l *ledger) forget(qs []volume.Request) error {
	return l.amend(qs, func(w *writer, _ effect) { w.bool(false) })
}

// doubt notes likewise that nobody knows whether requests have taken effect.
func (l *ledger) doubt(qs []volume.Request) error {
	return l.amend(qs, func(w *writer, e effect) {
		w.bool(true)
		w.effect(e)
		w.bool(false) // more than replies takes for an outcome
	})
}

// amend writes new outcomes of requests that the log tells of.
func (l *ledger) amend(qs []volume.Request, outcome func(w *writer, e effect)) error {
	if len(qs) == 0 {
		return nil
	}
	wanted := setOf(qs)
	type noted struct {
		at oplog.Point
		effect
	}
	var all []noted
	err := l.log.Replies(func(q volume.Request, p oplog.Point, was []byte) {
		if wanted[q] {
			r := &reader{b: was}
			_ = r.bool()
			all = append(all, noted{p, r.effect()})
		}
	})
	for _, n := range all {
		w := &writer{}
		outcome(w, n.effect)
		err = errors.Join(err, l.log.Amend(n.at, w.b))
	}
	return err
}

// finished notes the mark below which all members have everything.
func (l *ledger) finished(epoch Epoch, n Seq) { l.log.Finished(oplog.Point{Epoch: epoch, Seq: n}) }

// settled notes that all members in sync have everything of older epochs and, of
// this one, up to n.
func (l *ledger) settled(epoch Epoch, n Seq) error {
	l.log.Finished(oplog.Point{Epoch: epoch, Seq: n})
	if l.log.Damage() != nil {
		return l.log.Clear()
	}
	return nil
}

// entry is a change that was recorded, and perhaps not finished.
type entry struct {
	change change // of those that tookEffect can tell of; of others but the request
	keys   []Key
	failed bool
}

// followed reports whether one of the later changes conflicts with this one, by what
// they touch: then this one was finished before, though the mark may not tell.
func (e *entry) followed(later []entry) bool {
	if e.failed {
		return false
	}
	for i := range later {
		for _, k := range later[i].keys {
			if k.Kind != ObjectKey && slices.ContainsFunc(e.keys, func(o Key) bool { return overlap(k, o) }) {
				return true
			}
		}
	}
	return false
}

// overlap reports whether two keys, neither of them an object's, tell of something in common.
func overlap(a, b Key) bool {
	if a.Kind != b.Kind || a.ID != b.ID || a.Kind != ExtentKey {
		return a == b
	}
	end := func(k Key) int64 {
		if k.Len == 0 {
			return math.MaxInt64
		}
		return k.Off + k.Len
	}
	return a.Off < end(b) && b.Off < end(a)
}

// unfinished is what may not be finished of what this member has written down.
type unfinished struct {
	changes  []entry          // above the mark; none if the machine lost its power: what the log says of the end is as uncertain as the end
	requests []volume.Request // of those that did not fail, power or not
	// keys are those in which the member may differ from others: of the changes or, if it has lost what was not synced, those of the dirty list.
	keys []Key
}

func (l *ledger) unfinished(boot string) (u unfinished, err error) {
	recs, err := l.log.Tail()
	if err != nil {
		return u, err
	}
	rebooted := l.rebooted(boot)
	for _, rec := range recs {
		e := entry{keys: rec.Keys, failed: len(rec.Outcome) == 1}
		if !e.failed && rec.Request != (volume.Request{}) {
			u.requests = append(u.requests, rec.Request)
		}
		if rebooted {
			continue
		}
		if len(rec.Body) > 0 && !e.failed {
			if err := e.change.parse(&reader{b: rec.Body}); err != nil {
				return u, err
			}
		}
		e.change.request = rec.Request
		u.changes = append(u.changes, e)
	}
	own := oplog.KeysOf(recs)
	if rebooted {
		own = l.dirty.Keys()
	}
	u.keys = slices.Concat(own, l.torn(), l.looseKeys())
	return u, nil
}

// tail is what this member tells a primary that fences it.
func (l *ledger) tail(boot string) (t tail, err error) {
	end, err := l.unfinished(boot)
	if err != nil {
		return t, err
	}
	t.requests = end.requests[:min(len(end.requests), requestsMax)]
	t.boot, t.keys, t.lost = boot, end.keys, l.lost(boot)
	if l.rebooted(boot) {
		t.since = volume.TimeOf(l.dirty.Since())
	}
	size := 0
	for _, k := range end.keys {
		size += keySize + len(k.Name)
	}
	if size > tailMax {
		t.keys, t.lost = nil, true
	}
	return t, nil
}

// Limits of what a member tells of its log's end, so that it fits into an answer: bytes
// of keys, beyond which everything is compared, and requests.
const (
	tailMax     = 768 << 10
	requestsMax = 4096
)

// replies calls f with what is remembered of requests. Below the mark all was applied.
func (l *ledger) replies(f func(q volume.Request, e effect, sure bool)) error {
	mark := l.log.Mark()
	return l.log.Replies(func(q volume.Request, p oplog.Point, outcome []byte) {
		r := &reader{b: outcome}
		if applied := r.bool(); !applied && r.done() {
			return // it failed
		}
		e := r.effect()
		f(q, e, r.done() && !mark.Before(p))
	})
}
