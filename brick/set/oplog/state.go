package oplog

import (
	"github.com/mortarfs/mortar/brick/internal/sys"
	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// StateMax is the most that SaveState takes, bytes.
const StateMax = 64 << 10

// SaveState makes b the contents of the state file of that name in dir, all at once
// and durably. After an error the old ones or the new ones hold. k makes the system
// calls; nil: sys.Real. Not for two callers with the same name at the same time.
func SaveState(k sys.Sys, dir, name string, b []byte) error {
	const op = "save state"
	if err := checkFileName(op, name); err != nil {
		return err
	}
	if len(b) > StateMax {
		return volume.Errorf(op, name, unix.EINVAL, "a state of %d bytes", len(b))
	}
	d, err := openFolder(k, dir)
	if err != nil {
		return fail(op, dir, err)
	}
	defer d.close()
	fd, _, err := d.replace(name, appendState(newHead(stateMagic, 0, 0), b))
	if err != nil {
		return fail(op, name, err)
	}
	d.sys.Close(fd)
	return nil
}

func appendState(h head, b []byte) []byte {
	file := h.append(nil)
	file = append(append(beginFrame(file), statePayload), b...)
	endFrame(file, headSize)
	salted(file, headSize, h.salt)
	return file
}

// LoadState returns what SaveState has saved; what it returns is durable. Errors: ENOENT, nothing yet; EIO with
// Reason Damaged, the file is not what was saved.
func LoadState(k sys.Sys, dir, name string) ([]byte, error) {
	const op = "load state"
	if err := checkFileName(op, name); err != nil {
		return nil, err
	}
	d, err := openFolder(k, dir)
	if err != nil {
		return nil, fail(op, dir, err)
	}
	defer d.close()
	fd, err := d.sys.Open(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fail(op, name, err)
	}
	defer d.sys.Close(fd)
	// It may have been put there by a process that died before it could make that durable.
	if err := d.sys.Fsync(d.fd); err != nil {
		return nil, fail(op, name, err)
	}
	buf := make([]byte, headSize+frameHead+1+StateMax+1)
	n := 0
	for n < len(buf) {
		got, err := d.sys.Pread(fd, buf[n:], int64(n))
		if err != nil {
			return nil, fail(op, name, err)
		}
		if got == 0 {
			break
		}
		n += got
	}
	b, err := parseState(buf[:n])
	if err != nil {
		return nil, damaged(op, name, "%w", err)
	}
	return b, nil
}

func parseState(file []byte) ([]byte, error) {
	h, err := parseHead(stateMagic, file)
	if err != nil {
		return nil, err
	}
	b, _ := frameAt(file[headSize:], h.salt)
	if len(b) < 1 || len(b) > 1+StateMax || b[0] != statePayload || headSize+frameHead+len(b) != len(file) {
		return nil, errHead
	}
	return b[1:], nil
}
