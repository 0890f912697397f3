package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// File handles hold over a restart of the mount, which has forgotten everything, and wherever the object is called from; a handle of
// what another mount has removed is stale.
func TestFileHandles(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	a, b := s.Mount("v"), s.Mount("v")
	const files = 12 // on all three sets
	handles := map[string]unix.FileHandle{}
	note := func(name string) {
		t.Helper()
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(a, name), 0)
		if err != nil {
			t.Fatal(err)
		}
		handles[name] = h
	}
	if err := os.MkdirAll(filepath.Join(a, "x/y"), 0o755); err != nil {
		t.Fatal(err)
	}
	note("x/y")
	for i := range files {
		name := fmt.Sprint("x/y/f", i)
		if err := os.WriteFile(filepath.Join(a, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		note(name)
	}
	open := func(mount, name string) (*os.File, error) {
		top, err := os.Open(mount)
		if err != nil {
			return nil, err
		}
		defer top.Close()
		fd, err := unix.OpenByHandleAt(int(top.Fd()), handles[name], unix.O_RDONLY|unix.O_CLOEXEC)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	all := func(mount, dir string) {
		t.Helper()
		for name := range handles {
			f, err := open(mount, name)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			p := make([]byte, 100)
			if n, err := f.Read(p); name != "x/y" && (err != nil || string(p[:n]) != name) {
				t.Errorf("%s: %q, %v", name, p[:n], err)
			}
			if path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", f.Fd())); name == "x/y" && path != filepath.Join(mount, dir) {
				t.Errorf("the directory is at %s, %v; want %s below %s", path, err, dir, mount)
			}
			f.Close()
		}
	}
	all(a, "x/y")
	all(b, "x/y")
	s.Unmount(a)
	if r := s.TryMount(s.Addr+":/v", a); r.Code != 0 {
		t.Fatal(r.Err)
	}
	all(a, "x/y")
	if err := os.Rename(filepath.Join(b, "x/y"), filepath.Join(b, "z")); err != nil {
		t.Fatal(err)
	}
	s.Unmount(a)
	if r := s.TryMount(s.Addr+":/v", a); r.Code != 0 {
		t.Fatal(r.Err)
	}
	all(a, "z")
	if err := os.RemoveAll(filepath.Join(b, "z")); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "all handles are stale", func() error {
		// Of a directory that it has not forgotten the kernel does not ask.
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
			return err
		}
		for name := range handles {
			if f, err := open(a, name); err != unix.ESTALE {
				return fmt.Errorf("%s: %v, %v", name, f, err)
			}
		}
		return nil
	})
}
