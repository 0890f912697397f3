package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// asCommand makes the test's binary the command mount.mortar.
const asCommand = "MORTAR_FUSE_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		os.Exit(m.Run())
	}
	p := Program{Version: "1.2.3", Connect: testConnect, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(p.Main(context.Background(), os.Args[1:]))
}

// testConnect knows the volumes good, slow, and die.
func testConnect(ctx context.Context, a MountArgs, log *slog.Logger) (volume.FS, error) {
	switch a.Volume {
	case "good":
		return model.New(), nil
	case "die":
		os.Exit(7)
	case "slow":
		<-ctx.Done()
		return nil, errors.New("given up")
	}
	return nil, fmt.Errorf("volume %s does not exist\nreally", a.Volume)
}

// command runs the command and returns what it wrote to standard output and
// error, and its exit code.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asCommand+"=1")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// mountProcess mounts an empty model, served by a process of its own, for the
// length of the test. A mapping that is read by the process that serves it would
// sooner or later stop that for good: the garbage collector waits for the reader,
// who waits for a page.
func mountProcess(t *testing.T, options string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mortar-fuse-")
	must(t, err)
	t.Cleanup(func() { os.Remove(dir) })
	log := filepath.Join(t.TempDir(), "log")
	if options != "" {
		options += ","
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error("unmount: ", err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("the mount's log:\n%s", b)
		} else {
			gone(t, dir, log)
		}
	})
	if _, errs, code := command(t, "h:/good", dir, "-o", options+"log-file="+log); code != 0 {
		t.Fatal(code, errs)
	}
	return dir
}

// gone waits until nothing is mounted on dir and the log tells the end.
func gone(t *testing.T, dir, log string) {
	t.Helper()
	eventually(t, "the mount's process ends", func() bool {
		b, _ := os.ReadFile(log)
		mounts, _ := mountsOn(dir)
		return len(mounts) == 0 && strings.Contains(string(b), "msg=unmounted")
	})
}

func TestCommand(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	link := filepath.Join(t.TempDir(), "a link")
	must(t, os.Symlink(dir, link))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	// As mount(8) calls it. The mount can be used when the command returns.
	out, errs, code := command(t, "[::1]:/good", link, "-v", "-o", "rw,noatime,log-file="+log)
	if code != 0 || errs != "" || !strings.Contains(out, "[::1]:/good on ") {
		t.Fatal(code, out, errs)
	}
	write(t, link+"/f", "x")
	mounts, err := mountsOn(dir)
	if err != nil || len(mounts) != 1 || mounts[0].source != "[::1]:/good" {
		t.Fatal(mounts, err)
	}
	if _, errs, code = command(t, "[::1]:/good", dir, "-o", "log-file="+log); code != 32 || errs != "mount: [::1]:/good is already mounted on "+dir+"\n" {
		t.Error(code, errs)
	}
	if _, errs, code = command(t, "[::1]:/good", dir, "-o", "remount,ro"); code != 0 {
		t.Error(code, errs)
	}
	wantErrno(t, os.WriteFile(dir+"/f", nil, 0), syscall.EROFS)
	must(t, unix.Unmount(dir, 0))
	gone(t, dir, log)
}

// TestCommandDead: a mount whose process was killed is recognised.
func TestCommandDead(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if _, errs, code := command(t, "h:/good", dir, "-o", "log-file="+log); code != 0 {
		t.Fatal(code, errs)
	}
	b, err := os.ReadFile(log)
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "pid=")
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "the mount is dead", func() bool { return errors.Is(unix.Stat(dir, &unix.Stat_t{}), syscall.ENOTCONN) })
	_, errs, code := command(t, "h:/good", dir, "-o", "log-file="+log)
	if want := "mount: mount point " + dir + ": the process that served it is gone; remove it first: umount -l " + dir + "\n"; code != 32 || errs != want {
		t.Error(code, errs)
	}
}

func TestCommandRefuses(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		line string
		code int
		part string
	}{
		{"", 1, "two arguments"},
		{"h:/good DIR -o strange", 1, `unknown mount option "strange"`},
		{"h:/good DIR/none", 32, "DIR/none does not exist"},
		{"h:/bad DIR -o log-file=LOG", 32, "volume bad does not exist; really"},
		{"h:/die DIR -o log-file=LOG", 32, "the mount's process died; see LOG"},
		{"h:/good/sub DIR -o log-file=LOG", 32, "sub of the volume: no such file"},
		{"h:/good DIR -o log-file=DIR/no/log", 32, "the log file can't be opened"},
		{"h:/good DIR -o remount,ro", 32, "no volume is mounted on DIR"},
		{"--help", 0, ""},
		{"-V", 0, ""},
		{"-f h:/bad DIR", 0, ""},
	} {
		r := strings.NewReplacer("DIR", dir, "LOG", log)
		_, errs, code := command(t, strings.Fields(r.Replace(c.line))...)
		if code != c.code || !strings.Contains(errs, r.Replace(c.part)) || strings.Count(errs, "\n") > 1 {
			t.Errorf("%s: exit %d, %q", c.line, code, errs)
		}
		if mounts, _ := mountsOn(dir); len(mounts) != 0 {
			t.Fatal(mounts)
		}
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestForeground: the end of the context unmounts, busy or not; and gives up a
// start that does not come to an end.
func TestForeground(t *testing.T) {
	for _, busy := range []bool{false, true} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var errs syncBuffer
		p := Program{Connect: testConnect, Stdout: &errs, Stderr: &errs}
		code := make(chan int, 1)
		go func() { code <- p.Main(ctx, []string{"h:/good", dir, "--foreground"}) }()
		// Not before: this process serves the mount, and must leave it alone until pollOnce is done.
		eventually(t, "mounted", func() bool { return strings.Contains(errs.String(), "msg=mounted") })
		var f *os.File
		if busy {
			f = open(t, dir+"/f", os.O_CREATE|os.O_RDWR)
		}
		cancel()
		eventually(t, "unmounted", func() bool { m, _ := mountsOn(dir); return len(m) == 0 })
		if busy {
			if _, err := f.WriteString("still served"); err != nil {
				t.Error(err)
			}
			f.Close()
		}
		select {
		case c := <-code:
			if c != 0 {
				t.Error(c, errs.String())
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no end")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	var errs bytes.Buffer
	p := Program{Connect: testConnect, Stdout: &errs, Stderr: &errs}
	if code := p.Main(ctx, []string{"h:/slow", t.TempDir(), "--foreground"}); code != 32 || errs.String() != "mount: given up\n" {
		t.Error(code, errs.String())
	}
}
