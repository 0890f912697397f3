package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Volume is what `volume info --json` tells.
type volumeInfo struct {
	Name    string
	Status  string
	Bricks  []Brick
	Options []struct{ Name, Value string }
}

// volumes returns all volumes as a server sees them, by name.
func volumes(s *Server) (map[string]volumeInfo, error) {
	r := s.Run("--json", "volume", "info")
	var answer struct{ Volumes []volumeInfo }
	if err := json.Unmarshal([]byte(r.Out), &answer); r.Code != 0 || err != nil {
		return nil, fmt.Errorf("%s: volume info: exit %d\n%s%s", s.Name, r.Code, r.Out, r.Err)
	}
	m := map[string]volumeInfo{}
	for _, v := range answer.Volumes {
		m[v.Name] = v
	}
	return m, nil
}

// same fails unless all servers tell the same of all volumes.
func same(t testing.TB, servers ...*Server) {
	t.Helper()
	Eventually(t, "all servers tell the same", func() error {
		want := servers[0].Must("volume", "info")
		for _, s := range servers[1:] {
			if got := s.Must("volume", "info"); got != want {
				return fmt.Errorf("%s says\n%s\n%s says\n%s", s.Name, got, servers[0].Name, want)
			}
		}
		return nil
	})
}

// Volume operations typed at two servers at once do not corrupt each other: of
// two that can't both be, one is done and the other is refused; two that can,
// are both done.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	a, b := c.Servers[0], c.Servers[1]
	both := func(x, y []string) (rx, ry Result) {
		var wg sync.WaitGroup
		wg.Go(func() { rx = a.Run(x...) })
		wg.Go(func() { ry = b.Run(y...) })
		wg.Wait()
		return rx, ry
	}
	words := strings.Fields
	for round := range 4 {
		name := fmt.Sprint("v", round)
		mine, yours := c.Bricks(name+"a", 1), c.Bricks(name+"b", 1)
		create := func(bricks []string) []string {
			return words("volume create " + name + " " + strings.Join(bricks, " ") + " force")
		}
		x, y := both(create(mine), create(yours))
		if (x.Code == 0) == (y.Code == 0) {
			t.Errorf("create of one name twice: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		// The loser's bricks are free; one brick can't be of two volumes.
		free := yours
		if x.Code != 0 {
			free = mine
		}
		x, y = both(words("volume create n"+name+" "+free[0]+" "+free[1]+" force"), words("volume create m"+name+" "+free[1]+" "+free[2]+" force"))
		if (x.Code == 0) == (y.Code == 0) {
			t.Errorf("create of one brick twice: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		x, y = both(words("volume start "+name), words("volume start "+name))
		if x.Code != 0 && y.Code != 0 {
			t.Errorf("start twice: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		for _, s := range c.Servers {
			s.AwaitOnline(name)
		}
		x, y = both(words("volume set "+name+" network.timeout 7"), words("volume set "+name+" cluster.min-free-disk 5%"))
		if x.Code != 0 || y.Code != 0 {
			t.Errorf("set of two options: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		if info := c.Servers[2].Must("volume", "info", name); !strings.Contains(info, "network.timeout: 7") || !strings.Contains(info, "cluster.min-free-disk: 5%") {
			t.Errorf("of two options set at once one is lost:\n%s", info)
		}
		x, y = both(words("volume stop "+name), words("volume set "+name+" network.timeout 8"))
		// Which of these comes first is open, and the other may be refused meanwhile.
		const busy = "Another transaction is in progress"
		if x.Code != 0 && y.Code != 0 || x.Code != 0 && !strings.Contains(x.Err, busy) || y.Code != 0 && !strings.Contains(y.Err, busy) {
			t.Errorf("stop and set: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		if x.Code != 0 {
			a.Must("volume", "stop", name)
		}
		x, y = both(words("volume delete "+name), words("volume start "+name))
		if (x.Code == 0) == (y.Code == 0) {
			t.Errorf("delete and start: exit %d and %d\n%s%s%s%s", x.Code, y.Code, x.Out, x.Err, y.Out, y.Err)
		}
		same(t, c.Servers...)
	}
}

// The daemon at which a volume operation was typed is killed in the middle of
// it, sooner or later. Another one finishes it or undoes it: soon after, the
// volume is whole in one of its states, and can be operated from the others.
func TestKilledInOperation(t *testing.T) {
	t.Parallel()
	killedInOperation(t, 2)
}

// The same with many more moments.
func TestSoakKilledInOperation(t *testing.T) {
	if soaking() {
		killedInOperation(t, 20)
	}
}

func killedInOperation(t *testing.T, rounds int) {
	c := New(t, 3)
	c.Pool()
	typed := c.Servers[2]
	others := c.Servers[:2]
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		name := fmt.Sprint("v", round)
		// In every second round the killed server has a brick too. Nobody else can
		// make or stop that one, so its daemon is started again at once.
		bricks, again := c.Bricks(name, 1, others...), round%2 == 1
		if again {
			bricks = c.Bricks(name, 1)
		}
		for _, op := range []string{
			"volume create " + name + " " + strings.Join(bricks, " ") + " force",
			"volume start " + name, "volume stop " + name, "volume delete " + name,
		} {
			moment := time.Duration(dice.Int64N(int64(120 * time.Millisecond)))
			result := make(chan Result, 1)
			go func() { result <- typed.Run(strings.Fields(op)...) }()
			<-time.After(moment) // the moment is what the test is about
			typed.Kill()
			r := <-result
			if again {
				typed.Start()
			}
			verb := strings.Fields(op)[1]
			begin := time.Now()
			settle(t, others, name, verb)
			t.Logf("killed %v into %s (exit %d): settled after %v", moment.Round(time.Millisecond), verb, r.Code, time.Since(begin).Round(time.Millisecond))
			if r.Code == 0 && !done(t, others[0], name, verb) {
				t.Errorf("%s was acknowledged and is not done", op)
			}
			// From another server it can be done, if it was undone.
			if !done(t, others[0], name, verb) {
				others[1].Must(strings.Fields(op)...)
			}
			if !again {
				typed.Start()
			}
		}
		c.AwaitPool(c.Servers...)
		same(t, c.Servers...)
	}
}

// done tells whether a volume is as it is after the operation.
func done(t *testing.T, s *Server, name, verb string) bool {
	t.Helper()
	all, err := volumes(s)
	if err != nil {
		t.Fatal(err)
	}
	v, there := all[name]
	switch verb {
	case "create":
		return there
	case "start":
		return there && v.Status == "Started"
	case "stop":
		return there && v.Status == "Stopped"
	}
	return !there
}

// settle waits until no operation on the volume is under way any more: then, and
// only then, one that changes nothing is not refused as being in conflict.
func settle(t *testing.T, servers []*Server, name, verb string) {
	t.Helper()
	for _, s := range servers {
		Eventually(t, s.Name+" can operate "+name+" after a killed "+verb, func() error {
			r := s.Run("volume", "set", name, "network.timeout", "10")
			if r.Code != 0 && !strings.Contains(r.Err+r.Out, "does not exist") {
				return errors.New(r.Out + r.Err)
			}
			return nil
		})
	}
	same(t, servers...)
	// What does not run need not; what should run does.
	all, err := volumes(servers[0])
	if err != nil {
		t.Fatal(err)
	}
	if v, there := all[name]; there && v.Status == "Started" {
		servers[0].AwaitOnline(name)
	} else {
		Eventually(t, "no brick of "+name+" runs", func() error {
			for _, s := range servers {
				if p := brickProcesses(s, name); len(p) > 0 {
					return fmt.Errorf("%v on %s", p, s.Name)
				}
			}
			return nil
		})
	}
	for _, s := range servers {
		identity := filepath.Join(s.BrickDir(name, 0), ".mortar", "brick")
		if _, err := os.Stat(identity); all[name].Name == "" && verb == "create" && err == nil {
			t.Errorf("%s: an undone create left the brick's identity in %s", s.Name, s.BrickDir(name, 0))
		}
	}
}

// brickProcesses are the processes that serve bricks of the volume on a server.
func brickProcesses(s *Server, volume string) []int {
	var pids []int
	for _, pid := range processes(s.Dir) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := strings.Split(string(line), "\x00"); len(words) > 1 && words[1] == "brick" && strings.Contains(string(line), s.BrickDir(volume, 0)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Daemons are restarted one at a time under load: bricks and mounts notice nothing.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	c.Volume("v", 1)
	load := StartLoad(t, c.Mount(0, "v"))
	pids := func() (p []int) {
		for _, b := range c.Servers[0].AwaitOnline("v") {
			p = append(p, b.PID)
		}
		return p
	}
	before := fmt.Sprint(pids())
	for _, s := range c.Servers {
		load.Progress(10)
		begin := time.Now()
		s.Stop()
		stopped := time.Since(begin)
		s.Start()
		t.Logf("%s: stopped after %v, answers after %v", s.Name, stopped.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		s.Must("volume", "set", "v", "diagnostics.client-log-level", "INFO")
		c.AwaitPool(c.Servers...)
	}
	load.Progress(10)
	if after := fmt.Sprint(pids()); after != before {
		t.Errorf("the bricks are processes %s, were %s", after, before)
	}
	load.Finish(2 * time.Second)
}
