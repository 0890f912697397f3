// Package disk gives tests small file systems of their own, on image files and
// loop devices, to fill, to break or to compare: what a test must not do to the
// disk that it stands on. They are unmounted and removed when the test ends.
package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Image makes a file system of the type (ext4, xfs or btrfs) and size in MiB,
// mounts it and returns where. XFS takes at least 300 MiB, Btrfs 110.
func Image(t testing.TB, fstype string, mib int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "mortar-disk-")
	if err != nil {
		t.Fatal(err)
	}
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	t.Cleanup(func() {
		syscall.Unmount(mnt, syscall.MNT_DETACH)
		os.RemoveAll(dir)
	})
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(mib << 20)
		f.Close()
	}
	if err == nil {
		err = os.Mkdir(mnt, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	mkfs := map[string][]string{"ext4": {"-q", "-F"}, "xfs": {"-q", "-f"}, "btrfs": {"-q", "-f"}}[fstype]
	run(t, "mkfs."+fstype, append(mkfs, image)...)
	// The loop device goes with the mount (autoclear).
	run(t, "mount", "-o", "loop", image, mnt)
	return mnt
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
