package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// talker is a UDP socket of a machine.
type talker struct {
	*net.UDPConn
	t  *testing.T
	at *net.UDPAddr
}

func newTalker(t *testing.T, m *Machine) talker {
	t.Helper()
	at := &net.UDPAddr{IP: net.ParseIP(m.IP), Port: 7}
	var c *net.UDPConn
	if err := m.do(func() (err error) { c, err = net.ListenUDP("udp4", at); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return talker{c, t, at}
}

func (a talker) say(b talker, word string) {
	a.t.Helper()
	if _, err := a.WriteTo([]byte(word), b.at); err != nil {
		a.t.Fatal(err)
	}
}

// hears fails unless word is the next thing that arrives.
func (a talker) hears(word string) {
	a.t.Helper()
	a.SetReadDeadline(time.Now().Add(Deadline))
	b := make([]byte, 100)
	n, err := a.Read(b)
	if err != nil || string(b[:n]) != word {
		a.t.Errorf("%v heard %q, %v; want %q", a.at, b[:n], err, word)
	}
}

// What is cut is lost, in that direction only, and what is restored arrives again.
func TestCut(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 3)
	a, b, third := newTalker(t, c.Servers[0].Machine), newTalker(t, c.Servers[1].Machine), newTalker(t, c.Servers[2].Machine)
	hello := func(x, y talker) { t.Helper(); x.say(y, "hello"); y.hears("hello") }
	hello(a, b)
	hello(b, a)

	c.CutOneWay(c.Servers[0].Machine, c.Servers[1].Machine)
	a.say(b, "lost")
	hello(b, a)
	hello(a, third)
	hello(third, b)
	c.Restore()
	hello(a, b) // and not "lost"

	c.Cut(c.Servers[0].Machine, c.Servers[1].Machine)
	a.say(b, "lost")
	b.say(a, "lost")
	hello(a, third)
	hello(third, a)
	c.Restore()
	hello(a, b)
	hello(b, a)

	c.Isolate(c.Servers[0].Machine)
	a.say(b, "lost")
	third.say(a, "lost")
	hello(b, third)
	hello(a, a)
	c.Restore()
	hello(a, b)
	hello(third, a)

	c.Delay(c.Servers[0].Machine, 50*time.Millisecond)
	begin := time.Now()
	hello(a, b)
	hello(b, a)
	if took := time.Since(begin); took < 100*time.Millisecond || took > 5*time.Second {
		t.Errorf("there and back took %v, want 100 ms", took)
	}
	c.Isolate(c.Servers[0].Machine)
	a.say(b, "lost")
	b.SetReadDeadline(time.Now().Add(150 * time.Millisecond)) // by when it would be there
	if n, err := b.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes from a slow server that is isolated", n)
	}
	c.Restore()
	hello(a, b)
	c.Delay(c.Servers[0].Machine, 0)
	hello(a, b)
}

// A connection that is under way is cut like a new one, and a slow cable carries streams whole.
func TestCutStream(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 2)
	a, b := c.Servers[0].Machine, c.Servers[1].Machine
	var l net.Listener
	if err := b.do(func() (err error) { l, err = net.Listen("tcp4", b.IP+":7"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var out, in net.Conn
	if err := a.do(func() (err error) { out, err = net.Dial("tcp4", b.IP+":7"); return err }); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()

	c.Cut(a, b)
	if _, err := out.Write([]byte("x")); err != nil {
		t.Errorf("a cut is silent, not %v", err)
	}
	in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes through a cut, %v", n, err)
	}
	c.Restore()
	c.Delay(b, 5*time.Millisecond)
	data := []byte(strings.Repeat("0123456789abcdef", 1<<16))
	sent := make(chan error, 1)
	go func() { _, err := out.Write(data); sent <- err }()
	got := make([]byte, 1+len(data))
	in.SetReadDeadline(time.Now().Add(Deadline))
	for n := 0; n < len(got); {
		k, err := in.Read(got[n:])
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		n += k
	}
	if err := <-sent; err != nil || string(got) != "x"+string(data) {
		t.Errorf("the stream is not what was sent: %v", err)
	}
}

// Each machine has its own name and knows the others'.
func TestNames(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 2)
	for _, s := range c.Servers {
		if r := s.Exec(nil, "hostname"); strings.TrimSpace(r.Out) != s.Name {
			t.Errorf("%s calls itself %s", s.Name, r.Out)
		}
		if r := s.Exec(nil, "getent", "hosts", "server2"); !strings.HasPrefix(r.Out, c.Servers[1].IP+" ") {
			t.Errorf("%s: server2 is %s%s", s.Name, r.Out, r.Err)
		}
	}
	if here, _ := os.Hostname(); strings.HasPrefix(here, "server") {
		t.Errorf("this machine is now called %s", here)
	}
}

// A server is started, killed, powered off and on; a volume on it is mounted by a client.
func TestPower(t *testing.T) {
	t.Parallel()
	c := New(t, 1)
	s := c.Servers[0]
	s.Volume("v", 2)
	dir := c.Mount(0, "v")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Error(err)
		}
	}
	write("one")
	before := processes(s.Dir)
	s.PowerOff()
	if left := processes(s.Dir); len(before) != 3 || len(left) != 0 {
		t.Errorf("%d processes, %d after power off; want 3, 0", len(before), len(left))
	}
	s.PowerOn()
	s.AwaitAnswer()
	s.AwaitOnline("v")
	Eventually(t, "the mount goes on", func() error {
		_, err := os.ReadFile(filepath.Join(dir, "one"))
		return err
	})
	write("two")
	c.Client.Unmount(dir)
}

// A machine does not keep others' mounts from ending.
func TestLetGo(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 1)
	dir, err := os.MkdirTemp(filepath.Dir(dirPattern), "mortar-other-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if r := s.TryMount(s.Addr+":/v", dir); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	seen := func(r Result) bool { return strings.Contains(r.Out, " "+dir+" fuse.mortar ") }
	if r := s.Exec(nil, "cat", "/proc/self/mounts"); !seen(r) {
		t.Errorf("%s is not mounted:\n%s", dir, r.Out)
	}
	c := NewStopped(t, 1)
	if r := c.Servers[0].Exec(nil, "cat", "/proc/self/mounts"); seen(r) {
		t.Errorf("a machine has %s:\n%s", dir, r.Out)
	}
	s.Unmount(dir)
}

// sabotage says how the child of TestNothingLeft comes to its end.
const sabotage = "MORTAR_TEST_SABOTAGE"

// However a test ends, nothing is left of what it started.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	if how := os.Getenv(sabotage); how != "" {
		end(t, how)
		return
	}
	for _, how := range []string{"pass", "fail", "panic", "kill", "kill both"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe, "-test.run", "^TestNothingLeft$", "-test.v")
			cmd.Env = append(os.Environ(), sabotage+"="+how, "MORTAR_BINARY="+Binary(t))
			out, err := cmd.CombinedOutput()
			if (err == nil) != (how == "pass") {
				t.Fatalf("%v\n%s", err, out)
			}
			dir, _, found := strings.Cut(string(out[max(0, strings.Index(string(out), "DIR=")):]), " ")
			dir = strings.TrimPrefix(dir, "DIR=")
			if !found || dir == "" {
				t.Fatalf("it got nowhere:\n%s", out)
			}
			if how == "kill both" {
				// Who has just been started has no command line yet: exec closes
				// the pipe that its parent waits at before it lays out the arguments.
				Eventually(t, "there is something to sweep", func() error {
					if p, m := processes(dir), mountsBelow(dir); len(p) < 4 || len(m) < 2 {
						return fmt.Errorf("of %s are left processes %v and mounts %v", dir, p, m)
					}
					return nil
				})
				if err := sweep(); err != nil {
					t.Fatal(err)
				}
			}
			gone := func() error {
				_, err := os.Stat(dir)
				if p, m := processes(dir), mountsBelow(dir); len(p) > 0 || len(m) > 0 || !os.IsNotExist(err) {
					return fmt.Errorf("of %s are left processes %v, mounts %v (%v)", dir, p, m, err)
				}
				return nil
			}
			if how == "kill" || how == "panic" { // the reaper is just at work
				Eventually(t, "all is gone", gone)
			} else if err := gone(); err != nil {
				t.Error(err)
			}
		})
	}
}

// end starts this and that and ends as told.
func end(t *testing.T, how string) {
	c := New(t, 1)
	c.Servers[0].Volume("v", 1)
	dir := c.Mount(0, "v")
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Servers[0].Pause()
	sleeper := c.Client.command(t.Context(), "sleep", "1000")
	if err := c.Client.start(sleeper); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("DIR=%s \n", c.Dir)
	switch how {
	case "fail":
		t.Fatal("as wanted")
	case "panic":
		panic("as wanted")
	case "kill both":
		syscall.Kill(reaper.Process.Pid, syscall.SIGKILL)
		reaper.Wait()
		fallthrough
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}
