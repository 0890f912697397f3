package manage

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// identityFormat marks the file identity; see the package comment.
const identityFormat = "mortar-state"

// identityMax bounds the file identity, in bytes.
const identityMax = 4096

type identity struct {
	Format string `json:"format"`
	V      int    `json:"v"`
	ID     string `json:"id"` // UUID of the daemon
}

// stateDir is a state directory that this process holds locked.
type stateDir struct {
	path string
	id   atomic.Value // string: UUID of the daemon; changes when it takes the place of another
	lock *os.File
}

// openStateDir makes or opens a state directory and locks it. others are paths
// that may lie in it besides its own (log and pid file). Errors are sentences.
func openStateDir(path string, others ...string) (*stateDir, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("the state directory can't be made: %w", err)
	}
	if err := checkForeign(path, others); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	d := &stateDir{path: path, lock: lock}
	id, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		id = newUUID()
		err = writeIdentity(path, id)
	}
	d.id.Store(id)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// close gives the directory free, though a process that is just being started has the lock's descriptor, too.
func (d *stateDir) close() {
	_ = unix.Flock(int(d.lock.Fd()), unix.LOCK_UN)
	d.lock.Close()
}

func (d *stateDir) join(name string) string { return filepath.Join(d.path, name) }

// checkForeign refuses a directory that has no identity but other contents: it
// is something else's, or the remains of a state directory.
func checkForeign(path string, others []string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("the state directory can't be read: %w", err)
	}
	allowed := []string{"lock", "identity", "identity.new", "lost+found"}
	for _, o := range others {
		if filepath.Dir(o) == path {
			allowed = append(allowed, filepath.Base(o))
		}
	}
	stranger := ""
	for _, e := range entries {
		switch {
		case e.Name() == "identity":
			return nil
		case !slices.Contains(allowed, e.Name()):
			stranger = e.Name()
		}
	}
	if stranger != "" {
		return fmt.Errorf("%s is not a state directory of Mortar: it holds %q and no file \"identity\"; name an empty or a new directory with --state-dir", path, stranger)
	}
	return nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the state directory can't be locked: %w", err)
	}
	err = flock(f)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("the state directory can't be written: %w", err)
		}
		return f, nil
	}
	pid := holder(f)
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another daemon (process %d) uses the state directory %s", pid, filepath.Dir(path))
	}
	return nil, fmt.Errorf("the state directory can't be locked: %w", err)
}

// lockPatience is how long a lock may outlive the daemon that held it: a brick's process that
// was being started when the daemon was killed holds it until it runs.
const lockPatience = 2 * time.Second

// flock locks the file without waiting for another daemon.
func flock(f *os.File) error {
	for began := time.Now(); ; time.Sleep(lockPatience / 100) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(began) > lockPatience {
			return err
		}
		if pid := holder(f); pid == 0 || unix.Kill(pid, 0) != unix.ESRCH {
			return err
		}
	}
}

// holder is the process that has locked the file, as it has written into it; 0 if it has not yet.
func holder(f *os.File) int {
	var pid int
	_, _ = fmt.Fscan(io.NewSectionReader(f, 0, 32), &pid)
	return pid
}

func readIdentity(dir string) (string, error) {
	path := filepath.Join(dir, "identity")
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.Size() > identityMax {
		return "", fmt.Errorf("%s is not Mortar's: it has %d bytes", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil || id.Format != identityFormat || !isUUID(id.ID) {
		return "", fmt.Errorf("%s is damaged or not Mortar's; restore it, or move the state directory away to begin anew without its volumes", path)
	}
	if id.V != recordVersion {
		return "", fmt.Errorf("%s has the format version %d, this release knows %d: use a newer release", path, id.V, recordVersion)
	}
	return id.ID, nil
}

// writeIdentity makes the file whole or not at all, durably.
func writeIdentity(dir, id string) error {
	b, err := json.Marshal(identity{identityFormat, recordVersion, id})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "identity"), append(b, '\n')); err != nil {
		return fmt.Errorf("the state directory can't be written: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// isUUID reports whether s has a UUID's form.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		switch hyphen := i == 8 || i == 13 || i == 18 || i == 23; {
		case hyphen && r == '-':
		case !hyphen && (r >= '0' && r <= '9' || r >= 'a' && r <= 'f'):
		default:
			return false
		}
	}
	return true
}

// spaceMin is the free space, in bytes, below which the state directory counts as full.
const spaceMin = 32 << 20

// checkSpace says that the state directory is full before etcd finds out, which
// could not go on then.
func (d *stateDir) checkSpace() error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return fmt.Errorf("the state directory %s can't be examined: %w", d.path, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < spaceMin {
		return fmt.Errorf("the file system of the state directory %s is full (%d MiB free, %d are needed): nothing is changed until there is space", d.path, free>>20, spaceMin>>20)
	}
	return nil
}
