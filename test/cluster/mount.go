package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Mount mounts a volume on a new directory and returns that. Options are those
// after -o.
func (s *Server) Mount(volume string, options ...string) string {
	s.t.Helper()
	dir := filepath.Join(s.Dir, "mnt", fmt.Sprint(volume, "-", len(s.mountsBelow())+1))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	options = append(options, "log-file="+filepath.Join(s.Dir, "mount-"+filepath.Base(dir)+".log"))
	r := Command(s.t, nil, "mount", s.Addr+":/"+volume, dir, "-o", strings.Join(options, ","))
	if r.Code != 0 {
		s.t.Fatalf("mount: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	return dir
}

// Unmount unmounts dir and waits until the mount's process is gone.
func (s *Server) Unmount(dir string) {
	s.t.Helper()
	pid := s.MountPID(dir)
	Eventually(s.t, "unmount "+dir, func() error { return syscall.Unmount(dir, 0) })
	Eventually(s.t, "mount process ends", func() error {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

// MountPID returns the process that serves the mount on dir.
func (s *Server) MountPID(dir string) int {
	s.t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range procs {
		b, _ := os.ReadFile(c)
		args := strings.Split(string(b), "\x00")
		mount := filepath.Base(args[0]) == "mount.mortar" || len(args) > 1 && args[1] == "mount"
		if mount && strings.Contains(string(b), "\x00"+dir+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(c)))
			return pid
		}
	}
	s.t.Fatalf("no process serves %s", dir)
	return 0
}

// mountsBelow lists the mounts below s.Dir.
func (s *Server) mountsBelow() []string {
	b, _ := os.ReadFile("/proc/self/mounts")
	var dirs []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], s.Dir+"/") {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}
