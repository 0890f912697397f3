package realwork_test

import (
	"os"
	"testing"

	"github.com/mortarfs/mortar/test/realwork"
)

// TestLocal shows that the work can be done at all: on the machine's own disk.
func TestLocal(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "mortar-realwork-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	realwork.Run(t, dir, realwork.Tiny())
}

// TestPath does all the work, at full size, in the directory that
// MORTAR_TEST_PATH names; without that variable there is nothing to do.
func TestPath(t *testing.T) {
	if dir := os.Getenv("MORTAR_TEST_PATH"); dir != "" {
		realwork.Run(t, dir)
	}
}
