package posixtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// handleTests: a file handle leads to its object as long as that has a name or is open (open_by_handle_at(2)).
var handleTests = []test{
	{"of a file and a directory", func(e *env) {
		d := e.mkdir("d")
		p := e.file("d/f", "content")
		file, dir := e.handle(p), e.handle(d)
		e.forget()
		e.leads(file, "content")
		fd, err := e.byHandle(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		e.ok(err)
		inside, err := unix.Openat(fd, "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		e.ok(err)
		if path, err := os.Readlink("/proc/self/fd/" + itoa(fd)); err != nil || path != d {
			e.Errorf("the directory is at %s, %v; want %s", path, err, d)
		}
		e.ok(firstError(unix.Close(inside), unix.Close(fd)))

		e.ok(unix.Rename(p, e.path("g")))
		e.ok(unix.Rename(d, e.path("e")))
		e.forget()
		e.leads(file, "content")
		fd, err = e.byHandle(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		e.ok(err)
		e.ok(unix.Close(fd))
	}},
	{"of what is removed", func(e *env) {
		p, d := e.file("f", "content"), e.mkdir("d")
		file, dir := e.handle(p), e.handle(d)
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		e.ok(err)
		e.ok(firstError(unix.Unlink(p), unix.Rmdir(d)))
		e.leads(file, "content")
		e.ok(unix.Close(fd))
		for name, h := range map[string]unix.FileHandle{"file": file, "directory": dir} {
			e.forget()
			if fd, err := e.byHandle(h, unix.O_RDONLY); err != unix.ESTALE {
				e.Errorf("%s: descriptor %d, %v", name, fd, err)
			}
		}
		e.file("f", "another")
		_, err = e.byHandle(file, unix.O_RDONLY)
		e.fails(err, unix.ESTALE)
	}},
}

// handle returns a file's handle.
func (e *env) handle(path string) unix.FileHandle {
	e.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	e.ok(err)
	return h
}

// byHandle opens what a handle leads to.
func (e *env) byHandle(h unix.FileHandle, flags int) (int, error) {
	e.Helper()
	top, err := unix.Open(e.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	e.ok(err)
	defer unix.Close(top)
	return unix.OpenByHandleAt(top, h, flags|unix.O_CLOEXEC)
}

// leads fails the test unless a handle leads to a file with this content.
func (e *env) leads(h unix.FileHandle, content string) {
	e.Helper()
	fd, err := e.byHandle(h, unix.O_RDONLY)
	e.ok(err)
	p := make([]byte, 100)
	if n, err := unix.Pread(fd, p, 0); err != nil || string(p[:n]) != content {
		e.Errorf("content %q, %v; want %q", p[:max(n, 0)], err, content)
	}
	e.ok(unix.Close(fd))
}

// forget has the kernel forget names and inodes that nobody uses.
func (e *env) forget() {
	e.Helper()
	e.ok(os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
}
