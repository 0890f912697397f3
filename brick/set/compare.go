package set

import (
	"context"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// A walk compares whole trees (FullKey, and EntryKey without a name) and mends
// what differs: entries by merging the listings of both sides, objects by digests, the
// contents of large files by their sums. Nothing that is equal is copied.
//
// While it goes on, a directory may move from where the walk has yet to come to where it has been. Such
// a move queues the key of its new name; so entries that are healed hand the directories they
// place on to the walk (walkMore), which remembers those it has compared, and a wide
// key is done only when nothing else is queued.
type walk struct {
	full bool // of everything; guarded by healer.mu

	mu struct {
		sync.Mutex
		seen    map[volume.ID]struct{} // compared, or pending
		pending []volume.ID
		objects map[volume.ID]struct{} // others to be compared, found by the keys of their entries
		active  int
		err     error
		changed *sync.Cond // of pending, active and err
	}
}

func newWalk() *walk {
	w := &walk{}
	w.mu.seen, w.mu.objects = map[volume.ID]struct{}{}, map[volume.ID]struct{}{}
	w.mu.changed = sync.NewCond(&w.mu)
	return w
}

// add has directories compared, once.
func (w *walk) add(dirs ...volume.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range dirs {
		if _, ok := w.mu.seen[d]; !ok {
			w.mu.seen[d] = struct{}{}
			w.mu.pending = append(w.mu.pending, d)
		}
	}
	w.mu.changed.Broadcast()
}

// next takes a directory to compare; false: there is none, and won't be.
func (w *walk) next() (volume.ID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.mu.pending) == 0 && w.mu.active > 0 && w.mu.err == nil {
		w.mu.changed.Wait()
	}
	n := len(w.mu.pending)
	if n == 0 || w.mu.err != nil {
		return volume.ID{}, false
	}
	d := w.mu.pending[n-1] // the newest: the depth bounds how many are pending, not the tree's size
	w.mu.pending = w.mu.pending[:n-1]
	w.mu.active++
	return d, true
}

// did ends what next began. After an error d is pending again.
func (w *walk) did(d volume.ID, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.active--
	if err != nil {
		w.mu.err = err
		w.mu.pending = append(w.mu.pending, d)
	}
	w.mu.changed.Broadcast()
}

// run compares what is pending, by workers side by side.
func (w *walk) run(ctx context.Context, workers int, f func(context.Context, volume.ID) error) error {
	w.mu.Lock()
	w.mu.err = nil
	w.mu.Unlock()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for d, ok := w.next(); ok; d, ok = w.next() {
				w.did(d, f(ctx, d))
			}
		})
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// restart has all compared again that keys lead to from now on: they are younger
// than what was compared.
func (w *walk) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.mu.seen)
	for _, d := range w.mu.pending {
		w.mu.seen[d] = struct{}{}
	}
}

// forget has a directory compared again when it turns up again: it could not be.
func (w *walk) forget(d volume.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.seen, d)
}

// compareLater has an object that is no directory compared by the walk, if there is one.
func (h *healer) compareLater(id volume.ID) {
	h.mu.Lock()
	w := h.mu.walk
	h.mu.Unlock()
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.objects[id] = struct{}{}
	}
}

// takeObjects returns the objects that are to be compared.
func (w *walk) takeObjects() (ids []volume.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.mu.objects {
		ids = append(ids, id)
	}
	clear(w.mu.objects)
	return ids
}

// runWalk compares what is pending.
func (h *healer) runWalk(ctx context.Context, w *walk) error {
	for {
		if err := w.run(ctx, h.workers, h.compareDir); err != nil {
			return err
		}
		ids := w.takeObjects()
		if len(ids) == 0 {
			return nil
		}
		err := h.parallel(ctx, len(ids), func(ctx context.Context, i int) error {
			return h.compareObject(ctx, ids[i], ids[i], "")
		})
		if err != nil {
			for _, id := range ids {
				h.compareLater(id)
			}
			return err
		}
	}
}

// walkMore hands a directory to the walk, if there is one.
func (h *healer) walkMore(dir volume.ID) {
	h.mu.Lock()
	w := h.mu.walk
	h.mu.Unlock()
	if w != nil {
		w.add(dir)
	}
}

// walkAll compares the trees of wide keys, and what entries have handed to the walk since.
func (h *healer) walkAll(ctx context.Context, keys []queuedKey, failed map[Key]error) error {
	h.mu.Lock()
	if h.mu.walk == nil && len(keys) > 0 {
		h.mu.walk = newWalk()
	}
	w := h.mu.walk
	for _, k := range keys {
		w.full = w.full || k.Kind == FullKey
	}
	h.mu.Unlock()
	if w == nil {
		return nil
	}
	if len(keys) > 0 {
		w.restart()
	}
	full := false
	for _, k := range keys {
		root := k.ID
		if k.Kind == FullKey {
			root, full = volume.Root, true
		}
		if _, err := h.to.describe(ctx, root); isStale(err) {
			if _, _, err := h.ensure(ctx, root); err != nil {
				return err
			}
		}
		w.add(root)
	}
	err := h.runWalk(ctx, w)
	if err == nil && full {
		err = h.compareRest(ctx)
	}
	if fatal(ctx, err) {
		return err
	}
	if err != nil {
		for _, k := range keys {
			failed[k.Key] = err
		}
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range keys {
		h.mu.walked[k.Key] = k.gen
	}
	return nil
}

// wideDone is the number of keys whose walk has ended.
func (h *healer) wideDone() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.walked)
}

// endWalk takes out the wide keys if no other is queued.
func (h *healer) endWalk() error {
	h.mu.Lock()
	var keys []queuedKey
	for k, gen := range h.mu.walked {
		keys = append(keys, queuedKey{k, gen})
	}
	h.mu.Unlock()
	if len(keys) == 0 || h.keys.Len() > len(keys) {
		return nil
	}
	if err := h.keys.Done(keys); err != nil {
		return err
	}
	h.done.keys.Add(int64(len(keys)))
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.mu.walked)
	h.mu.walk = nil
	return nil
}

// compareRest compares what no directory leads to.
func (h *healer) compareRest(ctx context.Context) error {
	var after volume.ID
	for {
		ids, err := h.from.nameless(ctx, after)
		if err != nil {
			return err
		}
		err = h.parallel(ctx, len(ids), func(ctx context.Context, i int) error {
			return h.compareObject(ctx, ids[i], ids[i], "")
		})
		if err != nil {
			return err
		}
		if len(ids) < namelessMax {
			break
		}
		after = ids[len(ids)-1]
	}
	return h.journal(ctx)
}
