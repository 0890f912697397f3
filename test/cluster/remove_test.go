package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names are removed a little later than unlink(2) returns, on mounts that believe what they are told: the time of the directory that
// is told right after is the one that it has in the end, whoever asks.
func TestRemovedLater(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	bricks := s.Bricks("v", 3)
	s.Must("volume", "create", "v", "replica", "3", bricks[0], bricks[1], bricks[2], "force")
	s.Must("volume", "start", "v")
	s.AwaitOnline("v")
	a, b := s.Mount("v"), s.Mount("v")
	const files = 60
	dir := filepath.Join(a, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(path string) time.Time {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return time.Unix(st.Mtim.Unix())
	}
	before := changed(dir)
	for i := range files {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		now := changed(dir)
		if !now.After(before) {
			t.Fatalf("after the removal of %d the directory's time is %v, as before %v", i, now, before)
		}
		before = now
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprint(i))); !os.IsNotExist(err) {
			t.Fatalf("%d was removed: %v", i, err)
		}
		if i%7 == 0 {
			if theirs := changed(filepath.Join(b, "d")); theirs.Add(time.Second).Before(before) {
				t.Errorf("another mount sees %v, more than its attribute-timeout before %v", theirs, before)
			}
		}
	}
	last := before
	Eventually(t, "no kernel believes what it was told", func() error {
		here, there := changed(dir), changed(filepath.Join(b, "d"))
		if !here.Equal(last) {
			t.Fatalf("the directory's time was told to be %v and is %v", last, here)
		}
		if !there.Equal(last) {
			return fmt.Errorf("another mount sees %v, not %v", there, last)
		}
		return nil
	})
	<-time.After(1200 * time.Millisecond) // the attribute-timeout
	if here := changed(dir); !here.Equal(last) {
		t.Errorf("the directory's time was told to be %v and is %v", last, here)
	}
	if err := unix.Rmdir(dir); err != nil {
		t.Errorf("rmdir of a directory that was emptied: %v", err)
	}
	if err := unix.Rmdir(filepath.Join(b, "d")); err != syscall.ENOENT {
		t.Errorf("rmdir of what is gone: %v", err)
	}
}
