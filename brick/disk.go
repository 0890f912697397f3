package brick

import (
	"path/filepath"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Disk is what lies under a brick, for "volume status detail".
type Disk struct {
	FileSystem   string // type: "ext4" …
	Device       string
	MountOptions string
	BlockSize    int64  // bytes
	InodeSize    int64  // bytes; 0: not known
	Total, Free  uint64 // bytes; Free: for users
	Inodes       uint64 // 0 where the file system has no fixed number
	InodesFree   uint64
}

// DiskOf describes the file system on which path lies.
func DiskOf(path string) (Disk, error) {
	const op = "disk"
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Disk{}, &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(real, &st); err != nil {
		return Disk{}, fail(op, path, err)
	}
	d := Disk{
		FileSystem: supported[int64(st.Type)], BlockSize: st.Bsize,
		Total: st.Blocks * uint64(st.Frsize), Free: st.Bavail * uint64(st.Frsize),
		Inodes: st.Files, InodesFree: st.Ffree,
	}
	if m, err := mountOf(real); err == nil {
		d.FileSystem, d.Device, d.MountOptions = m.fileSystem, m.source, m.options
	}
	return d, nil
}

// Disk describes the file system under the brick.
func (s *Store) Disk() (Disk, error) { return DiskOf(s.path) }
