package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/disk"
)

// Bad input gets one clear sentence, a non-zero exit, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("started", 2)
	spare := s.Bricks("spare", 2)
	s.Must("volume", "create", "created", spare[0], "force")
	used := s.Bricks("started", 1)[0]
	fresh := s.Bricks("fresh", 1)[0]
	noXattr := filepath.Join(disk.Image(t, "ext4", 16), "b")
	if err := syscall.Mount("none", filepath.Dir(noXattr), "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(filepath.Dir(noXattr), syscall.MNT_DETACH) })
	if err := os.Mkdir(noXattr, 0o755); err != nil {
		t.Fatal(err)
	}
	before := s.Must("volume", "info")

	for _, c := range []struct {
		name string
		args string
		says string // part of the sentence, lower case
	}{
		{"missing path", "volume create v " + s.Host + ":/no/such/parent/b force", "/no/such/parent"},
		{"relative path", "volume create v " + s.Host + ":relative force", "relative"},
		{"inside another brick", "volume create v " + used + "/deeper force", "brick"},
		{"used brick", "volume create v " + used + " force", "brick"},
		{"no xattrs", "volume create v " + s.Host + ":" + noXattr + " force", "attribute"},
		{"other server", "volume create v 192.0.2.7:/b force", "192.0.2.7"},
		{"bad name", "volume create a/b " + fresh + " force", "a/b"},
		{"taken name", "volume create started " + fresh + " force", "already exists"},
		{"twice the same brick", "volume create v " + fresh + " " + fresh + " force", "brick"},
		{"no bricks", "volume create v", "usage"},
		{"start started", "volume start started", "already started"},
		{"start missing", "volume start missing", "does not exist"},
		{"stop stopped", "volume stop created", "not in the started state"},
		{"stop missing", "volume stop missing", "does not exist"},
		{"delete started", "volume delete started", "has been started"},
		{"delete missing", "volume delete missing", "does not exist"},
		{"unknown option", "volume set started network.timeuot 5", "network.timeout"},
		{"option out of range", "volume set started network.timeout 0", "network.timeout"},
		{"option no number", "volume set started network.timeout soon", "soon"},
		{"get unknown", "volume get started no.such", "no.such"},
		{"info missing", "volume info missing", "does not exist"},
		{"status missing", "volume status missing", "does not exist"},
		{"status created", "volume status created", "not started"},
		{"unknown word", "volume frobnicate", "frobnicate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.Run(strings.Fields(c.args)...)
			said := strings.TrimSpace(r.Out + r.Err)
			if r.Code == 0 || !strings.Contains(strings.ToLower(said), c.says) {
				t.Errorf("exit %d, want ≠ 0 and %q in:\n%s", r.Code, c.says, said)
			}
		})
	}
	if after := s.Must("volume", "info"); after != before {
		t.Errorf("volume info changed:\n%s\nwas:\n%s", after, before)
	}

	dir := filepath.Join(s.Dir, "mnt", "bad")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	busy := s.Mount("started")
	for _, c := range []struct{ name, source, dir, says string }{
		{"missing volume", s.Addr + ":/missing", dir, "missing"},
		{"stopped volume", s.Addr + ":/created", dir, "not started"},
		{"missing mount point", s.Addr + ":/started", dir + "/none", "exist"},
		{"mount point no directory", s.Addr + ":/started", filepath.Join(s.Dir, "daemon.log"), "directory"},
		{"busy mount point", s.Addr + ":/started", busy, "mounted"},
		{"no daemon", "127.0.0.1:1:/started", dir, "127.0.0.1:1"},
		{"no source", "started", dir, "host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Command(t, nil, "mount", c.source, c.dir, "-o", "log-file="+filepath.Join(s.Dir, "bad.log"))
			said := strings.TrimSpace(r.Out + r.Err)
			if r.Code == 0 || !strings.Contains(strings.ToLower(said), c.says) {
				t.Errorf("exit %d, want ≠ 0 and %q in:\n%s", r.Code, c.says, said)
			}
			if n := len(strings.Split(said, "\n")); n > 2 {
				t.Errorf("%d lines:\n%s", n, said)
			}
		})
	}

	t.Run("second daemon", func(t *testing.T) {
		r := Command(t, nil, "daemon", "--state-dir", s.StateDir(), "--listen", "127.0.0.1:0", "--socket", s.Socket()+"2")
		if said := r.Out + r.Err; r.Code == 0 || !strings.Contains(said, s.StateDir()) {
			t.Errorf("exit %d:\n%s", r.Code, said)
		}
	})
	t.Run("daemon not running", func(t *testing.T) {
		r := Command(t, []string{"MORTAR_SOCKET=" + s.Dir + "/none.sock"}, "volume", "list")
		if said := r.Out + r.Err; r.Code == 0 || !strings.Contains(said, "mortar daemon") {
			t.Errorf("exit %d:\n%s", r.Code, said)
		}
	})
	t.Run("damaged identity", func(t *testing.T) {
		s.Must("volume", "stop", "started")
		id := filepath.Join(s.Dir, "bricks", "started", "1", ".mortar", "brick")
		whole, err := os.ReadFile(id)
		if err != nil {
			t.Fatal(err)
		}
		for what, b := range map[string][]byte{"truncated": whole[:len(whole)/2], "empty": nil, "foreign": []byte("something else\n")} {
			if err := os.WriteFile(id, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r := s.Run("volume", "start", "started")
			if said := r.Out + r.Err; r.Code == 0 || !strings.Contains(said, "brick") {
				t.Errorf("%s: exit %d:\n%s", what, r.Code, said)
			}
		}
		if err := os.WriteFile(id, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Must("volume", "start", "started")
	})
}
