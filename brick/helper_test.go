package brick

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

var ctx = context.Background()

var testIdentity = Identity{
	VolumeID: "3f0c8a52-6f6e-4d0e-9c5b-0d9a3a9f1c11", Volume: "demo", Set: 2,
	BrickID: "9b1d40ce-2f3f-4f7e-8a34-55d3a1a0a2b7",
}

// newBrick makes a brick in a directory of its own.
func newBrick(t testing.TB) string {
	t.Helper()
	path := t.TempDir()
	check(t, os.Chmod(path, 0o755)) // whatever the umask is
	check(t, Init(ctx, path, testIdentity))
	return path
}

// openBrick opens a brick and closes it at the end of the test.
func openBrick(t testing.TB, path string, opt Options) *Store {
	t.Helper()
	s, err := Open(path, opt)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newStore(t testing.TB) *Store { return openBrick(t, newBrick(t), Options{}) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails unless err has the errno; 0 is none.
func wants(t testing.TB, err error, errno syscall.Errno) {
	t.Helper()
	if got := volume.ErrnoOf(err); got != errno {
		t.Fatalf("error %v, want %v (%d)", err, errno, errno)
	}
}

func mkdir(t testing.TB, s *Store, dir volume.ID, name string) volume.ID {
	t.Helper()
	a, err := s.Make(ctx, dir, name, volume.Node{ID: volume.NewID(2), Mode: unix.S_IFDIR | 0o755})
	check(t, err)
	return a.ID
}

// create makes a file with contents and closes it.
func create(t testing.TB, s *Store, dir volume.ID, name, contents string) volume.ID {
	t.Helper()
	h, a, err := s.Create(ctx, dir, name, volume.Node{ID: volume.NewID(2), Mode: unix.S_IFREG | 0o644}, volume.Write|volume.Excl)
	check(t, err)
	if contents != "" {
		_, err = h.WriteAt(ctx, []byte(contents), 0, 0)
		check(t, err)
	}
	check(t, h.Close())
	return a.ID
}

// contents reads a file by its ID.
func contents(t testing.TB, s *Store, id volume.ID) string {
	t.Helper()
	h, err := s.Open(ctx, id, volume.Read)
	check(t, err)
	defer h.Close()
	buf := make([]byte, 64<<10)
	n, err := h.ReadAt(ctx, buf, 0)
	check(t, err)
	return string(buf[:n])
}

// fileSystems are those on which a brick may lie, with their mkfs.
var fileSystems = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F"},
	"xfs":   {"mkfs.xfs", "-q", "-f"},
	"btrfs": {"mkfs.btrfs", "-q", "-f"},
}

// onImage makes a file system of that type on a loop device, mounts it and
// returns where; the end of the test takes it away again.
func onImage(t testing.TB, kind string, megabytes int64) string {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "mortar-brick-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	image, at := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	check(t, os.Mkdir(at, 0o755))
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, megabytes<<20))
	mkfs := fileSystems[kind]
	run(t, mkfs[0], append(mkfs[1:len(mkfs):len(mkfs)], image)...)
	run(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount %s: %v: something is open there", at, err)
			unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	return at
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
}
