package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A server that is dead for good is removed by force; should it come back after
// all, it finds that out and does no harm; it, or a new machine of its name, can
// be taken in again.
func TestDeadServerRemoved(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	a, b, dead := c.Servers[0], c.Servers[1], c.Servers[2]
	c.Volume("v", 1, a, b)
	c.Volume("w", 1, a, dead)
	load := StartLoad(t, c.Mount(0, "v"))
	dead.PowerOff()
	a.Refused([]string{"peer", "detach", dead.Name, "force"}, dead.Name, "hosts one or more bricks")
	a.Must("volume", "stop", "w", "force")
	a.Must("volume", "delete", "w")
	awaitDisconnected(t, a, dead)
	a.Refused([]string{"peer", "detach", dead.Name}, "probably down")
	b.Must("peer", "detach", dead.Name, "force")
	c.AwaitPool(a, b)
	b.Must("volume", "set", "v", "network.timeout", "11")

	// It comes back.
	dead.PowerOn()
	dead.AwaitAnswer()
	Eventually(t, "it finds itself removed", func() error {
		peers, err := dead.Peers()
		if list := dead.Run("volume", "list"); err != nil || len(peers) > 0 || strings.Contains(list.Out, "v") {
			return fmt.Errorf("peers %v, %v; volumes %s%s", peers, err, list.Out, list.Err)
		}
		return nil
	})
	c.AwaitPool(a, b)
	a.Must("peer", "probe", dead.Name)
	c.AwaitPool(a, b, dead)

	// It dies again, and a new machine gets its name.
	dead.PowerOff()
	Eventually(t, "it is detached by force", func() error {
		if r := a.Run("peer", "detach", dead.Name, "force"); r.Code != 0 {
			return errors.New(r.Out + r.Err)
		}
		return nil
	})
	dead.WipeState()
	dead.PowerOn()
	dead.AwaitAnswer()
	a.Must("peer", "probe", dead.Name)
	c.AwaitPool(a, b, dead)
	dead.Must("volume", "set", "v", "network.timeout", "12")
	load.Finish(10 * time.Second)
}

// awaitDisconnected waits until s shows another server as disconnected.
func awaitDisconnected(t *testing.T, s, other *Server) {
	t.Helper()
	Eventually(t, other.Name+" is shown as disconnected", func() error {
		peers, err := s.Peers()
		for _, p := range peers {
			if p.Host == other.Name && p.Connected {
				err = fmt.Errorf("%+v", p)
			}
		}
		return err
	})
}

// Three of four servers vote. When a voter stays away the fourth takes its
// place, so that another one may be lost then.
func TestVoterReplaced(t *testing.T) {
	t.Parallel()
	c := New(t, 4)
	c.Pool()
	voters := func() (n []*Server, err error) {
		now, err := c.Servers[0].Standing()
		for i, s := range now.Servers { // in order of joining
			if s.Role == "voter" && i < len(c.Servers) {
				n = append(n, c.Servers[i])
			}
		}
		return n, err
	}
	settled := func(without *Server) {
		t.Helper()
		EventuallyIn(t, 90*time.Second, "three voters", func() error {
			v, err := voters()
			if err != nil || len(v) != 3 {
				return fmt.Errorf("%d voters, %v", len(v), err)
			}
			for _, s := range v {
				if s == without {
					return fmt.Errorf("%s still votes", s.Name)
				}
			}
			return nil
		})
	}
	v, err := voters()
	if err != nil {
		t.Fatal(err)
	}
	gone := v[1]
	if gone == c.Servers[0] {
		gone = v[2]
	}
	gone.PowerOff()
	begin := time.Now()
	settled(gone)
	t.Logf("replaced after %v", time.Since(begin).Round(time.Millisecond))
	if v, err = voters(); err != nil {
		t.Fatal(err)
	}
	second := v[2]
	second.PowerOff()
	EventuallyIn(t, 20*time.Second, "two of four can change things", func() error {
		if r := c.Servers[0].Run("volume", "set", "all", "cluster.max-voters", "3"); r.Code != 0 {
			return errors.New(r.Out + r.Err)
		}
		return nil
	})
	gone.PowerOn()
	second.PowerOn()
	gone.AwaitAnswer()
	second.AwaitAnswer()
	c.AwaitPool(c.Servers...)
}

// The configuration is written to a file, all state directories are lost, and
// the file brings it back, the bricks' files included.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	a := c.Servers[0]
	c.Volume("v", 1)
	a.Must("volume", "set", "v", "network.timeout", "3")
	dir := c.Mount(0, "v")
	files := spread(c, dir, "v", 3, c.Servers...)
	info := a.Must("volume", "info")
	file := filepath.Join(c.Dir, "backup.json")
	c.Servers[2].Must("cluster", "backup", file)
	if out := a.Must("cluster", "backup", "-"); !json.Valid([]byte(out)) {
		t.Errorf("the backup on standard output is no JSON:\n%s", out)
	}
	a.Refused([]string{"cluster", "restore", file}, "volume")
	// What the mount and the bricks hear from now on is not in the backup.
	for i := range 20 {
		a.Must("volume", "set", "v", "cluster.min-free-disk", fmt.Sprintf("%d%%", 1+i))
	}

	for _, s := range c.Servers {
		s.PowerOff()
	}
	a.WipeState()
	a.PowerOn()
	a.AwaitAnswer()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"cut off": whole[:len(whole)/2], "empty": nil, "foreign": []byte(`{"some": "thing"}`),
		"changed": []byte(strings.Replace(string(whole), "network.timeout", "network.timeour", 1)),
	} {
		bad := filepath.Join(c.Dir, "bad.json")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(what, func(t *testing.T) { c.In(t).Servers[0].Refused([]string{"cluster", "restore", bad}, "backup") })
	}
	a.Refused([]string{"cluster", "restore", file + ".none"}, "no such file")
	a.Must("cluster", "restore", file)
	if got := a.Must("volume", "info"); got != info {
		t.Errorf("restored:\n%s\nwas\n%s", got, info)
	}
	// The others still have their state directories, of the cluster as it was.
	for _, s := range c.Servers[1:] {
		s.PowerOn()
		s.AwaitAnswer()
	}
	c.AwaitPool(c.Servers...)
	for _, s := range c.Servers {
		s.AwaitOnline("v")
		s.Must("volume", "set", "v", "network.timeout", "4")
	}
	again := c.Mount(1, "v")
	for _, s := range c.Servers {
		for _, path := range files[s] {
			if b, err := os.ReadFile(filepath.Join(again, filepath.Base(path))); err != nil || string(b) != path {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
		// The mount that was there all the time goes on, too.
		Eventually(t, "files of "+s.Name, func() error { return readable(files[s]) })
	}
	moveBricks(t, c, a, "v")
	for _, s := range c.Servers {
		Eventually(t, "files of "+s.Name+" where they are now", func() error { return readable(files[s]) })
	}
}

// moveBricks has all bricks of a volume serve on other ports than before, so that
// only who hears of newer maps finds them; s does it.
func moveBricks(t *testing.T, c *Cluster, s *Server, volume string) {
	t.Helper()
	before := s.AwaitOnline(volume)
	s.Must("volume", "stop", volume)
	for _, b := range before {
		for _, host := range c.Servers {
			if host.Name != b.Host {
				continue
			}
			var l net.Listener
			if err := host.do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprint(":", b.Port)); return err }); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
	}
	s.Must("volume", "start", volume)
	for i, b := range s.AwaitOnline(volume) {
		if b.Port == before[i].Port {
			t.Fatalf("%s is on the port %d that was taken from it", b.Name, b.Port)
		}
	}
}
