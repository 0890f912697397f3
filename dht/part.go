package dht

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// partKey names an intent: its coordinator and its number there.
type partKey struct {
	set    volume.SetID
	number uint64
}

// part is what an intent has at a set that takes part: names that are held for
// it, links that can be undone until its decision is known, and a directory
// marked dying. It is in the journal before it is anywhere else.
type part struct {
	key   partKey
	asked time.Time // when its coordinator was last heard of; Run's, once it is in the table

	mu struct { // one step of an intent after the other; before all other locks but that of a name it waits for
		sync.Mutex
		names []nameKey
		links []action
		dying volume.ID
		ended bool
	}
}

// meet notes what a message says about its sender's life. It refuses messages
// of an earlier one.
func (o *Owner) meet(s *step) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.mu.peers[s.from]
	if p == nil {
		p = &peer{ended: map[uint64]struct{}{}}
		o.mu.peers[s.from] = p
	}
	if s.epoch < p.epoch {
		return &volume.Error{Op: "step", Errno: syscall.ESTALE, Reason: volume.Outdated}
	}
	if s.epoch > p.epoch && s.from != o.self { // it may have forgotten, with its power, what it had us discard
		o.mu.strays = true
		o.wake()
	}
	p.epoch = s.epoch
	if s.below > p.below {
		p.below = s.below
		for n := range p.ended {
			if n < p.below {
				delete(p.ended, n)
			}
		}
	}
	return nil
}

// ended reports whether an intent can have nothing more to do here.
func (o *Owner) ended(k partKey) bool {
	p := o.mu.peers[k.set]
	if p == nil {
		return false
	}
	_, ended := p.ended[k.number]
	return ended || k.number < p.below
}

// partOf returns the part of an intent, locked; a new one if it has none yet.
// nil: it has ended here.
func (o *Owner) partOf(k partKey, create bool) *part {
	o.mu.Lock()
	p := o.mu.parts[k]
	if p == nil && create && !o.ended(k) {
		p = &part{key: k, asked: time.Now()}
		o.mu.parts[k] = p
	}
	o.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	if p.mu.ended {
		p.mu.Unlock()
		return nil
	}
	return p
}

// save records what the part has. The part is locked.
func (o *Owner) save(ctx context.Context, p *part) error {
	return o.record(ctx, &record{
		kind: recPart, number: p.key.number, from: p.key.set,
		dying: p.mu.dying, names: p.mu.names, actions: p.mu.links,
	})
}

// end forgets the part, frees its names and notes that the intent has ended
// here. The part is locked.
func (o *Owner) end(ctx context.Context, p *part) error {
	if len(p.mu.names)+len(p.mu.links) > 0 || !p.mu.dying.IsZero() {
		if err := o.record(ctx, &record{kind: recPartEnd, number: p.key.number, from: p.key.set}); err != nil {
			return err
		}
	}
	p.mu.ended = true
	o.mu.Lock()
	delete(o.mu.parts, p.key)
	if !p.mu.dying.IsZero() {
		delete(o.mu.dying, p.mu.dying)
	}
	o.mu.Unlock()
	o.markEnded(p.key)
	for _, k := range p.mu.names {
		o.names.unlock(k)
	}
	return nil
}

func (o *Owner) markEnded(k partKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	pe := o.mu.peers[k.set]
	if pe == nil {
		pe = &peer{ended: map[uint64]struct{}{}}
		o.mu.peers[k.set] = pe
	}
	if k.number >= pe.below {
		pe.ended[k.number] = struct{}{}
	}
}

// reserve holds a name for an intent, tells what it leads to, and makes the
// intent's link along with it if it can.
func (o *Owner) reserve(ctx context.Context, v *view, s *step) (*answer, error) {
	p := o.partOf(partKey{s.from, s.intent}, true)
	if p == nil {
		return nil, tooLate("reserve", s)
	}
	defer p.mu.Unlock()
	if len(p.mu.names) >= namesMax {
		return nil, fail("reserve", s.name, syscall.EINVAL)
	}
	k := nameKey{s.dir, s.name}
	if slices.Contains(p.mu.names, k) { // asked again
		return o.reserved(ctx, v, s, p, k)
	}
	if err := o.names.lock(ctx, k, true, s.flags&noWait == 0); err != nil {
		return nil, err
	}
	names := p.mu.names
	p.mu.names = append(names[:len(names):len(names)], k)
	a, err := o.reserved(ctx, v, s, p, k)
	if err != nil && len(p.mu.links) == 0 { // with a link, opAbort will undo both
		p.mu.names = names
		o.names.unlock(k)
	}
	return a, err
}

// reserved answers for a name that is held for the part, and makes the link.
func (o *Owner) reserved(ctx context.Context, v *view, s *step, p *part, k nameKey) (*answer, error) {
	if k == tokenKey {
		return &answer{}, o.save(ctx, p)
	}
	if v.owner(k.dir, k.name) != o.self {
		return nil, tooLate("reserve", s)
	}
	at, err := o.lookupHere(ctx, v, k.dir, k.name)
	if err != nil && !isErrno(err, syscall.ENOENT) {
		return nil, err
	}
	a := &answer{}
	if err == nil {
		a.id, a.mode, a.held = at.ID, at.Type(), at.Held
	}
	if s.flags&wantLink == 0 || a.id.IsZero() || a.held != 0 || a.mode == syscall.S_IFDIR || a.id == s.id {
		return a, o.save(ctx, p)
	}
	link := action{set: o.self, part: linkPart, dir: s.dir2, name: s.name2, id: a.id, mode: a.mode}
	if s.set == o.self && !s.id.IsZero() { // what is replaced lies here
		t, err := o.store.Getattr(ctx, s.id)
		if err != nil {
			return nil, err
		}
		link.old, link.oldMode = s.id, t.Type()
	}
	a.linked = true
	if !slices.Contains(p.mu.links, link) {
		p.mu.links = append(p.mu.links, link)
	}
	if err := o.save(ctx, p); err != nil {
		return nil, err
	}
	return a, o.act(ctx, v, p.key, link)
}

func tooLate(op string, s *step) error {
	return &volume.Error{Op: op, Where: s.name, Errno: syscall.ESTALE, Reason: volume.Outdated}
}

// applyLinks makes links for an intent that is not decided.
func (o *Owner) applyLinks(ctx context.Context, v *view, s *step) (*answer, error) {
	p := o.partOf(partKey{s.from, s.intent}, true)
	if p == nil {
		return nil, tooLate("apply", s)
	}
	defer p.mu.Unlock()
	for _, a := range s.actions {
		if a.kind != actPut || a.set != o.self {
			return nil, fail("apply", a.name, syscall.EINVAL)
		}
	}
	p.mu.links = append(p.mu.links[:len(p.mu.links):len(p.mu.links)], s.actions...)
	if err := o.save(ctx, p); err != nil {
		return nil, err
	}
	for _, a := range s.actions {
		if err := o.act(ctx, v, p.key, a); err != nil {
			return nil, err
		}
	}
	return &answer{}, nil
}

// birth makes the data of a file whose name another set owns.
func (o *Owner) birth(ctx context.Context, v *view, s *step) (*answer, error) {
	if s.node == nil || s.node.ID.IsZero() || s.node.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, fail("birth", s.name, syscall.EINVAL)
	}
	p := o.partOf(partKey{s.from, s.intent}, true)
	if p == nil {
		return nil, tooLate("birth", s)
	}
	defer p.mu.Unlock()
	p.mu.links = append(p.mu.links, action{set: o.self, part: linkPart, dir: s.dir, name: s.name, id: s.node.ID, mode: syscall.S_IFREG})
	if err := o.save(ctx, p); err != nil {
		return nil, err
	}
	ctx = volume.WithCred(ctx, s.cred)
	for try := 0; ; try++ {
		at, err := o.store.Make(ctx, s.dir, s.name, *s.node)
		if err == nil {
			o.marks.add(at.ID, s.from, s.dir)
			o.marks.inherit(at.ID, s.dir)
			return &answer{id: at.ID, mode: at.Mode}, nil
		}
		if !o.mend(ctx, v, s.dir, s.node.Parent, err, try) {
			return nil, err
		}
	}
}

// finishPart carries the rest of a decided intent out and ends its part. What
// has ended already is not done again, unless the coordinator, who knows that
// nothing else happened since, asks for it (redo).
func (o *Owner) finishPart(ctx context.Context, v *view, s *step) (*answer, error) {
	k := partKey{s.from, s.intent}
	p := o.partOf(k, true)
	if p == nil && s.flags&redo == 0 {
		return &answer{}, nil
	}
	if p != nil {
		defer p.mu.Unlock()
	}
	done, err := o.doneBefore(ctx, k, s)
	if err != nil {
		return nil, err
	}
	for _, a := range s.actions {
		if a.set != o.self && a.set != allSets {
			return nil, fail("finish", a.name, syscall.EINVAL)
		}
		if done[a.part] && (a.kind == actDiscard || a.kind == actPut && !a.old.IsZero()) {
			continue
		}
		carry := o.actDecided
		if s.flags&redo != 0 {
			carry = o.actAsked
		}
		err := carry(ctx, v, k, a)
		if a.kind == actPut && s.flags&redo != 0 && (isStale(err) || isErrno(err, syscall.EEXIST)) {
			err = nil // the name was used again since
		}
		if (isStale(err) || isErrno(err, syscall.EEXIST)) && o.inDoubt() {
			err = nil // the home of where it goes lost that, or what was there came back: the walk sees to both, once all is calm
		}
		err = o.livesOn(a, err)
		if err != nil {
			return nil, err
		}
	}
	if p == nil || s.flags&keep != 0 {
		return &answer{}, nil
	}
	return &answer{}, o.end(ctx, p)
}

// doneBefore tells which parts of an intent that is carried out once more have
// left their discard: those were carried out, were not lost, and the name may
// have been given again since.
func (o *Owner) doneBefore(ctx context.Context, k partKey, s *step) (map[uint8]bool, error) {
	if s.flags&redo == 0 || len(s.actions) == 0 {
		return nil, nil
	}
	list, err := o.store.Discards(ctx)
	if err != nil {
		return nil, err
	}
	done := map[uint8]bool{}
	for _, d := range list {
		if d.Key.Set == k.set && d.Key.Intent == k.number {
			done[d.Key.Part] = true
		}
	}
	return done, nil
}

// abortStep undoes what an intent has here. With keep its names stay held.
func (o *Owner) abortStep(ctx context.Context, s *step) error {
	k := partKey{s.from, s.intent}
	undo := o.abortPart
	if s.flags&keep != 0 {
		undo = o.abortKept
	}
	if err := undo(ctx, k); err != nil || s.flags&redo == 0 {
		return err
	}
	return o.restoreAll(ctx, k)
}

// abortKept undoes what an intent has here but for the names that it holds. Those
// can be read: what they lead to is as it was.
func (o *Owner) abortKept(ctx context.Context, k partKey) error {
	p := o.partOf(k, true)
	if p == nil {
		return nil
	}
	defer p.mu.Unlock()
	for _, name := range p.mu.names {
		o.names.show(name)
	}
	if len(p.mu.links) == 0 {
		return nil
	}
	if err := o.undoLinks(ctx, p); err != nil {
		return err
	}
	p.mu.links = nil
	return o.save(ctx, p)
}

// abortPart undoes what an intent has here and ends its part.
func (o *Owner) abortPart(ctx context.Context, k partKey) error {
	p := o.partOf(k, true)
	if p == nil {
		return nil
	}
	defer p.mu.Unlock()
	if err := o.undoLinks(ctx, p); err != nil {
		return err
	}
	return o.end(ctx, p)
}

func (o *Owner) undoLinks(ctx context.Context, p *part) error {
	for i := len(p.mu.links) - 1; i >= 0; i-- {
		if err := o.undoLink(ctx, p.key, p.mu.links[i]); err != nil {
			return err
		}
	}
	return nil
}

// restoreAll brings back what an intent discarded here that its coordinator,
// after a start, decides against: it had been decided for, and that record was
// lost with the power.
func (o *Owner) restoreAll(ctx context.Context, k partKey) error {
	for part := uint8(0); part < partsMax; part++ {
		if err := o.store.Restore(ctx, volume.Key{Set: k.set, Intent: k.number, Part: part}); ignoreAbsent(err) != nil {
			return err
		}
	}
	return nil
}
