package manage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process that is held by a pidfd, be it a child or one that an
// earlier daemon started: its number can't come to mean another.
type process struct {
	pid  int
	file *os.File      // the pidfd; readable when the process has ended
	gone chan struct{} // closed then
	over chan struct{} // closed when wait has returned
}

// holdProcess opens the process if it is alive and check still holds after that.
func holdProcess(pid int, check func() bool) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if !check() {
		unix.Close(fd)
		return nil, syscall.ESRCH
	}
	p := &process{pid: pid, file: os.NewFile(uintptr(fd), "pidfd"), gone: make(chan struct{}), over: make(chan struct{})}
	go p.wait()
	return p, nil
}

// startProcess starts argv with a session of its own, standard output and error
// appended to logFile.
func startProcess(argv []string, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   "/",
		Files: []*os.File{null, log, log},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	pid := child.Pid
	defer child.Release()
	return holdProcess(pid, func() bool { return true }) // not reaped before wait: the number is still its own
}

// wait closes gone when the process has ended, and reaps it if it is a child.
// It ends too when the pidfd is closed.
func (p *process) wait() {
	defer close(p.over)
	conn, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	ended := false
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n == 1
		return ended
	})
	if err != nil || !ended {
		return // released
	}
	for {
		var st unix.WaitStatus
		_, err := unix.Wait4(p.pid, &st, unix.WNOHANG, nil) // ECHILD: an earlier daemon's child
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(p.gone)
}

// release ends the holding; a process that is alive goes on.
func (p *process) release() {
	p.file.Close()
	<-p.over
}

// alive reports whether the process has not ended yet.
func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (p *process) signal(s unix.Signal) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), s, nil, 0) }) // ESRCH: it has ended
}

// killGrace is how long a process may take to end after SIGKILL: it may have to
// wait for a disk.
const killGrace = 10 * time.Second

// stop ends the process: SIGTERM, after the bound SIGKILL. The error says that
// it is there still.
func (p *process) stop(ctx context.Context, bound time.Duration) error {
	for _, s := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, bound}, {unix.SIGKILL, killGrace}} {
		p.signal(s.signal)
		t := time.NewTimer(s.wait)
		select {
		case <-p.gone:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	return fmt.Errorf("process %d did not end after SIGKILL", p.pid)
}

// found is a brick process as /proc shows it.
type found struct {
	pid    int
	brick  string // UUID
	daemon string // its daemon's socket
}

// findBricks looks through /proc for brick processes of this user: those whose
// command line has --brick and --daemon. With pid > 0 it looks at that one only.
func findBricks(pid int) []found {
	var out []found
	pids := []string{strconv.Itoa(pid)}
	if pid <= 0 {
		d, err := os.Open("/proc")
		if err != nil {
			return nil
		}
		pids, _ = d.Readdirnames(-1) // what was read before an error is what there is
		d.Close()
	}
	self := strconv.Itoa(os.Getpid())
	for _, name := range pids {
		n, err := strconv.Atoi(name)
		if err != nil || name == self {
			continue
		}
		f, ok := brickOf(n)
		if ok {
			out = append(out, f)
		}
	}
	return out
}

func brickOf(pid int) (found, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || int(st.Uid) != os.Geteuid() {
		return found{}, false // another user's may say what it likes
	}
	line, err := os.ReadFile(dir + "/cmdline") // empty for a zombie
	if err != nil || !bytes.Contains(line, []byte("\x00--brick\x00")) {
		return found{}, false
	}
	args := strings.Split(string(line), "\x00")
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	f := found{pid, value("--brick"), value("--daemon")}
	return f, isUUID(f.brick) && f.daemon != ""
}

// startOf tells when a process was started, in clock ticks since the machine's
// boot (field 22 of /proc/PID/stat, proc(5)); "" if it is gone.
func startOf(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// What follows the name, which is in parentheses and may hold some itself, begins with field 3.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[22-3]
}

// lastLine returns the last line of a file that says something, "" if there is none.
func lastLine(path string, from int64) string {
	const tail = 4096
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() <= from {
		return ""
	}
	b := make([]byte, min(tail, st.Size()-from))
	n, _ := f.ReadAt(b, st.Size()-int64(len(b))) // a shorter read is as good
	lines := strings.Split(strings.TrimSpace(string(b[:n])), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
