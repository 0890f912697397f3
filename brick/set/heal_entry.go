package set

import (
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// entryTries is how often an entry is begun anew because it changed before it was locked.
const entryTries = 16

// entry makes what dir calls name lead at the target to what it does at the
// source, and says what was wrong ("": nothing).
func (h *healer) entry(ctx context.Context, dir volume.ID, name string) (was string, err error) {
	for range entryTries {
		again, wrong, err := h.entryOnce(ctx, dir, name)
		if wrong != "" {
			was = wrong
		}
		if err != nil || !again {
			return was, err
		}
	}
	return was, volume.Errorf("heal", name, syscall.EAGAIN, "it changes too often")
}

// sourceEntry returns what a name leads to at the source, zero for nothing.
// ESTALE: there is no such directory.
func (h *healer) sourceEntry(ctx context.Context, dir volume.ID, name string) (volume.Pointer, error) {
	a, err := h.from.m.Lookup(ctx, dir, name)
	switch volume.ErrnoOf(err) {
	case 0:
		return pointerOf(a), nil
	case syscall.ENOENT:
		return volume.Pointer{}, nil
	case syscall.ENOTDIR:
		return volume.Pointer{}, volume.Errorf("heal", name, syscall.ESTALE, "%w", err)
	}
	return volume.Pointer{}, err
}

// local is the ID of an object that a pointer leads to and that lies here, or zero.
func local(p volume.Pointer) volume.ID {
	if p.Held != 0 {
		return volume.ID{}
	}
	return p.ID
}

// entryKeys are the keys of an entry and of the object that it leads to.
func entryKeys(dir volume.ID, name string, id volume.ID) []Key {
	keys := []Key{{Kind: EntryKey, ID: dir, Name: name}}
	if !id.IsZero() {
		keys = append(keys, Key{Kind: ObjectKey, ID: id})
	}
	return keys
}

// entryOnce is one try of entry; again: it must be tried again.
func (h *healer) entryOnce(ctx context.Context, dir volume.ID, name string) (again bool, was string, err error) {
	hint, err := h.sourceEntry(ctx, dir, name)
	if isStale(err) {
		return h.vanished(ctx, dir, name)
	}
	if err != nil {
		return false, "", err
	}
	id := local(hint)
	free, err := h.own(ctx, entryKeys(dir, name, id)...)
	if err != nil {
		return false, "", err
	}
	defer free()
	there, err := h.to.look(ctx, dir, name, id)
	if err != nil {
		return false, "", err
	}
	if !there.dir {
		free()
		return h.ensure(ctx, dir)
	}
	if there.known && there.nameless && !h.isWhole(id) {
		if was, err = h.fill(ctx, id, true); err != nil || was == gone {
			return was == gone, "", err
		}
	}
	lock := entryKeys(dir, name, id)
	if !id.IsZero() && !there.known {
		lock = append(lock, Key{Kind: ExtentKey, ID: id})
	} else {
		lock = lock[:1]
	}
	act, was, err := h.lockedEntry(ctx, dir, name, hint, there, lock)
	switch {
	case act == actFill:
		_, err = h.fill(ctx, id, false)
		return true, "", err
	case act == actUnloop:
		free()
		return true, "", h.unloop(ctx, dir, id)
	}
	return act == actAgain, was, err
}

// vanished heals an entry of a directory that is not at the source: the name
// goes, so that what it led to does not go with the directory, for it may be open.
func (h *healer) vanished(ctx context.Context, dir volume.ID, name string) (again bool, was string, err error) {
	free, err := h.own(ctx, entryKeys(dir, name, volume.ID{})...)
	if err != nil {
		return false, "", err
	}
	defer free()
	there, err := h.to.look(ctx, dir, name, volume.ID{})
	if err != nil || there.entry.ID.IsZero() {
		return false, "", err
	}
	unlock, err := h.lock(ctx, Key{Kind: EntryKey, ID: dir, Name: name})
	if err != nil {
		return false, "", err
	}
	defer unlock()
	if _, err := h.sourceEntry(ctx, dir, name); !isStale(err) {
		return err == nil, "", err
	}
	if err := h.to.place(ctx, dir, name, volume.Pointer{}); err != nil {
		return false, "", dropStale(err)
	}
	h.placed(dir, volume.Pointer{}, there)
	return false, "", nil
}

// What is to be done before an entry can be healed.
type entryAct int

const (
	actNone   entryAct = iota
	actAgain           // look again: it has changed
	actFill            // make the object, which is large, without a name first
	actUnloop          // take a directory out of what it would come to lie in
)

// lockedEntry is the part of entryOnce for which the engine's locks are held.
func (h *healer) lockedEntry(ctx context.Context, dir volume.ID, name string, hint volume.Pointer, there sight, lock []Key) (entryAct, string, error) {
	unlock, err := h.lock(ctx, lock...)
	if err != nil {
		return actNone, "", err
	}
	defer unlock()
	now, err := h.sourceEntry(ctx, dir, name)
	if isStale(err) || err == nil && now != hint {
		return actAgain, "", nil
	}
	id := local(now)
	if err == nil && h.partial && there.entry != now { // what was seen before the lock may have been under way
		if there, err = h.to.look(ctx, dir, name, id); err == nil && !there.known && len(lock) == 1 && !id.IsZero() {
			return actAgain, "", nil
		}
	}
	switch {
	case err != nil:
		return actNone, "", err
	case !id.IsZero() && !there.known:
		return h.birth(ctx, dir, name, now, there)
	case there.entry == now && !there.damaged:
		h.walkEntry(now)
		return actNone, "", nil
	}
	err = h.to.place(ctx, dir, name, now)
	if act := afterPlace(err); act != actNone {
		return act, "", nil
	}
	if err != nil {
		return actNone, "", err
	}
	h.placed(dir, now, there)
	h.walkEntry(now)
	return actNone, wrongEntry(now, there), nil
}

// afterPlace says what a failure of Place to put an object anywhere asks for.
func afterPlace(err error) entryAct {
	switch volume.ErrnoOf(err) {
	case syscall.ELOOP:
		return actUnloop
	case syscall.ESTALE, syscall.ENOTDIR: // something went meanwhile
		return actAgain
	}
	return actNone
}

// wrongEntry says what was wrong with an entry.
func wrongEntry(now volume.Pointer, there sight) string {
	switch {
	case there.damaged:
		return "it led to what is no object"
	case now.ID.IsZero():
		return "it should not be there"
	case there.entry.ID.IsZero():
		return "it was missing"
	}
	return "it led to another object"
}

// placed notes what follows from a change of an entry at the target.
func (h *healer) placed(dir volume.ID, now volume.Pointer, there sight) {
	h.touch(dir)
	if old := there.entry; old.Held == 0 && !old.ID.IsZero() && old.Mode != syscall.S_IFDIR {
		h.setWhole(old.ID) // it had a name: what it lacks is queued
	}
	if old := there.entry; h.partial && old.Held == 0 {
		h.mu.Lock()
		h.mu.scope[old.ID] = struct{}{}
		h.mu.Unlock()
	}
}

// walkEntry hands what an entry leads to on to the walk, if there is one: it may
// have moved from where the walk has yet to come to where it has been.
func (h *healer) walkEntry(now volume.Pointer) {
	id := local(now)
	switch {
	case id.IsZero():
	case now.Mode == syscall.S_IFDIR:
		h.walkMore(id)
	default:
		h.compareLater(id)
	}
}

// birth makes an object that the target lacks, with its contents and its name,
// unless it is too large for one message.
func (h *healer) birth(ctx context.Context, dir volume.ID, name string, p volume.Pointer, there sight) (entryAct, string, error) {
	o, err := h.from.describe(ctx, p.ID)
	if isStale(err) {
		return actAgain, "", nil
	}
	if err != nil {
		return actNone, "", err
	}
	data, small, err := h.contents(ctx, o)
	if err != nil {
		return actNone, "", err
	}
	if !small {
		return actFill, "", nil
	}
	err = h.to.bear(ctx, o, data, dir, name)
	if act := afterPlace(err); act != actNone {
		h.setWhole(p.ID)
		return act, "", nil
	}
	if err != nil {
		return actNone, "", err
	}
	h.setBorn(p.ID)
	h.placed(dir, p, there)
	if p.Mode == syscall.S_IFDIR {
		h.walkMore(p.ID)
	}
	return actNone, wrongEntry(p, there), nil
}

// contents reads a file for its birth; small is false if it is too large.
func (h *healer) contents(ctx context.Context, o volume.Object) (data []byte, small bool, err error) {
	if !o.Attr.IsRegular() || o.Attr.Size == 0 || h.arbiter {
		return nil, true, nil
	}
	if o.Attr.Size > birthMax {
		return nil, false, nil
	}
	data = make([]byte, o.Attr.Size)
	n, err := h.from.read(ctx, o.Attr.ID, 0, data)
	h.copiedBytes(int64(n))
	return data[:n], true, err
}

// ensure brings a directory that the target lacks to it, by healing its own
// entry. Nothing is owned or locked.
func (h *healer) ensure(ctx context.Context, dir volume.ID) (again bool, was string, err error) {
	parent, name, err := h.from.path(ctx, dir)
	if isStale(err) {
		return false, "", nil
	}
	if volume.ErrnoOf(err) == syscall.EINVAL {
		return false, "", volume.Errorf("heal", "", syscall.EIO, "the other member has no root")
	}
	if err == nil {
		_, err = h.entry(ctx, parent, name)
	}
	return true, "", err
}

// unloop takes a directory on the way from dir up to top, at the target, from
// its place, which it has not at the source: there dir is not below top. So
// top can come to lie in dir. Nothing is owned.
func (h *healer) unloop(ctx context.Context, dir, top volume.ID) error {
	for at := dir; at != top && at != volume.Root; {
		parent, name, err := h.to.path(ctx, at)
		if isPlaceless(err) {
			return nil // it is out of the way
		}
		if err != nil {
			return err
		}
		p, n, err := h.from.path(ctx, at)
		if err != nil && !isPlaceless(err) {
			return err
		}
		if err != nil || p != parent || n != name {
			return h.park(ctx, at, parent, name)
		}
		at = parent
	}
	return nil // someone else has moved it
}

// isPlaceless reports whether an error of Path says that a directory is not there, or
// lies nowhere, without a name.
func isPlaceless(err error) bool { return isStale(err) || volume.ErrnoOf(err) == syscall.ENOENT }

// park makes a directory nameless that parent calls name.
func (h *healer) park(ctx context.Context, dir, parent volume.ID, name string) error {
	free, err := h.own(ctx, entryKeys(parent, name, dir)...)
	if err != nil {
		return err
	}
	defer free()
	there, err := h.to.look(ctx, parent, name, volume.ID{})
	if err != nil || there.entry.ID != dir {
		return err
	}
	h.touch(parent)
	return h.to.place(ctx, parent, name, volume.Pointer{})
}

// clear releases what is nameless at the target without a reason at the source: the object is
// not there any more, or (with discards equal) only as a discard that nobody holds. What
// may be on its way to a name in a key that is queued still is let be: everything that was not nameless before.
func (h *healer) clear(ctx context.Context, before []volume.ID, discards bool) error {
	ids, err := allNameless(ctx, h.to)
	if err != nil || len(ids) == 0 && h.byKeys() {
		return err
	}
	if h.byKeys() {
		ids = slices.DeleteFunc(ids, func(id volume.ID) bool { return !h.concerns(volume.Discarded{Pointer: volume.Pointer{ID: id}}) })
	} else if h.keys.Len() > h.wideDone() {
		was := setOf(before)
		ids = slices.DeleteFunc(ids, func(id volume.ID) bool { return !was[id] })
	}
	here, err := allNameless(ctx, h.from)
	if err != nil {
		return err
	}
	held := setOf(here)
	err = h.parallel(ctx, len(ids), func(ctx context.Context, i int) error {
		o, err := h.from.describe(ctx, ids[i])
		switch {
		case err == nil && (!discards || held[ids[i]] || o.Attr.IsDir() || o.Attr.Nlink > 0):
			return nil
		case err != nil && !isStale(err):
			return err
		}
		h.mu.Lock()
		delete(h.mu.whole, ids[i])
		h.mu.Unlock()
		return h.to.release(ctx, ids[i])
	})
	if err != nil {
		return err
	}
	// A directory may have taken what is open at the source with it, where no key told of its names.
	var lost []Key
	for _, id := range here {
		if _, err := h.to.describe(ctx, id); isStale(err) {
			lost = append(lost, Key{Kind: ObjectKey, ID: id})
		} else if err != nil {
			return err
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return h.keys.Add(lost)
}
