package manage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// The test's executable is also the brick process ("brick" as first argument)
// and a daemon in a process of its own ("daemon"), to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "brick":
			os.Exit(fakeBrick(os.Args[2:]))
		case "daemon":
			os.Exit(daemonProcess(os.Args[2]))
		}
	}
	flag.Parse()
	// Most of a test is waiting: more of them at once than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fakeBrick registers as a brick does. What PATH.ctl says makes it behave badly:
// "fail" (a sentence and exit 1), "mute" (never registers), "stubborn" (ignores SIGTERM).
func fakeBrick(args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	ctl, _ := os.ReadFile(flags["--path"] + ".ctl")
	if string(ctl) == "fail" {
		fmt.Fprintln(os.Stderr, "starting")
		fmt.Fprintln(os.Stderr, "the disk has gone fishing")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if string(ctl) == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
		ctx = context.Background()
	}
	if string(ctl) == "mute" {
		<-ctx.Done()
		return 0
	}
	l, err := net.Listen("tcp", flags["--listen"])
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(flags["--listen"])
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	hello := api.BrickHello{
		Volume: flags["--volume"], Brick: flags["--brick"],
		PID: os.Getpid(), Port: l.Addr().(*net.TCPAddr).Port, Life: rand.Text(),
	}
	if err := api.KeepAttached(ctx, flags["--daemon"], hello, func(*spec.Map) {}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// process is how a daemon in a process of its own is set up.
type daemonSetup struct {
	Dir, StateDir, Socket, Listen, Log string
	StepsTo                            string // each step's name is appended to this file
	KillAt                             int    // the n-th step, from 1, is a kill -9; 0: none
	KillStep                           string // the first step of this name is one
}

func daemonProcess(arg string) int {
	var s daemonSetup
	if err := json.Unmarshal([]byte(arg), &s); err != nil {
		panic(err)
	}
	root := uint64(0)
	exe, _ := os.Executable()
	cfg := Config{
		StateDir: s.StateDir, Socket: s.Socket, Listen: s.Listen, LogFile: s.Log,
		BrickCommand: []string{exe, "brick"}, rootDevice: &root,
		StartTimeout: 3 * time.Second, StopTimeout: 2 * time.Second,
	}
	if s.KillStep != "" {
		cfg.aliveTTL = 2 * time.Second
	}
	// b3 and b5 can't be made bricks: when the checks have been passed there is a file of that name.
	spoil := func(step string) {
		if step == "brick checked" {
			if _, err := os.Stat(filepath.Join(s.Dir, "b5 is to be spoiled")); err == nil {
				_ = os.WriteFile(filepath.Join(s.Dir, "b5"), nil, 0o600)
			}
		}
		if step == "create checked" {
			if _, err := os.Stat(filepath.Join(s.Dir, "b1")); err == nil {
				_ = os.WriteFile(filepath.Join(s.Dir, "b3"), nil, 0o600)
			}
		}
	}
	cfg.step = func(step string) {
		spoil(step)
		if step == s.KillStep {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if s.StepsTo != "" {
		var mu sync.Mutex
		f, err := os.OpenFile(s.StepsTo, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			panic(err)
		}
		n := 0
		cfg.step = func(name string) {
			mu.Lock()
			defer mu.Unlock()
			n++
			fmt.Fprintln(f, name)
			spoil(name)
			if n == s.KillAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// site is a place for a daemon and its bricks.
type site struct {
	t      *testing.T
	dir    string // brick directories
	state  string
	socket string
	addr   string // to listen on; "" 127.0.0.1, at any port

	// Of a site whose daemon runs in a pool:
	status api.Status
	conn   *api.Conn
	stop   func()
}

// memoryDir is a file system in memory. The daemons' stores write to the disk and wait for it with each change, which
// on a machine that is busy takes seconds; the tests that kill a daemon end its process, not the machine.
const memoryDir = "/dev/shm"

// roomy returns dir if it has 2 GiB for stores, else "".
func roomy(dir string) string {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil || int64(st.Bavail)*st.Bsize < 2<<30 {
		return ""
	}
	return dir
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	run, err := os.MkdirTemp("", "m") // a short path for sockets
	if err != nil {
		t.Fatal(err)
	}
	fast, err := os.MkdirTemp(roomy(memoryDir), "mortar-test")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, state: filepath.Join(fast, "state"), socket: filepath.Join(run, "s")}
	t.Cleanup(func() {
		defer os.RemoveAll(fast)
		for _, f := range findBricks(0) {
			if f.daemon == s.socket {
				_ = syscall.Kill(f.pid, syscall.SIGKILL)
				var st syscall.WaitStatus
				_, _ = syscall.Wait4(f.pid, &st, 0, nil)
			}
		}
		os.RemoveAll(run)
	})
	return s
}

func (s *site) config() Config {
	root := uint64(0)
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	listen := "127.0.0.1:0"
	if s.addr != "" {
		listen = s.addr
	}
	return Config{
		StateDir: s.state, Socket: s.socket, Listen: listen,
		BrickCommand: []string{exe, "brick"}, rootDevice: &root,
		Logger:       slog.New(slog.NewTextHandler(testWriter{s.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		StartTimeout: 3 * time.Second, StopTimeout: 2 * time.Second,
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// run runs a daemon in this process until stop is called or the test ends.
func (s *site) run(cfg Config) (status api.Status, stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan api.Status, 1), make(chan error, 1)
	cfg.Ready = func(st api.Status) { ready <- st }
	go func() { done <- Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err, _ := came(s.t, "the daemon's end", done); err != nil {
			s.t.Errorf("the daemon ended with: %v", err)
		}
	})
	select {
	case status = <-ready:
	case err := <-done:
		cancel()
		s.t.Fatalf("the daemon did not start: %v", err)
	case <-time.After(20 * time.Second):
		s.t.Fatal("the daemon does not get ready")
	}
	s.t.Cleanup(stop)
	return status, stop
}

// child is a daemon in a process of its own.
type child struct {
	process *os.Process
	died    chan struct{} // closed when it has ended
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.process.Kill() // it may have ended
	<-c.died             // nothing survives that signal
}

// spawn runs a daemon in a process of its own, which the test's end kills.
func (s *site) spawn(setup daemonSetup) *child {
	s.t.Helper()
	setup.Dir, setup.StateDir, setup.Socket, setup.Listen = s.dir, s.state, s.socket, s.config().Listen
	setup.Log = filepath.Join(s.dir, "daemon.log")
	arg, err := json.Marshal(setup)
	if err != nil {
		s.t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(exe, "daemon", string(arg))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := &child{cmd.Process, make(chan struct{})}
	go func() {
		defer close(c.died)
		_ = cmd.Wait() // "signal: killed"
	}()
	s.t.Cleanup(c.kill)
	return c
}

// dial connects to the site's daemon, which may be starting.
func (s *site) dial() *api.Conn {
	s.t.Helper()
	return s.dialUnless(nil)
}

// dialUnless is dial unless the daemon dies before it answers: nil.
func (s *site) dialUnless(died <-chan struct{}) *api.Conn {
	s.t.Helper()
	var c *api.Conn
	eventually(s.t, "the daemon answers", func() bool {
		select {
		case <-died:
			return true
		default:
		}
		var err error
		c, err = api.Dial(s.t.Context(), s.socket)
		return err == nil
	})
	if c != nil {
		s.t.Cleanup(func() { c.Close() })
	}
	return c
}

// bricks are names of n directories to be made.
func (s *site) bricks(n int, prefix string) []string {
	var out []string
	for i := range n {
		out = append(out, "localhost:"+filepath.Join(s.dir, fmt.Sprintf("%s%d", prefix, i+1)))
	}
	return out
}

// processes are the site's brick processes.
func (s *site) processes() []found {
	var out []found
	for _, f := range findBricks(0) {
		if f.daemon == s.socket {
			out = append(out, f)
		}
	}
	return out
}

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitMax)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitMax, what)
		}
		<-tick.C
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks that err is the daemon's refusal with exactly this sentence.
func refused(t *testing.T, err error, errno int, want string) {
	t.Helper()
	e, ok := err.(*api.Error)
	if !ok {
		t.Fatalf("error %v (%T), want %q", err, err, want)
	}
	if e.Message != want || e.Errno != errno {
		t.Errorf("error %d %q\nwant  %d %q", e.Errno, e.Message, errno, want)
	}
}
