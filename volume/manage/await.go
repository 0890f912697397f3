package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// serverGrace is how long a server may be away before what waits for its bricks
// gives up on it: a daemon that is restarted is back by then.
const serverGrace = 3 * time.Second

// brickFailure is a brick that did not become what it should.
type brickFailure struct {
	brick brickRecord
	text  string
	away  bool // its server is not there
	lost  bool // its directory does not hold it any more
}

// standing is how far the bricks of a volume are.
type standing struct {
	waiting []brickRecord // have not answered the generation
	failure *brickFailure // the first that failed
}

// stand looks at bricks of a volume; away are the servers that nothing is
// expected of.
func stand(s *snapshot, v *volumeRecord, bricks []brickRecord, away map[string]bool) standing {
	var out standing
	fail := func(f brickFailure) {
		if out.failure == nil {
			out.failure = &f
		}
	}
	for _, b := range bricks {
		want := v.want(b)
		switch h := s.haveOf(v.ID, b.ID); {
		case h.Generation >= v.Generation && (h.Is == failed || h.Is == down):
			fail(brickFailure{brick: b, text: h.Error, lost: h.Lost})
		case h.Generation >= v.Generation && h.Is == want:
		case away[b.Server]:
			fail(brickFailure{brick: b, text: notConnected(s, b), away: true})
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
	return d.awaitThese(ctx, t, v, v.Bricks, bound)
}

// awaitThese is awaitBricks for some of the volume's bricks.
func (d *daemon) awaitThese(ctx context.Context, t *taskRecord, v *volumeRecord, bricks []brickRecord, bound time.Duration) (*brickFailure, error) {
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
		for _, id := range t.Away {
			away[id] = true
		}
		for _, b := range bricks {
			switch began, ok := since[b.Server]; {
			case s.alive[b.Server] != "":
				delete(since, b.Server)
			case !ok:
				since[b.Server] = time.Now()
			case time.Since(began) > serverGrace:
				away[b.Server] = true
			}
		}
		at := stand(s, v, bricks, away)
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
			return &brickFailure{brick: b, text: text, away: s.alive[b.Server] == ""}, nil
		}
	}
}

// errTaken is a task that another daemon has taken over.
var errTaken = errors.New("another daemon carries the task on")

// meetTimeout bounds the look at whether the daemons that a change needs are there.
const meetTimeout = 2 * time.Second

// absent returns which of the bricks' servers are not there now. Their leases
// may say for seconds yet that they are, so their daemons are asked.
func (d *daemon) absent(ctx context.Context, s *snapshot, bricks []brickRecord) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	type answer struct {
		id    string
		there bool
	}
	asked := map[string]bool{d.id(): true}
	out := map[string]bool{}
	answers := make(chan answer, len(bricks))
	waiting := 0
	for _, b := range bricks {
		if asked[b.Server] {
			continue
		}
		asked[b.Server] = true
		r := s.servers[b.Server]
		if r == nil || s.alive[b.Server] == "" {
			out[b.Server] = true
			continue
		}
		waiting++
		go func() { // ends within meetTimeout; the channel has room
			c, err := api.DialFrom(ctx, d.host, r.api())
			if err == nil {
				c.Close()
			}
			answers <- answer{r.ID, err == nil}
		}()
	}
	for range waiting {
		if a := <-answers; !a.there {
			out[a.id] = true
		}
	}
	return out
}

// needServers refuses a change whose bricks are on servers that are not there.
// A forced one goes on without them: they are returned.
func (d *daemon) needServers(ctx context.Context, s *snapshot, bricks []brickRecord, force bool) (away []string, err error) {
	absent := d.absent(ctx, s, bricks)
	for _, b := range bricks {
		if !absent[b.Server] {
			continue
		}
		if !force {
			return nil, refuse("%s", notConnected(s, b))
		}
		if !slices.Contains(away, b.Server) {
			away = append(away, b.Server)
		}
	}
	return away, nil
}
