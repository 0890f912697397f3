package fuse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume"
)

// fsType is the type that the kernel shows for a mount.
const fsType = "fuse.mortar"

const devFuse = "/dev/fuse"

// mountPoint checks that dir can be mounted on and returns its true path. The
// error is one sentence.
func mountPoint(dir, source string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", dir, err)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", fmt.Errorf("mount point %s: the process that served it is gone; remove it first: umount -l %s", dir, dir)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("mount point %s does not exist", dir)
	case err != nil:
		return "", fmt.Errorf("mount point %s: %w", dir, unwrapPath(err))
	case !st.IsDir():
		return "", fmt.Errorf("mount point %s is not a directory", dir)
	}
	mounts, err := mountsOn(path)
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		switch {
		case m.fsType != fsType:
		case m.source == source:
			return "", fmt.Errorf("%s is already mounted on %s", source, dir)
		default:
			return "", fmt.Errorf("mount point %s is busy: %s is mounted on it", dir, m.source)
		}
	}
	return path, nil
}

// unwrapPath strips a PathError to its cause; the sentence names the path already.
func unwrapPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// mountInfo is one line of /proc/self/mountinfo.
type mountInfo struct {
	device string // major:minor
	point  string
	fsType string
	source string
}

// mountsOn returns the mounts on a directory, the topmost last.
func mountsOn(path string) ([]mountInfo, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("can't list the mounts: %w", err)
	}
	return parseMounts(string(text), path), nil
}

// parseMounts picks the mounts on path from mountinfo's text, whose lines are
// (proc(5)):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	id parent device root point options [optional …] - type source options
func parseMounts(text, path string) (found []mountInfo) {
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(line, " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(h) < 6 || len(t) < 2 {
			continue
		}
		if point := unescape(h[4]); point == path {
			found = append(found, mountInfo{device: h[2], point: point, fsType: t[0], source: unescape(t[1])})
		}
	}
	return found
}

// unescape undoes mountinfo's \ooo for space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// openDevice opens /dev/fuse. The error is one sentence.
func openDevice() (int, error) {
	fd, err := unix.Open(devFuse, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return -1, fmt.Errorf("%s is missing: load the kernel module (modprobe fuse), or give the container the device", devFuse)
	default:
		return -1, fmt.Errorf("can't open %s: %w", devFuse, err)
	}
}

// mount2 is mount(2) for a connection over device.
func mount2(device int, source, path string, flags uintptr) error {
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,default_permissions,allow_other,max_read=%d",
		device, syscall.S_IFDIR, os.Geteuid(), os.Getegid(), volume.IOMax)
	err := unix.Mount(source, path, fsType, flags, data)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM):
		return errors.New("only root can mount a volume")
	case errors.Is(err, syscall.ENODEV):
		return errors.New("this kernel has no FUSE: load the module (modprobe fuse)")
	default:
		return fmt.Errorf("mounting on %s failed: %w", path, err)
	}
}

// setReadAhead sets how far the kernel reads ahead on this mount, in KiB. INIT
// can only lower its 128 KiB, which leaves requests of that size and one or two
// of them on their way. Measured with 256 MiB read by dd from a volume that
// answers at once, after 0.5 ms and after 2 ms (MB/s, 2 cores):
//
//	read-ahead  128 KiB  1 MiB  4 MiB  16 MiB
//	0 ms           1700   2300   2700    2600
//	0.5 ms          195   1050   1800    1950
//	2 ms             92    650   1600    2000
func setReadAhead(device string, kib int) error {
	return os.WriteFile("/sys/class/bdi/"+device+"/read_ahead_kb", []byte(strconv.Itoa(kib)), 0)
}

// deviceOf returns the device number of what is mounted on path, MAJOR:MINOR.
func deviceOf(path string) (string, error) {
	mounts, err := mountsOn(path)
	if err == nil && len(mounts) == 0 {
		err = fmt.Errorf("nothing is mounted on %s", path)
	}
	if err != nil {
		return "", err
	}
	return mounts[len(mounts)-1].device, nil
}
