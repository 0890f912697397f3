package manage

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// refusesToRun checks that a daemon ends at once with a sentence that has the text.
func refusesToRun(t *testing.T, cfg Config, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	err := comes(t, "the end of a daemon that has to refuse: "+text, done)
	if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the daemon ended with: %v\nwant: %s", err, text)
	}
}

func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	st, stop := s.run(s.config())
	same := s.config()
	refusesToRun(t, same, fmt.Sprintf("another daemon (process %d) uses the state directory %s", os.Getpid(), s.state))
	other := s.config()
	other.StateDir = filepath.Join(s.dir, "other")
	refusesToRun(t, other, "another daemon answers on the socket "+s.socket)
	other.Socket += "2"
	other.Listen = st.Listen
	refusesToRun(t, other, "can't listen on "+st.Listen+": address already in use")
	s.dial()
	stop()
	if _, err := os.Lstat(s.socket); !os.IsNotExist(err) {
		t.Errorf("the socket after the end: %v", err)
	}
}

func TestStateDirRefused(t *testing.T) {
	t.Parallel()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t)
	cfg := s.config()
	cfg.StateDir = filepath.Join(s.dir, "no", "such")
	refusesToRun(t, cfg, "no such file or directory")
	cfg.StateDir = filepath.Join(s.dir, "foreign")
	write(filepath.Join(cfg.StateDir, "glusterd.info"), "UUID=…")
	refusesToRun(t, cfg, "is not a state directory of Mortar: it holds \"glusterd.info\"")
	for text, want := range map[string]string{
		"": "damaged or not Mortar's", `{"format":"mortar-st`: "damaged or not Mortar's", "hello": "damaged or not Mortar's",
		`{"format":"mortar-state","v":1,"id":"x"}`:                                    "damaged or not Mortar's",
		`{"format":"mortar-state","v":2,"id":"00000000-0000-4000-8000-000000000000"}`: "has the format version 2, this release knows 1",
		strings.Repeat("x", identityMax+1):                                            "is not Mortar's",
	} {
		cfg.StateDir = filepath.Join(t.TempDir(), "state")
		write(filepath.Join(cfg.StateDir, "identity"), text)
		refusesToRun(t, cfg, want)
	}
}

// damage puts the store of a stopped daemon through f and expects the next start to refuse it.
func TestStoreDamaged(t *testing.T) {
	t.Parallel()
	find := func(t *testing.T, dir, pattern string) string {
		t.Helper()
		m, err := filepath.Glob(filepath.Join(dir, "etcd", "*", "member", pattern))
		if err != nil || len(m) == 0 {
			t.Fatalf("%s: %v %v", pattern, m, err)
		}
		return m[0]
	}
	fill := func(t *testing.T, path string, off int64, n int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte(strings.Repeat("\xa5", n)), off); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"database overwritten": func(t *testing.T, dir string) { fill(t, find(t, dir, "snap/db"), 0, 16384) },
		"database cut": func(t *testing.T, dir string) {
			if err := os.Truncate(find(t, dir, "snap/db"), 5000); err != nil {
				t.Fatal(err)
			}
		},
		"log overwritten": func(t *testing.T, dir string) { fill(t, find(t, dir, "wal/0000000000000000-*.wal"), 64, 4096) },
		"log gone":        func(t *testing.T, dir string) { os.Remove(find(t, dir, "wal/0000000000000000-*.wal")) },
		"another's": func(t *testing.T, dir string) {
			if err := writeIdentity(dir, newUUID()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			_, stop := s.run(s.config())
			stop()
			damage(t, s.state)
			refusesToRun(t, s.config(), "the configuration")
		})
	}
}

// Until the store is there the daemon says what is the matter.
func TestAnswersBeforeTheStore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config()
	cfg.patience = 300 * time.Millisecond
	held, let := make(chan struct{}), make(chan struct{})
	cfg.step = func(name string) {
		if name == "enroll" {
			close(held)
			<-let
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	comes(t, "the daemon enrolls", held)
	c := s.dial()
	st := must[api.Status](t)(c.Status(ctx))
	if !strings.Contains(st.Store, "is being opened") || st.PID != os.Getpid() {
		t.Errorf("status %+v", st)
	}
	_, err := c.VolumeInfo(ctx, api.VolumeRequest{})
	refused(t, err, api.ErrGeneric, "The configuration store is being opened; try again in a moment.")
	close(let)
	eventually(t, "the store is open", func() bool {
		_, err := c.VolumeInfo(ctx, api.VolumeRequest{})
		return err == nil
	})
	cancel()
	if err := comes(t, "the daemon's end", done); err != nil {
		t.Error(err)
	}
}

// Several daemons share a machine, each on a loopback address of its own.
func TestManyDaemons(t *testing.T) {
	t.Parallel()
	var conns []*api.Conn
	for i := range 3 {
		s := newSite(t)
		cfg := s.config()
		cfg.Listen = fmt.Sprintf("127.0.0.%d:0", 11+i)
		st, _ := s.run(cfg)
		c := must[*api.Conn](t)(api.Dial(t.Context(), "127.0.0.250:1,"+st.Listen)) // the first does not answer
		t.Cleanup(func() { c.Close() })
		conns = append(conns, c)
		brick := fmt.Sprintf("127.0.0.%d:%s/b", 11+i, s.dir)
		must[api.Volume](t)(c.VolumeCreate(t.Context(), api.CreateRequest{Name: "v", Bricks: []string{brick}}))
		must[api.Volume](t)(c.VolumeStart(t.Context(), api.VolumeRequest{Name: "v"}))
		m := must[*spec.Map](t)(api.FetchMap(t.Context(), []string{c.Target()}, "v"))
		if host, _, _ := net.SplitHostPort(m.Sets[0].Members[0].Addr); host != fmt.Sprintf("127.0.0.%d", 11+i) {
			t.Errorf("the brick listens on %s", host)
		}
	}
	for _, c := range conns {
		if l := must[[]api.Volume](t)(c.VolumeInfo(t.Context(), api.VolumeRequest{})); len(l) != 1 {
			t.Errorf("volumes %+v", l)
		}
		err := c.AttachBrick(t.Context(), api.BrickHello{Volume: "v"}, func(*spec.Map) error { return nil })
		refused(t, err, api.ErrGeneric, "Brick processes register on the daemon's Unix socket.")
	}
}

func TestPidFileSocketAndMetrics(t *testing.T) {
	s := newSite(t)
	cfg := s.config()
	cfg.PidFile = filepath.Join(s.dir, "pid")
	_, stop := s.run(cfg)
	if b, err := os.ReadFile(cfg.PidFile); err != nil || string(b) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("pid file %q %v", b, err)
	}
	if st, err := os.Stat(s.socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v %v", st.Mode(), err)
	}
	h := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(s.state, "debug.sock"))
	}, DisableKeepAlives: true}}
	r, err := h.Get("http://mortar/metrics")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %v %v", r, err)
	}
	r.Body.Close()
	stop()
	if _, err := os.Stat(cfg.PidFile); !os.IsNotExist(err) {
		t.Errorf("the pid file after the end: %v", err)
	}
}

// What sixty volumes cost; with -short, twenty.
func TestManyVolumes(t *testing.T) {
	s := newSite(t)
	d := s.spawn(daemonSetup{})
	c, ctx := s.dial(), t.Context()
	volumes := 60 // the bounds are those of the pool of servers
	if testing.Short() {
		volumes = 20
	}
	for i := range volumes {
		name := fmt.Sprintf("v%02d", i)
		must[api.Volume](t)(c.VolumeCreate(ctx, api.CreateRequest{Name: name, Bricks: s.bricks(3, name+"-")}))
	}
	begin := time.Now()
	l := must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{}))
	if took := time.Since(begin); len(l) != volumes || took > patient(200*time.Millisecond) {
		t.Errorf("%d volumes in %v", len(l), took)
	} else {
		t.Logf("info of %d volumes: %v", volumes, took)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	kib := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "RssAnon:") {
			t.Log(strings.TrimSpace(line))
		}
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &kib)
	}
	if kib == 0 || kib > 120<<10 && !underRace {
		t.Errorf("the daemon has %d KiB in memory", kib)
	}
	d.kill()
	begin = time.Now()
	s.spawn(daemonSetup{})
	c = s.dial()
	must[[]api.Volume](t)(c.VolumeInfo(ctx, api.VolumeRequest{}))
	if took := time.Since(begin); took > patient(2*time.Second) {
		t.Errorf("killed, started and answering after %v", took)
	} else {
		t.Logf("killed, started and answering after %v", took)
	}
}
