package realwork_test

import (
	"os"
	"strconv"
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
// MORTAR_TEST_FILES says how many files the large directory gets, if not 100,000.
func TestPath(t *testing.T) {
	dir := os.Getenv("MORTAR_TEST_PATH")
	if dir == "" {
		return
	}
	var opts []realwork.Option
	if n, err := strconv.Atoi(os.Getenv("MORTAR_TEST_FILES")); err == nil {
		opts = append(opts, realwork.Files(n))
	}
	realwork.Run(t, dir, opts...)
}
