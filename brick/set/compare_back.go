package set

import (
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// Damage at the primary itself. Members in sync are equal in everything that is
// locked; so where a walk of such a member (mutual) finds a difference, one of the
// two was changed behind Mortar's back. It is the source
//
//   - if a name is missing there, or leads to what is no object, while the target has it with an object: names
//     that nobody made don't come by themselves
//   - if it can't read the object or its contents (EIO), and the target can
//   - if contents differ and its mtime is the later one: writes give all members the same
//
// and is made what the target is then. In all other cases the target is, because
// what the primary has is what was seen.

// mendEntry gives a name back to the source that only the target has; it says
// what was wrong, "" if that is not so.
func (h *healer) mendEntry(ctx context.Context, dir volume.ID, name string, p volume.Pointer) (was string, err error) {
	id := local(p)
	free, err := h.own(ctx, entryKeys(dir, name, id)...)
	if err != nil {
		return "", err
	}
	defer free()
	unlock, err := h.lock(ctx, append(entryKeys(dir, name, id), Key{Kind: ExtentKey, ID: id})...)
	if err != nil {
		return "", err
	}
	defer unlock()
	here, err := h.from.look(ctx, dir, name, id)
	if err != nil || !here.dir || !here.damaged && !here.entry.ID.IsZero() {
		return "", err
	}
	there, err := h.to.look(ctx, dir, name, id)
	if err != nil || there.entry != p || !id.IsZero() && !there.known {
		return "", err
	}
	if !id.IsZero() && !here.known {
		if err := h.copyBack(ctx, id); err != nil {
			return "", err
		}
	}
	if err := h.from.place(ctx, dir, name, p); err != nil {
		return "", err
	}
	if p.Mode == syscall.S_IFDIR {
		h.walkMore(id)
	} else if !id.IsZero() {
		h.compareLater(id)
	}
	return "it was missing at the primary", nil
}

// copyBack makes an object at the source what it is at the target, contents and all. It is locked.
func (h *healer) copyBack(ctx context.Context, id volume.ID) error {
	o, err := h.to.describe(ctx, id)
	if err != nil {
		return err
	}
	if h.mending != nil {
		defer h.mending(id)()
	}
	if err := h.from.install(ctx, o); err != nil {
		return err
	}
	if !o.Attr.IsRegular() || h.arbiter {
		return nil
	}
	p := make([]byte, chunkSize)
	for off := int64(0); off < o.Attr.Size; {
		n, err := h.to.read(ctx, id, off, p)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		h.copiedBytes(int64(n))
		if allZero(p[:n]) {
			err = h.from.zero(ctx, id, off, int64(n))
		} else {
			err = h.from.write(ctx, id, off, p[:n])
		}
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return h.from.install(ctx, o)
}

// allZero reports whether p holds zeros only.
func allZero(p []byte) bool {
	for len(p) >= page {
		if string(p[:page]) != string(zeroPage[:]) {
			return false
		}
		p = p[page:]
	}
	return string(p) == string(zeroPage[:len(p)])
}

// mendChanged makes a file at the source what it is at the target, which is as there says, if it was changed
// at the source by others: contents differ, and its mtime is the later one.
func (h *healer) mendChanged(ctx context.Context, there volume.Object) (was string, err error) {
	id := there.Attr.ID
	later := func() (bool, error) {
		o, err := h.from.describe(ctx, id)
		return err == nil && there.Attr.Mtime.Before(o.Attr.Mtime), dropDamage(err)
	}
	if yes, err := later(); err != nil || !yes { // nothing is locked yet, for nearly always that is so
		return "", err
	}
	unlock, err := h.lock(ctx, objectKeys(id)...)
	if err != nil {
		return "", err
	}
	defer unlock()
	if there, err = h.to.describe(ctx, id); err != nil {
		return "", dropStale(err)
	}
	if yes, err := later(); err != nil || !yes {
		return "", err
	}
	same, err := h.sameContents(ctx, there)
	if err != nil || same {
		return "", dropDamage(err)
	}
	return "it was changed at the primary", h.copyBack(ctx, id)
}

// mendUnreadable gives the source a file back that it can't read.
func (h *healer) mendUnreadable(ctx context.Context, id volume.ID) (was string, err error) {
	unlock, err := h.lock(ctx, objectKeys(id)...)
	if err != nil {
		return "", err
	}
	defer unlock()
	return "it could not be read at the primary", h.copyBack(ctx, id)
}

// damagedRead reports whether an error is that of a disk or of what lies on it.
func damagedRead(err error) bool {
	reason := volume.ReasonOf(err)
	return volume.ErrnoOf(err) == syscall.EIO && (reason == volume.Plain || reason == volume.Damaged)
}

// dropDamage is err, or nil for what is seen to later.
func dropDamage(err error) error {
	if damagedRead(err) || isStale(err) {
		return nil
	}
	return err
}

func dropStale(err error) error {
	if isStale(err) {
		return nil
	}
	return err
}

// sameContents compares the contents of a file, which is as there says at the target, and locked.
func (h *healer) sameContents(ctx context.Context, there volume.Object) (bool, error) {
	o, err := h.from.describe(ctx, there.Attr.ID)
	if err != nil || o.Attr.Size != there.Attr.Size {
		return false, err
	}
	for off := int64(0); off < o.Attr.Size; off += chunkSize {
		c := chunk{h: h, id: o.Attr.ID, at: off, n: chunkSize / blockSize}
		here, there, err := c.sums(ctx)
		if err != nil || !slices.Equal(here, there) {
			return false, err
		}
	}
	return true, nil
}

// differing heals an entry that a walk found to differ, at the side that is wrong.
func (h *healer) differing(ctx context.Context, dir volume.ID, p pair) error {
	if h.mutual && p.there != nil && (p.here == nil || p.here.ID != p.there.ID) {
		e := p.there
		was, err := h.mendEntry(ctx, dir, e.Name, volume.Pointer{ID: e.ID, Mode: e.Mode & syscall.S_IFMT, Held: e.Held})
		if err != nil {
			return err
		}
		h.note(ctx, dir, e.Name, was)
	}
	was, err := h.entry(ctx, dir, p.name())
	if err != nil {
		return err
	}
	h.note(ctx, dir, p.name(), was)
	return nil
}
