package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A state directory that is damaged or is not one at all is refused with one
// sentence that names it, and left as it is; the other servers go on, and with
// what was there before the server is back.
func TestBadStateDir(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	bad := c.Servers[2]
	c.Volume("v", 1)
	bad.Stop()
	keep := bad.StateDir() + ".good"
	cp := func(from, to string) {
		t.Helper()
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	// Sockets are no part of a copy.
	os.Remove(filepath.Join(bad.StateDir(), "debug.sock"))
	cp(bad.StateDir(), keep)
	inState := func(name string) string { return filepath.Join(bad.StateDir(), name) }
	overwrite := func(pattern string, how func(b []byte) []byte) func(t *testing.T) {
		return func(t *testing.T) {
			files := 0
			filepath.Walk(bad.StateDir(), func(path string, info os.FileInfo, err error) error {
				rel, _ := filepath.Rel(bad.StateDir(), path)
				if match, _ := filepath.Match(pattern, rel); err == nil && match && info.Mode().IsRegular() {
					b, err := os.ReadFile(path)
					if err == nil {
						err = os.WriteFile(path, how(b), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					files++
				}
				return nil
			})
			if files == 0 {
				t.Fatalf("no file %s in the state directory", pattern)
			}
		}
	}
	empty := func([]byte) []byte { return nil }
	half := func(b []byte) []byte { return b[:len(b)/2] }
	start := func(b []byte) []byte { return b[:min(len(b), 9000)] } // of the store: no more than its two heads
	noise := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(i * 7)
		}
		return b
	}
	newer := func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), `"v":1`, `"v":99`)) }
	for _, r := range []struct {
		name  string
		spoil func(t *testing.T)
		says  string
	}{
		{"identity empty", overwrite("identity", empty), "identity"},
		{"identity cut off", overwrite("identity", half), "identity"},
		{"identity of a newer form", overwrite("identity", newer), "99"},
		{"identity missing", func(t *testing.T) { os.Remove(inState("identity")) }, bad.StateDir()},
		{"something else's directory", func(t *testing.T) {
			os.RemoveAll(bad.StateDir())
			os.MkdirAll(inState("photos"), 0o755)
			os.WriteFile(inState("photos/1.jpg"), []byte("x"), 0o644)
		}, bad.StateDir()},
		{"a file", func(t *testing.T) {
			os.RemoveAll(bad.StateDir())
			os.WriteFile(bad.StateDir(), []byte("x"), 0o644)
		}, bad.StateDir()},
		{"store noise", overwrite("etcd/*/member/snap/db", noise), bad.StateDir()},
		{"store cut off", overwrite("etcd/*/member/snap/db", start), bad.StateDir()},
		{"store empty", overwrite("etcd/*/member/snap/db", empty), bad.StateDir()},
		{"log noise", overwrite("etcd/*/member/wal/*.wal", noise), bad.StateDir()},
		{"log empty", overwrite("etcd/*/member/wal/*.wal", empty), bad.StateDir()},
		{"store missing", func(t *testing.T) { os.RemoveAll(inState("etcd")) }, bad.StateDir()},
		{"role noise", overwrite("quorum.json", noise), "quorum.json"},
		{"role empty", overwrite("quorum.json", empty), "quorum.json"},
		{"role cut off", overwrite("quorum.json", half), "quorum.json"},
		{"role of a newer form", overwrite("quorum.json", newer), "99"},
	} {
		t.Run(r.name, func(t *testing.T) {
			cp(keep, bad.StateDir())
			r.spoil(t)
			os.Remove(filepath.Join(bad.Dir, "daemon.out"))
			s := c.In(t).Servers[2]
			s.Launch()
			code, said := s.AwaitEnd()
			said = strings.TrimSpace(said)
			if code == 0 || !strings.Contains(said, r.says) || strings.Count(said, "\n") > 1 {
				t.Errorf("exit %d, want one sentence with %q:\n%s", code, r.says, said)
			}
			if left := brickProcesses(s, "v"); len(left) != 1 {
				t.Errorf("brick processes %v, want the one that was there", left)
			}
		})
	}
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "11")
	// The last known view is a copy: without it, or with a damaged one, the daemon starts.
	for _, spoil := range []func(t *testing.T){
		overwrite("view.json", noise), overwrite("view.json", empty), overwrite("view.json", half), func(t *testing.T) { os.Remove(inState("view.json")) },
	} {
		cp(keep, bad.StateDir())
		spoil(t)
		bad.Start()
		c.AwaitPool(c.Servers...)
		bad.Stop()
	}
	cp(keep, bad.StateDir())
	bad.Start()
	c.AwaitPool(c.Servers...)
	if info := bad.Must("volume", "info"); !strings.Contains(info, "network.timeout: 11") {
		t.Errorf("back again:\n%s", info)
	}
}

// The disk under the state directory is full: the daemon says so, the data path
// goes on, and with room again so does the rest.
func TestStateDiskFull(t *testing.T) {
	t.Parallel()
	c := NewStopped(t, 3)
	full := c.Servers[2]
	if err := os.Mkdir(full.StateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("full", full.StateDir(), "tmpfs", 0, "size=192m"); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Servers {
		s.Start()
	}
	c.Pool()
	c.Volume("v", 1)
	dir := c.Mount(0, "v")
	load := StartLoad(t, dir)
	load.Progress(5)
	filler := filepath.Join(full.StateDir(), "filler")
	fill := func() {
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return // not even a name fits
		}
		defer f.Close()
		for n := 1 << 20; n > 0; {
			if _, err := f.Write(make([]byte, n)); err != nil {
				n /= 2
			}
		}
	}
	fill()
	// Until the server's part of the store notices: it writes into what it has first.
	healthy := c.Servers[0]
	i := 0
	EventuallyIn(t, 3*Deadline, "the full server says so", func() error {
		fill()
		for range 20 {
			i++
			r := healthy.Run("volume", "set", "v", "cluster.min-free-disk", fmt.Sprintf("%d%%", 1+i%50))
			if r.Code != 0 {
				t.Errorf("a healthy server, with the third one's disk full: %s%s", r.Out, r.Err)
			}
		}
		said := strings.ToLower(full.Log() + full.Run("cluster", "status").Out)
		if !strings.Contains(said, "no space left") && !strings.Contains(said, "disk is full") && !strings.Contains(said, "disk full") {
			return fmt.Errorf("nothing said after %d changes", i)
		}
		return nil
	})
	load.Progress(20)
	if r := full.Run("volume", "info", "v"); r.Code != 0 && full.Running() {
		t.Errorf("the daemon with the full disk runs and does not answer: %s%s", r.Out, r.Err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if !full.Running() {
		full.Start()
	}
	Eventually(t, "it goes on with room again", func() error {
		if r := full.Run("volume", "set", "v", "network.timeout", "12"); r.Code != 0 {
			return fmt.Errorf("%s%s", r.Out, r.Err)
		}
		return nil
	})
	c.AwaitPool(c.Servers...)
	load.Finish(Deadline / 3)
}
