package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// countVariable tells a process of this test's binary to count in a file, under locks:
// KIND PATH ROUNDS.
const countVariable = "MORTAR_CLUSTER_COUNT"

// countMain adds to the number in a file, which is safe only under a lock that holds
// everywhere, and only if what is read under it is what was written last.
func countMain() int {
	var kind, path string
	var rounds int
	if _, err := fmt.Sscan(os.Getenv(countVariable), &kind, &path, &rounds); err != nil {
		fmt.Println(err)
		return 2
	}
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	for i := 0; err == nil && i < rounds; i++ {
		if err = lockFile(fd, kind, unix.F_WRLCK, true); err == nil {
			err = increment(fd)
		}
		if err == nil {
			err = lockFile(fd, kind, unix.F_UNLCK, false)
		}
	}
	if err != nil {
		fmt.Println(kind, err)
		return 1
	}
	return 0
}

func increment(fd int) error {
	b := make([]byte, 32)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return err
	}
	count, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	_, err = unix.Pwrite(fd, fmt.Appendf(nil, "%d\n", count+1), 0)
	return err
}

// open opens a file for reading and writing.
func open(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return fd
}

// openIn opens a file until the end of the test. Nobody else may close it: its number
// would be another's by then, a lock's of a test that runs beside this one, for example.
func openIn(t *testing.T, path string) int {
	t.Helper()
	fd := open(t, path)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// count counts up in a new file from two processes on each of two mounts, and wants no turn lost.
func count(t *testing.T, name, kind string, rounds int, a, b string, meanwhile func()) {
	const processes = 2
	unix.Close(open(t, filepath.Join(a, name)))
	var all sync.WaitGroup
	for i := range 2 * processes {
		dir := []string{a, b}[i%2]
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", countVariable, kind, filepath.Join(dir, name), rounds))
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	meanwhile()
	all.Wait()
	got, err := os.ReadFile(filepath.Join(b, name))
	if want := fmt.Sprintln(2 * processes * rounds); err != nil || string(got) != want {
		t.Errorf("%s: counted %q, %v; want %q", kind, got, err, want)
	}
}

// Locks hold between mounts, and what is read under one is what was written last under one.
func TestLocksOfTwoMounts(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	a, b := s.Mount("v"), s.Mount("v")
	for _, kind := range []string{"fcntl", "ofd", "flock"} {
		t.Run(kind, func(t *testing.T) { count(t, kind, kind, 100, a, b, func() {}) })
	}
	t.Run("a killed brick", func(t *testing.T) {
		held := openIn(t, filepath.Join(a, "held"))
		if err := lockFile(held, "flock", unix.F_WRLCK, true); err != nil {
			t.Fatal(err)
		}
		count(t, "through-kills", "fcntl", 200, a, b, func() {
			for i := range 3 {
				s.KillBrick("v", i)
			}
		})
		if err := lockFile(openIn(t, filepath.Join(b, "held")), "flock", unix.F_RDLCK, false); err != unix.EWOULDBLOCK {
			t.Errorf("what the other mount held before: %v", err)
		}
	})
	t.Run("who is in the way", func(t *testing.T) { whoIsInTheWay(t, a, b) })
	t.Run("deadlock", func(t *testing.T) { deadlock(t, a, b) })
	t.Run("killed while it waits", func(t *testing.T) { killedWaiting(t, a, b) })
	t.Run("a signal", func(t *testing.T) {
		path := filepath.Join(a, "signal")
		if err := lockFile(openIn(t, path), "flock", unix.F_WRLCK, true); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError // flock(1) sets an alarm
		if err := exec.Command("flock", "--wait", "0.2", "-E", "77", filepath.Join(b, "signal"), "true").Run(); !errors.As(err, &exit) || exit.ExitCode() != 77 {
			t.Errorf("%v", err)
		}
	})
}

func whoIsInTheWay(t *testing.T, a, b string) {
	fa, fb := openIn(t, filepath.Join(a, "getlk")), openIn(t, filepath.Join(b, "getlk"))
	if err := unix.FcntlFlock(uintptr(fa), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 10}); err != nil {
		t.Fatal(err)
	}
	got := unix.Flock_t{Type: unix.F_RDLCK, Start: 15, Len: 100}
	if err := unix.FcntlFlock(uintptr(fb), unix.F_GETLK, &got); err != nil {
		t.Fatal(err)
	}
	want := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 10, Pid: int32(os.Getpid())}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if err := unix.Close(open(t, filepath.Join(a, "getlk"))); err != nil { // of any descriptor
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(uintptr(fb), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Errorf("after close: %v", err)
	}
}

// killedWaiting: a process that waits for another mount's lock ends at once when it is killed, and leaves
// nothing that anybody would wait for.
func killedWaiting(t *testing.T, a, b string) {
	fd := openIn(t, filepath.Join(a, "wait"))
	if err := lockFile(fd, "fcntl", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=fcntl %s 1", countVariable, filepath.Join(b, "wait")))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	Eventually(t, "it waits", func() error {
		if !inAnyThread(cmd.Process.Pid, fmt.Sprint(unix.SYS_FCNTL, " ")) {
			return errors.New("no thread is in fcntl")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("a process that waits for a lock can't be killed")
	}
	if err := lockFile(fd, "fcntl", unix.F_UNLCK, false); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{b, a, b} { // if the dead one had it, this would be another's now
		fd := open(t, filepath.Join(dir, "wait"))
		err := lockFile(fd, "ofd", unix.F_WRLCK, false)
		unix.Close(fd)
		if err != nil {
			t.Errorf("in %s: %v", dir, err)
		}
		Eventually(t, "it is free", func() error {
			return lockAndFree(filepath.Join(a, "wait"))
		})
	}
}

// inAnyThread reports whether a thread of a process is in the system call of which /proc tells with that beginning.
func inAnyThread(pid int, call string) bool {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(b), call) {
			return true
		}
	}
	return false
}

// lockAndFree takes a lock on a file if it is free, and gives it up.
func lockAndFree(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := lockFile(fd, "ofd", unix.F_WRLCK, false); err != nil {
		return err
	}
	return lockFile(fd, "ofd", unix.F_UNLCK, false) // of its close other mounts would hear a moment later
}

// deadlock lets two mounts wait for each other: who begins last is told.
func deadlock(t *testing.T, a, b string) {
	fa, fb := openIn(t, filepath.Join(a, "ring")), openIn(t, filepath.Join(b, "ring"))
	set := func(fd int, typ int16, at int64, cmd int) error {
		for {
			if err := unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: typ, Start: at, Len: 1}); err != unix.EINTR {
				return err
			}
		}
	}
	for at, fd := range []int{fa, fb} {
		if err := set(fd, unix.F_WRLCK, int64(at), unix.F_SETLK); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan error, 2)
	for at, fd := range []int{fb, fa} {
		go func() {
			err := set(fd, unix.F_WRLCK, int64(at), unix.F_SETLKW)
			if err != nil { // lets the other one have it
				err = errors.Join(err, set(fd, unix.F_UNLCK, int64(1-at), unix.F_SETLK))
			}
			got <- err
		}()
	}
	told := 0
	for range 2 {
		switch err := <-got; {
		case errors.Is(err, unix.EDEADLK):
			told++
		case err != nil:
			t.Error(err)
		}
	}
	if told != 1 {
		t.Errorf("%d of the two were told of the deadlock", told)
	}
}

// The locks of a mount that was killed are others' after the grace.
func TestLocksOfKilledMount(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 1)
	a, b := s.Mount("v"), s.Mount("v")
	if err := lockFile(openIn(t, filepath.Join(a, "f")), "flock", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	fd := openIn(t, filepath.Join(b, "f"))
	if err := lockFile(fd, "flock", unix.F_RDLCK, false); err != unix.EWOULDBLOCK {
		t.Fatalf("%v", err)
	}
	if err := syscall.Kill(s.MountPID(a), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- lockFile(fd, "flock", unix.F_WRLCK, true) }()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the lock of a dead mount is still held after a minute")
	}
}

// What a mount had that was killed together with the primary of the set is given to others by the next primary, after the grace, and
// not before; what others had, and their place, they keep.
func TestSetLocksOfKilledMount(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", 1)
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "60")
	a, b := c.Mount(0, "v"), c.Mount(1, "v")
	if err := lockFile(openIn(t, filepath.Join(a, "f")), "fcntl", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	others := openIn(t, filepath.Join(b, "others"))
	if err := lockFile(others, "fcntl", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	m := c.AwaitPrimary("v", 1)
	killed := time.Now()
	if err := syscall.Kill(c.Servers[0].MountPID(a), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !c.signal(m, syscall.SIGKILL) {
		t.Fatalf("%s could not be killed", m.Name)
	}
	next, got := openIn(t, filepath.Join(b, "f")), make(chan error, 1)
	go func() { got <- lockFile(next, "fcntl", unix.F_WRLCK, true) }()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
		const grace = 30 * time.Second
		if after := time.Since(killed); after < grace {
			t.Errorf("it was given to another one after %v", after)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the lock of a dead mount is still held after two minutes")
	}
	fd := openIn(t, filepath.Join(c.Mount(2, "v"), "others"))
	if err := lockFile(fd, "fcntl", unix.F_RDLCK, false); err != unix.EAGAIN && err != unix.EACCES {
		t.Errorf("what another mount had: %v", err)
	}
}

// Locks of a replicated set outlive its primaries: nobody's turn is lost, and no error is
// seen, while they are killed one after the other.
func TestSetLocksOutlivePrimary(t *testing.T) {
	t.Parallel()
	c := New(t, 3)
	c.Pool()
	c.Replicated("v", 1)
	c.Servers[0].Must("volume", "set", "v", "network.timeout", "60") // on a busy machine the election of a primary takes its time
	a, b := c.Mount(0, "v"), c.Mount(1, "v")
	held := openIn(t, filepath.Join(a, "held"))
	if err := lockFile(held, "fcntl", unix.F_WRLCK, true); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"flock", "fcntl"} {
		count(t, kind, kind, 300, a, b, func() {
			m := c.AwaitPrimary("v", 1)
			if !c.signal(m, syscall.SIGKILL) {
				t.Errorf("%s could not be killed", m.Name)
			}
		})
		c.AwaitInSync("v")
	}
	if err := lockFile(openIn(t, filepath.Join(b, "held")), "fcntl", unix.F_RDLCK, false); err != unix.EAGAIN && err != unix.EACCES {
		t.Errorf("what was held since before: %v", err)
	}
	if _, err := unix.Pwrite(held, []byte("x"), 0); err != nil {
		t.Error(err)
	}
	if err := lockFile(held, "fcntl", unix.F_UNLCK, false); err != nil {
		t.Error(err)
	}
}
