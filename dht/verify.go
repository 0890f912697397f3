package dht

import (
	"context"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// After a loss of power a set may have lost what other sets' entries count on,
// and the journal's record of it, in any combination: a pointer without the
// name that it leads to, a name held for a pointer that is gone, a directory's copy
// without its home. So when a set starts after one, it and all others verify:
//
//  1. calm: what is recorded is carried out, repeated or undone first, on all
//     sets, for that may mend it, and brings discards back;
//  2. each set walks its own tree, and for each entry that counts on another set
//     asks that one. A name is locked by its owner meanwhile, so an operation
//     under way is never taken for a remnant;
//  3. when all have done so the set that lost its power records its new boot.
//     Until then each start begins again.
//
// What is found wrong is mended so that no object loses its last name:
//
//	pointer, and its set does not hold the name       the pointer goes
//	name held, and its owner leads elsewhere, or      the name goes if the object has
//	nowhere                                           another; else its owner gets a pointer
//	copy of a directory that its home does not have   it goes if nothing is in it; else its
//	                                                  home adopts it
//	copy in another place than its home has it        it moves there
//
// Where a name is in use by then, the object gets the name with restoredSuffix.
//
// A directory that was removed is not adopted: its copies were empty when they
// were removed, its home last.

// doubt is what this set does about a loss of power.
type doubt struct {
	sets     map[volume.SetID]uint32 // lost power before they started this epoch; not verified yet
	verified map[volume.SetID]uint32 // likewise, verified
	cutoff   uint64                  // own intents up to this must be at rest first
	strays   bool                    // discards must be asked about first
	round    uint64                  // counts doubts
}

// verifyGap is the longest pause between two tries.
const verifyGap = 2 * time.Second

// suspect notes that a set lost power before it started an epoch, and reports
// whether this set has verified its entries since.
func (o *Owner) suspect(set volume.SetID, epoch uint32) (verified bool) {
	number := o.lastNumber()
	o.mu.Lock()
	defer o.mu.Unlock()
	d := &o.mu.doubt
	if d.verified[set] >= epoch {
		return true
	}
	if d.sets[set] >= epoch {
		return false
	}
	d.round++
	d.sets[set], d.cutoff, d.strays, o.mu.strays = epoch, number, true, true
	for _, it := range o.mu.finished { // it may have lost them
		if _, acted := it.acked[set]; acted && set != o.self {
			if it.again == nil {
				it.again = map[volume.SetID]bool{}
			}
			it.again[set] = true
		}
	}
	o.wake()
	select {
	case o.doubtful <- struct{}{}:
	default:
	}
	return false
}

// outlived takes a copy that was just made back if its home's word for it is of
// an earlier life of the home, which it has forgotten since with its power: the
// walk here may be past it. The directory is locked in dirs.
func (o *Owner) outlived(ctx context.Context, v *view, dir volume.ID, home volume.SetID, epoch uint32) error {
	if home == o.self {
		return nil
	}
	o.mu.Lock()
	now := max(o.mu.doubt.sets[home], o.mu.doubt.verified[home])
	o.mu.Unlock()
	if now <= epoch {
		return nil
	}
	_, err := o.tell(ctx, v, home, &step{op: opFetch, dir: dir})
	if isStale(err) {
		if parent, name, perr := o.store.Path(ctx, dir); perr == nil {
			o.removeDead(ctx, v, parent, name)
		}
	}
	return err
}

// inDoubt reports whether this set is yet to verify its entries.
func (o *Owner) inDoubt() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.mu.doubt.sets) > 0
}

func (o *Owner) lastNumber() uint64 {
	o.book.Lock()
	defer o.book.Unlock()
	return uint64(o.epoch)<<32 | uint64(o.book.counter)
}

// calm answers opCalm: whether all that is recorded here from before the doubt
// is at rest. numbers are pairs of a set that lost power and its epoch.
func (o *Owner) calm(s *step) error {
	for i := 0; i+1 < len(s.numbers); i += 2 {
		o.suspect(volume.SetID(s.numbers[i]), uint32(s.numbers[i+1]))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	rest := !o.mu.doubt.strays
	for n := range o.mu.active {
		rest = rest && n > o.mu.doubt.cutoff
	}
	for n, it := range o.mu.finished {
		rest = rest && (n > o.mu.doubt.cutoff || !it.live && len(it.waiting)+len(it.again) == 0)
	}
	for k := range o.mu.parts {
		p := o.mu.peers[k.set]
		rest = rest && p != nil && uint32(k.number>>32) == p.epoch
	}
	if !rest {
		return fail("calm", "", syscall.EAGAIN)
	}
	return nil
}

// verifier verifies when there is a doubt, until ctx ends.
func (o *Owner) verifier(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := retryMin; ; {
		select {
		case <-ctx.Done():
			return
		case <-o.doubtful:
			wait = retryMin
		case <-timer.C:
		}
		if v := o.view.Load(); !v.single && !o.verify(ctx, v) {
			timer.Reset(wait)
			wait = min(2*wait, verifyGap)
		}
	}
}

// verify verifies once, and reports whether nothing is left to do.
func (o *Owner) verify(ctx context.Context, v *view) bool {
	s := step{op: opCalm}
	o.mu.Lock()
	for set, epoch := range o.mu.doubt.sets {
		s.numbers = append(s.numbers, uint64(set), uint64(epoch))
	}
	o.mu.Unlock()
	if len(s.numbers) > 0 {
		err := first(each(v.ids, func(set volume.SetID) error {
			one := s
			_, err := o.tell(ctx, v, set, &one)
			return err
		}))
		if err != nil {
			return false
		}
		if o.walks.Add(1); !o.walk(ctx, v) {
			return false
		}
		o.walks.Store(0)
		if !o.alarm(ctx, v) {
			return false
		}
		o.mu.Lock()
		d := &o.mu.doubt
		for i := 0; i < len(s.numbers); i += 2 {
			set, epoch := volume.SetID(s.numbers[i]), uint32(s.numbers[i+1])
			d.verified[set] = max(d.verified[set], epoch)
			if d.sets[set] == epoch {
				delete(d.sets, set)
			}
		}
		again := len(d.sets) > 0
		o.mu.Unlock()
		if again {
			return false
		}
	}
	return o.absolve(ctx, v)
}

// alarm has all sets verify once more if something was moved here that others
// may have found in its place.
func (o *Owner) alarm(ctx context.Context, v *view) bool {
	if !o.moved.Swap(false) {
		return true
	}
	for _, err := range each(v.ids, func(set volume.SetID) error {
		_, err := o.tell(ctx, v, set, &step{op: opVerify, flags: redo})
		return err
	}) {
		if !isErrno(err, syscall.EAGAIN) {
			o.moved.Store(true)
		}
	}
	return false
}

// absolve records this boot once all sets have verified what they have in common with this one.
func (o *Owner) absolve(ctx context.Context, v *view) bool {
	o.mu.Lock()
	boot := o.mu.boot
	o.mu.Unlock()
	if boot == o.cfg.Boot {
		return true
	}
	err := first(each(o.others(v), func(set volume.SetID) error {
		_, err := o.tell(ctx, v, set, &step{op: opVerify})
		return err
	}))
	if err != nil {
		return false
	}
	o.mu.Lock()
	o.mu.boot = o.cfg.Boot
	rec := o.epochRecord()
	o.mu.Unlock()
	if err := o.record(ctx, rec); err != nil {
		o.log.Warn("the journal could not be written", "err", err)
	}
	return true
}

// stillThere reports whether a name leads to what it did: an error about it is
// not because it went. ESTALE may be another directory's that is yet to be adopted.
func (o *Owner) stillThere(ctx context.Context, k nameKey, id volume.ID) bool {
	a, err := o.store.Lookup(ctx, k.dir, k.name)
	return err == nil && a.ID == id
}

// walk verifies each entry of this set's tree, and reports whether that succeeded.
func (o *Owner) walk(ctx context.Context, v *view) bool {
	all := true
	for dirs := []volume.ID{volume.Root}; len(dirs) > 0 && ctx.Err() == nil; dirs = dirs[1:] {
		for after, end := volume.CookieStart, false; !end; {
			var list []volume.Entry
			var err error
			list, end, err = o.store.List(ctx, dirs[0], after, 256, false, func(string) bool { return true })
			if err != nil {
				all = all && isStale(err) // removed meanwhile
				break
			}
			for _, e := range list {
				after = e.Cookie
				err := o.verifyEntry(ctx, v, nameKey{dirs[0], e.Name}, e)
				if err != nil && (isUnsure(err) || o.stillThere(ctx, nameKey{dirs[0], e.Name}, e.ID)) {
					o.log.Debug("an entry could not be verified, to be repeated", "dir", dirs[0], "name", e.Name, "err", err)
					all = false
				}
				if e.Mode&syscall.S_IFMT == syscall.S_IFDIR {
					dirs = append(dirs, e.ID)
				}
			}
		}
	}
	return all && ctx.Err() == nil
}
