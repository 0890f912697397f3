package dht

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/mortarfs/mortar/volume"
)

// space watches the free space for min-free-disk. Run measures, at most once a
// second and only while files are created, so that a create looks at one flag.
type space struct {
	low  atomic.Bool // below the limit
	used atomic.Bool // something was created since the last measuring
	mu   struct {
		sync.Mutex
		best volume.SetID // the set that had the most free space; 0: none is better
	}
}

// measure looks at the disks.
func (o *Owner) measure(ctx context.Context) {
	v := o.view.Load()
	if v.single || !o.space.low.Load() && !o.space.used.Swap(false) {
		return
	}
	s, err := o.store.Statfs(ctx)
	if err != nil {
		return
	}
	low := !v.minFree.off() && v.minFree.low(s)
	if low {
		best := o.findRoom(ctx, v, s)
		o.space.mu.Lock()
		o.space.mu.best = best
		o.space.mu.Unlock()
	}
	o.space.low.Store(low)
}

// findRoom returns the set with the most free space that is not below the
// limit, 0 if there is none with more than this one.
func (o *Owner) findRoom(ctx context.Context, v *view, here volume.Statfs) volume.SetID {
	var mu sync.Mutex
	best, most := volume.SetID(0), here.Available
	each(o.others(v), func(set volume.SetID) error {
		if !v.up(set) {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, o.cfg.StepTimeout)
		defer cancel()
		s, err := v.sets[set].Statfs(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && s.Available > most && !v.minFree.low(s) {
			best, most = set, s.Available
		}
		return err
	})
	return best
}

// roomiest returns the set where a new file's data should go, 0 for this one.
func (o *Owner) roomiest(v *view) volume.SetID {
	o.space.mu.Lock()
	defer o.space.mu.Unlock()
	if !v.up(o.space.mu.best) {
		return 0
	}
	return o.space.mu.best
}
