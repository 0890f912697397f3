package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Cluster is some servers and a client on a network of their own.
type Cluster struct {
	t       testing.TB
	Dir     string
	Servers []*Server
	Client  *Machine
	net     *network
}

// DaemonPort is where the daemons of a Cluster's servers listen: the default.
const DaemonPort = 24100

// clientHost is the last byte of the client's address.
const clientHost = 200

// New makes a cluster of n servers and starts their daemons, which do not know each other yet.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	c := NewStopped(t, n)
	for _, s := range c.Servers {
		s.Launch()
	}
	for _, s := range c.Servers {
		s.AwaitAnswer()
	}
	return c
}

// NewStopped makes a cluster whose daemons are still to be started.
func NewStopped(t testing.TB, n int) *Cluster {
	t.Helper()
	Binary(t)
	c := &Cluster{t: t, Dir: claim(t)}
	c.net = newNetwork(t)
	t.Cleanup(func() {
		if t.Failed() {
			printLogs(t, c.Dir)
		}
	})
	for i := range n {
		m := c.net.machine(c.Dir, fmt.Sprint("server", i+1), i+1)
		c.Servers = append(c.Servers, &Server{Machine: m, t: t, Addr: fmt.Sprintf("%s:%d", m.Name, DaemonPort), Host: m.Name,
			daemon: &daemon{}, net: c.net})
	}
	c.Client = c.net.machine(c.Dir, "client", clientHost)
	for _, m := range c.machines() {
		m.Hosts(c.HostsLines()...)
	}
	return c
}

// Guest makes a machine that shares a server's network namespace, as a container may, so that its mounts reach the server's bricks
// as those of the server itself do. What runs there is not killed with the server.
func (c *Cluster) Guest(i int) *Machine {
	c.t.Helper()
	host := c.Servers[i].Machine
	g := &Machine{t: c.t, Name: host.Name + "-guest", IP: host.IP, Dir: filepath.Join(c.Dir, host.Name+"-guest"), ns: host.ns}
	if err := os.Mkdir(g.Dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	g.Hosts(c.HostsLines()...)
	return g
}

// HostsLines is what is in each machine's /etc/hosts.
func (c *Cluster) HostsLines() []string {
	lines := []string{"127.0.0.1 localhost"}
	for _, m := range c.machines() {
		lines = append(lines, m.IP+" "+m.Name)
	}
	return lines
}

func (c *Cluster) machines() []*Machine {
	var all []*Machine
	for _, s := range c.Servers {
		all = append(all, s.Machine)
	}
	return append(all, c.Client)
}

// In returns the same cluster for use by another test, a subtest as a rule: what
// fails fails that one.
func (c *Cluster) In(t testing.TB) *Cluster {
	d := *c
	client := *c.Client
	d.t, d.Servers, d.Client = t, nil, &client
	client.t = t
	for _, s := range c.Servers {
		m, v := *s.Machine, *s
		m.t, v.t, v.Machine = t, t, &m
		d.Servers = append(d.Servers, &v)
	}
	return &d
}

// Pool makes a pool of all servers: server 1 probes the others. It returns when
// each server sees each other one connected, and those vote that are to vote.
func (c *Cluster) Pool() {
	c.t.Helper()
	for _, s := range c.Servers[1:] {
		c.Servers[0].Must("peer", "probe", s.Name)
	}
	c.AwaitPool(c.Servers...)
	for _, s := range c.Servers {
		c.AwaitVoters(s)
	}
}

// Standing is what `cluster status --json` tells of the store.
type Standing struct {
	Quorum     bool
	Voters     int
	Answering  int
	Trouble    string
	Revision   int64
	Controller string
	Servers    []struct {
		ID, Host, Role, Wanted string
		Answers, Leader, Self  bool
	}
}

// Standing returns how the store fares, as s sees it.
func (s *Server) Standing() (Standing, error) {
	s.t.Helper()
	r := s.Run("--json", "cluster", "status")
	var answer Standing
	if err := json.Unmarshal([]byte(r.Out), &answer); r.Code != 0 || err != nil {
		return answer, fmt.Errorf("cluster status: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	return answer, nil
}

// AwaitKept waits until each server has on its disk, as its last known view, what
// it shows now: it is written a moment after the change.
func (c *Cluster) AwaitKept() {
	c.t.Helper()
	for _, s := range c.Servers {
		Eventually(c.t, s.Name+" keeps what it knows", func() error {
			now, err := s.Standing()
			if err != nil {
				return err
			}
			var kept struct{ Revision int64 }
			b, err := os.ReadFile(filepath.Join(s.StateDir(), "view.json"))
			if err == nil {
				err = json.Unmarshal(b, &kept)
			}
			if err == nil && kept.Revision < now.Revision {
				err = fmt.Errorf("revision %d, is %d", kept.Revision, now.Revision)
			}
			return err
		})
	}
}

// AwaitVoters waits until, as s sees it, as many vote as should with so many
// servers (one of one or two, three from three on), all answer, and nobody's role is about to change.
func (c *Cluster) AwaitVoters(s *Server) {
	c.t.Helper()
	Eventually(c.t, s.Name+" sees the voters", func() error {
		now, err := s.Standing()
		want := 1
		if len(now.Servers) > 2 {
			want = 3
		}
		if err != nil || !now.Quorum || now.Voters != want || now.Answering != want {
			return fmt.Errorf("%+v, %w", now, err)
		}
		for _, v := range now.Servers {
			if v.Wanted != "" && v.Wanted != v.Role {
				return fmt.Errorf("%+v", now)
			}
		}
		return nil
	})
}

// AwaitPool waits until each of these servers sees exactly the others of them as its peers, connected.
func (c *Cluster) AwaitPool(servers ...*Server) {
	c.t.Helper()
	for _, s := range servers {
		Eventually(c.t, s.Name+" sees its peers", func() error {
			peers, err := s.Peers()
			if err != nil {
				return err
			}
			connected := 0
			for _, p := range peers {
				if p.Connected {
					connected++
				}
			}
			if len(peers) != len(servers)-1 || connected != len(peers) {
				return fmt.Errorf("%+v, want %d", peers, len(servers)-1)
			}
			return nil
		})
	}
}

// Peer is what `peer status --json` tells of another server.
type Peer struct {
	ID        string
	Host      string
	Connected bool
}

// Peers returns the other servers of s's pool.
func (s *Server) Peers() ([]Peer, error) {
	s.t.Helper()
	r := s.Run("--json", "peer", "status")
	var answer struct{ Peers []Peer }
	if err := json.Unmarshal([]byte(r.Out), &answer); r.Code != 0 || err != nil {
		return nil, fmt.Errorf("peer status: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	return answer.Peers, nil
}

// Bricks makes n brick directories on each of the servers, all if none is named.
func (c *Cluster) Bricks(volume string, n int, servers ...*Server) []string {
	c.t.Helper()
	if len(servers) == 0 {
		servers = c.Servers
	}
	var bricks []string
	for _, s := range servers {
		bricks = append(bricks, s.Bricks(volume, n)...)
	}
	return bricks
}

// Volume creates and starts a distributed volume of n bricks on each server.
func (c *Cluster) Volume(name string, n int, servers ...*Server) {
	c.t.Helper()
	c.Servers[0].VolumeOn(name, c.Bricks(name, n, servers...)...)
}

// Mount mounts a volume on the client by the name of server i (from 0).
func (c *Cluster) Mount(i int, volume string, options ...string) string {
	c.t.Helper()
	return c.Client.Mount(c.Servers[i].Name+":/"+volume, options...)
}

// Phases logs how long the parts of a test take: each call names the part that
// ends there.
func Phases(t testing.TB) func(what string) {
	begin := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
		begin = time.Now()
	}
}

// Cut drops, silently, all that goes between two machines.
func (c *Cluster) Cut(a, b *Machine) {
	c.t.Helper()
	c.CutOneWay(a, b)
	c.CutOneWay(b, a)
}

// CutOneWay drops, silently, what from sends to to.
func (c *Cluster) CutOneWay(from, to *Machine) { c.t.Helper(); c.net.cut(from, to) }

// Isolate cuts a server off from all others; its own processes still reach each other.
func (c *Cluster) Isolate(m *Machine) { c.t.Helper(); c.net.pull(m, true) }

// Restore takes back all cuts and isolations, but for servers that are off.
func (c *Cluster) Restore() {
	c.t.Helper()
	for _, m := range c.machines() {
		c.net.restore(m)
		c.net.pull(m, false)
	}
}

// Delay makes each packet to and from a machine arrive d later; zero takes that back.
func (c *Cluster) Delay(m *Machine, d time.Duration) { c.t.Helper(); c.net.delay(m, d) }

// PowerOff takes all processes of the server away, without a word to anybody:
// its cable is pulled first. What it has written survives, synced or not.
func (s *Server) PowerOff() {
	s.t.Helper()
	if s.net != nil {
		s.net.power(s.Machine, false)
	}
	if err := killAll(s.Dir); err != nil {
		s.t.Fatal(err)
	}
	if s.reboots() {
		s.Reboots()
	}
	if s.daemon.cmd != nil {
		<-s.daemon.done
		*s.daemon = daemon{}
	}
}

// Boot brings the server's network back, and starts nothing.
func (s *Server) Boot() {
	s.t.Helper()
	if s.net != nil {
		s.net.power(s.Machine, true)
	}
}

// PowerOn boots the server and launches its daemon.
func (s *Server) PowerOn(flags ...string) {
	s.t.Helper()
	s.Boot()
	s.Launch(flags...)
}

// WipeState removes all that the daemon remembers; the daemon must not run.
func (s *Server) WipeState() {
	s.t.Helper()
	if s.Running() {
		s.t.Fatalf("%s: its daemon runs", s.Name)
	}
	if err := os.RemoveAll(s.StateDir()); err != nil {
		s.t.Fatal(err)
	}
}

// WipeBricks removes the brick directories of a volume, and makes empty ones.
func (s *Server) WipeBricks(volume string) {
	s.t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(s.Dir, "bricks", volume, "*"))
	for _, d := range dirs {
		err := os.RemoveAll(d)
		if err == nil {
			err = os.Mkdir(d, 0o755)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// BrickDir is the directory of brick i (from 0) of those that Bricks made.
func (s *Server) BrickDir(volume string, i int) string {
	return filepath.Join(s.Dir, "bricks", volume, fmt.Sprint(i+1))
}

// AwaitOnline waits until s says that all bricks of a volume are online.
func (s *Server) AwaitOnline(volume string) []Brick {
	s.t.Helper()
	var bricks []Brick
	Eventually(s.t, volume+" is online", func() error {
		bricks = s.Status(volume)
		for _, b := range bricks {
			if !b.Online {
				return fmt.Errorf("%+v", b)
			}
		}
		return nil
	})
	return bricks
}

// Log returns all that the daemon has logged.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "daemon.log"))
	return string(b)
}
