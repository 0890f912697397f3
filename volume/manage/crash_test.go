package manage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// act is a part of a scenario: what is asked, and how to see that it is so.
type act struct {
	name string
	ask  func(t *testing.T, s *site, c *api.Conn) error
	is   func(t *testing.T, s *site, c *api.Conn) bool
}

// lifetime is the life of a volume.
var lifetime = []act{
	{"create", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: s.bricks(2, "b")})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c) != nil }},
	{"start", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Started }},
	{"set", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeSet(t.Context(), api.SetRequest{Name: "v", Pairs: []string{"network.timeout", "33"}})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		o := must[[]api.OptionValue](t)(c.VolumeGet(t.Context(), api.GetRequest{Name: "v", Key: "network.timeout"}))
		return o[0].Value == "33"
	}},
	{"stop", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeStop(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Stopped }},
	{"delete", func(t *testing.T, s *site, c *api.Conn) error {
		_, err := c.VolumeDelete(t.Context(), api.VolumeRequest{Name: "v"})
		return err
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c) == nil }},
}

// failures are changes that do not succeed, and leave things as they were.
var failures = []act{
	lifetime[0],
	{"failing start", func(t *testing.T, s *site, c *api.Conn) error {
		s.control(2, "fail")
		_, err := c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"})
		return expect(err, "can't be started")
	}, func(t *testing.T, s *site, c *api.Conn) bool { return s.volume(t, c).State == api.Created }},
	lifetime[4],
	{"failing create", func(t *testing.T, s *site, c *api.Conn) error {
		bricks := s.bricks(4, "b") // b3 can't be made: somebody's file comes in between, see daemonProcess
		_, err := c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: []string{bricks[3], bricks[2]}})
		return expect(err, "can't be made a brick")
	}, func(t *testing.T, s *site, c *api.Conn) bool {
		_, err := os.Stat(filepath.Join(s.dir, "b4"))
		return s.volume(t, c) == nil && os.IsNotExist(err)
	}},
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
	for name, acts := range map[string][]act{"lifetime": lifetime, "failures": failures} {
		steps := play(t, acts, 0)
		if len(steps) < 20 {
			t.Fatalf("only %d steps were seen: %v", len(steps), steps)
		}
		t.Logf("%s: %d steps: %v", name, len(steps), steps)
		stride := 1
		if underRace {
			stride = 4
		}
		for n := 0; n < len(steps); n += stride {
			wg.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				t.Run(fmt.Sprintf("%s %02d %s", name, n+1, steps[n]), func(t *testing.T) { play(t, acts, n+1) })
			})
		}
	}
	wg.Wait()
}

// play plays the acts with a daemon that is killed at its n-th step (0:
// not at all), and one that lives after it. It returns the steps of the first.
func play(t *testing.T, acts []act, n int) []string {
	s := newSite(t)
	steps := filepath.Join(s.dir, "steps")
	first := s.spawn(daemonSetup{StepsTo: steps, KillAt: n})
	c := s.dialUnless(first.died) // the first steps are part of the daemon's start
	lives := 1
	for _, act := range acts {
		if c != nil {
			err := act.ask(t, s, c)
			if err == nil {
				s.check(t, c, act.name, lives > 1)
				continue
			}
			if e, ok := err.(*api.Error); lives > 1 || !ok || e.Errno != api.ErrUnreachable {
				t.Fatalf("%s: %v", act.name, err)
			}
		}
		<-first.died
		lives++
		s.spawn(daemonSetup{})
		c = s.dial()
		s.settled(t, c)
		s.check(t, c, act.name, true)
		if !act.is(t, s, c) {
			if err := act.ask(t, s, c); err != nil {
				t.Fatalf("%s, again: %v", act.name, err)
			}
		}
		s.check(t, c, act.name, true)
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
func (s *site) check(t *testing.T, c *api.Conn, after string, patient bool) {
	t.Helper()
	v := s.volume(t, c)
	want := 0
	if v != nil && v.State == api.Started {
		want = 2
	}
	if patient && want > 0 {
		eventually(t, "all bricks are online after "+after, func() bool {
			return brickPID(t, c, "v", 0) > 0 && brickPID(t, c, "v", 1) > 0
		})
	}
	if p := s.processes(); len(p) != want {
		t.Errorf("after %s: %d brick processes, want %d", after, len(p), want)
	}
	for _, b := range s.bricks(2, "b") {
		_, path, _ := spec.ParseBrick(b)
		_, err := os.Stat(path)
		if made := err == nil; v != nil && !made || v == nil && made && after == "create" {
			t.Errorf("after %s: directory of brick %s: %v; the volume: %v", after, b, err, v)
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
