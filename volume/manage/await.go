package manage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// serverGrace is how long a server may be away before what waits for its bricks
// gives up on it: a daemon that is restarted is back by then.
const serverGrace = 3 * time.Second

// brickFailure is a brick that did not become what it should.
type brickFailure struct {
	brick brickRecord
	text  string
	away  bool // its server is not there
}

// standing is how far the bricks of a volume are.
type standing struct {
	waiting []brickRecord // have not answered the generation
	failure *brickFailure // the first that failed
}

// stand looks at the bricks of a volume; away are the servers that nothing is
// expected of.
func stand(s *snapshot, v *volumeRecord, away map[string]bool) standing {
	want := v.want()
	var out standing
	fail := func(f brickFailure) {
		if out.failure == nil {
			out.failure = &f
		}
	}
	for _, b := range v.Bricks {
		switch h := s.haveOf(v.ID, b.ID); {
		case h.Generation >= v.Generation && (h.Is == failed || h.Is == down):
			fail(brickFailure{brick: b, text: h.Error})
		case h.Generation >= v.Generation && h.Is == want:
		case away[b.Server]:
			fail(brickFailure{b, notConnected(s, b), true})
		default:
			out.waiting = append(out.waiting, b)
		}
	}
	return out
}

// notConnected is gluster's sentence about a server that is not there.
func notConnected(s *snapshot, b brickRecord) string {
	host := b.Host
	if r := s.servers[b.Server]; r != nil {
		host = r.Host
	}
	return fmt.Sprintf("Host %s not connected", host)
}

// awaitBricks waits until each brick of the task's volume has answered the
// generation, and returns the first that failed, nil if none did. One that has
// not answered when the bound is reached, or whose server is gone, has failed.
// The error is errTaken if another daemon carries the task on.
func (d *daemon) awaitBricks(ctx context.Context, t *taskRecord, v *volumeRecord, bound time.Duration) (*brickFailure, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	since := map[string]time.Time{} // the server is away
	tick := time.NewTicker(serverGrace / 6)
	defer tick.Stop()
	for {
		s, changed := d.view.next()
		if now := s.tasks[t.Volume]; now == nil || now.ID != t.ID || now.Server != t.Server || now.Boot != t.Boot {
			return nil, errTaken
		}
		away := map[string]bool{}
		for _, b := range v.Bricks {
			switch began, ok := since[b.Server]; {
			case s.alive[b.Server] != "":
				delete(since, b.Server)
			case !ok:
				since[b.Server] = time.Now()
			case time.Since(began) > serverGrace:
				away[b.Server] = true
			}
		}
		at := stand(s, v, away)
		if len(at.waiting) == 0 {
			return at.failure, nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, errEnding
			}
			b := at.waiting[0]
			text := "no answer within " + bound.String()
			if s.alive[b.Server] == "" {
				text = notConnected(s, b)
			}
			return &brickFailure{b, text, s.alive[b.Server] == ""}, nil
		}
	}
}

// errTaken is a task that another daemon has taken over.
var errTaken = errors.New("another daemon carries the task on")

// needServers refuses a change that needs servers that are not there.
func (d *daemon) needServers(s *snapshot, bricks []brickRecord, what string) error {
	for _, b := range bricks {
		if s.alive[b.Server] == "" && b.Server != d.id() {
			return refuse("%s%s", notConnected(s, b), what)
		}
	}
	return nil
}
