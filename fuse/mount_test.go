package fuse

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

// logTo writes a mount's log into the test's.
type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// mount mounts fs for the length of the test, and returns the server.
func mount(t testing.TB, fs volume.FS, options string) *Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return mountOn(t, fs, dir, options)
}

func mountOn(t testing.TB, fs volume.FS, dir, options string) *Server {
	t.Helper()
	o, err := ParseOptions(options, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Mount(context.Background(), Config{
		FS: fs, Dir: dir, Source: "host:/test", Options: o,
		Logger: slog.New(slog.NewTextHandler(logTo{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
			if err := s.Detach(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func TestSmoke(t *testing.T) {
	s := mount(t, model.New(), "")
	p := filepath.Join(s.Path(), "a")
	if err := os.WriteFile(p, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p)
	if err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}
	if err := os.Mkdir(filepath.Join(s.Path(), "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := os.ReadDir(s.Path())
	if err != nil || len(e) != 2 {
		t.Fatal(e, err)
	}
	if err := os.RemoveAll(filepath.Join(s.Path(), "d")); err != nil {
		t.Fatal(err)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, s.Path()) {
			t.Log(line)
		}
	}
}
