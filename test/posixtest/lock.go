package posixtest

import (
	"errors"
	"io"
	"os/exec"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ofd makes an fcntl(2) call on an open file description's lock.
func ofd(fd, cmd int, typ int16, start, length int64) (unix.Flock_t, error) {
	l := unix.Flock_t{Type: typ, Start: start, Len: length}
	for {
		if err := unix.FcntlFlock(uintptr(fd), cmd, &l); err != unix.EINTR {
			return l, err
		}
	}
}

var lockTests = []test{
	{"ranges of descriptors", func(e *env) {
		p := e.file("f", "content")
		a, b := e.open(p, unix.O_RDWR, 0), e.open(p, unix.O_RDWR, 0)
		set := func(fd int, typ int16, start, length int64) error {
			_, err := ofd(fd, unix.F_OFD_SETLK, typ, start, length)
			return err
		}
		e.ok(set(a, unix.F_WRLCK, 10, 10))
		e.fails(set(b, unix.F_RDLCK, 15, 1), unix.EAGAIN, unix.EACCES)
		e.fails(set(b, unix.F_WRLCK, 0, 0), unix.EAGAIN, unix.EACCES)
		e.ok(set(b, unix.F_WRLCK, 0, 10))
		e.ok(set(b, unix.F_WRLCK, 20, 10))
		l, err := ofd(b, unix.F_OFD_GETLK, unix.F_RDLCK, 12, 1)
		if e.ok(err); l.Type != unix.F_WRLCK || l.Start != 10 || l.Len != 10 {
			e.Errorf("the lock in the way is %+v", l)
		}
		e.ok(set(a, unix.F_UNLCK, 12, 3))
		e.ok(set(b, unix.F_RDLCK, 12, 3))
		e.fails(set(b, unix.F_RDLCK, 11, 1), unix.EAGAIN, unix.EACCES)
		e.ok(set(a, unix.F_RDLCK, 15, 5))
		e.ok(set(b, unix.F_RDLCK, 15, 5))
	}},
	{"what fails changes nothing", func(e *env) {
		p := e.file("f", "")
		a, b := e.open(p, unix.O_RDWR, 0), e.open(p, unix.O_RDWR, 0)
		set := func(fd int, typ int16, start, length int64) error {
			_, err := ofd(fd, unix.F_OFD_SETLK, typ, start, length)
			return err
		}
		e.ok(set(a, unix.F_WRLCK, 0, 10))
		e.ok(set(b, unix.F_RDLCK, 20, 10))
		e.fails(set(a, unix.F_WRLCK, 5, 20), unix.EAGAIN, unix.EACCES) // upgrade
		e.fails(set(a, unix.F_WRLCK, 5, 0), unix.EAGAIN, unix.EACCES)  // to the end of the file
		e.ok(set(a, unix.F_RDLCK, 5, 20))                              // splits
		e.ok(set(b, unix.F_RDLCK, 5, 0))
		e.fails(set(b, unix.F_RDLCK, 4, 1), unix.EAGAIN, unix.EACCES)
		e.fails(set(a, unix.F_WRLCK, 5, 1), unix.EAGAIN, unix.EACCES)
		e.ok(set(b, unix.F_UNLCK, 0, 0))
		e.ok(set(a, unix.F_WRLCK, 0, 0))
	}},
	{"access that a lock needs", func(e *env) {
		p := e.file("f", "")
		r, w := e.open(p, unix.O_RDONLY, 0), e.open(p, unix.O_WRONLY, 0)
		_, err := ofd(r, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
		e.fails(err, unix.EBADF)
		_, err = ofd(w, unix.F_OFD_SETLK, unix.F_RDLCK, 0, 0)
		e.fails(err, unix.EBADF)
		e.ok(unix.Flock(r, unix.LOCK_EX|unix.LOCK_NB)) // flock needs none
	}},
	{"a lock is waited for", func(e *env) {
		p := e.file("f", "")
		a, b := e.open(p, unix.O_RDWR, 0), e.open(p, unix.O_RDWR, 0)
		_, err := ofd(a, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
		e.ok(err)
		var free atomic.Bool
		got := make(chan error, 1)
		go func() {
			_, err := ofd(b, unix.F_OFD_SETLKW, unix.F_WRLCK, 0, 0)
			if err == nil && !free.Load() {
				err = syscall.EDOM // it got the lock while another had it
			}
			got <- err
		}()
		for range 1000 { // it has time to go wrong
			select {
			case err := <-got:
				e.Fatalf("it did not wait: %v", err)
			default:
			}
			_, err = ofd(a, unix.F_OFD_GETLK, unix.F_RDLCK, 0, 0)
			e.ok(err)
		}
		free.Store(true)
		_, err = ofd(a, unix.F_OFD_SETLK, unix.F_UNLCK, 0, 0)
		e.ok(err)
		e.ok(<-got)
	}},
	{"close gives locks up", func(e *env) {
		p := e.file("f", "")
		b := e.open(p, unix.O_RDWR, 0)
		a, err := openRetry(p, unix.O_RDWR, 0)
		e.ok(err)
		_, err = ofd(a, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
		e.ok(err)
		e.ok(unix.Close(a))
		e.eventually("the lock is free", func() bool {
			_, err := ofd(b, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
			return err == nil
		})
	}},
	{"a process's locks go with any of its descriptors", func(e *env) {
		p := e.file("f", "")
		a, b := e.open(p, unix.O_RDWR, 0), e.open(p, unix.O_RDWR, 0)
		_, err := ofd(a, unix.F_SETLK, unix.F_WRLCK, 0, 0)
		e.ok(err)
		_, err = ofd(b, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
		e.fails(err, unix.EAGAIN, unix.EACCES)
		e.ok(tryOpen(p, unix.O_RDONLY, 0)) // its close gives the lock up: fcntl(2)
		_, err = ofd(b, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0)
		e.ok(err)
	}},
	{"flock", func(e *env) {
		p := e.file("f", "")
		a, b := e.open(p, unix.O_RDONLY, 0), e.open(p, unix.O_RDONLY, 0)
		e.ok(unix.Flock(a, unix.LOCK_SH))
		e.ok(unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB))
		e.fails(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(unix.Flock(a, unix.LOCK_UN))
		e.ok(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		e.fails(unix.Flock(a, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	}},
	{"flock against another process", func(e *env) {
		p := e.file("f", "")
		cmd := exec.Command("flock", "--exclusive", p, "sh", "-c", "echo locked; read line")
		in, err := cmd.StdinPipe()
		e.ok(err)
		out, err := cmd.StdoutPipe()
		e.ok(err)
		e.ok(cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("locked\n")))
		e.ok(err)
		fd := e.open(p, unix.O_RDONLY, 0)
		e.fails(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(in.Close())
		_ = cmd.Wait() // read fails at the end of its input
		e.ok(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB))
	}},
	{"a signal ends the wait", func(e *env) {
		p := e.file("f", "")
		e.ok(unix.Flock(e.open(p, unix.O_RDONLY, 0), unix.LOCK_EX))
		err := exec.Command("flock", "--wait", "0.1", "-E", "77", p, "true").Run() // an alarm
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 77 {
			e.Errorf("it ended with %v", err)
		}
	}},
	{"a process that is killed gives its locks up", func(e *env) {
		p := e.file("f", "")
		cmd := exec.Command("flock", "--no-fork", "--exclusive", p, "sh", "-c", "echo locked; read line")
		in, err := cmd.StdinPipe()
		e.ok(err)
		defer in.Close()
		out, err := cmd.StdoutPipe()
		e.ok(err)
		e.ok(cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("locked\n")))
		e.ok(err)
		fd := e.open(p, unix.O_RDONLY, 0)
		e.fails(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		e.ok(cmd.Process.Kill())
		_ = cmd.Wait()
		e.ok(unix.Flock(fd, unix.LOCK_EX))
	}},
	{"a process that waits for a lock can be killed", func(e *env) {
		p := e.file("f", "")
		fd := e.open(p, unix.O_RDONLY, 0)
		e.ok(unix.Flock(fd, unix.LOCK_EX))
		cmd := exec.Command("flock", "--exclusive", p, "true")
		e.ok(cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		e.ok(cmd.Process.Signal(unix.SIGTERM))
		if err := <-done; err == nil {
			e.Error("it got the lock")
		}
		b := e.open(p, unix.O_RDONLY, 0)
		e.fails(unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	}},
}
