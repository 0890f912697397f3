package set

import (
	"context"
	"sync"

	"github.com/mortarfs/mortar/volume"
)

// own waits until no other worker has any of keys, which must be in order:
// entries, then objects. free gives them up; it may be called again.
func (h *healer) own(ctx context.Context, keys ...Key) (free func(), err error) {
	var mine []Key
	free = sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, k := range mine {
			close(h.mu.busy[k])
			delete(h.mu.busy, k)
		}
	})
	for _, k := range keys {
		for {
			h.mu.Lock()
			busy := h.mu.busy[k]
			if busy == nil {
				h.mu.busy[k] = make(chan struct{})
				mine = append(mine, k)
			}
			h.mu.Unlock()
			if busy == nil {
				break
			}
			select {
			case <-busy:
			case <-ctx.Done():
				free()
				return nil, ctx.Err()
			}
		}
	}
	return free, nil
}

// ownObject owns an object.
func (h *healer) ownObject(ctx context.Context, id volume.ID) (free func(), err error) {
	return h.own(ctx, Key{Kind: ObjectKey, ID: id})
}

// isWhole, setWhole: see healer.mu.whole.
func (h *healer) isWhole(id volume.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.mu.whole[id]
	return ok
}

func (h *healer) setWhole(id volume.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.whole[id] = struct{}{}
}

// setBorn notes that an object is complete at the target, contents and all.
func (h *healer) setBorn(id volume.ID) {
	h.done.born.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.born[id] = struct{}{}
}

func (h *healer) isBorn(id volume.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.mu.born[id]
	return ok
}

// touch notes that the times of a directory have changed at the target.
func (h *healer) touch(dirs ...volume.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range dirs {
		h.mu.touched[d] = struct{}{}
	}
}
