package brick

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Report is what Check found out about a directory.
type Report struct {
	Path         string
	FileSystem   string // type, as in /proc/self/mountinfo: "ext4", "xfs", "btrfs" …
	Device       string // what is mounted
	MountPoint   string
	OnRoot       bool      // on the file system that is mounted at /
	IsMountPoint bool      // it is a mount point itself
	Brick        *Identity // the brick that it is already
	Remains      bool      // it was a brick: it has the attributes of one, but nothing of .mortar
	Inside       string    // the brick within which it lies
	Contains     string    // a brick that lies within it
}

// supported are the file systems that a brick may be on, by statfs(2)'s f_type.
var supported = map[int64]string{
	unix.EXT4_SUPER_MAGIC:  "ext4",
	unix.XFS_SUPER_MAGIC:   "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs",
}

// Check looks whether path can be a brick. It returns an error, of which Err is
// a sentence, if it can't in any case: it is relative (EINVAL), missing
// (ENOENT), no directory (ENOTDIR), on a file system that is not supported or
// without extended attributes (EOPNOTSUPP), or has a .mortar/brick that is
// damaged (EINVAL). The rest, which the caller may see otherwise, is in the
// Report. Nothing is changed.
func Check(path string) (Report, error) {
	const op = "check brick"
	r := Report{Path: path}
	bad := func(errno syscall.Errno, format string, a ...any) (Report, error) {
		return r, volume.Errorf(op, path, errno, format, a...)
	}
	if !filepath.IsAbs(path) {
		return bad(unix.EINVAL, "the brick path %s is not absolute", path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return bad(unix.ENOENT, "the brick directory %s does not exist", path)
	case err != nil:
		return bad(volume.ErrnoOf(err), "the brick directory %s can't be looked at: %w", path, err)
	case !info.IsDir():
		return bad(unix.ENOTDIR, "%s is not a directory", path)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		r.Path = real
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.Path, &st); err != nil {
		return bad(volume.ErrnoOf(err), "the file system of %s can't be looked at: %w", path, err)
	}
	if supported[int64(st.Type)] == "" {
		return bad(unix.EOPNOTSUPP, "%s is not on ext4, XFS or Btrfs", path)
	}
	if m, err := mountOf(r.Path); err == nil {
		r.FileSystem, r.Device, r.MountPoint = m.fileSystem, m.source, m.point
		r.OnRoot, r.IsMountPoint = m.point == "/", m.point == r.Path
	}
	if err := probeAttrs(r.Path); err != nil {
		return bad(unix.EOPNOTSUPP, "%s can't hold extended attributes (trusted.*): %w", path, err)
	}
	switch id, err := ReadIdentity(r.Path); {
	case err == nil:
		r.Brick = &id
	case !errors.Is(err, unix.ENOENT):
		return r, err
	default:
		if r.Remains, err = remains(r.Path); err != nil {
			return bad(volume.ErrnoOf(err), "the attributes of %s can't be read: %w", path, err)
		}
	}
	r.Inside = brickAbove(r.Path)
	r.Contains = brickBelow(r.Path)
	return r, nil
}

// probeAttrs sets and removes an attribute.
func probeAttrs(path string) error {
	const probe = attrPrefix + "probe"
	if err := unix.Lsetxattr(path, probe, []byte("1"), 0); err != nil {
		return err
	}
	return unix.Lremovexattr(path, probe)
}

// isBrick reports whether a directory has a brick's identity, sound or not.
func isBrick(path string) bool {
	_, err := os.Lstat(filepath.Join(path, identityFile))
	return err == nil
}

// brickAbove returns the brick within which path lies, "" if in none.
func brickAbove(path string) string {
	for p := filepath.Dir(path); ; p = filepath.Dir(p) {
		if isBrick(p) {
			return p
		}
		if p == filepath.Dir(p) {
			return ""
		}
	}
}

// How far brickBelow looks: a directory that is to be a brick is empty, or nearly.
const (
	belowDepth = 4
	belowDirs  = 4096
)

// brickBelow returns a brick that lies within path, "" if it finds none nearby.
func brickBelow(path string) string {
	type place struct {
		path  string
		depth int
	}
	todo := []place{{path, 0}}
	for seen := 0; len(todo) > 0 && seen < belowDirs; seen++ {
		p := todo[0]
		todo = todo[1:]
		if p.depth > 0 && isBrick(p.path) {
			return p.path
		}
		if p.depth == belowDepth {
			continue
		}
		f, err := os.Open(p.path)
		if err != nil {
			continue
		}
		ents, _ := f.ReadDir(belowDirs)
		f.Close()
		for _, e := range ents {
			if e.IsDir() && (e.Name() != volume.Reserved || p.depth > 0) && len(todo) < belowDirs {
				todo = append(todo, place{filepath.Join(p.path, e.Name()), p.depth + 1})
			}
		}
	}
	return ""
}

// mount is a line of /proc/self/mountinfo.
type mount struct {
	point, fileSystem, source, options string
}

// mountOf returns the mount that path, absolute and without links, lies on.
func mountOf(path string) (mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mount{}, err
	}
	defer f.Close()
	var best mount
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		m, ok := parseMount(sc.Text())
		under := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if ok && under && len(m.point) >= len(best.point) {
			best = m
		}
	}
	if err := sc.Err(); err != nil {
		return mount{}, err
	}
	if best.point == "" {
		return mount{}, fmt.Errorf("no mount holds %s", path)
	}
	return best, nil
}

// parseMount reads a line: ID parent major:minor root point options … - type source options.
func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(line, " - ")
	h, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(h) < 6 || len(t) < 2 {
		return mount{}, false
	}
	m := mount{point: unescape(h[4]), fileSystem: t[0], source: unescape(t[1]), options: h[5]}
	if len(t) > 2 {
		for o := range strings.SplitSeq(t[2], ",") {
			if o != "rw" && o != "ro" {
				m.options += "," + o
			}
		}
	}
	return m, true
}

// unescape undoes mountinfo's \040 for a space and the like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
