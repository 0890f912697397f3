package fuse

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// census tells whether all that the kernel has asked is being answered: nothing then waits in its
// queue, nor in a thread that has read it and not come to its method yet.
//
// The kernel counts the requests that it has not got the answers of (fusectl's file waiting), those included
// that nobody waits for. If that is as many as are within their methods, and none has begun
// or ended while it was looked up, they are the same ones.
type census struct {
	// running counts the requests within their methods; each beginning and each end adds 1 to the upper half.
	running atomic.Uint64
	mu      struct {
		sync.Mutex
		ctl  int    // the root of a fusectl of our own, mounted nowhere; 0: there is none
		file string // in it
	}
}

func (q *census) begin() { q.running.Add(1<<32 + 1) }
func (q *census) end()   { q.running.Add(1<<32 - 1) }

// open finds the kernel's count of a connection, by its mount's device, MAJOR:MINOR.
func (q *census) open(device string) error {
	_, minor, _ := strings.Cut(device, ":")
	fs, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fusectl: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("fusectl: %w", err)
	}
	ctl, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return fmt.Errorf("fusectl: %w", err)
	}
	q.mu.Lock()
	q.mu.ctl, q.mu.file = ctl, minor+"/waiting"
	_, err = q.waitingLocked()
	q.mu.Unlock()
	if err != nil {
		q.close()
	}
	return err
}

func (q *census) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.ctl > 0 {
		unix.Close(q.mu.ctl)
	}
	q.mu.ctl = 0
}

// waitingLocked returns the kernel's count. The file tells what was when it was read first.
func (q *census) waitingLocked() (uint32, error) {
	if q.mu.ctl == 0 {
		return 0, unix.ENOENT
	}
	fd, err := unix.Openat(q.mu.ctl, q.mu.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("fusectl's %s: %w", q.mu.file, err)
	}
	defer unix.Close(fd)
	var b [32]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return 0, fmt.Errorf("fusectl's %s: %w", q.mu.file, err)
	}
	count, err := strconv.ParseUint(string(bytes.TrimSpace(b[:n])), 10, 32)
	return uint32(count), err
}

// quiet reports whether all requests are within their methods; known: it can be told.
func (q *census) quiet() (quiet, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := q.running.Load()
	waiting, err := q.waitingLocked()
	return err == nil && q.running.Load() == before && waiting == uint32(before), err == nil
}
