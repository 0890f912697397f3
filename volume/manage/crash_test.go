package manage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// act is a part of a scenario: what is asked, and how to see that it is so.
type act struct {
	name string
	ask  func(t *testing.T, s *site, c *api.Conn) error
	is   func(t *testing.T, s *site, c *api.Conn) bool
	out  int // bricks that are out of service after it
}

// lifetime is the life of a volume.
var lifetime = []act{
	{"create", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: s.bricks(2, "b")})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c) != nil }, 0},
	{"start", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Started }, 0},
	{"set", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeSet(t.Context(), api.SetRequest{Name: "v", Pairs: []string{"network.timeout", "33"}})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		o := must[[]api.OptionValue](t)(c.VolumeGet(t.Context(), api.GetRequest{Name: "v", Key: "network.timeout"}))
		return o[0].Value == "33"
	}, 0},
	{"stop", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeStop(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Stopped }, 0},
	{"delete", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeDelete(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c) == nil }, 0},
}

// repairs are exchanges of bricks of a set of two: one for another, one out of service and
// into it again, with its data and emptied, and one that does not succeed.
var repairs = []act{
	{"create", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: s.bricks(2, "b"), Replica: 2, Force: true})
		return err
	}, lifetime[0].is, 0},
	lifetime[1],
	{"replace", func(t *testing.T, s *site, c *api.Conn) error {
		b := s.bricks(4, "b")
		_, err := c.VolumeReplaceBrick(t.Context(), api.BrickRequest{Name: "v", Brick: b[0], With: b[3], Force: true})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		return s.volume(t, c).Bricks[0].Name == s.bricks(4, "b")[3]
	}, 0},
	{"reset start", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeResetBrick(t.Context(), api.BrickRequest{Name: "v", Brick: s.bricks(4, "b")[3]})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return len(s.processes()) == 1 }, 1},
	{"reset commit", func(t *testing.T, s *site, c *api.Conn) error { return s.resetCommit(t, c) },
		func(t *testing.T, s *site, c *api.Conn) bool { return len(s.processes()) == 2 }, 0},
	{"reset start", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeResetBrick(t.Context(), api.BrickRequest{Name: "v", Brick: s.bricks(4, "b")[3]})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return len(s.processes()) == 1 }, 1},
	{"reset commit of an emptied brick", func(t *testing.T, s *site, c *api.Conn) error {
		if err := os.RemoveAll(filepath.Join(s.dir, "b4")); err != nil {
			return err
		}
		return s.resetCommit(t, c)
	}, func(t *testing.T, s *site, c *api.Conn) bool { return len(s.processes()) == 2 }, 0},
	{"failing replace", func(t *testing.T, s *site, c *api.Conn) error {
		b := s.bricks(5, "b") // b5 can't be made: see daemonProcess
		if err := os.WriteFile(filepath.Join(s.dir, "b5 is to be spoiled"), nil, 0o600); err != nil {
			return err
		}
		_, err := c.VolumeReplaceBrick(t.Context(), api.BrickRequest{Name: "v", Brick: b[3], With: b[4], Force: true})
		return expect(err, filepath.Join(s.dir, "b5"))
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		return s.volume(t, c).Bricks[0].Name == s.bricks(4, "b")[3]
	}, 0},
	lifetime[3],
	lifetime[4],
}

func (s *site) resetCommit(t *testing.T, c *api.Conn) error {
	b := s.bricks(4, "b")[3]
	_, err := c.VolumeResetBrick(t.Context(), api.BrickRequest{Name: "v", Brick: b, With: b})
	if err != nil && len(s.processes()) == 2 { // done by the life before
		return expect(err, "Source brick must be stopped")
	}
	return err
}

// failures are changes that do not succeed, and leave things as they were.
var failures = []act{
	lifetime[0],
	{"failing start", func(t *testing.T, s *site, c *api.Conn) error {
		s.control(2, "fail")
		_, err := c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"})
		return expect(err, "can't be started")
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Created }, 0},
	lifetime[4],
	{"failing create", func(t *testing.T, s *site, c *api.Conn) error {
		bricks := s.bricks(4, "b") // b3 can't be made: somebody's file comes in between, see daemonProcess
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: []string{bricks[3], bricks[2]}})
		return expect(err, "can't be made a brick")
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		_, err := os.Stat(filepath.Join(s.dir, "b4"))
		return s.volume(t, c) == nil && os.IsNotExist(err)
	}, 0},
}

// expect is nil if err has the text, else err or that there was none.
func expect(err error, text string) error {
	var e *api.Error
	switch {
	case err == nil:
		return errors.New("it succeeded")
	case errors.As(err, &e) && e.Errno != api.ErrUnreachable && strings.Contains(e.Message, text):
		return nil
	}
	return err
}

// volume returns what the daemon says of the volume "v", nil if it does not exist.
func (s *site) volume(t *testing.T, c *api.Conn) *api.Volume {
	t.Helper()
	for _, v := range must[[]api.Volume](t)(c.VolumeInfo(t.Context(), api.VolumeRequest{})) {
		if v.Name == "v" {
			return &v
		}
	}
	return nil
}

// A daemon killed before any step of any change leaves nothing that its next
// life does not finish or undo; the request can be made again and then holds.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	places := make(chan struct{}, 6) // most of a play is waiting
	var left atomic.Int64
	began := time.Now()
	for name, acts := range map[string][]act{"lifetime": lifetime, "failures": failures, "repairs": repairs} {
		steps := play(t, acts, 0)
		if len(steps) < 20 {
			t.Fatalf("only %d steps were seen: %v", len(steps), steps)
		}
		t.Logf("%s: %d steps: %v", name, len(steps), steps)
		stride := 1 + len(steps)/100 // of many steps some in each run
		if underRace {
			stride *= 4
		}
		for n := rand.N(stride); n < len(steps); n += stride {
			wg.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				if time.Since(began) > playMax {
					left.Add(1)
					return
				}
				t.Run(fmt.Sprintf("%s %02d %s", name, n+1, steps[n]), func(t *testing.T) { play(t, acts, n+1) })
			})
		}
	}
	wg.Wait()
	if n := left.Load(); n > 0 {
		t.Logf("the machine is busy: %d of the steps were left out", n)
	}
}

// play plays the acts with a daemon that is killed at its n-th step (0:
// not at all), and one that lives after it. It returns the steps of the first.
func play(t *testing.T, acts []act, n int) []string {
	s := newSite(t)
	steps := filepath.Join(s.dir, "steps")
	first := s.spawn(daemonSetup{StepsTo: steps, KillAt: n})
	c := s.dialUnless(first.died) // the first steps are part of the daemon's start
	lives := 1
	for i, act := range acts {
		if c != nil {
			err := act.ask(t, s, c)
			if err == nil {
				s.check(t, c, act, lives > 1)
				continue
			}
			if e, ok := err.(*api.Error); lives > 1 || !ok || e.Errno != api.ErrUnreachable {
				t.Fatalf("%s: %v", act.name, err)
			}
		}
		comes(t, "the daemon's death, at "+act.name, first.died)
		lives++
		s.spawn(daemonSetup{})
		c = s.dial()
		s.settled(t, c)
		if !act.is(t, s, c) {
			s.check(t, c, acts[max(i-1, 0)], true) // as it was, then
			if err := act.ask(t, s, c); err != nil {
				t.Fatalf("%s, again: %v", act.name, err)
			}
		}
		s.check(t, c, act, true)
	}
	if n > 0 && lives == 1 {
		// Keepers' steps depend on timing: the n-th may come after the last request.
		t.Logf("the daemon was not killed")
	}
	b, err := os.ReadFile(steps)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// settled waits until no task is left: a change waits for those before it.
func (s *site) settled(t *testing.T, c *api.Conn) {
	t.Helper()
	if _, err := c.VolumeReset(t.Context(), api.ResetRequest{Name: "v", Option: "user.nothing"}); err != nil {
		if e, ok := err.(*api.Error); !ok || e.Errno != api.ErrNoVolume {
			t.Fatalf("after the restart: %v", err)
		}
	}
}

// check compares processes and directories with the volume's state.
func (s *site) check(t *testing.T, c *api.Conn, done act, patient bool) {
	t.Helper()
	after := done.name
	v := s.volume(t, c)
	want := 0
	if v != nil && v.State == api.Started {
		want = 2 - done.out
	}
	if patient && want > 0 {
		eventually(t, "all bricks are online after "+after, func() bool {
			online := 0
			for _, b := range must[[]api.VolumeStatus](t)(c.VolumeStatus(t.Context(), api.StatusRequest{Name: "v"}))[0].Bricks {
				if b.Online {
					online++
				}
			}
			return online >= want && len(s.processes()) == want
		})
	}
	if p := s.processes(); len(p) != want {
		t.Errorf("after %s: %d brick processes, want %d", after, len(p), want)
	}
	if v != nil && v.Replica == 2 {
		s.checkSet(t, c, v, after)
	}
	for _, b := range s.bricks(2, "b") {
		_, path, _ := spec.ParseBrick(b)
		_, err := os.Stat(path)
		if made := err == nil; v != nil && !made || v == nil && made && after == "create" {
			t.Errorf("after %s: directory of brick %s: %v; the volume: %v", after, b, err, v)
		}
	}
}

// checkSet compares a set of two with what is on the disk: members that are no
// bricks, or a brick that has everything but was emptied, must not be.
func (s *site) checkSet(t *testing.T, c *api.Conn, v *api.Volume, after string) {
	t.Helper()
	state, _, err := api.ReadSetState(t.Context(), []string{s.socket}, v.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := must[*spec.Map](t)(api.FetchMap(t.Context(), []string{s.socket}, "v"))
	if len(m.Sets) != 1 || len(m.Sets[0].Members) != 2 || !m.Sets[0].State.Equal(state) {
		t.Fatalf("after %s: %+v, the state is %+v", after, m.Sets, state)
	}
	second := m.Sets[0].Members[1]
	if _, in := state.Seat(second.ID); !in {
		t.Errorf("after %s: the brick that nobody touched is out of sync: %+v", after, state)
	}
	for _, seat := range state.InSync {
		if m.Sets[0].Member(seat.Member) == nil {
			t.Errorf("after %s: %s is in sync and no member", after, seat.Member)
		}
	}
	if len(state.InSync) != 1 && after != "create" && after != "start" {
		t.Errorf("after %s: a brick that is new or was out of service is in sync: %+v", after, state)
	}
	for _, b := range m.Sets[0].Members {
		_, path, _ := spec.ParseBrick(b.Brick)
		id, err := brick.ReadIdentity(path)
		if err == nil && id.BrickID != b.ID || err != nil && b.Addr != "" {
			t.Errorf("after %s: %s is %+v (%v), the record says %s", after, path, id, err, b.ID)
		}
	}
}

// A create that fails half-way leaves nothing.
func TestCreateIsUndone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	bricks := s.bricks(2, "b")
	_, second, _ := spec.ParseBrick(bricks[1])
	first := true
	cfg.step = func(name string) {
		if name == "create checked" && first { // after the checks, something comes in between
			first = false
			if err := os.WriteFile(second, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	s.run(cfg)
	c := s.dial()
	_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks})
	if err == nil || !strings.Contains(err.Error(), second) {
		t.Errorf("error %v", err)
	}
	if s.volume(t, c) != nil {
		t.Error("the volume exists")
	}
	_, other, _ := spec.ParseBrick(bricks[0])
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the first brick's directory is there: %v", err)
	}
	if b, err := os.ReadFile(second); err != nil || len(b) != 0 {
		t.Errorf("what came in between: %v", err)
	}
	os.Remove(second)
	must[api.Volume](t)(c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: bricks}))
}

// kill -9 of the daemon is nothing to the bricks, and it is back soon.
func TestDaemonIsKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.spawn(daemonSetup{})
	c := s.dial()
	must[api.Volume](t)(c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: s.bricks(2, "b")}))
	must[api.Volume](t)(c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"}))
	pids := []int{brickPID(t, c, "v", 0), brickPID(t, c, "v", 1)}
	d.kill()
	if p := s.processes(); len(p) != 2 {
		t.Errorf("processes after the kill: %+v", p)
	}
	s.spawn(daemonSetup{})
	c = s.dial()
	if now := []int{brickPID(t, c, "v", 0), brickPID(t, c, "v", 1)}; now[0] != pids[0] || now[1] != pids[1] {
		t.Errorf("bricks %v before and %v after", pids, now)
	}
}
