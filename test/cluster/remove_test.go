package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// threeCopies brings up a volume of three copies and mounts it twice.
func (s *Server) threeCopies() (a, b string) {
	s.t.Helper()
	s.VolumeOn("v", append([]string{"replica", "3"}, s.Bricks("v", 3)...)...)
	s.AwaitOnline("v")
	return s.Mount("v"), s.Mount("v")
}

// Names are removed a little later than unlink(2) returns, on mounts that believe what they are told: the time of the directory that
// is told right after is the one that it has in the end, whoever asks.
func TestRemovedLater(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	a, b := s.threeCopies()
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

// A tree is removed a little later than rmdir(2) returns: what is told of the directory above is what is true in the end, nobody sees a part of it, and its name
// is free at once.
func TestTreeRemovedLater(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	a, b := s.threeCopies()
	grow := func(top string) {
		t.Helper()
		for _, dir := range []string{"", "x", "x/y", "x/y/z", "w"} {
			if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				if err := os.WriteFile(filepath.Join(top, dir, fmt.Sprint(i)), []byte("x"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	links := func(path string) uint64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return uint64(st.Nlink)
	}
	const trees = 8
	for i := range trees {
		grow(filepath.Join(a, fmt.Sprint("t", i)))
	}
	for i := range trees {
		top := filepath.Join(a, fmt.Sprint("t", i))
		before := links(a)
		held, err := os.Open(filepath.Join(top, "x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(top); err != nil {
			t.Fatal(err)
		}
		if now := links(a); now != before-1 {
			t.Errorf("after rmdir there are %d links, before it %d", now, before)
		}
		if err := unix.Rmdir(top); err != syscall.ENOENT {
			t.Errorf("rmdir of what is gone: %v", err)
		}
		if names, err := held.Readdirnames(-1); len(names) > 0 {
			t.Errorf("in a removed directory there is %v, %v", names, err)
		}
		held.Close()
		if i%2 == 0 {
			if err := os.Mkdir(top, 0o755); err != nil {
				t.Fatalf("mkdir right after rmdir: %v", err)
			}
			if err := os.WriteFile(filepath.Join(top, "new"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		Eventually(t, "the other mount believes what it was told", func() error {
			if _, err := os.Lstat(filepath.Join(b, fmt.Sprint("t", i))); !os.IsNotExist(err) {
				return fmt.Errorf("the other mount sees the tree: %v", err)
			}
			return nil
		})
	}
	if err := unix.Fsync(openDir(t, a)); err != nil {
		t.Errorf("fsync: %v", err)
	}
	want := uint64(2 + trees/2)
	Eventually(t, "kernels believe what they were told", func() error {
		if here, there := links(a), links(b); here != want || there != want {
			return fmt.Errorf("%d and %d links, want %d", here, there, want)
		}
		return nil
	})
	// Both mounts at a time: each name has one who removed it.
	grow(filepath.Join(a, "both"))
	errs := make(chan error, 2)
	for _, m := range []string{a, b} {
		go func() { errs <- os.RemoveAll(filepath.Join(m, "both")) }()
	}
	for range 2 {
		if err := <-errs; err != nil && !errors.Is(err, syscall.ESTALE) { // a directory that it has open was removed by the other
			t.Error(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(a, "both")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(b, "both")); !os.IsNotExist(err) {
		t.Errorf("what both have removed: %v", err)
	}
}

// openDir opens a directory for as long as the test runs.
func openDir(t *testing.T, path string) int {
	t.Helper()
	d, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return int(d.Fd())
}
