package posixtest_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/test/posixtest"
)

// local returns a directory on the machine's disk: not /tmp, which may be tmpfs.
func local(t *testing.T) string {
	dir, err := os.MkdirTemp("/var/tmp", "mortar-posixtest-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// TestLocal shows that the suite asks for nothing that Linux's own file system
// does not do.
func TestLocal(t *testing.T) { posixtest.Run(t, local(t), posixtest.Options{ACL: true}) }

func TestLocalReadOnly(t *testing.T) {
	dir := local(t)
	posixtest.Prepare(t, dir)
	for _, c := range []struct {
		source string
		flags  uintptr
	}{{dir, unix.MS_BIND}, {"", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY}} {
		if err := unix.Mount(c.source, dir, "", c.flags, ""); err != nil {
			t.Fatal(err)
		}
		if c.source != "" {
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Errorf("unmount: %v", err)
				}
			})
		}
	}
	posixtest.ReadOnly(t, dir)
}
