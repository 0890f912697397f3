package manage

import (
	"context"
	"sync"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// supervisor has a keeper for each brick of this server.
type supervisor struct {
	d    *daemon
	wg   sync.WaitGroup     // of keepers and of what ends orphans
	left map[string][]found // of run: processes of earlier lives without a keeper; nil: seen to
	mu   struct {
		sync.Mutex
		keepers map[string]*keeper // by brick's UUID
	}
}

func newSupervisor(d *daemon) *supervisor {
	s := &supervisor{d: d}
	s.mu.keepers = map[string]*keeper{}
	return s
}

// bricks counts the bricks of this server.
func (s *supervisor) bricks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.keepers)
}

// begin finds the processes of earlier lives and gives each brick of the view
// its keeper, which runs until ctx ends.
func (s *supervisor) begin(ctx context.Context) {
	s.left = map[string][]found{}
	for _, f := range findBricks(0) {
		s.left[f.brick] = append(s.left[f.brick], f)
	}
	s.keepUp(ctx, s.d.view.now())
}

// run keeps up with the view until ctx ends, and waits for the keepers.
func (s *supervisor) run(ctx context.Context) {
	defer s.wg.Wait()
	for {
		snap, changed := s.d.view.next()
		s.keepUp(ctx, snap)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// keepUp makes the keepers those of the snapshot. Only the store's own word
// ends processes: from the last known configuration bricks are started at most.
func (s *supervisor) keepUp(ctx context.Context, snap *snapshot) {
	processes := s.left
	if processes == nil { // later ones are this daemon's own
		processes = map[string][]found{}
	}
	s.sync(ctx, snap, processes)
	if s.left == nil || !snap.stale.IsZero() {
		return
	}
	s.left = nil
	for _, left := range processes {
		for _, f := range left {
			if f.daemon == s.d.cfg.Socket {
				s.endOrphan(ctx, f)
			}
		}
	}
}

// sync gives each brick its keeper and order, and dismisses keepers of volumes
// that are gone. It takes the processes that it has found a keeper for out of processes.
func (s *supervisor) sync(ctx context.Context, snap *snapshot, processes map[string][]found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[string]bool, len(s.mu.keepers))
	for _, v := range snap.volumes {
		if !snap.stale.IsZero() && v.Phase != settled {
			continue // what has become of it is not known
		}
		for _, b := range v.all() {
			if b.Server != s.d.id() {
				continue
			}
			if !snap.stale.IsZero() && b.Phase != settled {
				continue
			}
			seen[b.ID] = true
			o := order{v, b}
			if k := s.mu.keepers[b.ID]; k != nil {
				if s.left != nil && snap.stale.IsZero() {
					k.recorded(snap.haveOf(v.ID, b.ID))
				}
				k.command(o)
				continue
			}
			k := newKeeper(s.d, o, snap.haveOf(v.ID, b.ID))
			processes[b.ID] = s.take(ctx, k, processes[b.ID])
			s.mu.keepers[b.ID] = k
			s.wg.Go(func() { k.run(ctx) })
		}
	}
	for id, k := range s.mu.keepers {
		if !seen[id] && snap.stale.IsZero() {
			delete(s.mu.keepers, id)
			k.dismiss()
		}
	}
}

// take lets a new keeper adopt the process that its record names, or any, and
// returns those that are left. One that knows another daemon's socket could
// never register here: the keeper ends it, to start one anew.
func (s *supervisor) take(ctx context.Context, k *keeper, processes []found) []found {
	best := -1
	for i, f := range processes {
		if best < 0 || f.pid == k.have.PID || processes[best].daemon != s.d.cfg.Socket && f.daemon == s.d.cfg.Socket {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	var left []found
	for i, f := range processes {
		switch {
		case i == best:
			k.adopt(f.pid)
			k.foreign = f.daemon != s.d.cfg.Socket
		case f.daemon != s.d.cfg.Socket:
			s.endOrphan(ctx, f)
		default:
			left = append(left, f)
		}
	}
	return left
}

// endOrphan ends a brick process that should not be.
func (s *supervisor) endOrphan(ctx context.Context, f found) {
	p, err := holdProcess(f.pid, func() bool {
		again := findBricks(f.pid)
		return len(again) == 1 && again[0] == f
	})
	if err != nil {
		return
	}
	s.d.log.Warn("ending a brick process that belongs to no brick of this server", "pid", f.pid, "brick", f.brick)
	s.wg.Go(func() {
		defer p.release()
		if err := p.stop(ctx, s.d.cfg.StopTimeout); err != nil && ctx.Err() == nil {
			s.d.log.Error("a brick process can't be ended", "pid", f.pid, "error", err)
		}
	})
}

// keeper returns the keeper of a brick, nil if there is none.
func (s *supervisor) keeper(brick string) *keeper {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.keepers[brick]
}

// register registers a brick process.
func (s *supervisor) register(ctx context.Context, b api.BrickHello) error {
	// A process may come before the view has told the supervisor of its brick
	// (the first moments of a daemon): what the view knows, a keeper will be there for.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v := s.d.view.now().volumes[b.Volume]
	known := false
	if v != nil {
		for _, r := range v.Bricks {
			known = known || r.ID == b.Brick && r.Server == s.d.id()
		}
	}
	if !known {
		return notWanted("Volume %s has no brick %s on this server.", b.Volume, b.Brick)
	}
	if len(b.Life) > lifeMax {
		return refuse("The life of a brick process is told in %d bytes at most.", lifeMax)
	}
	if b.Port < 1 || b.Port > 65535 || b.PID < 1 {
		return refuse("A brick process can't have port %d and process ID %d.", b.Port, b.PID)
	}
	k := s.keeper(b.Brick)
	if k == nil {
		return refuse("The daemon is starting.") // the process tries again
	}
	return k.register(ctx, b)
}

// notWanted tells a brick process to end.
func notWanted(format string, a ...any) error {
	return api.Errorf(api.ErrNotWanted, format, a...)
}

// lifeMax is the length of the longest BrickHello.Life, in bytes.
const lifeMax = 128
