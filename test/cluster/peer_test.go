package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A pool grows from one server to five and shrinks to one again, while a mount
// writes that knows the first server only; every server answers for all at each size.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	c := New(t, 5)
	first := c.Servers[0]
	first.Volume("v", 1)
	load := StartLoad(t, c.Mount(0, "v"))
	size := 1
	resize := func(n int) {
		t.Helper()
		begin := time.Now()
		for ; size < n; size++ {
			// Whoever is in the pool may take in the next one.
			c.Servers[size-1].Must("peer", "probe", c.Servers[size].Name)
		}
		for ; size > n; size-- {
			first.Must("peer", "detach", c.Servers[size-1].Name)
		}
		c.AwaitPool(c.Servers[:n]...)
		for i, s := range c.Servers[:n] {
			s.Must("volume", "set", "v", "network.timeout", fmt.Sprint(10+n+i))
			want := s.Must("volume", "info")
			for _, other := range c.Servers[:n] {
				if got := other.Must("volume", "info"); got != want {
					t.Errorf("with %d servers, %s says\n%s\n%s says\n%s", n, other.Name, got, s.Name, want)
				}
			}
		}
		load.Progress(5)
		t.Logf("%d servers after %v", n, time.Since(begin).Round(time.Millisecond))
	}
	for _, n := range []int{2, 3, 5, 3, 2, 1} {
		resize(n)
	}
	for _, s := range c.Servers[1:] {
		Eventually(t, s.Name+" is alone", func() error {
			peers, err := s.Peers()
			if list := s.Run("volume", "list"); err != nil || len(peers) > 0 || strings.Contains(list.Out, "v") {
				return fmt.Errorf("peers %v, %v; volumes %s%s", peers, err, list.Out, list.Err)
			}
			return nil
		})
	}
	// Who has left may come back.
	c.Servers[1].Must("volume", "list")
	resize(3)
	load.Finish(10 * time.Second)
}

// Probing goes by either side's names and addresses, and twice does no harm.
func TestProbeNames(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 3)
	for _, s := range c.Servers {
		// Debian gives a machine's own name an address that only it can use.
		lines := append([]string{"127.0.1.1 " + s.Name}, c.HostsLines()...)
		for _, o := range c.Servers {
			lines = append(lines, fmt.Sprintf("%s %s.example.net %s-nfs", o.IP, o.Name, o.Name))
		}
		s.Hosts(lines...)
		s.Launch()
	}
	for _, s := range c.Servers {
		s.AwaitAnswer()
	}
	a, b, d := c.Servers[0], c.Servers[1], c.Servers[2]
	for _, self := range []string{"localhost", "127.0.0.1", a.Name, a.IP, "127.0.1.1"} {
		if r := a.Run("peer", "probe", self); r.Code != 0 || !strings.Contains(r.Out, "Probe on localhost not needed") {
			t.Errorf("probe of itself as %s: exit %d\n%s%s", self, r.Code, r.Out, r.Err)
		}
	}
	a.Must("peer", "probe", b.IP)
	for _, again := range []string{b.IP, b.Name, "server2.example.net", "server2-nfs"} {
		if r := a.Run("peer", "probe", again); r.Code != 0 || !strings.Contains(r.Out, "already in peer list") {
			t.Errorf("probe of a peer as %s: exit %d\n%s%s", again, r.Code, r.Out, r.Err)
		}
	}
	if r := b.Run("peer", "probe", a.Name); r.Code != 0 || !strings.Contains(r.Out, "already in peer list") {
		t.Errorf("probe from the other side: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	b.Must("peer", "probe", "server3.example.net")
	c.AwaitPool(a, b, d)
	// Bricks go by any name by which a server was ever probed.
	dir := d.Bricks("v", 2)
	a.VolumeOn("v", "server3.example.net:"+strings.TrimPrefix(dir[0], d.Host+":"), d.IP+":"+strings.TrimPrefix(dir[1], d.Host+":"))
	a.AwaitOnline("v")
	for _, gone := range []string{"server1", "localhost"} {
		a.Refused([]string{"peer", "detach", gone}, gone+" is localhost")
	}
	a.Refused([]string{"peer", "detach", "10.24.0.77"}, "10.24.0.77 is not part of cluster")
	a.Refused([]string{"peer", "detach", "server3.example.net"}, "Peer server3.example.net hosts one or more bricks")
	a.Must("volume", "stop", "v")
	a.Must("volume", "delete", "v")
	a.Must("peer", "detach", d.IP)
	a.Must("peer", "detach", "server2-nfs")
	c.AwaitPool(a)
}

// What can't be probed is refused with a sentence, in time, and changes nothing.
func TestProbeRefused(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 6)
	asker, member, other, volumes, silent, partner := c.Servers[0], c.Servers[1], c.Servers[2], c.Servers[3], c.Servers[4], c.Servers[5]
	for _, s := range c.Servers {
		s.Hosts(append(c.HostsLines(), "10.24.0.99 nobody")...)
		s.Launch()
	}
	for _, s := range c.Servers {
		s.AwaitAnswer()
	}
	asker.Must("peer", "probe", member.Name)
	other.Must("peer", "probe", partner.Name)
	volumes.Volume("v", 1)
	silent.Pause()
	before := asker.Must("pool", "list")
	for _, r := range []struct {
		name, host string
		says       []string
	}{
		{"in another cluster", other.Name, []string{other.Name, "part of another cluster"}},
		{"has volumes", volumes.Name, []string{volumes.Name, "volume"}},
		{"unknown name", "no-such-host", []string{"no-such-host", "not known"}},
		{"nobody at that address", "nobody", []string{"10.24.0.99"}},
		{"no daemon there", "client", []string{c.Client.IP, "mortar daemon"}},
		{"does not answer", silent.Name, []string{silent.IP}},
	} {
		t.Run(r.name, func(t *testing.T) {
			begin := time.Now()
			c.In(t).Servers[0].Refused([]string{"peer", "probe", r.host}, r.says...)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	for _, bad := range []string{"", "server2:/brick", "server2:99999", "a b", "-server2"} {
		if r := asker.Run("peer", "probe", bad); r.Code == 0 || !strings.Contains(r.Out+r.Err, bad) {
			t.Errorf("probe of %q: exit %d\n%s%s", bad, r.Code, r.Out, r.Err)
		}
	}
	silent.Continue()
	if after := asker.Must("pool", "list"); after != before {
		t.Errorf("the pool is\n%s\nwas\n%s", after, before)
	}
	if peers, err := silent.Peers(); err != nil || len(peers) != 0 {
		t.Errorf("%s has peers %v, %v", silent.Name, peers, err)
	}
	// A slow one is not a dead one.
	c.Delay(silent.Machine, 150*time.Millisecond)
	asker.Must("peer", "probe", silent.Name)
	c.AwaitPool(asker, member, silent)
	asker.Must("volume", "create", "w", asker.Bricks("w", 1)[0], silent.Bricks("w", 1)[0], "force")
	asker.Must("volume", "start", "w")
	asker.AwaitOnline("w")
	silent.Must("volume", "set", "w", "network.timeout", "12")
	if info := asker.Must("volume", "info", "w"); !strings.Contains(info, "network.timeout: 12") {
		t.Errorf("set on the slow one, not seen on the other:\n%s", info)
	}
}

// A mount that was given one server's name goes on, and learns of changes, when
// that server is gone; another one asks the servers named as backups.
func TestMountWithoutItsServer(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	c.Volume("v", 1, c.Servers[1], c.Servers[2])
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "2")
	dir := c.Mount(0, "v")
	load := StartLoad(t, dir)
	load.Progress(10)
	phase := Phases(t)
	c.Servers[0].PowerOff()
	load.Progress(10)
	// It learns of changes from the others: bricks that come back do so on other ports.
	c.Servers[1].Must("volume", "stop", "v")
	Eventually(t, "the mount sees the volume stopped", func() error {
		if _, err := filepath.Glob(filepath.Join(dir, "*")); err != nil {
			return err
		}
		if err := writeSynced(filepath.Join(dir, "probe"), nil); err == nil {
			return fmt.Errorf("a file was written")
		}
		return nil
	})
	phase("stopped elsewhere")
	failures, _ := load.Stop()
	if len(failures) == 0 {
		t.Errorf("nothing failed on a stopped volume")
	}
	c.Servers[2].Must("volume", "start", "v")
	Eventually(t, "the mount goes on", func() error { return writeSynced(filepath.Join(dir, "again"), []byte("x")) })
	if !t.Failed() {
		Eventually(t, "all bricks are reached", func() error {
			for _, path := range load.mu.written {
				if _, err := os.Stat(path); err != nil {
					return err
				}
			}
			return nil
		})
	}
	load.Check(load.Dir())
	phase("started elsewhere")

	dir = c.Mount(0, "v", "backup-volfile-servers="+c.Servers[1].Name+":"+c.Servers[2].Name)
	if err := writeSynced(filepath.Join(dir, "third"), []byte("x")); err != nil {
		t.Error(err)
	}
	phase("a mount by a backup server")
	point := c.Client.MountPoint("v")
	begin := time.Now()
	if r := c.Client.TryMount(c.Servers[0].Name+":/v", point); r.Code == 0 || !strings.Contains(r.Err+r.Out, c.Servers[0].Name) {
		t.Errorf("a mount with no server but the dead one: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	phase("a mount of a dead server alone")
}
