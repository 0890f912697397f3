package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spread makes files on a mount until each server's only brick of the volume
// holds at least n of them, and returns their paths by server.
func spread(c *Cluster, dir, volume string, n int, servers ...*Server) map[*Server][]string {
	c.t.Helper()
	files := map[*Server][]string{}
	place := func(path string) *Server {
		for _, s := range servers {
			// Files lie on their brick as they are; a pointer is empty.
			if info, err := os.Stat(filepath.Join(s.BrickDir(volume, 0), filepath.Base(path))); err == nil && info.Size() > 0 {
				return s
			}
		}
		c.t.Fatalf("%s is on no brick", path)
		return nil
	}
	for i := 0; ; i++ {
		least := 1 << 30
		for _, s := range servers {
			least = min(least, len(files[s]))
		}
		if least >= n {
			return files
		}
		path := filepath.Join(dir, fmt.Sprint("spread", i))
		if err := writeSynced(path, []byte(path)); err != nil {
			c.t.Fatal(err)
		}
		s := place(path)
		files[s] = append(files[s], path)
	}
}

// readable returns an error unless each file holds its own path.
func readable(files []string) error {
	for _, path := range files {
		if b, err := os.ReadFile(path); err != nil || string(b) != path {
			return fmt.Errorf("%s: %q, %w", path, b, err)
		}
	}
	return nil
}

// refusedForMajority is what a server must say to a change without a majority.
func refusedForMajority(t testing.TB, s *Server, args ...string) {
	t.Helper()
	r, took := s.Timed(args...)
	said := r.Out + r.Err
	if r.Code == 0 || !strings.Contains(said, "mortar cluster recover") || strings.Count(strings.TrimSpace(said), "\n") > 1 {
		t.Errorf("%s: %s without a majority: exit %d\n%s\nwant one sentence that names `mortar cluster recover`", s.Name, strings.Join(args, " "), r.Code, said)
	}
	t.Logf("%s: %s was refused after %v", s.Name, strings.Join(args, " "), took.Round(time.Millisecond))
	if took > 5*time.Second { // 3 s on a quiet machine
		t.Errorf("%s: %s was refused after %v", s.Name, strings.Join(args, " "), took)
	}
}

// All servers lose power and come back in every order. Each one serves its
// bricks and answers questions as soon as it is back; two of the three can
// change things again.
func TestBootOrders(t *testing.T) {
	t.Parallel()
	t.Run("another first", func(t *testing.T) {
		t.Parallel()
		bootOrders(t, [][]int{{2, 1, 0}, {1, 2, 0}, {1, 0, 2}})
	})
	t.Run("any last", func(t *testing.T) {
		t.Parallel()
		bootOrders(t, [][]int{{0, 2, 1}, {2, 0, 1}, {0, 1, 2}})
	})
}

func bootOrders(t *testing.T, orders [][]int) {
	c := New(t, 3)
	c.Pool()
	c.Volume("v", 1)
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "2")
	dir := c.Mount(0, "v")
	files := spread(c, dir, "v", 5, c.Servers...)
	for round, order := range orders {
		info := c.Servers[0].Must("volume", "info")
		c.AwaitKept()
		for _, s := range c.Servers {
			s.PowerOff()
		}
		begin := time.Now()
		first, second, third := c.Servers[order[0]], c.Servers[order[1]], c.Servers[order[2]]
		first.PowerOn()
		first.AwaitAnswer()
		if got := first.Must("volume", "info"); got != info {
			t.Errorf("order %v: %s, alone, says\n%s\nwas\n%s", order, first.Name, got, info)
		}
		Eventually(t, "files of "+first.Name, func() error { return readable(files[first]) })
		refusedForMajority(t, first, "volume", "set", "v", "network.timeout", "9")
		t.Logf("order %v: %s serves alone after %v", order, first.Name, time.Since(begin).Round(time.Millisecond))

		second.PowerOn()
		second.AwaitAnswer()
		for _, s := range []*Server{first, second} {
			Eventually(t, s.Name+" can change things", func() error {
				if r := s.Run("volume", "set", "v", "diagnostics.client-log-level", []string{"INFO", "WARNING"}[round%2]); r.Code != 0 {
					return errors.New(r.Out + r.Err)
				}
				return nil
			})
		}
		t.Logf("order %v: changes are possible after %v", order, time.Since(begin).Round(time.Millisecond))
		third.PowerOn()
		third.AwaitAnswer()
		c.AwaitPool(c.Servers...)
		third.AwaitOnline("v")
		for _, s := range c.Servers {
			Eventually(t, "files of "+s.Name, func() error { return readable(files[s]) })
		}
		t.Logf("order %v: all is well after %v", order, time.Since(begin).Round(time.Millisecond))
	}
}

// One server of three is lost: its files give EIO within the time-out, all else
// goes on, volume operations included. It comes back, and all is there.
func TestMinorityLost(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	a, b, lost := c.Servers[0], c.Servers[1], c.Servers[2]
	c.Volume("v", 1)
	a.Must("volume", "set", "v", "network.timeout", "2")
	dir := c.Mount(0, "v")
	files := spread(c, dir, "v", 3, c.Servers...)
	// A volume on the others: nothing of it may fail.
	c.Volume("w", 1, a, b)
	load := StartLoad(t, c.Mount(2, "w"))
	load.Progress(5)

	lost.PowerOff()
	for _, path := range files[lost] {
		begin := time.Now()
		_, err := os.ReadFile(path)
		took := time.Since(begin)
		t.Logf("a file on the lost server: EIO after %v", took.Round(time.Millisecond))
		if !errors.Is(err, syscall.EIO) || took > 8*time.Second {
			t.Errorf("%s, on the lost server: %v after %v; want EIO after 2 s", path, err, took)
		}
	}
	for _, s := range []*Server{a, b} {
		if err := readable(files[s]); err != nil {
			t.Error(err)
		}
	}
	load.Progress(10)
	for i, s := range []*Server{a, b} {
		name := fmt.Sprint("new", i)
		s.VolumeOn(name, c.Bricks(name, 1, a, b)...)
		s.Must("volume", "set", "v", "network.timeout", fmt.Sprint(2+i))
		s.Must("volume", "stop", name)
		s.Must("volume", "delete", name)
	}
	// What needs the lost server says so, by name, at once.
	for _, args := range []string{
		"volume create x " + c.Bricks("x", 1)[2] + " force",
		"volume stop v", "peer detach " + lost.Name,
	} {
		begin := time.Now()
		says := lost.Name
		if strings.HasPrefix(args, "peer") {
			says = ""
		}
		b.Refused(strings.Fields(args), says)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: refused after %v", args, took)
		}
	}
	awaitDisconnected(t, a, lost)
	for _, brick := range a.Status("v") {
		if brick.Host == lost.Name && brick.Online {
			t.Errorf("status shows the lost server's brick online: %+v", brick)
		}
	}
	load.Progress(5)

	lost.PowerOn()
	lost.AwaitAnswer()
	c.AwaitPool(c.Servers...)
	lost.AwaitOnline("v")
	Eventually(t, "the lost files are back", func() error { return readable(files[lost]) })
	if got, want := lost.Must("volume", "info"), a.Must("volume", "info"); got != want {
		t.Errorf("%s says\n%s\nthe others\n%s", lost.Name, got, want)
	}
	load.Finish(10 * time.Second)
}

// A majority is lost for good: mounts and bricks go on, questions are answered,
// changes are refused at once; `cluster recover` on the survivor brings
// management back, and the mounts hear of what is changed then, though they had
// heard of changes that the survivor never saw. Old servers that come back join again.
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	survivor := c.Servers[0]
	phase := Phases(t)
	c.Volume("v", 1)
	c.Volume("w", 1, survivor)
	for _, v := range []string{"v", "w"} {
		survivor.Must("volume", "set", v, "network.timeout", "2")
	}
	dir, other := c.Mount(0, "v"), c.Mount(0, "w")
	files := spread(c, dir, "v", 3, c.Servers...)
	load := StartLoad(t, other)
	load.Progress(5)
	survivor.Refused([]string{"cluster", "recover", "--yes"}, "majority")

	phase("set up")
	// The two see changes that the survivor does not, and so do the mounts.
	for _, s := range c.Servers[1:] {
		c.Cut(survivor.Machine, s.Machine)
	}
	for i := range 20 {
		Eventually(t, "the two can change things", func() error {
			if r := c.Servers[1].Run("volume", "set", "v", "network.timeout", fmt.Sprint(2+i%2)); r.Code != 0 {
				return errors.New(r.Out + r.Err)
			}
			return nil
		})
	}
	phase("changes that the survivor does not see")
	for _, s := range c.Servers[1:] {
		s.PowerOff()
	}
	c.Restore()
	refusedForMajority(t, survivor, "volume", "set", "w", "network.timeout", "7")
	refusedForMajority(t, survivor, "volume", "stop", "w")
	refusedForMajority(t, survivor, "peer", "detach", c.Servers[2].Name, "force")
	phase("refusals")
	for _, question := range []string{"volume info w", "volume status w", "volume list", "peer status", "pool list", "cluster status", "volume get w all"} {
		r, took := survivor.Timed(strings.Fields(question)...)
		if r.Code != 0 || took > 5*time.Second {
			t.Errorf("%s without a majority: exit %d after %v\n%s%s", question, r.Code, took, r.Out, r.Err)
		}
		t.Logf("%s was answered after %v", question, took.Round(time.Millisecond))
	}
	phase("questions")
	load.Progress(10)
	phase("the mount goes on")
	// A brick that dies is started again, and so is the daemon.
	old := survivor.KillBrick("w", 0)
	Eventually(t, "the brick is back", func() error {
		if b := survivor.Status("w")[0]; !b.Online || b.PID == old {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
	phase("a brick started without a majority")
	survivor.Kill()
	survivor.Start()
	phase("the daemon started without a majority")
	load.Progress(10)
	third := c.Mount(0, "w")
	if _, err := os.ReadDir(third); err != nil {
		t.Error(err)
	}
	if err := readable(files[survivor]); err != nil {
		t.Error(err)
	}

	phase("a mount without a majority")
	survivor.Must("cluster", "recover", "--yes")
	phase("cluster recover")
	survivor.Must("volume", "set", "w", "network.timeout", "8")
	load.Progress(10)
	load.Finish(15 * time.Second)
	survivor.Must("volume", "stop", "w")
	Eventually(t, "the mounts see the volume stopped", func() error {
		for _, m := range []string{other, third} {
			if err := writeSynced(filepath.Join(m, "x"), nil); err == nil {
				return errors.New("a file was written")
			}
		}
		return nil
	})
	survivor.Must("volume", "start", "w")
	for _, m := range []string{other, third} {
		Eventually(t, "the mounts go on", func() error { return writeSynced(filepath.Join(m, "y"), nil) })
	}

	phase("changes reach mounts")
	for _, s := range c.Servers[1:] {
		s.PowerOn()
		s.AwaitAnswer()
	}
	c.AwaitPool(c.Servers...)
	same(t, c.Servers...)
	for _, s := range c.Servers[1:] {
		s.Must("volume", "set", "w", "network.timeout", "9")
		s.AwaitOnline("v")
		Eventually(t, "the files of "+s.Name, func() error { return readable(files[s]) })
	}
	phase("the others are back")
	// The mount of v had heard of changes that are now lost; it hears of new ones all the same.
	moveBricks(t, c, survivor, "v")
	for _, s := range c.Servers {
		Eventually(t, "the files of "+s.Name+" where they are now", func() error { return readable(files[s]) })
	}
	phase("and what they knew is no obstacle")
}

// A connection that is lost in one direction only, or between two servers of
// three, stops nothing for long.
func TestOddCuts(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	c.Volume("v", 1)
	c.Volume("w", 1, c.Servers[2])
	dir := c.Mount(0, "v")
	load := StartLoad(t, c.Mount(0, "w"))
	value := 10
	change := func(what string, s *Server) {
		t.Helper()
		value++
		begin := time.Now()
		EventuallyIn(t, 20*time.Second, what+": "+s.Name+" can change things", func() error {
			if r := s.Run("volume", "set", "v", "network.timeout", fmt.Sprint(value)); r.Code != 0 {
				return errors.New(r.Out + r.Err)
			}
			return nil
		})
		t.Logf("%s: %s changed something after %v", what, s.Name, time.Since(begin).Round(time.Millisecond))
	}
	for i, s := range c.Servers {
		next, last := c.Servers[(i+1)%3], c.Servers[(i+2)%3]
		c.CutOneWay(s.Machine, next.Machine)
		change("one way "+s.Name+" to "+next.Name, last)
		load.Progress(2)
		c.Restore()
	}
	c.Cut(c.Servers[0].Machine, c.Servers[1].Machine)
	change("1 and 2 cut", c.Servers[2])
	c.Restore()
	for _, s := range c.Servers {
		change("restored", s)
	}
	c.AwaitPool(c.Servers...)
	load.Finish(10 * time.Second)
	// Bricks that had to do with each other over what was cut do so again.
	Eventually(t, "the volume on all three works", func() error {
		for i := range 20 {
			if err := writeSynced(filepath.Join(dir, fmt.Sprint(i)), []byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
}
