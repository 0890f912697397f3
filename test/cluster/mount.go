package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Mount mounts a volume on a new directory of the server and returns that.
// Options are those after -o.
func (s *Server) Mount(volume string, options ...string) string {
	s.t.Helper()
	return s.Machine.Mount(s.Addr+":/"+volume, options...)
}

// Mount mounts HOST:/VOLUME on a new directory of the machine and returns that.
func (m *Machine) Mount(source string, options ...string) string {
	m.t.Helper()
	dir := m.MountPoint(source)
	if r := m.TryMount(source, dir, options...); r.Code != 0 {
		m.t.Fatalf("mount %s: exit %d\n%s%s", source, r.Code, r.Out, r.Err)
	}
	return dir
}

// MountPoint makes a directory to mount a source on.
func (m *Machine) MountPoint(source string) string {
	m.t.Helper()
	mnt := filepath.Join(m.Dir, "mnt")
	err := os.MkdirAll(mnt, 0o755)
	if err == nil {
		mnt, err = os.MkdirTemp(mnt, filepath.Base(source)+"-")
	}
	if err == nil {
		err = os.Chmod(mnt, 0o755)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return mnt
}

// TryMount runs the mount command and returns what it said.
func (m *Machine) TryMount(source, dir string, options ...string) Result {
	m.t.Helper()
	options = append(options, "log-file="+filepath.Join(m.Dir, "mount-"+filepath.Base(dir)+".log"))
	return m.Exec(nil, Binary(m.t), "mount", source, dir, "-o", strings.Join(options, ","))
}

// Unmount unmounts dir and waits until the mount's process is gone.
func (m *Machine) Unmount(dir string) {
	m.t.Helper()
	pid := m.MountPID(dir)
	Eventually(m.t, "unmount "+dir, func() error { return syscall.Unmount(dir, 0) })
	Eventually(m.t, "mount process ends", func() error {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

// MountPID returns the process that serves the mount on dir.
func (m *Machine) MountPID(dir string) int {
	m.t.Helper()
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
	m.t.Fatalf("no process serves %s", dir)
	return 0
}
