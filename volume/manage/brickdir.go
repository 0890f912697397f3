package manage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
)

// asideName is what the remains of an old brick are called in a directory that
// a new volume took over with force; the old brick's UUID follows. Nothing in it
// is shown to clients.
const asideName = volume.Reserved + "-old-"

// probeAttr is set and removed to see whether a file system has the attributes that a brick needs.
const probeAttr = "trusted.mortar.probe"

func refuse(format string, a ...any) error { return api.Errorf(api.ErrGeneric, format, a...) }

// reason is an error's cause as the system words it.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return strings.ToUpper(errno.Error()[:1]) + errno.Error()[1:]
	}
	return err.Error()
}

// checkBrickDir says, in GlusterFS's words, why path can't become the brick
// called name, and changes nothing. The directory may be missing if its parent
// exists: missing is true then. With force it may be on the root partition or a
// mount point, with reuse a brick that no volume has any more.
func (d *daemon) checkBrickDir(path, name string, force, reuse bool) (missing bool, err error) {
	st, err := os.Stat(path)
	existing := path
	switch {
	case err == nil && !st.IsDir():
		return false, refuse("The provided path %s which is already present, is not a directory", name)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		missing, existing = true, filepath.Dir(path)
		if parent, err := os.Stat(existing); err != nil {
			return true, refuse("Failed to create brick directory for brick %s. Reason : %s", name, reason(err))
		} else if !parent.IsDir() {
			return true, refuse("Failed to create brick directory for brick %s. Reason : Not a directory", name)
		}
	case err != nil:
		return false, refuse("lstat failed on %s. Reason : %s", path, reason(err))
	}
	if err := checkXattr(existing, name); err != nil {
		return missing, err
	}
	if !force {
		if err := d.checkPartition(path, existing, name); err != nil {
			return missing, err
		}
	}
	return missing, checkUsed(path, existing, reuse)
}

// checkPartition refuses the root partition and mount points.
func (d *daemon) checkPartition(path, existing, name string) error {
	const override = "Or use 'force' at the end of the command if you want to override this behavior."
	var here, top, above unix.Stat_t
	err := errors.Join(unix.Stat(existing, &here), unix.Stat("/", &top), unix.Stat(filepath.Dir(path), &above))
	if err != nil {
		return refuse("stat failed on %s. Reason : %s", path, reason(err))
	}
	rootDevice := top.Dev
	if d.cfg.rootDevice != nil {
		rootDevice = *d.cfg.rootDevice
	}
	switch {
	case existing == path && here.Dev != above.Dev:
		return refuse("The brick %s is a mount point. Please create a sub-directory under the mount point and use that as the brick directory. %s", name, override)
	case here.Dev == rootDevice:
		return refuse("The brick %s is being created in the root partition. It is recommended that you don't use the system's root partition for storage backend. %s", name, override)
	}
	return nil
}

// checkXattr sees whether the directory can carry a brick's attributes.
func checkXattr(dir, name string) error {
	err := unix.Setxattr(dir, probeAttr, []byte{1}, 0)
	if err == nil {
		if err = unix.Removexattr(dir, probeAttr); err == unix.ENODATA { // another brick's check was quicker
			err = nil
		}
	}
	if err != nil {
		return refuse("Mortar is not supported on brick: %s. Setting extended attributes failed, reason: %s.", name, reason(err))
	}
	return nil
}

// checkUsed refuses a directory that is another volume's brick or lies in one.
// With reuse a brick that no volume has any more may be taken over itself, but
// never a place within one: that tree is another's.
func checkUsed(path, existing string, reuse bool) error {
	for p := existing; p != "/"; p = filepath.Dir(p) {
		_, err := brick.ReadIdentity(p)
		switch {
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		case p == path && reuse:
		case err != nil:
			return refuse("%s can't be used: %s", path, identityTrouble(p, err))
		case p == path:
			return refuse("%s is already part of a volume", path)
		default:
			return refuse("%s or a prefix of it is already part of a volume", path)
		}
	}
	return nil
}

// holds reports whether the directory is the brick of this identity.
func holds(path string, id brick.Identity) bool {
	have, err := brick.ReadIdentity(path)
	return err == nil && have == id
}

// lostText says of a brick of a set of several members that its directory does
// not hold it any more, and what to do.
func lostText(name, at string) string {
	return fmt.Sprintf("its directory does not hold the brick any more. If its disk was emptied or exchanged, run "+
		"`mortar volume reset-brick %s %s start` and then `mortar volume reset-brick %s %s %s commit`; if it is not mounted, mount it", name, at, name, at, at)
}

// identityTrouble says what is wrong with the identity file of the directory p.
func identityTrouble(p string, err error) string {
	var e *volume.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("the identity of the brick in %s can't be read: %v", p, err)
}

// makeBrickDir makes the directory the brick's. Repeating it does no harm.
func makeBrickDir(ctx context.Context, path string, id brick.Identity, made, force bool) error {
	name := path
	if made {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return refuse("Failed to create brick directory for brick %s. Reason : %s", name, reason(err))
		}
		if err := syncDir(filepath.Dir(path)); err != nil {
			return refuse("Failed to create brick directory for brick %s. Reason : %s", name, reason(err))
		}
	}
	if force {
		if err := putAside(path, id); err != nil {
			return refuse("What an earlier volume left in %s can't be put aside: %v", path, err)
		}
	}
	if err := brick.Init(ctx, path, id); err != nil {
		var e *volume.Error
		if errors.As(err, &e) && e.Err != nil {
			err = e.Err
		}
		return refuse("%s can't be made a brick: %v", path, err)
	}
	return nil
}

// putAside moves what another brick left in the directory, its users' files
// too, into asideName, so that a new brick can begin empty and nothing is lost.
// The identity goes last: whoever is interrupted begins again.
func putAside(path string, id brick.Identity) error {
	old, err := brick.ReadIdentity(path)
	if err == nil && old == id {
		return nil
	}
	label := old.BrickID
	if label == "" {
		label = "unknown"
	}
	if _, err := os.Lstat(filepath.Join(path, volume.Reserved)); err == nil {
		aside := filepath.Join(path, asideName+label)
		if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == volume.Reserved || strings.HasPrefix(e.Name(), asideName) || e.Name() == "lost+found" {
				continue
			}
			if err := os.Rename(filepath.Join(path, e.Name()), filepath.Join(aside, e.Name())); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(path, volume.Reserved), filepath.Join(aside, volume.Reserved)); err != nil {
			return err
		}
	}
	return dropAttrs(path)
}

// dropAttrs removes the attributes of a brick's root from a directory.
func dropAttrs(path string) error {
	buf := make([]byte, volume.XattrListMax)
	n, err := unix.Listxattr(path, buf)
	if err != nil {
		return err
	}
	for a := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if strings.HasPrefix(a, "trusted.mortar.") {
			if err := unix.Removexattr(path, a); err != nil && !errors.Is(err, unix.ENODATA) {
				return err
			}
		}
	}
	return syncDir(path)
}

// unmakeBrickDir takes back makeBrickDir for a volume that nobody has used:
// only if the directory has exactly this identity, or none.
func unmakeBrickDir(path string, id brick.Identity, made bool) error {
	switch have, err := brick.ReadIdentity(path); {
	case errors.Is(err, syscall.ENOENT):
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	case errors.Is(err, syscall.ENOTDIR): // not what the create made
		return nil
	case err != nil:
		return err
	case have != id:
		return nil
	}
	if err := os.RemoveAll(filepath.Join(path, volume.Reserved)); err != nil {
		return err
	}
	if err := dropAttrs(path); err != nil {
		return err
	}
	if made {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		return syncDir(filepath.Dir(path))
	}
	return nil
}
