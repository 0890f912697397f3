package cluster

import (
	"context"
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

// Server is a machine with a daemon and bricks.
type Server struct {
	*Machine
	t    testing.TB
	Addr string // HOST:PORT of the daemon
	Host string // as in HOST:/BRICK

	// What Launch starts: another program than Binary, with more in its environment.
	Program string
	Env     []string

	listen string // what the daemon is told to listen on; empty: its default
	daemon *daemon
	net    *network // nil: that of the machine that the test runs on
}

// daemon is the process, nil if there is none.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
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
	dir := claim(t)
	m := &Machine{t: t, Name: "localhost", IP: "127.0.0.1", Dir: dir}
	s := &Server{Machine: m, t: t, Addr: addr, Host: "127.0.0.1", listen: addr, daemon: &daemon{}}
	t.Cleanup(s.cleanUp)
	s.Start()
	return s
}

// Socket is the daemon's Unix socket.
func (s *Server) Socket() string {
	if s.installed {
		return filepath.Join(s.Dir, "run", s.Name+".sock")
	}
	return filepath.Join(s.Dir, "mortar.sock")
}

// StateDir is the daemon's state directory.
func (s *Server) StateDir() string {
	if s.installed {
		return filepath.Join(s.Dir, "lib", "mortar")
	}
	return filepath.Join(s.Dir, "state")
}

// Start starts the daemon and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.AwaitAnswer()
}

// Launch starts the daemon and waits for nothing. Flags are added to the usual ones.
func (s *Server) Launch(flags ...string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.Dir, "daemon.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	args := []string{"daemon", "--state-dir", s.StateDir(), "--socket", s.Socket(),
		"--pid-file", filepath.Join(s.Dir, "pid"), "--log-file", filepath.Join(s.Dir, "daemon.log")}
	if s.listen != "" {
		args = append(args, "--listen", s.listen)
	}
	program := s.Program
	if program == "" {
		program = Binary(s.t)
	}
	cmd := s.command(context.Background(), program, append(args, flags...)...)
	cmd.Env = append(cmd.Env, s.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.start(cmd); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	*s.daemon = daemon{cmd, done}
	go func() {
		defer close(done)
		cmd.Wait()
	}()
}

// AwaitAnswer waits until the daemon answers.
func (s *Server) AwaitAnswer() {
	s.t.Helper()
	Eventually(s.t, s.Name+": daemon answers", func() error {
		select {
		case <-s.daemon.done:
			out, _ := os.ReadFile(filepath.Join(s.Dir, "daemon.out"))
			s.t.Fatalf("%s: the daemon has ended: %v\n%s", s.Name, s.daemon.cmd.ProcessState, tail(out))
		default:
		}
		if r := s.Run("volume", "list"); r.Code != 0 {
			return fmt.Errorf("%s%s", r.Out, r.Err)
		}
		return nil
	})
}

// AwaitEnd waits until the daemon, started by Launch, has ended by itself, and
// returns its exit code and what it said.
func (s *Server) AwaitEnd() (code int, said string) {
	s.t.Helper()
	select {
	case <-s.daemon.done:
	case <-time.After(Deadline):
		s.Kill()
		s.t.Fatalf("%s: the daemon ran on", s.Name)
	}
	out, _ := os.ReadFile(filepath.Join(s.Dir, "daemon.out"))
	code = s.daemon.cmd.ProcessState.ExitCode()
	*s.daemon = daemon{}
	return code, string(out)
}

// Running tells whether the daemon's process is there.
func (s *Server) Running() bool {
	if s.daemon.cmd == nil {
		return false
	}
	select {
	case <-s.daemon.done:
		return false
	default:
		return true
	}
}

// PID returns the daemon's process ID.
func (s *Server) PID() int { return s.daemon.cmd.Process.Pid }

// Stop ends the daemon as systemd would; its bricks go on.
func (s *Server) Stop() {
	s.t.Helper()
	cmd := s.daemon.cmd
	s.Signal(syscall.SIGTERM)
	if cmd != nil && cmd.ProcessState.ExitCode() != 0 {
		s.t.Errorf("%s: told to end, the daemon ended with %v", s.Name, cmd.ProcessState)
	}
}

// Kill kills the daemon; its bricks go on.
func (s *Server) Kill() { s.t.Helper(); s.Signal(syscall.SIGKILL) }

// Signal sends the daemon a signal and waits until it is gone.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if s.daemon.cmd == nil {
		return
	}
	s.daemon.cmd.Process.Signal(sig)
	select {
	case <-s.daemon.done:
	case <-time.After(Deadline):
		s.t.Errorf("%s: daemon still there after signal %v", s.Name, sig)
		s.daemon.cmd.Process.Kill()
		<-s.daemon.done
	}
	*s.daemon = daemon{}
}

// Pause stops the daemon's process where it is: it answers nothing, and its
// connections stay. Continue lets it go on.
func (s *Server) Pause()    { s.daemon.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *Server) Continue() { s.daemon.cmd.Process.Signal(syscall.SIGCONT) }

// Run runs a command line against the daemon.
func (s *Server) Run(args ...string) Result {
	s.t.Helper()
	return Command(s.t, []string{"MORTAR_SOCKET=" + s.Socket()}, append([]string{"--mode=script"}, args...)...)
}

// Timed is Run that also says how long it took.
func (s *Server) Timed(args ...string) (Result, time.Duration) {
	s.t.Helper()
	begin := time.Now()
	r := s.Run(args...)
	return r, time.Since(begin)
}

// Must is Run of what has to succeed; it returns what was printed.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	r := s.Run(args...)
	if r.Code != 0 {
		s.t.Fatalf("%s: mortar %s: exit %d\n%s%s", s.Name, strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Refused is Run of what has to fail with one sentence that contains each of
// parts, case aside; it returns what was printed.
func (s *Server) Refused(args []string, parts ...string) string {
	s.t.Helper()
	r := s.Run(args...)
	said := strings.TrimSpace(r.Out + r.Err)
	line := fmt.Sprintf("%s: mortar %s: exit %d:\n%s", s.Name, strings.Join(args, " "), r.Code, said)
	if r.Code == 0 {
		s.t.Errorf("%s\nwant it refused", line)
	}
	for _, p := range parts {
		if !strings.Contains(strings.ToLower(said), strings.ToLower(p)) {
			s.t.Errorf("%s\nlacks %q", line, p)
		}
	}
	if n := strings.Count(said, "\n"); n > 1 {
		s.t.Errorf("%s\nwant one sentence", line)
	}
	return said
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
	Host   string
	Path   string
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

// cleanUp ends the daemon as a user would; the rest is cleared away with the directory.
func (s *Server) cleanUp() {
	if s.t.Failed() {
		printLogs(s.t, s.Dir)
	}
	if s.daemon.cmd != nil {
		s.Continue()
		s.Signal(syscall.SIGTERM)
	}
}

// logsVariable is a directory: whole logs of failed tests are put there.
const logsVariable = "MORTAR_LOGS"

// printLogs shows the end of each log below dir.
func printLogs(t testing.TB, dir string) {
	keepLogs(dir)
	eachLog(dir, func(path string, b []byte) {
		if strings.HasSuffix(path, ".out") { // a panic says at its beginning what it is
			b = b[:min(len(b), 4000)]
		}
		t.Logf("--- %s\n%s", path, tail(b))
	})
}

// keepLogs copies the logs below dir to where logsVariable says, if it does.
func keepLogs(dir string) {
	to := os.Getenv(logsVariable)
	if to == "" {
		return
	}
	eachLog(dir, func(path string, b []byte) {
		os.WriteFile(filepath.Join(to, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-")), b, 0o644)
	})
}

func eachLog(dir string, f func(path string, b []byte)) {
	filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		switch {
		case err != nil:
		case info.IsDir():
			if n := info.Name(); n == "mnt" || n == "etcd" || n == "bricks" && filepath.Base(filepath.Dir(path)) != "log" {
				return filepath.SkipDir
			}
		case strings.HasSuffix(path, ".log") || strings.HasSuffix(path, ".out"):
			b, _ := os.ReadFile(path)
			f(path, b)
		}
		return nil
	})
}

// tail returns the end of a long text.
func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
