package dht

import (
	"context"
	"slices"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// state of an intent at its coordinator.
type state uint8

const (
	begun     state = iota // not decided; for lack of anything else it is against
	committed              // decided for; not carried out everywhere, or its own names still held
	aborting               // decided against; not undone everywhere
	finished               // carried out as far as anyone can see; not yet durable, or a set was away
)

// intent is an operation over several sets at its coordinator. While it is
// live the operation's goroutine has it to itself, afterwards Run has.
type intent struct {
	number  uint64
	victim  volume.ID // the directory that is removed: its home's word decides
	state   state
	own     []nameKey // all names of this set that it is about: a later life holds these
	names   []nameKey // locked here for it
	commit  action
	actions []action // links, then rest
	links   int
	linked  volume.SetID            // made its link together with the reservation
	touched map[volume.SetID]bool   // may have something of it; true: has names
	waiting map[volume.SetID]bool   // to be told the decision; true: its names depend on it
	acked   map[volume.SetID]uint32 // have carried it out in this epoch of theirs

	request volume.Request // what the client asked that it does; see Outcome
	made    bool           // it is a mkdir that hangs on its home: the directory stays if it is given up
	aired   bool           // the decision for it was taken, or may be in the journal
	unsaid  bool           // given up, and that is not in the journal yet
	over    chan struct{}  // closed when it is at its end and its names are free

	live    bool                  // guarded by Owner.mu
	expects bool                  // likewise: see Owner.expect
	again   map[volume.SetID]bool // guarded by Owner.mu: have started anew and ask
}

// begin numbers and records an intent about names of this set (own); the first is
// the one that the commit is about.
func (o *Owner) begin(ctx context.Context, it *intent) error {
	it.live, it.over = true, make(chan struct{})
	it.touched, it.waiting, it.acked = map[volume.SetID]bool{}, map[volume.SetID]bool{}, map[volume.SetID]uint32{}
	if it.commit.id.IsZero() {
		it.commit = action{set: o.self, dir: it.own[0].dir, name: it.own[0].name}
	}
	o.book.Lock()
	defer o.book.Unlock()
	o.book.counter++
	it.number = uint64(o.epoch)<<32 | uint64(o.book.counter)
	if err := o.recordLocked(ctx, it.record(recBegin)); err != nil {
		return err
	}
	o.mu.Lock()
	o.mu.active[it.number] = it
	o.mu.Unlock()
	return nil
}

// replan records what an intent will do when its victim is gone, before that
// begins.
func (o *Owner) replan(ctx context.Context, it *intent) error {
	return o.record(ctx, it.record(recBegin))
}

// record returns the intent's record of a kind that says all.
func (it *intent) record(kind recKind) *record {
	return &record{
		kind: kind, number: it.number, victim: it.victim, names: it.own, commit: it.commit, links: it.links, actions: it.actions,
		request: it.request, made: it.made,
	}
}

// carry carries an intent out: the links, the decision, the rest. After an
// error nothing has changed, unless the error says that this is not known.
func (o *Owner) carry(ctx context.Context, v *view, it *intent, d decision, h *held) error {
	it.commit, it.actions, it.links = d.commit, append(append([]action{}, d.links...), d.rest...), len(d.links)
	var sets []volume.SetID
	for _, a := range d.links {
		if a.set != it.linked {
			sets = append(sets, a.set)
			note(it.touched, a.set)
		}
	}
	if len(sets) > 0 {
		errs := each(sets, func(set volume.SetID) error {
			_, err := o.tell(ctx, v, set, &step{op: opApply, intent: it.number, actions: forSet(d.links, set)})
			return err
		})
		for _, err := range errs {
			if err != nil {
				o.giveUp(ctx, v, it, h)
				return err
			}
		}
	}
	return o.decide(ctx, v, it, h)
}

// decide is the point of no return.
func (o *Owner) decide(ctx context.Context, v *view, it *intent, h *held) error {
	if err := o.protect(ctx, v, it); err != nil {
		o.giveUp(ctx, v, it, h)
		return err
	}
	err := o.record(ctx, it.record(recCommit))
	it.aired = it.aired || err == nil || isUnsure(err)
	if err != nil {
		o.giveUp(ctx, v, it, h)
		return err
	}
	it.names, h.names = h.names, nil
	err = o.act(ctx, v, partKey{o.self, it.number}, it.commit)
	if err != nil && !isUnsure(err) && it.victim.IsZero() {
		h.names, it.names = it.names, nil
		o.giveUp(ctx, v, it, h)
		return err
	}
	it.state = committed
	if err != nil { // forward it goes, but later
		o.rest(it)
		return err
	}
	it.aim(v)
	o.finish(ctx, v, it, false)
	o.rest(it)
	return nil
}

// aim notes whom the decision must be told. Among them are the homes of moved
// directories: once the names are free a home's word may not be older than theirs,
// for all go by it, and the coordinator of the next move need not be this one.
func (it *intent) aim(v *view) {
	for set := range it.touched {
		if _, done := it.acked[set]; !done {
			it.waiting[set] = it.touched[set]
		}
	}
	for _, a := range it.actions[it.links:] {
		if a.set != allSets {
			it.waiting[a.set] = true
		}
	}
	for _, id := range it.moved() {
		home := v.home(id)
		if _, done := it.acked[home]; !done && (home != it.commit.set || it.commit.kind == actDiscard) {
			it.waiting[home] = true
		}
	}
}

// everywhere notes that all other sets must be told, for actions of all of them.
func (it *intent) everywhere(v *view, self volume.SetID) {
	for _, a := range it.actions {
		if a.set != allSets {
			continue
		}
		for _, set := range v.ids {
			if _, done := it.acked[set]; !done && set != self && !it.waiting[set] {
				it.waiting[set] = false
			}
		}
	}
}

// finish tells the decision to those that wait for it. Those that only have
// links of it are told later: nobody waits for that. With all, they are told too.
// Links were all made before the decision, and a crash loses none. They are made again only
// if power may have taken them: the earlier life may have come as far as giving a name
// free, and its link may have been replaced or removed since.
func (o *Owner) finish(ctx context.Context, v *view, it *intent, all bool) {
	it.everywhere(v, o.self)
	from := it.links
	if all && o.inDoubt() {
		from = 0
	}
	// A set that holds a name for the intent comes last: once the name is free
	// another operation may put there, on any set, what this one still takes away.
	var sets, holders []volume.SetID
	for set, must := range it.waiting {
		switch {
		case it.touched[set]:
			holders = append(holders, set)
		case all || must || len(forSet(it.actions[from:], set)) > 0:
			sets = append(sets, set)
		}
	}
	actions := it.actions[from:]
	// The homes of moved directories first: until all of them know, a set could make
	// a copy in the old place after it was told of the new one, see place.
	if homes := it.homes(v); len(homes) > 0 && !o.tellFinish(ctx, v, it, actions, homes, keep) {
		return
	}
	done := o.tellFinish(ctx, v, it, actions, sets, 0)
	if len(holders) > 1 { // the same among them
		done = o.tellFinish(ctx, v, it, actions, holders, keep) && done
		actions = nil
	}
	if done {
		o.tellFinish(ctx, v, it, actions, holders, 0)
	}
	for _, must := range it.waiting {
		if must {
			return
		}
	}
	o.free(ctx, it)
}

// homes returns the homes of directories that the intent moves and that have
// not been told so.
func (it *intent) homes(v *view) []volume.SetID {
	var list []volume.SetID
	for _, id := range it.moved() {
		home := v.home(id)
		if _, waits := it.waiting[home]; waits && !slices.Contains(list, home) {
			list = append(list, home)
		}
	}
	return list
}

// tellFinish tells some sets the decision, and notes who has carried it out. It
// reports whether all did whose names depend on it. With keep the sets are not
// to end their part yet.
func (o *Owner) tellFinish(ctx context.Context, v *view, it *intent, actions []action, sets []volume.SetID, flags uint8) bool {
	var mu sync.Mutex
	epochs := make(map[volume.SetID]uint32, len(sets))
	errs := each(sets, func(set volume.SetID) error {
		if set != o.self && !v.up(set) {
			return unavailable("finish", set)
		}
		a, err := o.tell(ctx, v, set, &step{op: opFinish, flags: flags, intent: it.number, actions: forSet(actions, set)})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		epochs[set] = a.epoch
		return nil
	})
	all := true
	for i, set := range sets {
		switch {
		case errs[i] != nil:
			o.log.Debug("step of an intent failed, to be repeated", "intent", it.number, "set", set, "err", errs[i])
			all = all && !it.waiting[set]
		case flags&keep == 0:
			it.acked[set] = epochs[set]
			delete(it.waiting, set)
		}
	}
	return all
}

// free gives the names of a carried out intent back. Its record decides the
// request, and not the commit's: that could still be given up for a full disk. In
// between, the intent in the journal tells what will become of it.
func (o *Owner) free(ctx context.Context, it *intent) {
	if err := o.record(it.last(ctx, !it.made), &record{kind: recFinished, number: it.number}); err != nil {
		return // the names stay until it can be recorded
	}
	it.state = finished
	o.mu.Lock()
	delete(o.mu.active, it.number)
	o.unexpectLocked(it)
	o.mu.finished[it.number] = it
	o.mu.Unlock()
	for _, k := range it.names {
		o.names.unlock(k)
	}
	it.names = nil
	close(it.over)
}

// giveUp decides against an intent and undoes it. The names that h holds stay
// held until everything is undone: what another set still has of it would be in
// the way of the next operation, or be taken for its work and undone with this
// one. They can be read, though, unless a directory was being removed, for its
// place here may be empty.
func (o *Owner) giveUp(ctx context.Context, v *view, it *intent, h *held) {
	it.state, it.unsaid = aborting, true
	for set := range it.touched {
		it.waiting[set] = true
	}
	it.names, h.names = h.names, nil
	if it.victim.IsZero() {
		for _, k := range it.names {
			o.names.show(k)
		}
	}
	o.undo(ctx, v, it)
	o.rest(it)
}

// undo tells those who have something of an intent to undo it. If the next life
// might find it decided for, it must find that it was given up before anyone acts on that.
func (o *Owner) undo(ctx context.Context, v *view, it *intent) {
	if it.unsaid {
		err := o.record(ctx, &record{kind: recAbort, number: it.number})
		if err != nil {
			o.log.Warn("an intent's end was not recorded", "intent", it.number, "err", err)
		}
		if err != nil && it.aired {
			return
		}
		it.unsaid = err != nil
	}
	if !o.tellAbort(ctx, v, it) {
		return
	}
	if !it.victim.IsZero() {
		// The directory lives: its name must lead to it again.
		if err := o.ensureIfCopy(ctx, v, it.victim); err != nil {
			o.log.Warn("a directory that was not removed after all has no copy at its name's owner yet", "dir", it.victim, "err", err)
			return
		}
	}
	if err := o.record(it.last(ctx, it.made), &record{kind: recDone, number: it.number}); err != nil {
		return
	}
	o.mu.Lock()
	delete(o.mu.active, it.number)
	o.unexpectLocked(it)
	o.mu.Unlock()
	for _, k := range it.names {
		o.names.unlock(k)
	}
	it.names = nil
	close(it.over)
}

// tellAbort tells those that wait for it that an intent is given up, and reports
// whether all have undone it. As with finish, a set that holds a name for it gives
// that free when all others have undone theirs: the next operation on the name
// would find at another set what is yet to go, and that would be undone under its feet.
func (o *Owner) tellAbort(ctx context.Context, v *view, it *intent) bool {
	var all, holders []volume.SetID
	for set := range it.waiting {
		all = append(all, set)
		if it.touched[set] {
			holders = append(holders, set)
		}
	}
	anew := uint32(it.number>>32) != o.epoch
	round := func(sets []volume.SetID, flags func(set volume.SetID) uint8) bool {
		errs := each(sets, func(set volume.SetID) error {
			_, err := o.tell(ctx, v, set, &step{op: opAbort, flags: flags(set), intent: it.number})
			return err
		})
		for i, set := range sets {
			if errs[i] == nil && flags(set)&keep == 0 {
				delete(it.waiting, set)
			}
		}
		return !slices.ContainsFunc(errs, func(err error) bool { return err != nil })
	}
	if anew || len(all) > 1 {
		done := round(all, func(set volume.SetID) (flags uint8) {
			if anew {
				flags |= redo
			}
			if it.touched[set] {
				flags |= keep
			}
			return flags
		})
		if !done {
			return false
		}
		all = holders
	}
	return round(all, func(volume.SetID) uint8 { return 0 })
}

// ensureIfCopy is ensure, for a directory that may have its home here or be gone.
func (o *Owner) ensureIfCopy(ctx context.Context, v *view, dir volume.ID) error {
	if v.home(dir) == o.self {
		return nil
	}
	err := o.ensure(ctx, v, dir)
	if isStale(err) {
		return nil
	}
	return err
}
