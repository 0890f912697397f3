package dht

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

// settleAll makes finished intents durable at all that took part, and then
// drops what they replaced or removed, and their records.
func (o *Owner) settleAll(ctx context.Context, v *view) {
	ctx, cancel := context.WithTimeout(ctx, opMax)
	defer cancel()
	needs, seq := o.marks.sets()
	err := o.settleNeeds(ctx, needs, seq)
	if err != nil {
		o.log.Debug("not all marks were settled", "err", err)
	}
	var ripe []*intent
	need := map[volume.SetID]uint32{}
	o.mu.Lock()
	for _, it := range o.mu.finished {
		// A new name may lie in a directory that its home could still lose.
		if !it.live && len(it.waiting)+len(it.again) == 0 && (err == nil || !o.marks.concern(it)) {
			ripe = append(ripe, it)
			for set := range it.acked {
				need[set] = 0
			}
		}
	}
	o.mu.Unlock()
	if len(ripe) == 0 {
		return
	}
	if o.settle(ctx) != nil {
		return
	}
	o.settleNeeded(ctx, v, need)
	o.retire(ctx, v, ripe, need)
}

// concern reports whether something that the intent names needs another set.
func (m *marks) concern(it *intent) bool {
	for _, a := range append([]action{it.commit}, it.actions...) {
		for _, id := range []volume.ID{a.id, a.dir, a.dir2} {
			if list, _ := m.needs(id); len(list) > 0 {
				return true
			}
		}
	}
	return false
}

// settleNeeded settles sets and notes the life in which each was; those that
// could not be are taken out.
func (o *Owner) settleNeeded(ctx context.Context, v *view, need map[volume.SetID]uint32) {
	sets := make([]volume.SetID, 0, len(need))
	for set := range need {
		if set != o.self {
			sets = append(sets, set)
		}
	}
	epochs := make([]uint32, len(sets))
	index := map[volume.SetID]int{}
	for i, set := range sets {
		index[set] = i
	}
	errs := each(sets, func(set volume.SetID) error {
		a, err := o.tell(ctx, v, set, &step{op: opSettle})
		if err == nil {
			epochs[index[set]] = a.epoch
		}
		return err
	})
	for i, set := range sets {
		need[set] = epochs[i]
		if errs[i] != nil && v.has(set) {
			delete(need, set)
		}
	}
	need[o.self] = o.epoch
}

// retire forgets the intents all of whose sets have been settled in the life
// in which they acted; a set that has started anew in between acts again first.
func (o *Owner) retire(ctx context.Context, v *view, ripe []*intent, settled map[volume.SetID]uint32) {
	done := o.durable(ripe, settled)
	purges := map[volume.SetID][]uint64{}
	for _, it := range done {
		for set, parts := range it.discards(o.self) {
			purges[set] = append(purges[set], it.number, parts)
		}
	}
	failed := o.purgeAll(ctx, v, purges)
	for _, it := range done {
		kept := false
		for set := range it.discards(o.self) {
			kept = kept || failed[set]
		}
		if kept || o.record(ctx, &record{kind: recDone, number: it.number}) != nil {
			continue
		}
		o.mu.Lock()
		delete(o.mu.finished, it.number)
		o.mu.Unlock()
	}
}

// durable returns those of the intents all of whose sets have been settled in
// the life in which they acted. The others wait for the sets that have not.
func (o *Owner) durable(ripe []*intent, settled map[volume.SetID]uint32) (done []*intent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range ripe {
		durable := true
		for set, epoch := range it.acked {
			now, ok := settled[set]
			switch {
			case !ok:
				durable = false
			case epoch == 0: // its life was not noted: from now on it counts
				it.acked[set] = now
			case set != o.self && now != epoch:
				it.waiting[set] = true
				durable = false
			}
		}
		if durable {
			done = append(done, it)
		}
	}
	return done
}

// discards returns the parts, bit by bit, that the intent keeps at each set.
func (it *intent) discards(self volume.SetID) map[volume.SetID]uint64 {
	parts := map[volume.SetID]uint64{}
	for _, a := range append([]action{it.commit}, it.actions...) {
		if a.kind == actDiscard || a.kind == actPut && !a.old.IsZero() {
			parts[orSet(a.set, self)] |= 1 << a.part
		}
	}
	return parts
}

// purgeAll sends purges in steps of bounded size and returns the sets where
// that failed.
func (o *Owner) purgeAll(ctx context.Context, v *view, purges map[volume.SetID][]uint64) map[volume.SetID]bool {
	failed := map[volume.SetID]bool{}
	sets := make([]volume.SetID, 0, len(purges))
	for set := range purges {
		sets = append(sets, set)
	}
	errs := each(sets, func(set volume.SetID) error {
		for list := purges[set]; len(list) > 0; {
			n := min(len(list), 512)
			if _, err := o.tell(ctx, v, set, &step{op: opPurge, numbers: list[:n]}); err != nil {
				return err
			}
			list = list[n:]
		}
		return nil
	})
	for i, set := range sets {
		failed[set] = errs[i] != nil
	}
	return failed
}

// compact rewrites the journal when it has grown, with what is open only.
// Operations that want to record something wait for it.
func (o *Owner) compact() {
	if size := o.store.Journal().Size(); size < journalMax || size < 2*o.compacted {
		return
	}
	o.book.Lock()
	defer o.book.Unlock()
	o.mu.Lock()
	o.reach(uint64(o.epoch)<<32 | uint64(o.book.counter))
	recs := [][]byte{o.epochRecord().encode()}
	o.mu.Unlock()
	for _, list := range o.book.open {
		recs = append(recs, list...)
	}
	if err := o.store.Journal().Rewrite(recs); err != nil {
		o.log.Error("the journal could not be rewritten", "err", err)
	}
	o.compacted = o.store.Journal().Size()
}
