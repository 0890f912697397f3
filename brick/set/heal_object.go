package set

import (
	"context"
	"slices"
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

// blockSize is the unit in which contents are compared and copied, chunkSize
// that in which they are locked, in bytes.
const (
	blockSize = 16 << 10
	chunkSize = 1 << 20
	endless   = 1<<62 - 1
)

// gone is what fill says of an object that is not at the source any more.
const gone = "gone"

// object makes the attributes of an object equal.
func (h *healer) object(ctx context.Context, id volume.ID) error {
	free, err := h.ownObject(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	if h.isBorn(id) {
		return nil
	}
	filled, err := h.complete(ctx, id)
	if err != nil || filled {
		return err
	}
	_, err = h.attributes(ctx, id)
	return err
}

// complete sees to it that an object which is owned is at the target, with all
// its contents if it has no name there. filled: nothing is left to heal.
func (h *healer) complete(ctx context.Context, id volume.ID) (filled bool, err error) {
	o, err := h.to.describe(ctx, id)
	switch {
	case isStale(err):
		_, err = h.fill(ctx, id, false)
		return true, err
	case err != nil:
		return false, err
	case o.Attr.IsRegular() && o.Attr.Nlink == 0 && !h.isWhole(id):
		_, err = h.fill(ctx, id, true)
		return true, err
	}
	return false, nil
}

// attributes makes what Describe tells equal, of an object that is at the
// target. differed: it was not, by more than the atime. Nothing is under way on the object as a whole, so a
// later mtime at the target is heal's own doing.
func (h *healer) attributes(ctx context.Context, id volume.ID) (differed bool, err error) {
	unlock, err := h.lock(ctx, Key{Kind: ObjectKey, ID: id})
	if err != nil {
		return false, err
	}
	defer unlock()
	o, err := h.from.describe(ctx, id)
	if err != nil {
		if isStale(err) {
			err = nil
		}
		return false, err
	}
	there, err := h.to.describe(ctx, id)
	if err != nil && !isStale(err) {
		return false, err
	}
	if err == nil && sameObject(o, there) && o.Attr.Atime == there.Attr.Atime {
		return false, nil
	}
	return err != nil || !sameObject(o, there), h.to.install(ctx, o)
}

// fill makes an object at the target, without a name, and its contents; it is
// owned. here: it was there already, but may be incomplete. Afterwards it is
// whole. It says what was wrong, or that it is gone.
func (h *healer) fill(ctx context.Context, id volume.ID, here bool) (was string, err error) {
	o, err := h.install(ctx, id)
	if isStale(err) {
		return gone, nil
	}
	if err != nil {
		return "", err
	}
	if !here {
		was = "it was missing"
	}
	if o.Attr.IsRegular() {
		n, err := h.extents(ctx, id, 0, endless, !here)
		if err != nil {
			return "", err
		}
		if n > 0 && here {
			was = "its contents differed"
		}
		if _, err := h.attributes(ctx, id); err != nil {
			return "", err
		}
		h.setWhole(id)
	}
	if !here {
		h.setBorn(id)
	}
	if o.Attr.IsDir() {
		h.walkMore(id)
	}
	return was, nil
}

// install makes an object at the target what it is at the source, contents
// excepted. Errors: ESTALE (it is not at the source).
func (h *healer) install(ctx context.Context, id volume.ID) (volume.Object, error) {
	unlock, err := h.lock(ctx, Key{Kind: ObjectKey, ID: id})
	if err != nil {
		return volume.Object{}, err
	}
	defer unlock()
	o, err := h.from.describe(ctx, id)
	if err != nil {
		return o, err
	}
	return o, h.to.install(ctx, o)
}

// extent makes a part of a file's contents equal.
func (h *healer) extent(ctx context.Context, k Key) error {
	free, err := h.ownObject(ctx, k.ID)
	if err != nil {
		return err
	}
	defer free()
	if h.isBorn(k.ID) {
		return nil
	}
	filled, err := h.complete(ctx, k.ID)
	if err != nil || filled {
		return err
	}
	end := int64(endless)
	if k.Len > 0 {
		end = k.Off + k.Len
	}
	if _, err := h.extents(ctx, k.ID, k.Off, end, false); err != nil {
		return err
	}
	_, err = h.attributes(ctx, k.ID)
	return err
}

// extents makes contents from off to end equal, of a file that is at the
// target and owned, and returns how many bytes were sent. fresh: the
// target has nothing there but a hole.
func (h *healer) extents(ctx context.Context, id volume.ID, off, end int64, fresh bool) (sent int64, err error) {
	if h.arbiter {
		return 0, nil
	}
	for at := off - off%blockSize; at < end; {
		if err := h.rate.wait(ctx); err != nil {
			return sent, err
		}
		next := at - at%chunkSize + chunkSize
		n := int((min(next, end) - at + blockSize - 1) / blockSize)
		c := chunk{h: h, id: id, at: at, n: n, fresh: fresh}
		if err := c.heal(ctx); err != nil {
			if errno := volume.ErrnoOf(err); errno == syscall.ESTALE || errno == syscall.EISDIR || errno == syscall.EINVAL {
				if o, e := h.from.describe(ctx, id); isStale(e) || e == nil && !o.Attr.IsRegular() {
					return sent, nil // it is gone, or never was a file
				}
			}
			return sent, err
		}
		sent += c.sent
		if c.last {
			return sent, nil
		}
		if at = next; c.empty {
			if at, err = h.nextData(ctx, id, at, fresh); err != nil {
				return sent, err
			}
		}
	}
	return sent, nil
}

// nextData returns the beginning of the next chunk from at on in which either side has data.
func (h *healer) nextData(ctx context.Context, id volume.ID, at int64, fresh bool) (int64, error) {
	next, err := h.from.data(ctx, id, at)
	if err == nil && !fresh {
		var there int64
		there, err = h.to.data(ctx, id, at)
		next = min(next, there)
	}
	if isStale(err) {
		return endless, nil
	}
	return max(at, next-next%chunkSize), err
}

// chunk is a part of a file's contents that is healed under one lock.
type chunk struct {
	h     *healer
	id    volume.ID
	at    int64 // a multiple of blockSize
	n     int   // blocks
	fresh bool

	sent  int64
	last  bool // the file ends in it
	empty bool // there is no data in it, at either side
}

func (c *chunk) heal(ctx context.Context) error {
	h := c.h
	unlock, err := h.lock(ctx, Key{Kind: ExtentKey, ID: c.id, Off: c.at, Len: int64(c.n) * blockSize})
	if err != nil {
		return err
	}
	defer unlock()
	here, there, err := c.sums(ctx)
	if err != nil {
		return err
	}
	h.done.compared.Add(int64(len(here)) * blockSize)
	c.last, c.empty = len(here) < c.n, true
	for i := 0; i < len(here); {
		differs := func(i int) bool { return here[i] != there[i] }
		if c.empty = c.empty && here[i] == 0 && there[i] == 0; !differs(i) {
			i++
			continue
		}
		j := i + 1
		for j < len(here) && differs(j) && (here[j] == 0) == (here[i] == 0) {
			j++
		}
		if here[i] == 0 {
			err = h.to.zero(ctx, c.id, c.at+int64(i)*blockSize, int64(j-i)*blockSize)
		} else {
			err = c.copy(ctx, c.at+int64(i)*blockSize, (j-i)*blockSize)
		}
		if err != nil {
			return err
		}
		c.empty = false
		i = j
	}
	return nil
}

// sums asks both sides for the sums of the chunk's blocks, and returns as many of
// both as the source has blocks: one that the target lacks is zero there. Blocks
// that it can't read are none that the source has.
func (c *chunk) sums(ctx context.Context) (here, there []uint64, err error) {
	if !c.fresh {
		done := make(chan error, 1)
		go func() {
			var err error
			there, err = c.h.to.sums(ctx, c.id, c.at/blockSize, c.n, blockSize)
			done <- err
		}()
		defer func() {
			e := <-done
			if damagedRead(e) {
				e, there = nil, slices.Repeat([]uint64{^uint64(0)}, c.n)
			}
			if err == nil {
				err = e
			}
			there = append(there, make([]uint64, len(here))...)[:len(here)]
		}()
	}
	here, err = c.h.from.sums(ctx, c.id, c.at/blockSize, c.n, blockSize)
	if c.fresh {
		there = make([]uint64, len(here))
	}
	return here, there, err
}

// copy sends a part of the contents.
func (c *chunk) copy(ctx context.Context, off int64, n int) error {
	p := make([]byte, n)
	n, err := c.h.from.read(ctx, c.id, off, p)
	if err != nil || n == 0 {
		return err
	}
	c.sent += int64(n)
	c.h.copiedBytes(int64(n))
	return c.h.to.write(ctx, c.id, off, p[:n])
}

// copiedBytes counts what is sent.
func (h *healer) copiedBytes(n int64) {
	h.done.copied.Add(n)
	h.rate.charge(n)
}
