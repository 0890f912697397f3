package manage

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// listenUnix listens on a Unix socket for root only. What an earlier daemon
// left there is removed; one that answers is another's.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another daemon answers on the socket %s; name another with --socket", path)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there already and not a socket; name another with --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("the socket of an earlier daemon can't be removed: %w", err)
		}
	}
	// Made under another name and renamed, so that it is never open to others.
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, unwrapOp(err))
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, err)
	}
	return &unixListener{l, path}, nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	net.Listener
	path string
}

func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if err == nil { // the first time
		os.Remove(l.path)
	}
	return err
}

// unwrapOp leaves out what a net.OpError repeats.
func unwrapOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func (d *daemon) writePid() error {
	if d.cfg.PidFile == "" {
		return nil
	}
	if err := os.WriteFile(d.cfg.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("the pid file can't be written: %w", err)
	}
	return nil
}

func (d *daemon) removePid() {
	if d.cfg.PidFile != "" {
		os.Remove(d.cfg.PidFile)
	}
}
