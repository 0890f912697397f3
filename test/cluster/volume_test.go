package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What one mount writes and closes another reads; renames and unlinks are seen.
func TestTwoMounts(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	a, b := s.Mount("v"), s.Mount("v")
	for i := range 30 {
		name := fmt.Sprint("file", i)
		for v := range 3 {
			want := strings.Repeat(fmt.Sprint(name, v), 1+v*1000)
			if err := os.WriteFile(filepath.Join(a, name), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(b, name)); err != nil || string(got) != want {
				t.Fatalf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
			}
			a, b = b, a
		}
		if err := os.Rename(filepath.Join(a, name), filepath.Join(a, name+".new")); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "the rename is seen", func() error {
			if _, err := os.Stat(filepath.Join(b, name)); !os.IsNotExist(err) {
				return fmt.Errorf("the old name: %v", err)
			}
			_, err := os.Stat(filepath.Join(b, name+".new"))
			return err
		})
		if err := os.Remove(filepath.Join(b, name+".new")); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "the removal is seen", func() error {
			if _, err := os.Stat(filepath.Join(a, name+".new")); !os.IsNotExist(err) {
				return fmt.Errorf("still there: %v", err)
			}
			return nil
		})
	}
}

// The kernel shows the type and the source as given, and mount(8) finds the helper.
func TestMountCommand(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 2)
	const helper = "/sbin/mount.mortar"
	if _, err := os.Lstat(helper); os.IsNotExist(err) {
		if err := os.Symlink(Binary(t), helper); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(helper) })
	}
	dir := filepath.Join(s.Dir, "here")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	source := s.Addr + ":/v"
	out, err := exec.Command("mount", "-t", "mortar", "-o", "log-file="+filepath.Join(s.Dir, "here.log"), source, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("mount -t mortar: %v\n%s", err, out)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if want := source + " " + dir + " fuse.mortar "; !strings.Contains(string(mounts), want) {
		t.Errorf("mounts lack %q", want)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Error(err)
	}
	s.Unmount(dir)

	fstab := filepath.Join(s.Dir, "fstab")
	os.WriteFile(fstab, []byte(source+" "+dir+" mortar defaults,_netdev,ro,log-file="+filepath.Join(s.Dir, "here.log")+" 0 0\n"), 0o644)
	if out, err := exec.Command("mount", "--fstab", fstab, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount from fstab: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "g"), nil, 0o644); err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) {
		t.Errorf("write on a read-only mount: %v", err)
	}
	s.Unmount(dir)
}
