package oplog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// folder is the directory in which everything here lies, opened.
type folder struct {
	sys  sys.Sys
	fd   int
	path string
}

// openFolder opens dir; k nil: with the kernel's system calls.
func openFolder(k sys.Sys, dir string) (folder, error) {
	if k == nil {
		k = sys.Real{}
	}
	fd, err := k.Open(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return folder{k, fd, dir}, err
}

func (d folder) close() { d.sys.Close(d.fd) }

// tmpSuffix is the end of the name of what is not finished yet.
const tmpSuffix = ".tmp"

// replace gives the file name new contents at once and durably, and returns it
// open for reading and writing. What failed before the file stood there
// has changed nothing; placed tells that it did not: the name may lead to either file.
func (d folder) replace(name string, b []byte) (fd int, placed bool, err error) {
	tmp := name + tmpSuffix
	fd, err = d.sys.Open(d.fd, tmp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, false, err
	}
	if err = writeAll(d.sys, fd, b, 0); err == nil {
		err = d.sys.Fsync(fd)
	}
	if err == nil {
		err = d.sys.Rename(d.fd, tmp, d.fd, name, 0)
	}
	if err != nil {
		d.sys.Close(fd)
		d.sys.Unlink(d.fd, tmp, 0)
		return -1, false, err
	}
	if err := d.sys.Fsync(d.fd); err != nil {
		d.sys.Close(fd)
		return -1, true, err
	}
	return fd, true, nil
}

// names lists the directory.
func (d folder) names() ([]string, error) {
	fd, err := d.sys.Open(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.sys.Close(fd)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		ents, more, err := d.sys.Names(fd, buf)
		if err != nil {
			return nil, err
		}
		for _, e := range ents {
			names = append(names, e.Name)
		}
		if !more {
			return names, nil
		}
	}
}

// numbered returns the numbers n of the files prefix.n, in order.
func (d folder) numbered(prefix string) ([]uint64, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var ns []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, prefix+".")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err == nil && strconv.FormatUint(n, 10) == digits {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// numberedName is the name of the file of that number.
func numberedName(prefix string, n uint64) string {
	return prefix + "." + strconv.FormatUint(n, 10)
}

// writeAll writes all of b at off.
func writeAll(k sys.Sys, fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := k.Pwrite(fd, b, off, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.EIO
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// checkFileName says why name can't be that of a file here.
func checkFileName(op, name string) error {
	if name == "" || len(name) > volume.NameMax-len(tmpSuffix) || strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") ||
		strings.HasSuffix(name, tmpSuffix) {
		return volume.Errorf(op, name, unix.EINVAL, "no name for a file of the log")
	}
	return nil
}

// fail makes an Error of what a system call or another function returned.
func fail(op, where string, err error) error {
	var ve *volume.Error
	if errors.As(err, &ve) {
		return err
	}
	e := &volume.Error{Op: op, Where: where, Errno: volume.ErrnoOf(err)}
	if _, plain := err.(unix.Errno); !plain {
		e.Err = err
	}
	if e.Errno == unix.EIO {
		e.Reason = volume.Damaged
	}
	return e
}

// damaged is the error for what contradicts itself on the disk.
func damaged(op, where, format string, a ...any) error {
	return &volume.Error{Op: op, Where: where, Errno: unix.EIO, Reason: volume.Damaged, Err: fmt.Errorf(format, a...)}
}
