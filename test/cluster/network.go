package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A network is a switch (a bridge in a namespace of its own) with a cable (a
// veth pair) to each machine. The machine that the test runs on sees nothing of
// it, so that any number of them live side by side with the same addresses, and
// the kernel removes it when the test's process has gone and nothing runs in it.
//
//	machine 1: eth0 10.24.0.1 ── v1 ┐
//	machine 2: eth0 10.24.0.2 ── v2 ┤ br0    namespace of the switch
//	machine 9: eth0 10.24.0.9 ── v9 ┘
//
// A cut is a lie in the neighbour table of the machine that sends: what it sends
// goes to an Ethernet address that nobody has. Nothing is refused, connections
// that exist are cut as new ones are, and the other direction is not touched.
// A cable is pulled at the switch, so that the machine's interface stays up.
type network struct {
	t  testing.TB
	sw *os.File // the namespace of the switch

	mu struct {
		sync.Mutex
		cables map[string]*cable // by the machine's name
	}
}

// cable is what a machine hangs on.
type cable struct {
	pulled bool   // by a test
	off    bool   // because the machine is off
	relay  *relay // nil: straight to the switch
}

// nobody is the Ethernet address that no machine has.
const nobody = "02:00:00:00:00:00"

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{t: t, sw: newNamespace(t)}
	n.mu.cables = map[string]*cable{}
	t.Cleanup(n.close)
	n.ip(n.sw, "link add br0 type bridge", "link set br0 up")
	return n
}

// newNamespace makes a network namespace; it lives while the file is open or a process is in it.
func newNamespace(t testing.TB) *os.File {
	t.Helper()
	var ns *os.File
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as in within
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace (needs root): %w", err)
			return
		}
		var err error
		ns, err = os.Open("/proc/thread-self/ns/net")
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// ip runs ip(8) in a namespace; each command is a line of its batch.
func (n *network) ip(ns *os.File, commands ...string) {
	n.t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := within(ns, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		n.t.Fatalf("ip %s: %v\n%s", strings.Join(commands, "; "), err, out.String())
	}
}

// machine plugs in a new machine with the last byte of its address.
func (n *network) machine(dir, name string, host int) *Machine {
	n.t.Helper()
	m := &Machine{t: n.t, Name: name, IP: fmt.Sprintf("10.24.0.%d", host), Dir: filepath.Join(dir, name), port: fmt.Sprint("v", host)}
	if err := os.Mkdir(m.Dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	m.ns = newNamespace(n.t)
	n.ip(n.sw, fmt.Sprintf("link add %s type veth peer name eth0 netns /proc/%d/fd/%d", m.port, os.Getpid(), m.ns.Fd()),
		"link set "+m.port+" up", "link set "+m.port+" master br0")
	n.ip(m.ns, "link set lo up", fmt.Sprintf("link set eth0 address 02:00:00:00:01:%02x", host), "link set eth0 up",
		"addr add "+m.IP+"/24 dev eth0")
	return m
}

// cut drops, silently, what from sends to to.
func (n *network) cut(from, to *Machine) {
	n.t.Helper()
	n.ip(from.ns, "neigh replace "+to.IP+" lladdr "+nobody+" dev eth0 nud permanent")
}

// restore mends what from sends to all others.
func (n *network) restore(from *Machine) {
	n.t.Helper()
	n.ip(from.ns, "neigh flush dev eth0 nud permanent")
}

// pull takes the cable of m out of the switch, or puts it back.
func (n *network) pull(m *Machine, out bool) {
	n.t.Helper()
	n.change(m, func(c *cable) { c.pulled = out })
}

// power does the same for a machine that goes off or on.
func (n *network) power(m *Machine, on bool) {
	n.t.Helper()
	n.change(m, func(c *cable) { c.off = !on })
}

// delay makes each packet to and from m arrive d later; zero takes that back.
func (n *network) delay(m *Machine, d time.Duration) {
	n.t.Helper()
	n.change(m, func(c *cable) {
		in, out := m.port+"in", m.port+"out"
		switch {
		case c.relay != nil && d > 0:
			c.relay.wait.Store(int64(d))
		case c.relay != nil:
			c.relay.close()
			c.relay = nil
			n.ip(n.sw, "link del "+in)
		case d > 0:
			n.ip(n.sw, "link set "+m.port+" nomaster", "link add "+in+" type veth peer name "+out, "link set "+in+" up", "link set "+out+" up")
			c.relay = newRelay(n.t, n.sw, m.port, in, d)
		}
	})
}

// change changes the cable of m and connects it, or the far end of its relay, as it then should be.
func (n *network) change(m *Machine, how func(c *cable)) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.mu.cables[m.Name]
	if c == nil {
		c = &cable{}
		n.mu.cables[m.Name] = c
	}
	how(c)
	port, where := m.port, "master br0"
	if c.relay != nil {
		port += "out"
	}
	if c.pulled || c.off {
		where = "nomaster"
	}
	n.ip(n.sw, "link set "+port+" "+where)
}

// close ends the relays; what is left goes with the namespaces.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.mu.cables {
		if c.relay != nil {
			c.relay.close()
		}
	}
}
