package posixtest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Prepare puts into dir what ReadOnly looks at. It is called on a writable
// mount of the same file system.
func Prepare(t *testing.T, dir string) {
	t.Helper()
	for _, err := range []error{
		os.WriteFile(dir+"/file", []byte("content"), 0o644), os.Mkdir(dir+"/dir", 0o755), os.Symlink("file", dir+"/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ReadOnly tests a directory that Prepare has filled and that is mounted
// read-only: everything is readable, and every change is EROFS.
func ReadOnly(t *testing.T, dir string) {
	e := &env{T: t, dir: dir}
	e.holds(e.path("file"), "content")
	e.holds(e.path("link"), "content")
	e.lists(dir, "dir", "file", "link")
	f := e.path("file")
	changes := map[string]func() error{
		"open to write": func() error { return tryOpen(f, unix.O_WRONLY, 0) },
		"truncate":      func() error { return unix.Truncate(f, 0) },
		"unlink":        func() error { return unix.Unlink(f) },
		"rmdir":         func() error { return unix.Rmdir(e.path("dir")) },
		"rename":        func() error { return unix.Rename(f, e.path("x")) },
		"link":          func() error { return unix.Link(f, e.path("x")) },
		"chmod":         func() error { return unix.Chmod(f, 0o600) },
		"chown":         func() error { return unix.Chown(f, 1, 1) },
		"utimensat":     func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, f, make([]unix.Timespec, 2), 0) },
		"setxattr":      func() error { return unix.Setxattr(f, "user.a", []byte("v"), 0) },
		"access":        func() error { return unix.Access(f, unix.W_OK) },
	}
	for what, do := range makers(e.path("x")) {
		changes[what] = do
	}
	for what, do := range changes {
		e.all(call{what, do, only(unix.EROFS)})
	}
	e.lists(dir, "dir", "file", "link")
}
