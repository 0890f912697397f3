package set

import (
	"sync/atomic"
	"time"
)

// healCounters count what a healer did.
type healCounters struct {
	keys, born, compared, copied, objects, repairs atomic.Int64
	started                                        atomic.Int64 // UnixNano
}

// healProgress tells how far a healer is.
type healProgress struct {
	Started  time.Time
	Keys     int64         // healed
	Left     int64         // keys in the queue
	Born     int64         // objects that the target lacked
	Compared int64         // bytes of contents that were compared
	Copied   int64         // bytes that were sent
	Objects  int64         // compared by walks
	Repairs  int64         // differences that walks have found and mended
	Repaired []string      // the first healRepairs of them, by name
	ETA      time.Duration // until Left is 0 at the present pace; 0: not known
}

// healRepairs is how many repairs are remembered by name.
const healRepairs = 1000

// Progress tells how far the healer is. It may be called at any time.
func (h *healer) Progress() healProgress {
	c := &h.done
	p := healProgress{Keys: c.keys.Load(), Left: int64(h.keys.Len()), Born: c.born.Load(), Compared: c.compared.Load(),
		Copied: c.copied.Load(), Objects: c.objects.Load(), Repairs: c.repairs.Load()}
	if at := c.started.Load(); at != 0 {
		p.Started = time.Unix(0, at)
		if p.Keys > 0 && p.Left > 0 {
			p.ETA = time.Duration(float64(time.Since(p.Started)) / float64(p.Keys) * float64(p.Left))
		}
	}
	h.mu.Lock()
	p.Repaired = append(p.Repaired, h.mu.repairs...)
	h.mu.Unlock()
	return p
}
