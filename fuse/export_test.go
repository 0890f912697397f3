package fuse

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/model"
)

// handleOf returns the file handle of what lies at path.
func handleOf(t *testing.T, path string) unix.FileHandle {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	must(t, err)
	return h
}

// byHandle opens what a handle of a mount leads to.
func byHandle(t *testing.T, mount string, h unix.FileHandle, flags int) (*os.File, error) {
	t.Helper()
	top, err := os.Open(mount)
	must(t, err)
	defer top.Close()
	fd, err := unix.OpenByHandleAt(int(top.Fd()), h, flags|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "by handle"), nil
}

// reads fails unless a handle leads to a file with this text.
func reads(t *testing.T, mount string, h unix.FileHandle, text string) {
	t.Helper()
	f, err := byHandle(t, mount, h, unix.O_RDONLY)
	must(t, err)
	defer f.Close()
	b := make([]byte, 100)
	if n, err := f.Read(b); err != nil || string(b[:n]) != text {
		t.Errorf("%q, %v; want %q", b[:n], err, text)
	}
}

// TestHandles: a file handle leads to its object as long as that exists, whatever the kernel has forgotten, and
// through another mount, as it would after a restart.
func TestHandles(t *testing.T) {
	fs := model.New()
	m, s := mount(t, fs, "")
	other, _ := mount(t, fs, "")
	forgotten := func() {
		t.Helper()
		eventually(t, "everything is forgotten", func() bool {
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
			return s.front.nodes.len() == 1
		})
	}
	must(t, os.MkdirAll(m+"/a/b/c", 0o755))
	write(t, m+"/a/b/c/f", "content")
	file, dir := handleOf(t, m+"/a/b/c/f"), handleOf(t, m+"/a/b/c")
	reads(t, m, file, "content")
	forgotten()
	reads(t, m, file, "content")
	reads(t, other, file, "content")

	// A directory's place is found from below.
	for _, at := range []string{m, other} {
		forgotten()
		d, err := byHandle(t, at, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		must(t, err)
		if path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(d.Fd()))); err != nil || path != at+"/a/b/c" {
			t.Errorf("%s, %v", path, err)
		}
		if names, err := d.Readdirnames(0); err != nil || len(names) != 1 {
			t.Errorf("%q, %v", names, err)
		}
		must(t, d.Close())
	}

	must(t, os.Rename(other+"/a/b/c", other+"/moved"))
	must(t, os.Rename(other+"/moved/f", other+"/g"))
	forgotten()
	reads(t, m, file, "content")
	d, err := byHandle(t, m, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	if path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(d.Fd()))); err != nil || path != m+"/moved" {
		t.Errorf("%s, %v", path, err)
	}
	must(t, d.Close())

	must(t, os.Remove(other+"/g"))
	must(t, os.Remove(other+"/moved"))
	for _, gone := range []unix.FileHandle{file, dir} {
		forgotten()
		if f, err := byHandle(t, m, gone, unix.O_RDONLY); err != unix.ESTALE {
			t.Errorf("a handle of what is gone: %v, %v", f, err)
		}
	}
}

// TestHandlesOfPart: what is mounted in part gives no handles to the rest.
func TestHandlesOfPart(t *testing.T) {
	fs := model.New()
	whole, _ := mount(t, fs, "")
	must(t, os.Mkdir(whole+"/part", 0o755))
	write(t, whole+"/secret", "content")
	secret := handleOf(t, whole+"/secret")
	part, _ := mountPart(t, fs, "part", "")
	if f, err := byHandle(t, part, secret, unix.O_RDONLY); err != unix.ESTALE {
		t.Errorf("%v, %v", f, err)
	}
}
