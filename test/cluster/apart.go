package cluster

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// apart runs f on a thread with a table of open files of its own, and returns when f has.
//
// Clients of a mount run so. Whoever starts a process copies the table of the
// thread that he is on, and what is in it is closed when the new program begins; for
// a file of a FUSE mount that is a request to the mount, which waits while nobody serves.
// A test that kills bricks could then start no command, and not mend what it had done,
// until its own clients gave up.
//
// All files that f opens it must close: others can't, not even the garbage collector.
func apart(f func()) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			err = closeOthers()
		}
		if err == nil {
			f()
		}
		failed <- err
	}()
	return <-failed
}

// closeOthers closes what this thread's table has from the others', who would miss
// the end of a pipe whose other end is open here. The standard streams stay, and what the runtime wakes itself by.
func closeOthers() error {
	const own = "/proc/thread-self/fd"
	open, err := os.ReadDir(own)
	if err != nil {
		return err
	}
	for _, e := range open {
		fd, err := strconv.Atoi(e.Name())
		to, _ := os.Readlink(filepath.Join(own, e.Name()))
		if err == nil && fd > 2 && !strings.HasPrefix(to, "anon_inode:[event") {
			unix.Close(fd)
		}
	}
	return nil
}
