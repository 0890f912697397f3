package cluster

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All that a test makes lies in one directory, and all processes that it starts
// name that directory in their command lines or environments. So whoever knows
// the directory can clear all of it away: the test itself, when it ends; the
// reaper, when the test's process is gone; or the next test process, should
// both have been killed. The file "owner" in it is locked while its test lives.
const (
	dirPattern   = "/var/tmp/mortar-test-*"
	ownerFile    = "owner"
	dirVariable  = "MORTAR_TEST_DIR"    // set for all that is started
	reapVariable = "MORTAR_TEST_REAPER" // makes a test binary the reaper of the one that started it
)

// Main is what a TestMain calls in a package that uses this one. Beside the
// tests runs a second process of the same binary, the reaper: when the tests'
// process ends without having cleaned up (a panic, a time-out, a kill), it does.
func Main(m *testing.M) {
	if os.Getenv(reapVariable) != "" {
		io.Copy(io.Discard, os.Stdin) // until the other end of the pipe is gone
		if err := sweep(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "left by earlier tests:", err)
		os.Exit(1)
	}
	stop := startReaper()
	// Tests of clusters mostly wait for clocks and disks, not for a processor.
	if err := flag.Set("test.parallel", "5"); err != nil { // -parallel N on the command line overrides it
		panic(err)
	}
	code := m.Run()
	if built.path != "" && os.Getenv("MORTAR_BINARY") == "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
	stop()
	os.Exit(code)
}

// reaper is that process.
var reaper *exec.Cmd

// startReaper starts it; the function ends it and waits.
func startReaper() (stop func()) {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), reapVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the tests
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		panic(err)
	}
	reaper = cmd
	return func() {
		in.Close()
		cmd.Wait()
	}
}

// claim makes a directory that is swept when the test, or its process, has ended.
func claim(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(dirPattern), strings.TrimSuffix(filepath.Base(dirPattern), "*"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	// Mounts lie below it, and tests look at them as other users too.
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	// A mount of its own, so that what is mounted below is seen in all the
	// mount namespaces of a cluster's machines, whichever of them mounts it.
	if err == nil {
		err = unix.Mount(dir, dir, "", unix.MS_BIND, "")
	}
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_SHARED, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clearAway(dir); err != nil {
			t.Error(err)
		}
		lock.Close()
	})
	return dir
}

// sweep clears away what test processes left that are gone.
func sweep() error {
	dirs, err := filepath.Glob(dirPattern)
	for _, dir := range dirs {
		lock, e := os.Open(filepath.Join(dir, ownerFile))
		if e != nil {
			continue // of an owner who is just making it
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = errors.Join(err, clearAway(dir))
		}
		lock.Close()
	}
	return err
}

// clearAway ends all processes that have to do with dir, unmounts all below it and removes it.
func clearAway(dir string) error {
	if err := killAll(dir); err != nil {
		return err
	}
	for _, m := range slices.Backward(mountsBelow(dir)) {
		unix.Unmount(m, unix.MNT_DETACH)
	}
	// A mount's process ends with its mount; what it still had open may keep the disk busy.
	if left := mountsBelow(dir); len(left) > 0 {
		return fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	return os.RemoveAll(dir)
}

// killAll kills the processes that have to do with dir, and waits until they are gone.
func killAll(dir string) error {
	for end := time.Now().Add(Deadline); ; time.Sleep(5 * time.Millisecond) {
		left := processes(dir)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v of %s do not end", left, dir)
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// processes lists those that name dir in their command line or environment.
func processes(dir string) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		line, _ := os.ReadFile(p + "/cmdline")
		environ, _ := os.ReadFile(p + "/environ")
		pid, _ := strconv.Atoi(filepath.Base(p))
		if pid != os.Getpid() && (bytes.Contains(line, []byte(dir+"/")) || bytes.Contains(environ, []byte("="+dir+"/"))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mountsBelow lists the mounts on dir and below it, in the order in which they were made.
func mountsBelow(dir string) []string {
	b, _ := os.ReadFile("/proc/self/mounts")
	var mounts []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && (f[1] == dir || strings.HasPrefix(f[1], dir+"/")) {
			mounts = append(mounts, f[1])
		}
	}
	return mounts
}
