package dht

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// recover reads the journal: what was not finished in an earlier life is held
// as it was, and this life gets its epoch.
func (o *Owner) recover() error {
	var last uint32
	boot := o.cfg.Boot
	intents := map[uint64]*intent{}
	parts := map[partKey]*part{}
	err := o.store.Journal().Replay(func(b []byte) error {
		rec, err := decodeRecord(b)
		if err != nil {
			return &volume.Error{Op: "journal", Errno: syscall.EIO, Reason: volume.Damaged, Err: err}
		}
		if rec.kind == recEpoch {
			last, boot = max(last, uint32(rec.number)), rec.boot
			o.reach(rec.number << 32) // the epoch was, and reached this far at least
			for _, n := range rec.reached {
				o.reach(n)
			}
			return nil
		}
		if rec.kind != recPart && rec.kind != recPartEnd {
			o.reach(rec.number)
			last = max(last, uint32(rec.number>>32))
		}
		o.book.note(&rec, append([]byte{}, b...))
		return o.replay(&rec, intents, parts)
	})
	if err != nil {
		return fmt.Errorf("journal of set %d: %w", o.self, err)
	}
	o.epoch, o.mu.boot = last+1, boot
	if boot != o.cfg.Boot {
		o.suspect(o.self, o.epoch)
	}
	for _, number := range slices.Sorted(maps.Keys(intents)) {
		it := intents[number]
		if it.state == finished && boot != o.cfg.Boot {
			it.state = committed // the record was durable, its effects here perhaps were not
		}
		o.resume(it)
	}
	for k, p := range parts {
		o.mu.parts[k] = p
		if !p.mu.dying.IsZero() {
			o.mu.dying[p.mu.dying] = k
		}
		for _, name := range p.mu.names {
			o.names.share(name, true)
		}
	}
	if err := o.record(context.Background(), o.epochRecord()); err != nil {
		return err
	}
	return o.store.Journal().Sync(context.Background())
}

func (o *Owner) reach(n uint64) {
	e := uint32(n >> 32)
	if n > o.mu.reached[e] {
		o.mu.reached[e] = n
	}
	for len(o.mu.reached) > reachedMax-1 { // the oldest is far enough back
		oldest := e
		for e := range o.mu.reached {
			oldest = min(oldest, e)
		}
		delete(o.mu.reached, oldest)
	}
}

func (o *Owner) epochRecord() *record {
	rec := &record{kind: recEpoch, number: uint64(o.epoch), boot: o.mu.boot}
	for _, n := range o.mu.reached {
		rec.reached = append(rec.reached, n)
	}
	return rec
}

// replay applies one record to what is known so far.
func (o *Owner) replay(rec *record, intents map[uint64]*intent, parts map[partKey]*part) error {
	it := intents[rec.number]
	switch rec.kind {
	case recBegin, recCommit:
		if it == nil {
			it = &intent{number: rec.number, waiting: map[volume.SetID]bool{}, acked: map[volume.SetID]uint32{}, touched: map[volume.SetID]bool{}}
			intents[rec.number] = it
		}
		it.victim, it.own, it.commit, it.links, it.actions = rec.victim, rec.names, rec.commit, rec.links, rec.actions
		it.request, it.made = rec.request, rec.made
		if rec.kind == recCommit {
			it.state = committed
		}
	case recAbort:
		if it != nil {
			it.state = aborting
		}
	case recFinished:
		if it != nil {
			it.state = finished
		}
	case recDone:
		delete(intents, rec.number)
	case recPart:
		p := &part{key: partKey{rec.from, rec.number}}
		p.mu.names, p.mu.links, p.mu.dying = rec.names, rec.actions, rec.dying
		parts[p.key] = p
	case recPartEnd:
		delete(parts, partKey{rec.from, rec.number})
	}
	return nil
}

// resume takes an intent of an earlier life up. Who had what of it is not
// recorded: all sets are told, and those that know nothing say so.
func (o *Owner) resume(it *intent) {
	v := o.view.Load()
	it.over = make(chan struct{})
	undecided := it.state == begun && !it.victim.IsZero()
	if it.state == begun && !undecided {
		it.state = aborting
	}
	for _, set := range v.ids {
		it.touched[set] = true
		if it.state == aborting {
			it.waiting[set] = true
		}
	}
	if it.state == finished {
		for _, set := range o.others(v) {
			it.waiting[set] = false
		}
		o.mu.finished[it.number] = it
		close(it.over)
		return
	}
	o.mu.active[it.number] = it
	if it.state == committed || undecided {
		o.expect(it)
	}
	for _, k := range it.own { // all of them: a name given free now could lead elsewhere when the rest is carried out
		if v.owner(k.dir, k.name) == o.self {
			o.names.share(k, it.state == committed || undecided)
			it.names = append(it.names, k)
		}
	}
}

// outcomes asks the coordinators of intents that have something here, and have
// not been heard of for a while, what became of them. It reports whether some
// could not be asked.
func (o *Owner) outcomes(ctx context.Context, v *view) (more bool) {
	var keys []partKey
	o.mu.Lock()
	more = len(o.mu.parts) > 0
	for k, p := range o.mu.parts {
		if time.Since(p.asked) > o.cfg.StepTimeout {
			p.asked = time.Now()
			keys = append(keys, k)
		}
	}
	o.mu.Unlock()
	for _, k := range keys {
		if k.set != o.self && v.has(k.set) && !v.up(k.set) {
			more = true
			continue
		}
		a, err := o.tell(ctx, v, k.set, &step{op: opOutcome, intent: k.number})
		switch {
		case err != nil || a.outcome == outcomeOpen:
			more = true
		default:
			if err := o.abortPart(ctx, k); err != nil {
				o.log.Warn("an intent without a coordinator can't be undone yet", "set", k.set, "intent", k.number, "err", err)
				more = true
			}
		}
	}
	return more
}

// strays deals with discards that an earlier life left: those of intents that
// are finished and forgotten go, those of intents that were never recorded
// (power was lost) come back. It reports whether some must be looked at again.
func (o *Owner) strays(ctx context.Context, v *view) (more bool) {
	o.mu.Lock()
	round := o.mu.doubt.round
	o.mu.Unlock()
	list, err := o.store.Discards(ctx)
	if err != nil {
		return true
	}
	unsure := false
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !unsure && o.mu.doubt.round == round {
			o.mu.doubt.strays = false
		}
	}()
	for _, d := range list {
		k := partKey{d.Key.Set, d.Key.Intent}
		if d.Key.Set == o.self && uint32(k.number>>32) == o.epoch {
			continue // of this life
		}
		o.mu.Lock()
		_, here := o.mu.parts[k]
		o.mu.Unlock()
		if here || v.has(k.set) && k.set != o.self && !v.up(k.set) {
			more, unsure = true, unsure || !here
			continue
		}
		a, err := o.tell(ctx, v, k.set, &step{op: opOutcome, intent: k.number, flags: noWait})
		switch {
		case err != nil:
			more, unsure = true, true
		case a.outcome == outcomeOpen: // it may have been purged already, and that lost
			more = true
		case d.Key.Part&undoPart != 0, a.outcome == outcomeUnknown:
			err = o.store.Purge(ctx, d.Key)
		case a.outcome == outcomeLost:
			o.log.Info("a removal that was lost is undone", "dir", d.Dir, "name", d.Name)
			if err = o.restore(ctx, v, d); isStale(err) && o.inDoubt() {
				more, err = true, nil // its directory may be adopted yet
			}
		}
		if err != nil {
			more, unsure = true, true
			o.log.Debug("a discard stays for now", "key", fmt.Sprint(d.Key), "err", err)
		}
	}
	return more
}
