package brick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// Names below .mortar, see the package comment.
const (
	indexDir   = "id"
	openDir    = "open"
	discardDir = "discard"
	logDir     = "log"
	tmpDir     = "tmp"
)

// indexFan is the number of directories into which the index is divided, by
// the first byte of the ID.
const indexFan = 256

// Init makes path, a directory on a file system with extended attributes, a
// brick with this identity. It may be repeated: a brick that has exactly this
// identity is left as it is, one that was begun and not finished is finished.
// Another brick's directory is refused (EEXIST). What lies in the directory
// already is left alone and never shown to clients.
func Init(ctx context.Context, path string, id Identity) error {
	const op = "make brick"
	if err := id.validate(); err != nil {
		return volume.Errorf(op, path, syscall.EINVAL, "%w", err)
	}
	old, err := ReadIdentity(path)
	switch {
	case err == nil && old == id:
		return nil
	case err == nil:
		return volume.Errorf(op, path, syscall.EEXIST,
			"the directory is a brick already: of volume %s (%s), set %d", old.Volume, old.VolumeID, old.Set)
	case !errors.Is(err, syscall.ENOENT):
		return err
	}
	if used, err := remains(path); err != nil {
		return &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	} else if used {
		return volume.Errorf(op, path, syscall.EEXIST,
			"the directory was a brick whose %s is gone; take an empty directory, or remove the attribute %s to give its files up",
			volume.Reserved, attrID)
	}
	if err := ctx.Err(); err != nil {
		return &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	}
	if err := makeBrick(sys.Real{}, path, id); err != nil {
		return &volume.Error{Op: op, Where: path, Errno: volume.ErrnoOf(err), Err: err}
	}
	return nil
}

// remains reports whether path has a brick's attributes but nothing of its own directory.
func remains(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(path, volume.Reserved), &st); err != unix.ENOENT {
		return false, err
	}
	_, err := unix.Lgetxattr(path, attrID, nil)
	switch err {
	case nil:
		return true, nil
	case unix.ENODATA:
		return false, nil
	}
	return false, err
}

// makeBrick makes all that belongs to a brick, the identity last: a directory
// with an identity is complete.
func makeBrick(k sys.Sys, path string, id Identity) error {
	root, err := k.Open(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer k.Close(root)
	dirs := []string{"", indexDir, openDir, discardDir, logDir, tmpDir}
	for i := range indexFan {
		dirs = append(dirs, fmt.Sprintf("%s/%02x", indexDir, i))
	}
	for _, d := range dirs {
		if err := k.Mkdir(root, filepath.Join(volume.Reserved, d), 0o700); err != nil && err != unix.EEXIST {
			return err
		}
	}
	if err := k.Fsetxattr(root, attrID, encodeID(volume.Root), 0); err != nil {
		return err
	}
	if err := k.Fsetxattr(root, attrDir, encodeDirMeta(dirMeta{Version: 1}), 0); err != nil {
		return err
	}
	if err := k.Syncfs(root); err != nil {
		return err
	}
	return replaceFile(k, root, identityFile, volume.Reserved+"/"+tmpDir+"/brick", id.encode())
}

// replaceFile gives the file name, below the directory, new contents at once and durably.
func replaceFile(k sys.Sys, dirfd int, name, tmp string, b []byte) error {
	fd, err := k.Open(dirfd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer k.Close(fd)
	if err := writeAll(k, fd, b, 0); err != nil {
		return err
	}
	if err := k.Fsync(fd); err != nil {
		return err
	}
	if err := k.Rename(dirfd, tmp, dirfd, name, 0); err != nil {
		return err
	}
	parent, err := k.Open(dirfd, filepath.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer k.Close(parent)
	return k.Fsync(parent)
}

// writeAll writes all of b at off.
func writeAll(k sys.Sys, fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := k.Pwrite(fd, b, off, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return os.ErrInvalid
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
