package cluster

import "golang.org/x/sys/unix"

// lockFile sets a lock on a whole file: kind is fcntl, ofd or flock.
func lockFile(fd int, kind string, typ int16, wait bool) error {
	for {
		var err error
		if kind == "flock" {
			how := map[int16]int{unix.F_RDLCK: unix.LOCK_SH, unix.F_WRLCK: unix.LOCK_EX, unix.F_UNLCK: unix.LOCK_UN}[typ]
			if !wait {
				how |= unix.LOCK_NB
			}
			err = unix.Flock(fd, how)
		} else {
			cmd := map[string]int{"fcntl": unix.F_SETLK, "ofd": unix.F_OFD_SETLK}[kind]
			if wait {
				cmd++ // F_SETLKW, F_OFD_SETLKW
			}
			err = unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: typ})
		}
		if err != unix.EINTR {
			return err
		}
	}
}
