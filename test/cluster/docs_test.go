package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A procedure is the blocks of commands below one heading of a page: lines
// "server1# COMMAND" between ```sh and ```.
type procedure [][]typed

type typed struct{ machine, command string }

var typedLine = regexp.MustCompile(`^(server\d+|client)# (.+)$`)

// procedures reads a page of docs/.
func procedures(t *testing.T, page string) map[string]procedure {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]procedure{}
	heading, inside := "", false
	var block []typed
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch m := typedLine.FindStringSubmatch(line); {
		case line == "```sh":
			inside, block = true, nil
		case line == "```" && inside:
			inside = false
			all[heading] = append(all[heading], block)
		case inside && m == nil:
			t.Errorf("%s, %s: nobody knows where this is typed: %s", page, heading, line)
		case inside:
			block = append(block, typed{m[1], m[2]})
		case strings.HasPrefix(line, "## "):
			heading = line[3:]
		}
	}
	return all
}

// What docs/operations.md says is followed to the letter, and leads where it says.
func TestOperations(t *testing.T) {
	t.Parallel()
	page := procedures(t, "operations.md")
	c := NewInstalled(t, 3)
	a, b, d := c.Servers[0], c.Servers[1], c.Servers[2]
	machines := map[string]*Machine{}
	for _, m := range c.machines() {
		machines[m.Name] = m
	}
	var output bytes.Buffer
	follow := func(heading string, i int) {
		t.Helper()
		if len(page[heading]) <= i {
			t.Fatalf("operations.md has no block %d below %q; it has %v", i+1, heading, headings(page))
		}
		begin := time.Now()
		output.Reset()
		for _, line := range page[heading][i] {
			began := time.Now()
			r := machines[line.machine].Sh(line.command)
			if took := time.Since(began); took > 2*time.Second {
				t.Logf("%v for %s# %s", took.Round(time.Millisecond), line.machine, line.command)
			}
			fmt.Fprintf(&output, "%s# %s\n%s%s", line.machine, line.command, r.Out, r.Err)
			if r.Code != 0 {
				t.Fatalf("%q: exit %d\n%s", heading, r.Code, tail(output.Bytes()))
			}
		}
		t.Logf("%s: %v", heading, time.Since(begin).Round(time.Millisecond))
		page[heading][i] = nil
	}
	says := func(what string) {
		t.Helper()
		if !strings.Contains(output.String(), what) {
			t.Errorf("nowhere was said %q:\n%s", what, output.String())
		}
	}

	follow("A cluster grows", 0)
	says("server3")
	store := filepath.Join(c.Client.Dir, "srv", "store")
	if err := writeSynced(filepath.Join(store, "it-works"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	load := StartLoad(t, store)
	load.Progress(10)
	follow("A rolling restart", 0)
	load.Progress(10)
	load.Finish(3 * time.Second)

	follow("Backup and restore of the configuration", 0)
	follow("Backup and restore of the configuration", 1)
	follow("Backup and restore of the configuration", 2)
	goesOn := func() {
		t.Helper()
		Eventually(t, "the mount goes on", func() error {
			for i := range 20 {
				if err := writeSynced(filepath.Join(store, fmt.Sprint("file", i)), []byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	goesOn()
	follow("Backup and restore of the configuration", 3)
	goesOn()
	load.Check(load.Dir())

	b.PowerOff()
	d.PowerOff()
	follow("A majority is lost", 0)
	says("Status: Started")
	b.Boot()
	follow("A majority is lost", 1)
	says("Volume Name: store")
	d.Boot()
	d.Sh("systemctl start mortar")
	c.AwaitPool(c.Servers...)
	c.AwaitVoters(a)
	goesOn()

	follow("A server gets another address", 0)
	b.readdress(c, 102)
	follow("A server gets another address", 1)
	c.AwaitPool(c.Servers...)
	goesOn()
	load.Check(load.Dir())

	onOthers := map[string][]byte{}
	for _, s := range []*Server{a, b} {
		brick := filepath.Join(s.Dir, "data/1/store")
		filepath.Walk(brick, func(path string, info os.FileInfo, err error) error {
			switch {
			case err != nil:
				t.Error(err)
			case info.Name() == ".mortar":
				return filepath.SkipDir
			case info.Mode().IsRegular() && info.Size() > 0:
				name, _ := filepath.Rel(brick, path)
				onOthers[name], _ = os.ReadFile(path)
			}
			return nil
		})
	}
	if r := c.Client.Sh("umount /srv/store"); r.Code != 0 {
		t.Fatal(r.Out, r.Err)
	}
	d.PowerOff()
	follow("A server dies for good", 0)
	if strings.Contains(output.String()[strings.LastIndex(output.String(), "# "):], "server3") {
		t.Errorf("server3 is still in the pool:\n%s", output.String())
	}
	saved := c.Mount(0, "saved")
	for name, want := range onOthers {
		if got, err := os.ReadFile(filepath.Join(saved, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s was not saved: %d bytes, %v", name, len(got), err)
		}
	}
	t.Logf("%d files saved", len(onOthers))
	for heading, blocks := range page {
		for i, block := range blocks {
			if block != nil {
				t.Errorf("operations.md, %q, block %d: followed by no test", heading, i+1)
			}
		}
	}
}

func headings(page map[string]procedure) (names []string) {
	for h := range page {
		names = append(names, h)
	}
	slices.Sort(names)
	return names
}

// readdress gives the server another address, and its name to that, everywhere.
func (s *Server) readdress(c *Cluster, host int) {
	s.t.Helper()
	old := s.IP
	s.IP = fmt.Sprintf("10.24.0.%d", host)
	s.net.ip(s.ns, "addr del "+old+"/24 dev eth0", "addr add "+s.IP+"/24 dev eth0")
	for _, m := range c.machines() {
		m.Hosts(c.HostsLines()...)
	}
}
