package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Replicated creates and starts a volume of sets of as many members as there
// are servers, one on each, and waits until every set has a primary and all its members in sync.
func (c *Cluster) Replicated(name string, sets int, servers ...*Server) {
	c.t.Helper()
	if len(servers) == 0 {
		servers = c.Servers
	}
	words := []string{"volume", "create", name, "replica", strconv.Itoa(len(servers))}
	var bricks [][]string
	for _, s := range servers {
		bricks = append(bricks, s.Bricks(name, sets))
	}
	for i := range sets {
		for _, b := range bricks {
			words = append(words, b[i])
		}
	}
	s := servers[0]
	s.Must(append(words, "force")...)
	s.Must("volume", "start", name)
	c.AwaitInSync(name)
}

// Member is what `volume status --json` tells of a brick in a set of several.
type Member struct {
	Brick
	Set   int
	Role  string // primary, in sync, out of sync
	Epoch uint64
}

// Primary reports whether the member serves its set.
func (m Member) Primary() bool { return m.Role == "primary" }

// Members returns the bricks of a volume as s sees them; unlike Status it fails
// nobody, since daemons come and go in the tests that ask.
func (s *Server) Members(name string) ([]Member, error) {
	s.t.Helper()
	var all struct{ Volumes []struct{ Bricks []Member } }
	r := s.Run("--json", "volume", "status", name)
	err := json.Unmarshal([]byte(r.Out), &all)
	if r.Code != 0 || err != nil || len(all.Volumes) != 1 {
		return nil, fmt.Errorf("%s: volume status --json: exit %d\n%s%s", s.Name, r.Code, r.Out, r.Err)
	}
	return all.Volumes[0].Bricks, nil
}

// Members asks the servers one by one until one whose daemon runs answers.
func (c *Cluster) Members(name string) ([]Member, error) {
	err := errors.New("no daemon runs")
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		var m []Member
		if m, err = s.Members(name); err == nil {
			return m, nil
		}
	}
	return nil, err
}

// On returns the server that a member is on.
func (c *Cluster) On(m Member) *Server {
	c.t.Helper()
	for _, s := range c.Servers {
		if strings.HasPrefix(m.Path, s.Dir+"/") {
			return s
		}
	}
	c.t.Fatalf("no server has %s", m.Path)
	return nil
}

// AwaitPrimary waits until a set's primary is known and runs, and returns it.
func (c *Cluster) AwaitPrimary(name string, set int) Member {
	c.t.Helper()
	var primary Member
	Eventually(c.t, fmt.Sprintf("set %d of %s has a primary", set, name), func() error {
		members, err := c.Members(name)
		for _, m := range members {
			if m.Set == set && m.Primary() && m.PID > 0 {
				primary = m
				return nil
			}
		}
		return errors.Join(fmt.Errorf("%+v", members), err)
	})
	return primary
}

// Heal is what `volume heal --json` tells of a brick.
type Heal struct {
	Brick
	Set         int
	Role, State string
	Connected   bool
	Known       bool
	Pending     uint64
	Entries     []string
	HealedFiles uint64 `json:"healed_files"`
	HealedBytes uint64 `json:"healed_bytes"`
	LastError   string `json:"last_error"`
}

// Heals returns how far the bricks of a volume are.
func (s *Server) Heals(name string) ([]Heal, error) {
	s.t.Helper()
	r := s.Run("--json", "volume", "heal", name, "info")
	var answer struct{ Bricks []Heal }
	if err := json.Unmarshal([]byte(r.Out), &answer); r.Code != 0 || err != nil {
		return nil, fmt.Errorf("%s: volume heal info --json: exit %d, %v\n%s%s", s.Name, r.Code, err, r.Out, r.Err)
	}
	return answer.Bricks, nil
}

// healDeadline bounds the wait for members that come back.
const healDeadline = 2 * time.Minute

// AwaitInSync waits until all members of a volume's sets are in sync, nothing
// is left to heal and nobody heals.
func (c *Cluster) AwaitInSync(name string) {
	c.t.Helper()
	EventuallyIn(c.t, healDeadline, "all members of "+name+" are in sync", func() error { return c.inSync(name) })
}

func (c *Cluster) inSync(name string) error {
	heals, err := c.Servers[0].Heals(name)
	if err != nil {
		return err
	}
	primaries, sets := map[int]bool{}, map[int]bool{}
	for _, h := range heals {
		sets[h.Set] = true
		if h.Role == "primary" {
			primaries[h.Set] = true
		}
		// The primary heals nobody else, and of itself it tells nothing.
		if h.Role == "out of sync" || !h.Connected || h.Pending > 0 || h.State != "" && h.State != "in sync" {
			return fmt.Errorf("%+v", heals)
		}
	}
	if len(sets) == 0 || len(primaries) != len(sets) {
		return fmt.Errorf("%d sets have a primary: %+v", len(primaries), heals)
	}
	return nil
}

// signal sends a member's process a signal, if it still is that process.
func (c *Cluster) signal(m Member, sig syscall.Signal) bool {
	if m.PID <= 0 || !strings.Contains(commandLine(m.PID), m.Path) {
		return false
	}
	return syscall.Kill(m.PID, sig) == nil
}

// bricksOf returns the brick directories of a volume, by set.
func (c *Cluster) bricksOf(name string) map[int][]string {
	c.t.Helper()
	members, err := c.Members(name)
	if err != nil {
		c.t.Fatal(err)
	}
	sets := map[int][]string{}
	for _, m := range members {
		sets[m.Set] = append(sets[m.Set], filepath.Clean(m.Path))
	}
	return sets
}

// commandLine is that of a process, "" if there is none.
func commandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(b)
}
