package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mortarfs/mortar/test/disk"
)

// A full disk gives ENOSPC and loses nothing that was acknowledged; after
// something is removed, writing goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	var bricks []string
	for range 2 {
		b := filepath.Join(disk.Image(t, "ext4", 48), "brick")
		if err := os.Mkdir(b, 0o755); err != nil {
			t.Fatal(err)
		}
		bricks = append(bricks, fmt.Sprint(s.Host, ":", b))
	}
	s.VolumeOn("v", bricks...)
	dir := s.Mount("v")
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 1, 2}, 64<<10) }
	write := func(i int) error {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("f", i)))
		if err != nil {
			return err
		}
		_, err = f.Write(content(i))
		return errors.Join(err, f.Sync(), f.Close())
	}
	var done []int
	full := 0
	for i := 0; full < 20 && i < 2000; i++ {
		switch err := write(i); {
		case err == nil:
			done = append(done, i)
		case errors.Is(err, syscall.ENOSPC):
			full++
		default:
			t.Fatalf("file %d: %v", i, err)
		}
	}
	t.Logf("%d files of 256 KiB written", len(done))
	if full == 0 || len(done) < 50 {
		t.Fatalf("%d files written, %d times ENOSPC", len(done), full)
	}
	for _, i := range done {
		if b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("f", i))); err != nil || !bytes.Equal(b, content(i)) {
			t.Errorf("file %d: acknowledged and lost: %d bytes, %v", i, len(b), err)
		}
	}
	for _, i := range done {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint("f", i))); err != nil {
			t.Errorf("remove on a full disk: %v", err)
		}
	}
	Eventually(t, "space is there again", func() error { return write(5000) })
}
