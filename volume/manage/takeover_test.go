package manage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// killPoints are all steps of the changes of a volume at the daemon that was asked.
var killPoints = []string{
	"create begin", "create begin done", "create checked", "create checked done", "create end", "create end done",
	"start begin", "start begin done", "start end", "start end done", "set", "set done",
	"stop begin", "stop begin done", "stop end", "stop end done",
	"delete begin", "delete begin done", "delete end", "delete end done",
}

// repairPoints are those of exchanges of bricks.
var repairPoints = []string{
	"replace-brick begin", "replace-brick begin done", "brick checked", "brick checked done", "brick made", "brick made done",
	"brick swapped", "brick swapped done", "replace-brick end", "replace-brick end done",
	"reset-brick start begin", "reset-brick start begin done", "reset-brick start end", "reset-brick start end done",
	"reset-brick commit begin", "reset-brick commit begin done", "brick kept", "brick kept done", "reset-brick commit end", "reset-brick commit end done",
}

// A daemon is killed before each step of a change and does not come back:
// another one finishes or undoes it, and the change can be made again.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	const pools = 4
	stride := pools
	if underRace {
		stride = 3 * pools
	}
	for part := range pools {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			p := newPool(t, 3)
			p.grow()
			p.sites[0].halt()
			began := time.Now()
			busy := func() bool {
				if time.Since(began) < playMax {
					return false
				}
				t.Logf("the machine is busy: the rest is left out")
				return true
			}
			for i := part; i < len(killPoints) && !busy(); i += stride {
				p.takenOver(killPoints[i], fmt.Sprintf("v%d", i), false)
			}
			for i := part + pools*rand.N(2); i < len(repairPoints) && !busy(); i += 2 * stride { // half of them in each run
				p.takenOver(repairPoints[i], fmt.Sprintf("r%d", i), true)
			}
		})
	}
}

// takenOver has the first site's daemon killed at a step, and the second one go on.
// The bricks are called name.
func (p *pool) takenOver(step, name string, repair bool) {
	p.t.Helper()
	t := p.t
	var bricks []string
	for _, s := range p.sites[1:] {
		bricks = append(bricks, s.addr+":"+filepath.Join(s.dir, name))
	}
	acts := []act{{"create", func(t *testing.T, _ *site, c *api.Conn) error {
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks})
		return err
	}, lifetime[0].is, 0}}
	acts = append(acts, lifetime[1:]...)
	if repair {
		acts = exchanges(bricks)
	}

	first, second := p.sites[0], p.sites[1]
	killed := first.spawn(daemonSetup{KillStep: step})
	c := first.dial()
	at := 0
	for ; at < len(acts); at++ {
		if err := acts[at].ask(t, first, c); err != nil {
			var e *api.Error
			if !errors.As(err, &e) || e.Errno != api.ErrUnreachable {
				t.Fatalf("%s: %s: %v", step, acts[at].name, err)
			}
			break
		}
	}
	if at == len(acts) {
		t.Fatalf("%s: the daemon was not killed", step)
	}
	comes(t, "the daemon's death at "+step, killed.died)
	eventually(t, "the task is finished by another after "+step, func() bool {
		_, err := second.conn.VolumeReset(t.Context(), api.ResetRequest{Name: "v", Option: "user.nothing"})
		var e *api.Error
		return err == nil || errors.As(err, &e) && e.Errno == api.ErrNoVolume
	})
	for ; at < len(acts); at++ {
		if acts[at].is(t, second, second.conn) {
			continue
		}
		if err := acts[at].ask(t, second, second.conn); err != nil {
			t.Fatalf("%s: %s, by another: %v", step, acts[at].name, err)
		}
	}
	for _, s := range p.sites[1:] {
		if n := len(s.processes()); n != 0 {
			t.Errorf("%s: %d brick processes are left on %s", step, n, s.addr)
		}
	}
}

// exchanges are changes of the first brick of a set of two.
func exchanges(bricks []string) []act {
	with := bricks[0] + "new"
	reset := func(with string, out int) act {
		return act{"reset", func(t *testing.T, _ *site, c *api.Conn) error {
			_, err := c.VolumeResetBrick(t.Context(), api.BrickRequest{Name: "v", Brick: bricks[0] + "new", With: with})
			return err
		}, func(t *testing.T, s *site, _ *api.Conn) bool {
			return (s.theMap().Sets[0].Members[0].Addr == "") == (out == 1)
		}, out}
	}
	return []act{
		{"create", func(t *testing.T, _ *site, c *api.Conn) error {
			_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks, Replica: 2})
			return err
		}, lifetime[0].is, 0},
		lifetime[1],
		{"replace", func(t *testing.T, _ *site, c *api.Conn) error {
			_, err := c.VolumeReplaceBrick(t.Context(), api.BrickRequest{Name: "v", Brick: bricks[0], With: with, Force: true})
			return err
		}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).Bricks[0].Name == with }, 0},
		reset("", 1),
		reset(with, 0),
		lifetime[3],
		lifetime[4],
	}
}
