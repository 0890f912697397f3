package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is one daemon with its bricks.
type Server struct {
	t    testing.TB
	Dir  string // everything lies below it
	Addr string // HOST:PORT of the daemon
	Host string
	cmd  *exec.Cmd
	done chan struct{} // closed when the daemon has been waited for
}

// NewServer starts a daemon on 127.0.0.1 and a free port.
func NewServer(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	host, _, _ := net.SplitHostPort(addr)
	dir, err := os.MkdirTemp("/var/tmp", "mortar-test-")
	if err != nil {
		t.Fatal(err)
	}
	// Mounts lie below it, and tests look at them as other users too.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Dir: dir, Addr: addr, Host: host}
	t.Cleanup(s.cleanUp)
	s.Start()
	return s
}

// Socket is the daemon's Unix socket.
func (s *Server) Socket() string { return filepath.Join(s.Dir, "mortar.sock") }

// StateDir is the daemon's state directory.
func (s *Server) StateDir() string { return filepath.Join(s.Dir, "state") }

// Start starts the daemon and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.Dir, "daemon.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(Binary(s.t), "daemon", "--state-dir", s.StateDir(), "--listen", s.Addr,
		"--socket", s.Socket(), "--pid-file", filepath.Join(s.Dir, "pid"), "--log-file", filepath.Join(s.Dir, "daemon.log"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func() {
		defer close(done)
		s.cmd.Wait()
	}()
	Eventually(s.t, "daemon answers", func() error {
		if r := s.Run("volume", "list"); r.Code != 0 {
			return fmt.Errorf("%s%s", r.Out, r.Err)
		}
		return nil
	})
}

// Signal sends the daemon a signal and waits until it is gone.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(Deadline):
		s.t.Errorf("daemon still there after signal %v", sig)
		s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// Run runs a command line against the daemon.
func (s *Server) Run(args ...string) Result {
	s.t.Helper()
	return Command(s.t, []string{"MORTAR_SOCKET=" + s.Socket()}, append([]string{"--mode=script"}, args...)...)
}

// Must is Run of what has to succeed; it returns what was printed.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	r := s.Run(args...)
	if r.Code != 0 {
		s.t.Fatalf("mortar %s: exit %d\n%s%s", strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Bricks makes n brick directories and returns them as HOST:/PATH.
func (s *Server) Bricks(volume string, n int) []string {
	s.t.Helper()
	var bricks []string
	for i := range n {
		dir := filepath.Join(s.Dir, "bricks", volume, strconv.Itoa(i+1))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
		bricks = append(bricks, s.Host+":"+dir)
	}
	return bricks
}

// Volume creates and starts a distributed volume of n bricks.
func (s *Server) Volume(name string, n int) {
	s.t.Helper()
	s.VolumeOn(name, s.Bricks(name, n)...)
}

// VolumeOn creates and starts a volume of these bricks.
func (s *Server) VolumeOn(name string, bricks ...string) {
	s.t.Helper()
	s.Must(append(append([]string{"volume", "create", name}, bricks...), "force")...)
	s.Must("volume", "start", name)
}

// Brick is what `volume status --json` tells of a brick.
type Brick struct {
	Name   string
	Online bool
	Port   int
	PID    int
}

// Status returns the bricks of a started volume.
func (s *Server) Status(name string) []Brick {
	s.t.Helper()
	var all struct{ Volumes []struct{ Bricks []Brick } }
	out := s.Must("--json", "volume", "status", name)
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Volumes) != 1 {
		s.t.Fatalf("volume status --json: %v\n%s", err, out)
	}
	return all.Volumes[0].Bricks
}

// KillBrick kills brick i (from 0) of a volume with SIGKILL and returns its process ID.
func (s *Server) KillBrick(name string, i int) int {
	s.t.Helper()
	pid := s.Status(name)[i].PID
	if pid <= 0 {
		s.t.Fatalf("brick %d of %s does not run", i, name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// cleanUp stops everything that has to do with s.Dir and removes it.
func (s *Server) cleanUp() {
	if s.t.Failed() {
		s.printLogs()
	}
	s.unmountAll()
	if s.cmd != nil {
		s.Signal(syscall.SIGTERM)
	}
	s.killAll()
	os.RemoveAll(s.Dir)
}

// printLogs shows the end of each log.
func (s *Server) printLogs() {
	filepath.Walk(s.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			if err == nil && info.Name() == "bricks" || err == nil && info.Name() == "etcd" {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".log") || strings.HasSuffix(path, ".out") {
			b, _ := os.ReadFile(path)
			if len(b) > 4000 {
				b = b[len(b)-4000:]
			}
			s.t.Logf("--- %s\n%s", path, b)
		}
		return nil
	})
}

// unmountAll unmounts, lazily, every mount below s.Dir.
func (s *Server) unmountAll() {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1], s.Dir+"/") {
			syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}

// killAll kills every process that names s.Dir in its command line, and waits until none does.
func (s *Server) killAll() {
	Eventually(s.t, "processes of "+s.Dir+" are gone", func() error {
		left := 0
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, c := range dirs {
			b, err := os.ReadFile(c)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(c)))
			if err == nil && pid != os.Getpid() && strings.Contains(string(b), s.Dir+"/") {
				syscall.Kill(pid, syscall.SIGKILL)
				left++
			}
		}
		if left > 0 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
}
